"""A subject in a process of its own, as the benchmark sees it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.worker import Worker


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
        self._worker = Worker(
            contender.name,
            [sys.executable, "-m", "conformer.worker", json.dumps(spec)],
            threads,
            OPENBLAS_NUM_THREADS="1",
        )
        if "missing" in self._worker.opened:
            self.close()
            raise Missing(self._worker.opened["missing"])

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a request of `conformer.worker.Requests`."""
        return self._worker.ask({"do": do, **arguments})

    def close(self) -> None:
        """End it."""
        self._worker.close()
