"""What tasks over pictures share: a bundle's graph in an open session, asked with pictures of any size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BackendError, BundleError
from edgekit.core.signature import Dim, Signature, TensorSpec
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.features.image import Picture, Pixels, open_pixels
from edgekit.runtime.session import CheckedSession, open_session

MOST_TOGETHER = 8
"""Pictures of a list that are computed in one call, where the graph takes as many."""

EXPLAIN = "explain"
"""The graph that tells what a classifier's heads see (`runtime/explain.py`)."""

MAPS = ("extent", "distance", "angle")
"""Its outputs, each float32 [batch, n, m]."""


@dataclass(frozen=True)
class Answers:
    """The graph's answers to some pictures.

    Attributes:
        embedding: float32 [n, C].
        logits: float32 [n, K]; None where the model knows no classes.
        seconds: that all of it took.
    """

    embedding: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32] | None
    seconds: float


class PictureGraph:
    """A bundle's graph over pictures, in an open session.

    Attributes:
        pixels: how a picture becomes its input.
        most_together: pictures that `run` takes at once.
        num_classes: 0 where it knows none.

    Raises:
        BundleError: features, signature and output do not fit each other.
        BackendError: Pillow is not installed.
    """

    def __init__(self, bundle: Bundle, session: CheckedSession) -> None:
        output, signature = bundle.manifest.output, session.signature
        if output.get("kind") != "classes":
            raise BundleError(
                f"expected an output of kind 'classes', received {output.get('kind')!r}", hint="pip install -U edgekit"
            )
        self.pixels: Pixels = open_pixels(bundle.manifest.features)
        self.session = session
        config = self.pixels.config
        batch, self._input = signature.batch, signature.inputs[0]
        shape, only = self._input.shape[1:], len(signature.inputs) == 1
        if batch is None or not only or self._input.dtype != "float32" or shape != (3, config.height, config.width):
            raise BundleError(
                f"expected one input of pictures [batch, 3, {config.height}, {config.width}], as the features say; "
                f"received {'; '.join(map(str, signature.inputs))}"
            )
        self._embedding = _output(signature, output, "embedding", batch)
        self._logits = _output(signature, output, "logits", batch) if "logits" in output else None
        self.most_together = min(batch.max, MOST_TOGETHER)
        self.num_classes = 0 if self._logits is None else int(str(self._logits.shape[1]))

    def run(self, pictures: Sequence[Picture]) -> Answers:
        """The answers to at most `most_together` pictures, each as if it were alone.

        Raises:
            PictureError: one cannot be read; names the first.
            BackendError: logits are NaN or infinite.
        """
        begun = time.perf_counter()
        pixels_BCHW = np.stack([self.pixels(picture) for picture in pictures])
        outputs = self.session.run({self._input.name: pixels_BCHW})
        logits = None if self._logits is None else outputs[self._logits.name]
        if logits is not None and not np.isfinite(logits).all():
            raise BackendError(
                f"expected finite logits, {self.session} answered NaN or infinity", hint="--precision fp32"
            )
        return Answers(outputs[self._embedding.name], logits, time.perf_counter() - begun)


def open_explaining(
    bundle: Bundle, signature: Signature, backend: str | None, options: SessionOptions
) -> CheckedSession:
    """A session of the graph `explain`.

    Args:
        signature: of the graph that answers, whose inputs it must take.

    Raises:
        BundleError: there is no such graph, the hint tells how to get one; or it has other inputs or outputs.
    """
    manifest = bundle.manifest
    if EXPLAIN not in manifest.graphs:
        # of a family that can tell, the field by which it is asked to
        asked = str(manifest.provenance.get("command", f"edgekit export {manifest.family}"))
        another = "export a family that can: edgekit export FAMILY CHECKPOINT"
        command = asked if EXPLAIN in manifest.config else another
        raise BundleError(
            f"expected a graph {EXPLAIN!r} in {bundle.path}, it has {', '.join(manifest.graphs)}",
            hint=f"{command} --set {EXPLAIN}=true --out NEW",
        )
    found = manifest.graphs[EXPLAIN].signature
    shapes = {spec.name: (spec.dtype, spec.shape[1:]) for spec in found.outputs}
    if tuple(shapes) != MAPS or len({*shapes.values()}) > 1 or found.inputs != signature.inputs:
        received = "; ".join(map(str, (*found.inputs, *found.outputs)))
        raise BundleError(
            f"expected a graph {EXPLAIN!r} of pixels to {', '.join(MAPS)}, received {received}",
            hint="the bundle may be from a newer edgekit: pip install --upgrade edgekit",
        )
    return open_session(bundle, EXPLAIN, backend=backend, options=options)


def _output(signature: Signature, output: dict[str, Any], key: str, batch: Dim) -> TensorSpec:
    """The graph's output that the manifest calls `key`: float32 [batch, n]."""
    for spec in signature.outputs:
        fits = len(spec.shape) == 2 and spec.shape[0] == batch and isinstance(spec.shape[1], int)
        if spec.name == output.get(key) and fits and spec.dtype == "float32":
            return spec
    raise BundleError(
        f"expected output.{key} to name an output float32[{batch}, n], received {output.get(key)!r} of "
        f"{'; '.join(map(str, signature.outputs))}"
    )
