"""The shape of a HuBERT encoder, its parameter count and its graph's signature, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import CheckpointError, SettingsError
from edgekit.core.settings import settings_from_dict
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec

if TYPE_CHECKING:
    from typing_extensions import Self

SAMPLE_RATE = 16_000
BATCH = Dim("batch", ((1, 1, 16),))
_SECONDS = (2, 5, 10, 30)
_COUNTS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups",
)
_TRAINING_ONLY = {"hidden_dropout", "attention_dropout", "activation_dropout"}
_ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu", "swish")


@dataclass(frozen=True)
class HubertConfig:
    """The fields of `transformers.HubertConfig` that decide what a HuBERT computes, by the same names.

    Attributes:
        hidden_size: width of the Transformer.
        intermediate_size: width inside its feed-forward layers.
        feat_extract_norm: "group" (statistics over time on the first convolution: Base) or "layer" (Large).
        do_stable_layer_norm: pre-norm Transformer layers (Large) instead of post-norm (Base).
        conv_pos_batch_norm: batch norm before the positional convolution, instead of weight norm in it.
        feat_proj_layer_norm: a LayerNorm before the projection of the convolutions' output.
    """

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    feat_extract_norm: str = "group"
    feat_extract_activation: str = "gelu"
    feat_proj_layer_norm: bool = True
    conv_dim: tuple[int, ...] = (512,) * 7
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    conv_pos_batch_norm: bool = False
    do_stable_layer_norm: bool = False
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("num_attention_heads", "num_conv_pos_embedding_groups"):
            if self.hidden_size % getattr(self, name):
                raise ValueError(f"hidden_size must divide by {name}, got {self.hidden_size} and {getattr(self, name)}")
        for name in sorted(_TRAINING_ONLY):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in 0..1, got {getattr(self, name)}")
        if min(*self.conv_dim, *self.conv_kernel, *self.conv_stride) < 1:
            raise ValueError("conv_dim, conv_kernel and conv_stride must be at least 1")
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride) > 0:
            raise ValueError("conv_dim, conv_kernel and conv_stride must have one entry per convolution")
        for name in ("hidden_act", "feat_extract_activation"):
            if getattr(self, name) not in _ACTIVATIONS:
                raise ValueError(f"{name} must be one of {', '.join(_ACTIVATIONS)}, got {getattr(self, name)!r}")
        if self.feat_extract_norm not in ("group", "layer"):
            raise ValueError(f"feat_extract_norm must be 'group' or 'layer', got {self.feat_extract_norm!r}")

    @classmethod
    def from_transformers(cls, data: Mapping[str, Any]) -> Self:
        """Read a `config.json` of `transformers`; absent fields have that library's defaults, which are ours.

        Raises:
            CheckpointError: not a HuBERT, or one with parts that this module does not have.
        """
        if data.get("model_type") != "hubert":
            raise CheckpointError(f"expected model_type 'hubert', received {data.get('model_type')!r}")
        if data.get("adapter_attn_dim") is not None:
            raise CheckpointError("HuBERT with attention adapters (adapter_attn_dim) is not supported")
        known = {f.name for f in fields(cls)}
        try:
            return settings_from_dict(cls, {name: value for name, value in data.items() if name in known})
        except SettingsError as error:
            raise CheckpointError(f"a config.json that does not describe a HuBERT: {error.message}") from error

    def computed(self) -> dict[str, Any]:
        """The fields that decide what is computed at inference: two HuBERTs of equal ones have one graph."""
        own = {field.name for field in fields(HubertConfig)} - _TRAINING_ONLY
        return {name: getattr(self, name) for name in own}

    @property
    def frames(self) -> Derived:
        """Frames of `time` samples: a chain of strided convolutions without padding, folded into one division."""
        receptive, stride = 1, 1
        for kernel, step in zip(self.conv_kernel, self.conv_stride):
            receptive += (kernel - 1) * stride
            stride *= step
        return Derived("time", minus=receptive, over=stride, plus=1)

    @property
    def frame_s(self) -> float:
        """Seconds of sound per frame of the encoder."""
        return self.frames.over / SAMPLE_RATE

    def front_end_parameters(self) -> int:
        """Parameters of the convolutions and the projection to `hidden_size`."""
        total, channels = 0, 1
        for index, (width, kernel) in enumerate(zip(self.conv_dim, self.conv_kernel)):
            normed = self.feat_extract_norm == "layer" or index == 0
            total += channels * width * kernel + width * self.conv_bias + 2 * width * normed
            channels = width
        return total + 2 * channels * self.feat_proj_layer_norm + (channels + 1) * self.hidden_size

    def transformer_parameters(self) -> int:
        """Parameters of the positional convolution, the encoder's LayerNorm and the Transformer layers."""
        d, ffn, kernel = self.hidden_size, self.intermediate_size, self.num_conv_pos_embeddings
        positional = d * (d // self.num_conv_pos_embedding_groups) * kernel + d
        positional += 2 * d if self.conv_pos_batch_norm else kernel  # weight norm's gain: one per tap
        layer = 4 * (d * d + d) + (d * ffn + ffn) + (ffn * d + d) + 4 * d
        return positional + 2 * d + self.num_hidden_layers * layer

    def num_parameters(self) -> int:
        """Parameters of the encoder, without `masked_spec_embed`, which only training uses."""
        return self.front_end_parameters() + self.transformer_parameters()


WAVEFORM_TIME = Dim(
    "time",
    tuple(
        (low, min((low + high) // 2 + 1, high), high)
        for low, high in zip((400, *(SAMPLE_RATE * s + 1 for s in _SECONDS[:-1])), (SAMPLE_RATE * s for s in _SECONDS))
    ),
)
FBANK_TIME = Dim(
    "time",
    tuple(
        (low, (low + high + 1) // 2, high)
        for low, high in zip((1, *(100 * s + 1 for s in _SECONDS[:-1])), (100 * s for s in _SECONDS))
    ),
)


def encoder_signature(time: Dim, features: tuple[int, ...], frames: Derived, output: str, width: int) -> Signature:
    """`x`, `x_lens` -> `output`, `output_lens`, with lengths along `time` and along `frames`.

    Args:
        time: the input's time axis (samples or feature frames).
        features: sizes of the input's axes after time; () for a waveform.
        output: the output's name.
        width: the size of its last axis.
    """
    return Signature(
        inputs=(
            TensorSpec("x", "float32", (BATCH, time, *features)),
            TensorSpec("x_lens", "int64", (BATCH,), lengths_of=time),
        ),
        outputs=(
            TensorSpec(output, "float32", (BATCH, frames, width)),
            TensorSpec(f"{output}_lens", "int64", (BATCH,), lengths_of=frames),
        ),
    )
