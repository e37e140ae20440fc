"""One file per task: what is done stays done, whatever happens to the rest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.core.errors import UsageError
from edgekit.core.files import write_atomic
from edgekit.runtime.libricontinual.tasks import Job, Task

_COUNTS = ("num_errors", "num_words", "num_recordings", "num_skipped")


@dataclass(frozen=True)
class Results:
    """A folder of results, `<folder>/<task.file>`."""

    folder: Path

    def read(self, task: Task) -> dict[str, Any] | None:
        """A task's result as it was written; None where there is none, or a file that holds no result."""
        try:
            data = json.loads((self.folder / task.file).read_bytes())
            whole = isinstance(data["identity"], dict) and "cost" in data and "details" in data
            counted = [data[name] for name in ("test", "general") if data[name] is not None]
            whole = whole and all(type(part[name]) is int for part in counted for name in _COUNTS)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return data if whole else None

    def write(self, task: Task, result: dict[str, Any]) -> None:
        """Keep a result.

        Raises:
            EdgekitError: the folder cannot be written.
        """
        write_atomic(self.folder / task.file, (json.dumps(result, indent=1) + "\n").encode())

    def missing(self, jobs: list[Job], *, redo: bool) -> list[Job]:
        """The jobs whose result is not there.

        Args:
            redo: measure those again that are there for something else; else they are refused.

        Raises:
            UsageError: results of another bundle, other data, or another edgekit.
        """
        left, foreign = [], []
        for job in jobs:
            result = self.read(job.task)
            if result is None or result["identity"] != job.identity:
                left.append(job)
            if result is not None and result["identity"] != job.identity:
                names = sorted({*result["identity"], *job.identity})
                foreign.append([name for name in names if result["identity"].get(name) != job.identity.get(name)])
        if foreign and not redo:
            differs = ", ".join(sorted({name for names in foreign for name in names}))
            raise UsageError(
                f"expected {self.folder} to hold results of this bundle, data and version; "
                f"received {len(foreign)} of another (what differs: {differs})",
                hint="choose another --out, or pass --redo to measure them again",
            )
        return left
