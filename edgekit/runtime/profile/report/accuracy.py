"""Accuracy beside latency: what `edgekit benchmark asr --json` wrote, and which points it belongs to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.runtime.profile.fields import Fields
from edgekit.runtime.profile.measured import Measured


@dataclass(frozen=True)
class Accuracy:
    """Of one model on one backend in one precision.

    Attributes:
        wer: as a fraction.
        percent: its 95 % interval in percent; None: there is none.
        source: how it was measured, in words.
    """

    sha256: str
    backend: str
    precision: str
    wer: float
    percent: tuple[float, float] | None
    source: str


def is_accuracy(path: Path) -> bool:
    """Whether a file is such a result."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False  # who reads it as a profile says what is wrong
    return isinstance(found, dict) and found.get("benchmark") == "asr"


def read_accuracy(path: Path) -> Accuracy:
    """Read a file for which `is_accuracy`.

    Raises:
        EdgekitError: something is missing; tells what.
    """
    found = Fields(json.loads(path.read_text(encoding="utf-8")), str(path), schema="edgekit benchmark asr")
    bundle, session, errors, data = (found.part(name) for name in ("bundle", "session", "errors", "data"))
    interval = None if errors.data.get("interval") is None else errors.numbers("interval")
    machine = found.part("machine").text("cpu")
    versions = ", ".join(f"{name} {version}" for name, version in found.texts_by_name("versions").items())
    where = f"{session.text('backend')} {session.text('precision')} on {session.text('device')}"
    recordings = f"word error rate over {errors.whole('num_utterances')} recordings of {data.text('path')}"
    return Accuracy(
        bundle.text("core_sha256"),
        session.text("backend"),
        session.text("precision"),
        errors.number("wer"),
        None if interval is None or len(interval) != 2 else (100 * interval[0], 100 * interval[1]),
        " · ".join([found.text("command"), recordings, machine, where, versions, found.text("date")]),
    )


def accuracy_of(point: Measured, accuracies: Sequence[Accuracy]) -> Accuracy | None:
    """The last that has the point's model, backend and precision."""
    key = (point.origin.sha256, point.run_on["backend"], point.run_on["precision"])
    fitting = [each for each in accuracies if (each.sha256, each.backend, each.precision) == key]
    return fitting[-1] if fitting else None
