"""The result as Markdown, a table per set of recordings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TITLES = (
    "recogniser",
    "WER % (95 %)",
    "S / D / I",
    "WER %, Whisper's normaliser",
    "RTF",
    "RTF p50",
    "CPU s per s",
    "peak MiB",
    "on disk MiB",
)


def report(result: Mapping[str, Any]) -> str:
    """Every set's table, and what was left out."""
    parts = [table(measured) for measured in result["sets"]]
    rows = [row for measured in result["sets"] for row in measured["rows"]]
    versions = {name: number for row in rows for name, number in row["versions"].items()}
    parts.append("Recognisers: " + ", ".join(f"{name} {number}" for name, number in versions.items()) + ".")
    parts += [f"{name}: {why}" for name, why in result["left_out"].items()]
    return "\n\n".join(parts)


def table(measured: Mapping[str, Any]) -> str:
    """One set: its head line and a row per recogniser, best first."""
    rows = sorted(measured["rows"], key=lambda row: row["errors"]["wer"])
    errors, speed = rows[0]["errors"], rows[0]["speed"]
    head = (
        f"{measured['name']}: {errors['num_utterances']} recordings, {errors['num_speakers']} speakers, "
        f"{speed['audio_s'] / 60:.1f} min, {errors['num_words']} words"
    )
    lines = [TITLES, ("---", *["---:"] * (len(TITLES) - 1)), *map(_cells, rows)]
    return head + "\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    errors, speed = row["errors"], row["speed"]
    by_whisper = row["errors_whisper_rule"]
    random = " (random weights)" if row["settings"].get("weights") == "random" else ""
    return (
        row["recogniser"] + random,
        _rate(errors),
        f"{errors['substitutions']} / {errors['deletions']} / {errors['insertions']}",
        "" if by_whisper is None else _rate(by_whisper),
        f"{speed['rtf']:.3f}",
        f"{speed['rtf_p50']:.3f}",
        f"{speed['cpu_s'] / speed['audio_s']:.3f}",
        _mib(row["memory"]["peak_mib"]),
        f"{row['disk_mib']:.1f}",
    )


def _rate(errors: Mapping[str, Any]) -> str:
    interval = errors["interval"]
    ends = "" if interval is None else " ({:.1f} to {:.1f})".format(*(100 * end for end in interval))
    return f"{100 * errors['wer']:.1f}{ends}"


def _mib(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
