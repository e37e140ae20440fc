"""A process that answers a line of JSON with a line of JSON, over its standard input and output."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1]


class Worker:
    """Starts a process; `opened` is the first line that it says.

    Raises:
        SystemExit: it ended; it has said why on standard error.
    """

    def __init__(self, name: str, command: Sequence[str], threads: int, **variables: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment(threads), **variables},
        )
        self.opened: dict[str, Any] = self._reply()

    def ask(self, request: Any) -> dict[str, Any]:
        """Its answer."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # where it has ended, so have its replies
            self._process.stdin.write(json.dumps(request) + "\n")
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
