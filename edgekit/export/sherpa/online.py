"""A graph that streams, wrapped as sherpa-onnx's online `zipformer2_ctc`: chunks of one size, memory layer by layer.

sherpa-onnx makes the memory's zeros from the metadata and hands it on, stacked for several streams, without looking at
it; it knows inputs and outputs by their order. So an attention's keys go where a Zipformer keeps its keys, the values
where it keeps the first of two values, and a convolution's frames where it keeps those of the first of two
convolutions; the rest of a Zipformer's memory passes through unread.

Shapes: N streams, C frames of a chunk, P frames that attention remembers, L layers, U units of attention, k taps and
G channels of the convolution, V symbols.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.errors import BundleError, ExportError
from edgekit.core.signature import Axis, Signature, TensorSpec
from edgekit.export.sherpa.symbols import FBANK, STEPS_EACH, Symbols
from edgekit.runtime.chunks import Chunks, Runs, Stateful

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto

MODEL_TYPE = "zipformer2"

_EMBEDDING = (128, 3, 19)
"""What a Zipformer's first convolutions remember; sherpa-onnx does not ask the metadata."""


@dataclass(frozen=True)
class Online:
    """A graph's memory, and how it lies in the file's.

    Attributes:
        source: the graph's signature.
        chunks: how a series is cut: as the graph holds for best.
        attention: names of the input and the output `[N, P, L, 2, U]`, keys before values.
        convolution: of `[N, k - 1, L, G]`.
        count: of `[N]`.
        left: P.
        layers: L.
        units: U.
        taps: k - 1.
        channels: G.
    """

    source: Signature
    chunks: Chunks
    attention: tuple[str, str]
    convolution: tuple[str, str]
    count: tuple[str, str]
    left: int
    layers: int
    units: int
    taps: int
    channels: int

    @property
    def metadata(self) -> dict[str, int]:
        """What sherpa-onnx makes the memory's zeros and its windows of."""
        return {
            "T": self.chunks.num_steps,
            "decode_chunk_len": self.chunks.hop,
            "encoder_dims": self.channels,
            "query_head_dims": self.units,
            "value_head_dims": self.units,
            "num_heads": 1,
            "num_encoder_layers": self.layers,
            "cnn_module_kernels": 2 * self.taps,  # of which it takes half
            "left_context_len": self.left,
        }

    def heard(self, num_steps: int) -> int:
        """Of a series of so many steps those that sherpa-onnx decodes: windows after which one step more is there."""
        num_windows = max(0, -(-(num_steps - self.chunks.num_steps) // self.chunks.hop))
        return num_windows and (num_windows - 1) * self.chunks.hop + self.chunks.num_steps

    @property
    def silence(self) -> int:
        """Samples that must follow a recording for all of it to be decoded, and somewhat more."""
        return (self.chunks.num_steps + self.chunks.hop) * FBANK.frame_shift

    def signature(self, symbols: Symbols) -> Signature:
        """The file's, in sherpa-onnx's order."""
        given = {spec.name: spec for spec in (*self.source.inputs, *self.source.outputs)}
        batch, data, output = self.source.batch, self.chunks.data, self.chunks.output
        assert batch is not None
        keys, taps = (self.left, batch, self.units), (batch, self.channels, self.taps)
        layer: dict[str, tuple[Axis, ...]] = {
            "key": keys,
            "nonlin_attn": (1, batch, self.left, 3 * self.channels // 4),
            "val1": keys,
            "val2": keys,
            "conv1": taps,
            "conv2": taps,
        }
        memory = {f"cached_{kind}_{i}": shape for i in range(self.layers) for kind, shape in layer.items()}
        memory["embed_states"] = (batch, *_EMBEDDING)
        before = [TensorSpec(name, "float32", shape) for name, shape in memory.items()] + [given[self.count[0]]]
        after = [TensorSpec(_new(name), "float32", shape) for name, shape in memory.items()] + [given[self.count[1]]]
        return Signature(
            (TensorSpec(data.name, data.dtype, (batch, self.chunks.num_steps, *data.shape[2:])), *before),
            (TensorSpec(output.name, output.dtype, (batch, self.chunks.num_frames, len(symbols.texts))), *after),
            tuple((old.name, new.name) for old, new in zip(before, after)),
        )

    def wrap(self, model: ModelProto, symbols: Symbols) -> None:
        """Turn the graph, whose classes are the file's already, into the file's."""
        from onnx import helper, numpy_helper

        graph, make = model.graph, helper.make_node
        data, lengths = self.chunks.data.name, self.chunks.lengths.name
        layers = range(self.layers)
        keys_values = [f"cached_{kind}_{i}" for i in layers for kind in ("key", "val1")]
        gated = [f"cached_conv1_{i}" for i in layers]
        before = [
            make("Shape", [data], ["sherpa/streams"], start=0, end=1),
            make("Expand", ["sherpa/window", "sherpa/streams"], [lengths]),
            make("Concat", keys_values, ["sherpa/keys_values_PN(L2U)"], axis=2),
            make("Reshape", ["sherpa/keys_values_PN(L2U)", "sherpa/L2U"], ["sherpa/keys_values_PNL2U"]),
            make("Transpose", ["sherpa/keys_values_PNL2U"], [self.attention[0]], perm=[1, 0, 2, 3, 4]),
            make("Concat", gated, ["sherpa/gated_N(LG)k"], axis=1),
            make("Transpose", ["sherpa/gated_N(LG)k"], ["sherpa/gated_Nk(LG)"], perm=[0, 2, 1]),
            make("Reshape", ["sherpa/gated_Nk(LG)", "sherpa/LG"], [self.convolution[0]]),
        ]
        after = [
            make("Transpose", [self.attention[1]], ["sherpa/new_keys_values_PNL2U"], perm=[1, 0, 2, 3, 4]),
            make("Reshape", ["sherpa/new_keys_values_PNL2U", "sherpa/flat"], ["sherpa/new_keys_values_PN(L2U)"]),
            make("Split", ["sherpa/new_keys_values_PN(L2U)", "sherpa/each_U"], [*map(_new, keys_values)], axis=2),
            make("Reshape", [self.convolution[1], "sherpa/flat"], ["sherpa/new_gated_Nk(LG)"]),
            make("Transpose", ["sherpa/new_gated_Nk(LG)"], ["sherpa/new_gated_N(LG)k"], perm=[0, 2, 1]),
            make("Split", ["sherpa/new_gated_N(LG)k", "sherpa/each_G"], [*map(_new, gated)], axis=1),
        ]
        signature = self.signature(symbols)
        unread = [pair for pair in signature.state if pair[0] not in (*keys_values, *gated, self.count[0])]
        after += [make("Identity", [old], [new]) for old, new in unread]
        constants = {
            "window": [self.chunks.num_steps],
            "L2U": [0, 0, self.layers, 2, self.units],
            "LG": [0, 0, self.layers, self.channels],
            "flat": [0, 0, -1],
            "each_U": [self.units] * (2 * self.layers),
            "each_G": [self.channels] * self.layers,
        }
        graph.initializer.extend(
            numpy_helper.from_array(np.array(values, np.int64), f"sherpa/{name}") for name, values in constants.items()
        )
        nodes: list[NodeProto] = [*before, *graph.node, *after]
        for index, node in enumerate((*before, *after)):
            node.name = f"sherpa/memory/{node.op_type}_{index}"
        for field, values in (
            (graph.node, nodes),
            (graph.input, map(_value_info, signature.inputs)),
            (graph.output, map(_value_info, signature.outputs)),
            (graph.value_info, ()),  # of chunks of any size
        ):
            del field[:]
            field.extend(values)


class InWindows:
    """The online file as a graph without state: whole windows of a series, one after the other, from its beginning on.

    Args:
        session: the file.
    """

    def __init__(self, session: Runs, online: Online, symbols: Symbols) -> None:
        self._session, self._chunks = session, online.chunks
        self.signature = symbols.signature(online.source.without_state())

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The frames of all windows, and how many of them are each item's own."""
        cut = self._chunks
        x, lengths = inputs[cut.data.name], inputs[cut.lengths.name]
        graph = Stateful(self._session, len(x))
        starts = range(0, x.shape[1] - cut.num_steps + 1, cut.hop)
        parts = [graph.step({cut.data.name: x[:, start : start + cut.num_steps]})[cut.output.name] for start in starts]
        frame_lengths = cut.frames.of_size(lengths).astype(cut.output_lengths.dtype)
        return {cut.output.name: np.concatenate(parts, 1), cut.output_lengths.name: frame_lengths}


def online_of(signature: Signature) -> Online:
    """The graph's memory, known by its shapes.

    Raises:
        ExportError: it is not what a Zipformer's can hold.
    """
    given = {spec.name: spec for spec in signature.inputs}
    memory = {len(given[before].shape): (given[before], after) for before, after in signature.state}
    types = {rank: spec.dtype for rank, (spec, _) in memory.items()}
    fits = len(signature.state) == 3 and types == {5: "float32", 4: "float32", 1: "int64"}
    sizes: list[Axis] = [axis for rank in (5, 4) for axis in memory[rank][0].shape[1:]] if fits else []
    match sizes:
        case [int(left), int(layers), 2, int(units), int(taps), int(same), int(channels)] if (
            layers == same and channels > 1 and all(spec.shape[0] == signature.batch for spec, _ in memory.values())
        ):
            attention, convolution, count = ((memory[rank][0].name, memory[rank][1]) for rank in (5, 4, 1))
            try:
                chunks = Chunks(signature)
            except BundleError as error:
                raise ExportError(error.message) from error
            if chunks.frames.over != STEPS_EACH:
                raise ExportError(f"expected a frame for each {STEPS_EACH} steps, received {chunks.frames}")
            return Online(signature, chunks, attention, convolution, count, left, layers, units, taps, channels)
    received = [str(given[before]) for before, _ in signature.state]
    raise ExportError(
        "expected a graph that remembers float32[batch, frames, layers, 2, units] for attention, "
        "float32[batch, frames, layers, channels] for convolutions and an int64[batch], "
        f"received {', '.join(received) or 'one without memory'}"
    )


def _new(name: str) -> str:
    return f"new_{name}"


def _value_info(spec: TensorSpec) -> ValueInfoProto:
    from onnx import helper

    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, dtype, [a if isinstance(a, int) else str(a) for a in spec.shape])
