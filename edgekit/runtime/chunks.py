"""Run a graph with state chunk after chunk: what it remembers is carried here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from edgekit.core.errors import BundleError
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec


class Runs(Protocol):
    """A session, or anything else that computes a graph."""

    @property
    def signature(self) -> Signature: ...

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...


class Stateful:
    """A graph with state, from its beginning on: each call goes on where the last one ended.

    Args:
        session: the graph.
        batch: items that go through it together.
    """

    def __init__(self, session: Runs, batch: int = 1) -> None:
        self._session, self._batch = session, batch
        self._specs = {spec.name: spec for spec in session.signature.inputs}
        self.restart()

    def restart(self) -> None:
        """Forget all."""
        self._state = {before: self._zeros(self._specs[before]) for before, _ in self._session.signature.state}

    def step(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs for the next inputs, without the state."""
        outputs = self._session.run({**inputs, **self._state})
        self._state = {before: outputs.pop(after) for before, after in self._session.signature.state}
        return outputs

    def _zeros(self, spec: TensorSpec) -> np.ndarray:
        shape = [axis if isinstance(axis, int) else self._batch for axis in spec.shape]
        return np.zeros(shape, spec.dtype)


class Chunks:
    """How a series of steps is cut for a graph with state: each chunk begins where the last one's frames end.

    Args:
        signature: of the graph.
        num_steps: of a chunk, as its input has them; None: what the signature holds for best.

    Attributes:
        num_steps: of a chunk.
        hop: steps from one chunk to the next.
        num_frames: that a whole chunk gives.

    Raises:
        BundleError: such a chunk gives no frames, or is longer than the graph takes.
    """

    def __init__(self, signature: Signature, num_steps: int | None = None) -> None:
        self.data, self.lengths, steps = counted(signature.inputs, "an input")
        self.output, self.output_lengths, frames = counted(signature.outputs, "an output")
        if not isinstance(steps, Dim) or not isinstance(frames, Derived) or frames.of != steps.name:
            raise BundleError(f"expected frames that follow from the input's steps, received {frames} of {steps}")
        self.frames, self.least = frames, steps.min
        self.num_steps = steps.buckets[0][1] if num_steps is None else num_steps
        self.num_frames = int(frames.of_size(self.num_steps))
        self.hop = self.num_frames * frames.over
        if self.num_frames < 1 or self.num_steps > steps.max:
            raise BundleError(
                f"expected chunks of {steps.min} to {steps.max} steps, received {self.num_steps}",
                hint=f"the longest chunk has {frames.of_size(steps.max)} frames",
            )


class InChunks:
    """A graph with state as one without: whole series go in, chunk after chunk, from the beginning on.

    Args:
        session: the graph.
        num_steps: see `Chunks`.
    """

    def __init__(self, session: Runs, num_steps: int | None = None) -> None:
        self._session = session
        self.chunks = Chunks(session.signature, num_steps)
        self.signature = session.signature.without_state()

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The frames of all chunks, one after the other, and their lengths. Beyond an item's own frames are zeros."""
        cut, name = self.chunks, self.chunks.output.name
        x, lengths = inputs[cut.data.name], inputs[cut.lengths.name]
        weights = {spec.name: inputs[spec.name] for spec in self.signature.weights}
        graph = Stateful(self._session, len(x))
        parts = []
        for start in range(0, max(1, int(lengths.max()) - cut.least + 1), cut.hop):
            # an item that has ended gets a least chunk more, of whatever follows; its frames are not read
            part_lengths = np.clip(lengths - start, cut.least, cut.num_steps)
            size = int(part_lengths.max())
            part = {cut.data.name: x[:, start : start + size], cut.lengths.name: part_lengths}
            parts.append(graph.step({**weights, **part})[name])
        frames = np.zeros((len(x), int(cut.frames.of_size(x.shape[1])), *parts[0].shape[2:]), parts[0].dtype)
        joined = np.concatenate(parts, 1)[:, : frames.shape[1]]
        frames[:, : joined.shape[1]] = joined
        frame_lengths = cut.frames.of_size(lengths).astype(cut.output_lengths.dtype)
        frames[np.arange(frames.shape[1])[None, :] >= frame_lengths[:, None]] = 0
        return {name: frames, cut.output_lengths.name: frame_lengths}


def whole(session: Runs) -> Runs:
    """The session itself, or, where its graph has state, as one that takes whole series."""
    return InChunks(session) if session.signature.state else session


def counted(specs: Sequence[TensorSpec], where: str) -> tuple[TensorSpec, TensorSpec, Any]:
    """The first tensor `[batch, time, ...]`, the tensor that counts how much of its time is valid, and that axis.

    Raises:
        BundleError: there are no such two.
    """
    for lengths in specs:
        for data in specs:
            if lengths.lengths_of is not None and data.lengths_of is None and lengths.lengths_of in data.shape[1:2]:
                return data, lengths, lengths.lengths_of
    raise BundleError(
        f"expected {where} [batch, time, ...] and one that counts its time, received {'; '.join(map(str, specs))}"
    )
