"""A result: what was profiled, where, and its points; the file that holds it, as docs/profile.schema.json says."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.core.errors import BackendError, EdgekitError, UsageError
from edgekit.core.files import write_atomic
from edgekit.core.settings import settings_to_dict
from edgekit.devices.clocks import read_clocks
from edgekit.devices.jetson import probe_jetson
from edgekit.devices.probe import probe_machine
from edgekit.runtime import cuda
from edgekit.runtime.profile.fields import Fields
from edgekit.runtime.profile.model import describe_model
from edgekit.runtime.profile.point import Point

SCHEMA = 1
_PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt_rtx_cu13_bindings",
    "mlcommons-loadgen",
)


def head(point: Point, command: str) -> dict[str, Any]:
    """All of a result but its points.

    Args:
        point: any of them: they differ in what is asked of each alone.
    """
    machine = asdict(probe_machine())
    machine["system"] = machine["system"].split("-")[0]  # a kernel's local name says nothing elsewhere
    try:
        machine["gpus"] = [gpu.name for gpu in cuda.devices()]
    except BackendError as error:
        machine["gpus"] = error.message
    jetson = probe_jetson()
    machine["power_mode"] = None if jetson is None else jetson.power_mode or f"not known: {jetson.no_power_mode}"
    machine["clocks"] = [asdict(clock) for clock in read_clocks()]
    return {
        "schema": SCHEMA,
        "kind": "edgekit-profile",
        "command": command,
        "date": now(),
        "machine": json.loads(json.dumps(machine)),
        "versions": versions(),
        "model": describe_model(point),
        "settings": {
            name: value
            for name, value in settings_to_dict(point).items()
            if name not in point.asked and name not in ("model", "graph")
        },
    }


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Of Python and of every package here that may compute or ask."""
    found = {"python": platform.python_version(), "edgekit": edgekit.__version__, "numpy": np.__version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def load_average() -> list[float] | None:
    """Runnable processes, averaged over 1, 5 and 15 minutes; None where the system does not tell."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write it so that a reader sees all of it or the one before; one line per point and top-level key."""
    points = ",\n".join(json.dumps(point, ensure_ascii=False) for point in result["points"])
    others = [
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in result.items()
        if key != "points"
    ]
    text = "{\n" + ",\n".join([*others, f'"points": [\n{points}\n]']) + "\n}\n"
    # bytes of a file's name that are no text stand as JSON's own escape
    write_atomic(path, text.encode("utf-8", "backslashreplace"))


def read_result(path: Path) -> dict[str, Any]:
    """A result from its file.

    Raises:
        EdgekitError: no such file, something else, or of a newer schema.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["kind"] != "edgekit-profile":
            raise ValueError(f"kind {result['kind']!r}")
        schema, points = result["schema"], list(result["points"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise EdgekitError(
            f"expected a result of edgekit profile at {path}, received: {error}",
            hint="edgekit profile MODEL --out FILE",
        ) from error
    if schema != SCHEMA:
        raise EdgekitError(f"expected schema {SCHEMA} at {path}, received {schema}", hint="pip install -U edgekit")
    return {**result, "points": points}


def check_same(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Hold a result that is gone on with to what is asked now.

    Raises:
        UsageError: another model, machine or setting; says which.
        EdgekitError: `before` lacks one of them.
    """
    fields = Fields(before, str(path), schema="docs/profile.schema.json")
    keys = {
        "model": ("kind", "sha256", "graph"),
        "settings": tuple(now["settings"]),
        "machine": tuple(key for key in now["machine"] if key != "memory_mib"),
        "versions": tuple(now["versions"]),
    }
    for where, names in keys.items():
        old, new = fields.part(where).data, now[where]
        for key in names:
            if old.get(key) != new.get(key):
                raise UsageError(
                    f"expected {where}.{key} as in {path}, {old.get(key)!r}; received {new.get(key)!r}",
                    hint="another --out begins anew",
                )
