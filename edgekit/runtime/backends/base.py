"""What every backend offers: `probe()` says whether it is usable here, `open()` gives a `Session`.

A backend module has `NAME`, `FORMATS` (the artifact formats it runs, best first), `probe(format=None) -> Probe`, of
one format or of any, and `open(files, signature, options) -> Session`. `runtime.session` chooses among them and
checks inputs in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgekit.core.errors import BackendError
from edgekit.core.signature import Signature


@dataclass(frozen=True)
class Probe:
    """Whether a backend can run here.

    Attributes:
        name: the backend's name.
        usable: it can execute a graph on at least one of `devices`.
        version: of the package that was found, if one was.
        devices: "cpu", "cuda", ... as `SessionOptions.device` takes them.
        missing: what is absent, where it is not usable.
        remedy: the command or step that mends it.
    """

    name: str
    usable: bool
    version: str | None = None
    devices: tuple[str, ...] = ()
    missing: str | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class SessionOptions:
    """How a session is opened.

    Attributes:
        device: "cpu", "cuda", ...; None: the backend's first.
        precision: the precision asked for ("fp32", "fp16", "bf16"); a backend that cannot run it refuses.
        num_threads: for CPU execution; None: the backend's default.
        allow_fallback: run elsewhere where the device is absent, instead of raising.
        engine: for an engine, the key recorded when it was built; another machine's is refused.
    """

    device: str | None = None
    precision: str = "fp32"
    num_threads: int | None = None
    allow_fallback: bool = False
    engine: Mapping[str, Any] | None = None


class Session(Protocol):
    """A graph, loaded and ready.

    Threads may share a session: `run` and `close` wait for one another where the engine cannot run side by side.

    Attributes:
        backend: the backend's name.
        device: where it really runs ("cpu", "cuda:0").
        precision: the graph's, and what was asked for.
        computed_in: what the device really computes most of it in: ONNX Runtime's CPU casts fp16 graphs to fp32.
        signature: the graph's inputs and outputs.
    """

    backend: str
    device: str
    precision: str
    computed_in: str
    signature: Signature

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute all outputs by name. Arrays are not kept or changed.

        Raises:
            BackendError: the engine refuses or fails, or the session was closed.
        """
        ...

    def close(self) -> None:
        """Free what the session holds; it cannot run afterwards."""
        ...


def closed() -> BackendError:
    """The error of a session that runs after `close`."""
    return BackendError("expected an open session, this one was closed")


class Opener(Protocol):
    """A backend module's `open`."""

    def __call__(self, files: Sequence[Path], signature: Signature, options: SessionOptions) -> Session: ...
