"""A result as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.interval import Interval
from shared.record import describe

from conformer.goals import OURS, RULES, SHERPA, everywhere, memory_rows, offline_rows, ratio_to, stream_rows

_NAMES = {
    "onnxruntime fp32": "ONNX Runtime",
    "openvino fp32": "OpenVINO",
    "openvino bf16": "OpenVINO bf16",
    "torch fp32": "torch eager",
    "torch.compile fp32": "torch.compile",
    "sherpa-onnx fp32": "sherpa-onnx",
}


def report(result: Mapping[str, Any]) -> str:
    """All of a result that was measured until now."""
    plan = result["plan"]
    parts = [
        describe(result),
        f"disconformer {' '.join([plan['variant'], *plan['sizes']])}, {result['num_parameters']:,} parameters, random "
        f"weights; speech: {result['speech']}",
        *RULES,
    ]
    if result["offline"]:
        parts += [latency_table(result), ratio_table(result), steps_table(result)]
    if result["streams"]:
        parts.append(stream_table(result))
    if result["memory"]:
        parts.append(memory_table(result))
    parts += [summary_table(result["goals"]), goals_table(result["goals"])]
    parts += [f"{name} was left out: {why}" for name, why in result["left_out"].items()]
    return "\n\n".join(parts)


def latency_table(result: Mapping[str, Any]) -> str:
    """p50 in ms, and edgekit's real-time factor."""
    times = {_place(row): row["wall_p50_ms"] for row in offline_rows(result["offline"])}
    runs = [name for name in _NAMES if any(place[3] == name for place in times)]
    lines = []
    for threads, batch, audio_s in dict.fromkeys(place[:3] for place in times):
        shown = [_ms(times.get((threads, batch, audio_s, name))) for name in runs]
        ours = times.get((threads, batch, audio_s, OURS))
        rtf = "" if ours is None else f"{ours / 1e3 / audio_s / batch:.4f}"
        lines.append([str(threads), str(batch), f"{audio_s} s", *shown, rtf])
    titles = ("threads", "batch", "audio", *(f"{_NAMES[name]} (ms)" for name in runs), "ONNX Runtime RTF")
    return _table(titles, lines, num_left=3)


def ratio_table(result: Mapping[str, Any]) -> str:
    """Ratios of times with their intervals: edgekit's runs over sherpa-onnx, torch's over edgekit's."""
    pairs = [(name, SHERPA) for name in ("onnxruntime fp32", "openvino fp32", "openvino bf16")]
    pairs += [("torch fp32", OURS), ("torch.compile fp32", OURS)]
    pairs = [pair for pair in pairs if any(ratio_to(cell, *pair) is not None for cell in result["offline"])]
    lines = [
        [str(cell["num_threads"]), str(cell["batch"]), f"{cell['audio_s']} s"]
        + [_shown(ratio_to(cell, *pair)) for pair in pairs]
        for cell in result["offline"]
    ]
    titles = ("threads", "batch", "audio", *(f"{_NAMES[above]} / {_NAMES[below]} (95 %)" for above, below in pairs))
    return _table(titles, lines, num_left=3)


def steps_table(result: Mapping[str, Any]) -> str:
    """Where the time goes: features, session and decoding, of edgekit and of sherpa-onnx."""
    rows = {_place(row): row for row in offline_rows(result["offline"])}
    lines = []
    for threads, batch, audio_s in dict.fromkeys(place[:3] for place in rows):
        line = [str(threads), str(batch), f"{audio_s} s"]
        for name in (OURS, SHERPA):
            row = rows.get((threads, batch, audio_s, name))
            steps = ("features", "session", "decoding")
            line += [""] * 3 if row is None else [_ms(row[f"{step}_p50_ms"]) for step in steps]
        peer = rows.get((threads, batch, audio_s, SHERPA))
        line.append("" if peer is None or peer["same_texts"] is None else f"{peer['same_texts']:.0%}")
        lines.append(line)
    titles = [
        f"{who} {step} (ms)" for who in ("edgekit", "sherpa-onnx") for step in ("features", "session", "decoding")
    ]
    titles[4] += ", with decoding"
    titles[5] = "sherpa-onnx texts (ms)"
    return _table(("threads", "batch", "audio", *titles, "same texts"), lines, num_left=3)


def stream_table(result: Mapping[str, Any]) -> str:
    """Compute per chunk, delay, and how many streams one core holds."""
    lines = [
        [
            _NAMES[row["run"]],
            f"{1e3 * row['chunk_s']:.0f} ms",
            str(row["num_chunks"]),
            _shown(Interval(**row["p50_ms"])),
            _shown(Interval(**row["p99_ms"])),
            f"{row['delay_ms']:.0f}",
            "" if row["num_streams"] is None else f"{'>= ' if row['at_least'] else ''}{row['num_streams']}",
        ]
        for row in stream_rows(result["streams"], result["most_streams"])
    ]
    titles = (
        "one thread",
        "chunk",
        "chunks",
        "p50 (ms, 95 %)",
        "p99 (ms, 95 %)",
        "chunk + look-ahead + p99 (ms)",
        "real-time streams",
    )
    return _table(titles, lines, num_left=2)


def memory_table(result: Mapping[str, Any]) -> str:
    """Resident size over many requests."""
    lines = [
        [
            _NAMES[row["run"]],
            f"{row['num_requests']:,}",
            f"{row['audio_s'] / 3600:.2f} h",
            f"{row['second_tenth_mib']:.1f}",
            f"{row['last_tenth_mib']:.1f}",
            f"{row['peak_mib']:.1f}",
            _shown(Interval(**row["slope_mib_per_1000"])),
            _shown(Interval(**row["ratio"]), 3),
        ]
        for row in memory_rows(result["memory"])
    ]
    titles = (
        "memory",
        "requests",
        "audio",
        "second tenth (MiB)",
        "last tenth (MiB)",
        "peak (MiB)",
        "MiB per 1,000 requests (95 %)",
        "last / second tenth (95 %)",
    )
    return _table(titles, lines, num_left=1)


def summary_table(goals: Iterable[Mapping[str, Any]]) -> str:
    """A line per goal and subject."""
    lines = [[row["goal"], _NAMES[row["run"]], row["where"], row["verdict"]] for row in everywhere(goals)]
    return _table(("goal, everywhere", "edgekit on", "where", "verdict"), lines, num_left=4)


def goals_table(goals: Iterable[Mapping[str, Any]]) -> str:
    """A line per goal and place."""
    places = {"num_threads": "threads {:g}", "batch": "batch {:g}", "audio_s": "{:g} s", "chunk_s": "chunks of {:g} s"}
    lines = [
        [
            goal["goal"],
            _NAMES[goal["run"]],
            ", ".join(text.format(goal[key]) for key, text in places.items() if key in goal),
            f"{goal['at_least']:g} to {goal['at_most']:g}" if "at_least" in goal else f"<= {goal['at_most']:g}",
            _shown(Interval(**goal["interval"]), 3),
            goal["verdict"],
        ]
        for goal in goals
    ]
    return _table(("goal", "edgekit on", "where", "bound", "found (95 %)", "verdict"), lines, num_left=4)


def _place(row: Mapping[str, Any]) -> tuple[int, int, int, str]:
    return row["num_threads"], row["batch"], row["audio_s"], row["run"]


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _shown(interval: Interval | None, digits: int = 2) -> str:
    return "" if interval is None else interval.text(digits)


def _table(titles: Sequence[str], lines: Sequence[Sequence[str]], *, num_left: int) -> str:
    """Markdown; columns from `num_left` on are right-aligned."""
    rule = ["---" if index < num_left else "---:" for index in range(len(titles))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (titles, rule, *lines))
