"""A recogniser in a process of its own, as the benchmark sees it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.worker import Worker


@dataclass(frozen=True)
class Contender:
    """What to start.

    Attributes:
        name: as the table shows it.
        python: of the environment that has it.
        spec: for `asr.worker`.
    """

    name: str
    python: str
    spec: dict[str, Any]


class Missing(Exception):
    """A recogniser that is not installed."""


class Process:
    """A contender that runs.

    Attributes:
        opened: what the worker said of it: `num_bytes`, `versions`, `settings`.
        load_s: from the start of the process until it could take a recording.
        loaded_mib: `peak_mib` at that time.

    Raises:
        Missing: it is not installed; says how it would be.
        SystemExit: it failed; it has said why on standard error.
    """

    def __init__(self, contender: Contender, threads: int) -> None:
        self.name = contender.name
        start = time.perf_counter()
        command = [contender.python, "-m", "asr.worker", json.dumps(contender.spec)]
        self._worker = Worker(contender.name, command, threads)
        self.load_s = time.perf_counter() - start
        self.opened = self._worker.opened
        if "missing" in self.opened:
            self.close()
            raise Missing(f"not installed ({self.opened['missing']}): {self.opened['install']}")
        self.loaded_mib = self.peak_mib()

    def answer(self, pcm: Path) -> dict[str, Any]:
        """`text`, `wall_s` and `cpu_s` of a file of samples."""
        return self._worker.ask(str(pcm))

    def peak_mib(self) -> float | None:
        """See `Worker.peak_mib`."""
        return self._worker.peak_mib()

    def close(self) -> None:
        """End it."""
        self._worker.close()
