"""What every result states: the command, the machine, its load, the versions and the date."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgekit.core.files import write_atomic
from edgekit.devices.probe import probe_machine


def record(benchmark: str, packages: Iterable[str]) -> dict[str, Any]:
    """The head of a result, taken before anything is measured: `load_before` is the load average of 1, 5, 15 min."""
    device = asdict(probe_machine())
    device["system"] = device["system"].split("-")[0]  # a kernel's local name says nothing elsewhere
    return {
        "benchmark": benchmark,
        "command": _command(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "device": device,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "load_before": load(),
    }


def load() -> list[float] | None:
    """Runnable processes, averaged over 1, 5 and 15 minutes; None where the system does not tell."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def describe(result: Mapping[str, Any]) -> str:
    """One line: processor, instruction sets, versions, date, load."""
    device, versions = result["device"], result["versions"]
    return (
        f"{device['cpu']}, {device['num_cpus']} processors ({', '.join(device['instruction_sets'])}), "
        f"{', '.join(f'{name} {number}' for name, number in versions.items())}, {result['date']}, "
        f"load {result['load_before']} before"
        + (f" and {result['load_after']} after" if "load_after" in result else "")
    )


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """One top-level key per line, so that a difference between two results can be read."""
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in result.items())
    write_atomic(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def _command() -> str:
    """As it was typed, but of absolute paths only the last part: the rest says nothing elsewhere."""
    words = [f".../{Path(word).name}" if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])
