"""A recogniser in a process of its own, as the benchmark sees it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1]


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
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(threads)
        )
        self.opened = self._reply()
        self.load_s = time.perf_counter() - start
        if "missing" in self.opened:
            self.close()
            raise Missing(f"not installed ({self.opened['missing']}): {self.opened['install']}")
        self.loaded_mib = self.peak_mib()

    def answer(self, pcm: Path) -> dict[str, Any]:
        """`text`, `wall_s` and `cpu_s` of a file of samples."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # where it has ended, so have its replies
            self._process.stdin.write(json.dumps(str(pcm)) + "\n")
            self._process.stdin.flush()
        return self._reply()

    def peak_mib(self) -> float | None:
        """The most memory that it has held until now, resident, in MiB; None where the system does not tell."""
        try:
            told = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        except OSError:
            return None
        found = re.search(r"^VmHWM:\s*(\d+) kB", told, re.MULTILINE)
        return None if found is None else round(int(found[1]) / 2**10, 1)

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with {self._process.wait()}")
        reply: dict[str, Any] = json.loads(line)
        return reply


def environment(threads: int) -> dict[str, str]:
    """For modules of this folder, with so many threads in every library that asks; nothing is asked of a hub."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    path = os.pathsep.join(filter(None, (str(BENCHMARKS), os.environ.get("PYTHONPATH"))))
    return {**os.environ, **counts, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
