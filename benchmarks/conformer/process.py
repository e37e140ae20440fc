"""A subject in a process of its own, as the benchmark sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.contender import environment


@dataclass(frozen=True)
class Contender:
    """A subject by its kind and precision, as `open_subject` has them."""

    kind: str
    precision: str = "fp32"

    @property
    def name(self) -> str:
        return f"{self.kind} {self.precision}"


class Missing(Exception):
    """What a subject needs is not there."""


class Process:
    """A subject that runs.

    Args:
        bundle, speech: files of all of them.

    Raises:
        Missing: it needs what is not there.
        SystemExit: it failed; it has said why on standard error.
    """

    def __init__(self, contender: Contender, threads: int, bundle: Path, speech: Path) -> None:
        self.contender = contender
        spec = {
            "kind": contender.kind,
            "precision": contender.precision,
            "threads": threads,
            "bundle": str(bundle),
            "speech": str(speech),
        }
        # NumPy's BLAS computes features, for which one thread is enough
        self._process = subprocess.Popen(
            [sys.executable, "-m", "conformer.worker", json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment(threads), "OPENBLAS_NUM_THREADS": "1"},
        )
        opened = self._reply()
        if "missing" in opened:
            self.close()
            raise Missing(opened["missing"])

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a request of `conformer.worker.Requests`."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # where it has ended, so have its replies
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        return self._reply()

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.contender.name} ended with {self._process.wait()}")
        reply: dict[str, Any] = json.loads(line)
        return reply
