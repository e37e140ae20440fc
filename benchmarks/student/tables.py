"""A result as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.interval import Interval
from shared.record import describe

from student.flops import MODELS, count, total
from student.goals import RULES, over_lengths

_MODELS = ("optimum-base", "edgekit-base", "waveform", "fbank")
_RATIOS = ("base", "student", "waveform / fbank")
_NAMES = {
    "onnxruntime fp32": "ONNX Runtime fp32",
    "openvino fp32": "OpenVINO fp32",
    "openvino bf16": "OpenVINO bf16",
    "torch fp32": "torch eager fp32",
}


def report(result: Mapping[str, Any]) -> str:
    """All of a result: what ran, times, goals, operations and, where it was taken, the profile."""
    parts = [
        describe(result),
        _peer(result),
        *RULES,
        latency_table(result, "wall"),
        "The same in process CPU ms (threads that wait for work count):",
        latency_table(result, "cpu"),
        summary_table(result["goals"]),
        goals_table(result["goals"]),
        flops_table(result),
    ]
    if "profile" in result:
        parts.append(profile_table(result))
    return "\n\n".join(parts)


def latency_table(result: Mapping[str, Any], clock: str) -> str:
    """p50 per threads, length and backend, with the ratios; for README.md."""
    times = {_place(row): row[f"{clock}_p50_ms"] for row in result["rows"]}
    ratios = {
        (goal["num_threads"], goal["audio_s"], goal["run"], goal["goal"]): goal.get(clock) for goal in result["goals"]
    }
    lines = []
    for threads, audio_s, run in dict.fromkeys(place[:3] for place in times):
        shown = [_ms(times.get((threads, audio_s, run, model))) for model in _MODELS]
        compared = [_shown(ratios.get((threads, audio_s, run, goal))) for goal in _RATIOS]
        lines.append([str(threads), f"{audio_s} s", _NAMES[run], *shown, *compared])
    titles = (
        "threads",
        "audio",
        "backend",
        "HuBERT Base, optimum (ms)",
        "HuBERT Base, edgekit (ms)",
        "waveform student (ms)",
        "fbank student (ms)",
        "Base: edgekit / optimum (95 %)",
        "optimum Base / fbank (95 %)",
        "waveform / fbank (95 %)",
    )
    return _table(titles, lines, num_left=3)


def summary_table(goals: Iterable[Mapping[str, Any]]) -> str:
    """A line per goal, threads and backend, over all lengths."""
    lines = [
        [row["goal"], str(row["num_threads"]), _NAMES[row["run"]], row["verdict"]]
        for row in sorted(over_lengths(goals), key=lambda row: str(row["goal"]))
    ]
    return _table(("goal, at every length", "threads", "backend", "verdict"), lines, num_left=4)


def goals_table(goals: Iterable[Mapping[str, Any]]) -> str:
    """A line per goal, threads, length and backend."""
    lines = [
        [
            goal["goal"],
            str(goal["num_threads"]),
            f"{goal['audio_s']} s",
            _NAMES[goal["run"]],
            f"<= {goal['at_most']:g}" if "at_most" in goal else f">= {goal['at_least']:g}",
            _shown(goal["wall"], 3),
            _shown(goal.get("cpu"), 3),
            goal["verdict"],
        ]
        for goal in sorted(goals, key=lambda goal: str(goal["goal"]))
        if goal["verdict"] is not None
    ]
    titles = ("goal", "threads", "audio", "backend", "bound", "wall (95 %)", "CPU (95 %)", "verdict")
    return _table(titles, lines, num_left=4)


def flops_table(result: Mapping[str, Any]) -> str:
    """Operations per recording, and the rate at which each model gets through them on ONNX Runtime."""
    times = {_place(row): row["wall_p50_ms"] for row in result["rows"]}
    lines = []
    for threads, audio_s in dict.fromkeys(place[:2] for place in times):
        gflops = {name: total(config, audio_s) for name, config in MODELS.items()}
        run = "onnxruntime fp32"
        rates = [
            gflops[name] / times[threads, audio_s, run, model] * 1e3
            for name, model in (("base", "optimum-base"), ("fbank", "fbank"))
        ]
        attention = count(MODELS["fbank"], audio_s)["attention"] / gflops["fbank"]
        lines.append(
            [
                str(threads),
                f"{audio_s} s",
                *(f"{gflops[name]:.1f}" for name in MODELS),
                f"{gflops['base'] / gflops['fbank']:.2f}",
                f"{attention:.0%}",
                *(f"{rate:.0f}" for rate in rates),
            ]
        )
    titles = (
        "threads",
        "audio",
        "Base GFLOP",
        "waveform GFLOP",
        "fbank GFLOP",
        "Base / fbank",
        "attention in fbank",
        "optimum Base GFLOP/s",
        "fbank GFLOP/s",
    )
    return _table(titles, lines, num_left=2)


def profile_table(result: Mapping[str, Any]) -> str:
    """Time by operator, the bare product beside it, and what the ratio could be at that rate."""
    profile = result["profile"]
    shown = [row for row in profile["operators"] if row["share"] >= 0.001]
    lines = [
        [
            row["operator"],
            str(row["calls"]),
            f"{row['ms']:.2f}",
            f"{row['share']:.1%}",
            f"{row['gflop']:.2f}" if row["gflop"] else "",
            f"{row['gflop_s']:.0f}" if row["gflop"] else "",
        ]
        for row in shown
    ]
    text = [
        f"fbank student, {profile['audio_s']} s, one thread, ONNX Runtime: {profile['model_run_ms']:.1f} ms (profiled)",
        _table(("operator", "calls", "ms", "share", "GFLOP", "GFLOP/s"), lines, num_left=1),
    ]
    for row in profile["gemm"]:
        m, k, n = row["m_k_n"]
        text.append(
            f"Bare product [{m}, {k}] x [{k}, {n}]: ONNX Runtime {row['onnxruntime_gflop_s']:.0f} GFLOP/s, "
            f"NumPy {row['numpy_gflop_s']:.0f} GFLOP/s"
        )
    return "\n\n".join([*text, *_limits(result)])


def _limits(result: Mapping[str, Any]) -> list[str]:
    """The ratio that a student at the rate of the bare product would have, per length measured with one thread."""
    peak = max(row["onnxruntime_gflop_s"] for row in result["profile"]["gemm"])
    return [
        f"{row['audio_s']} s, one thread: at {peak:.0f} GFLOP/s throughout, the fbank student would be "
        f"{row['wall_p50_ms'] / 1e3 * peak / total(MODELS['fbank'], row['audio_s']):.1f} x as fast as optimum's Base is"
        for row in result["rows"]
        if _place(row)[::3] == (1, "optimum-base") and row["backend"] == "onnxruntime"
    ]


def _peer(result: Mapping[str, Any]) -> str:
    """What the peer is, what it cannot do, and which of its settings were the fastest."""
    peer = result["peer"]
    versions = ", ".join(f"{name} {number}" for name, number in peer["versions"].items())
    levels: dict[str, list[str]] = {}
    for level, words in peer["refused"].items():
        levels.setdefault(words, []).append(f"-{level}")
    refused = "; ".join(f"{', '.join(which)}: {words}" for words, which in levels.items())
    chosen = "; ".join(
        f"{setup['num_threads']} threads: "
        + ", ".join(f"{name} {value}" for name, value in setup["peer_settings"]["chosen"].items())
        for setup in result["setups"]
    )
    return f"Peer: {versions}. Its optimisations that failed: {refused or 'none'}. Fastest settings: {chosen}."


def _place(row: Mapping[str, Any]) -> tuple[int, int, str, str]:
    return row["num_threads"], row["audio_s"], f"{row['backend']} {row['precision']}", row["model"]


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _shown(interval: Mapping[str, Any] | None, digits: int = 2) -> str:
    return "" if interval is None else Interval(**interval).text(digits)


def _table(titles: Sequence[str], lines: Sequence[Sequence[str]], *, num_left: int) -> str:
    """Markdown; columns from `num_left` on are right-aligned."""
    rule = ["---" if index < num_left else "---:" for index in range(len(titles))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (titles, rule, *lines))
