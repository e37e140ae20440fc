"""Sizes of DisConformer: a Conformer core, and augment nets that may be added to it (arXiv 2212.01393)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgekit.core.signature import Derived, Dim, Signature, TensorSpec
from edgekit.core.theta import INPUT, ThetaLayout
from edgekit.runtime.features.fbank import FbankConfig

SAMPLE_RATE = 16_000
NUM_BINS = 80
WINDOW, STRIDE = 7, 4
"""Log-mel frames that one frame of the stream reads, and from one to the next."""

MAX_CHUNK = 32
"""The most frames of the stream that a chunk may have."""

_BATCH = Dim("batch", ((1, 1, 16),))
_SPEAKERS = Dim("speakers", ((1, 1, 16),))
_TIME = Dim("time", ((WINDOW, 100, 200), (201, 350, 500), (501, 750, 1000), (1001, 2000, 3000)))
# chunks of 320 ms, and of twice as much
_CHUNK = Dim("time", ((WINDOW, 35, 35), (36, 67, WINDOW + STRIDE * (MAX_CHUNK - 1))))
_POSITIVE = (
    "width",
    "num_layers",
    "num_heads",
    "head_width",
    "feed_forward",
    "channels",
    "kernel",
    "vocab_size",
    "left_frames",
)


@dataclass(frozen=True)
class Config:
    """A core, and N augment nets of one size.

    Attributes:
        width: of the stream that all modules add to.
        num_layers: Conformer blocks.
        num_heads, head_width: the core's attention.
        feed_forward: hidden units of the core's feed-forward halves.
        channels: the core's channels of the convolution module.
        kernel: taps of the depthwise convolution, which looks back only.
        vocab_size: labels of the CTC head.
        num_augments: augment nets that are trained beside the core.
        augment_heads, augment_feed_forward, augment_channels: one augment net's share of each module.
        active: augment nets in the deployed graph, from 0; (): the core alone.
        personal: the deployed graphs take one augment net more as an input, theta, which zeros make nothing.
        dropout: while training, 0..1.
        left_frames: frames before its chunk that a frame may see where a recording is answered in chunks.
    """

    width: int
    num_layers: int
    num_heads: int
    head_width: int
    feed_forward: int
    channels: int
    kernel: int
    vocab_size: int = 32
    num_augments: int = 4
    augment_heads: int = 1
    augment_feed_forward: int = 96
    augment_channels: int = 24
    active: tuple[int, ...] = ()
    personal: bool = False
    dropout: float = 0.1
    left_frames: int = 64

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.kernel < 2:
            raise ValueError(f"kernel must be at least 2, got {self.kernel}")
        if self.width % 2:
            raise ValueError(f"width must be even, got {self.width}")
        augments = (self.num_augments, self.augment_heads, self.augment_feed_forward, self.augment_channels)
        if min(augments) < 0:
            raise ValueError(f"num_augments and the sizes of an augment net must not be negative, got {augments}")
        if len(set(self.active)) != len(self.active) or not all(0 <= a < self.num_augments for a in self.active):
            raise ValueError(
                f"active must name different augment nets of 0..{self.num_augments - 1}, got {self.active}"
            )
        if self.personal and (self.active or 0 in augments):
            raise ValueError(
                f"personal takes the core alone and augment nets with a size, got active {self.active} and {augments}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in 0..1, got {self.dropout}")

    @property
    def fbank(self) -> FbankConfig:
        """As lhotse and sherpa-onnx compute it: frames at the edges too, up to 7,600 Hz, samples in [-1, 1]."""
        return FbankConfig(SAMPLE_RATE, NUM_BINS, snip_edges=False, high_freq=-400.0, scale=1.0)

    @property
    def frames(self) -> Derived:
        """Frames of the stream per log-mel frame."""
        return Derived("time", minus=WINDOW, over=STRIDE, plus=1)

    @property
    def frame_s(self) -> float:
        """Seconds of sound per frame of the stream."""
        return STRIDE * self.fbank.frame_shift / SAMPLE_RATE

    def graphs(self, head: str) -> dict[str, Signature]:
        output = ("log_probs", self.vocab_size) if head == "ctc" else ("hidden_states", self.width)
        inputs = (
            TensorSpec("x", "float32", (_BATCH, _TIME, NUM_BINS)),
            TensorSpec("x_lens", "int64", (_BATCH,), lengths_of=_TIME),
        )
        outputs = (
            TensorSpec(output[0], "float32", (_BATCH, self.frames, output[1])),
            TensorSpec(f"{output[0]}_lens", "int64", (_BATCH,), lengths_of=self.frames),
        )
        infer = Signature((*inputs, *self._theta()), outputs)
        return {"infer": infer, "stream": self._stream(infer)} if head == "ctc" else {"infer": infer}

    def _stream(self, infer: Signature) -> Signature:
        """The same of a chunk, and what is remembered of those before it (`streaming.Streaming`)."""
        augments = len(self.active) + self.personal
        units = (self.num_heads + augments * self.augment_heads) * self.head_width
        channels = self.channels + augments * self.augment_channels
        memory = {
            "keys_values": ("float32", (_BATCH, self.left_frames, self.num_layers, 2, units)),
            "gated": ("float32", (_BATCH, self.kernel - 1, self.num_layers, channels)),
            "processed": ("int64", (_BATCH,)),
        }
        x, x_lens = infer.inputs[:2]
        inputs = (
            replace(x, shape=(_BATCH, _CHUNK, NUM_BINS)),
            replace(x_lens, lengths_of=_CHUNK),
            *(TensorSpec(name, dtype, shape) for name, (dtype, shape) in memory.items()),
            *self._theta(),
        )
        outputs = (*infer.outputs, *(TensorSpec(f"next_{name}", *like) for name, like in memory.items()))
        return Signature(inputs, outputs, tuple((name, f"next_{name}") for name in memory))

    def _theta(self) -> tuple[TensorSpec, ...]:
        layout = self.theta_layout
        return () if layout is None else (TensorSpec(INPUT, "float32", (_SPEAKERS, layout.size), weights=True),)

    @property
    def theta_layout(self) -> ThetaLayout | None:
        """What theta holds; None where no graph takes it."""
        if not self.personal:
            return None
        d, f, c, units = self.width, self.augment_feed_forward, self.augment_channels, self.head_width
        units *= self.augment_heads
        feed_forward: dict[str, tuple[int, ...]] = {
            "expand.weight": (f, d),
            "expand.bias": (f,),
            "contract.weight": (d, f),
        }
        attention: dict[str, tuple[int, ...]] = {
            **{f"{name}.weight": (units, d) for name in ("query", "key", "value", "position")},
            **{f"{name}.bias": (units,) for name in ("query", "key", "value")},
            **{f"{name}_bias": (self.augment_heads, self.head_width) for name in ("content", "position")},
            "out.weight": (d, units),
        }
        convolution: dict[str, tuple[int, ...]] = {
            **{f"{name}.weight": (c, d) for name in ("value", "gate")},
            **{f"{name}.bias": (c,) for name in ("value", "gate", "depthwise", "norm")},
            "depthwise.weight": (c, 1, self.kernel),
            "norm.weight": (c,),
            "out.weight": (d, c),
        }
        kinds = {
            "feed_forward_1": feed_forward,
            "attention": attention,
            "convolution": convolution,
            "feed_forward_2": feed_forward,
        }
        return ThetaLayout.of(
            (f"blocks.{index}.{kind}.{name}", shape)
            for index in range(self.num_layers)
            for kind, shapes in kinds.items()
            for name, shape in shapes.items()
        )

    def features(self) -> dict[str, Any]:
        # the graph needs a whole window of log-mel frames
        return {"kind": "kaldi-fbank", **asdict(self.fbank), "min_samples": self.min_samples}

    @property
    def min_samples(self) -> int:
        """The shortest recording, in samples: seven frames, each one shift further."""
        shift = self.fbank.frame_shift
        return WINDOW * shift - shift // 2

    def group_parameters(self, heads: int, feed_forward: int, channels: int) -> int:
        """Parameters of one group of units in every block, without what only the core has."""
        d, units = self.width, heads * self.head_width
        halves = 2 * ((d + 1) * feed_forward + feed_forward * d)
        attention = 3 * (d + 1) * units + d * units + 2 * units + units * d
        convolution = 2 * (d + 1) * channels + (self.kernel + 1) * channels + 2 * channels + channels * d
        return self.num_layers * (halves + attention + convolution)

    def core_parameters(self) -> int:
        """Parameters of the core without its head."""
        d = self.width
        rows = ((NUM_BINS - 1) // 2 - 1) // 2
        subsampling = (9 + 1) * d + (9 * d + 1) * d + (rows * d + 1) * d
        # five norms and the output bias of each of the four modules
        shared = self.num_layers * (5 * 2 * d + 4 * d)
        return subsampling + shared + self.group_parameters(self.num_heads, self.feed_forward, self.channels)

    def augment_parameters(self) -> int:
        """Parameters of one augment net."""
        return self.group_parameters(self.augment_heads, self.augment_feed_forward, self.augment_channels)

    def num_parameters(self) -> int:
        return self.core_parameters() + len(self.active) * self.augment_parameters()


def _sizes(**core: Any) -> Config:
    """A variant whose augment nets have one head and a quarter of the feed-forward units and channels."""
    quarter = {"augment_feed_forward": core["feed_forward"] // 4, "augment_channels": core["channels"] // 4}
    return Config(**core, **quarter)


VARIANTS: Mapping[str, Config] = {
    "t": _sizes(width=96, num_layers=6, num_heads=4, head_width=24, feed_forward=384, channels=96, kernel=15),
    "s": _sizes(
        width=144,
        num_layers=16,
        num_heads=4,
        head_width=36,
        feed_forward=576,
        channels=144,
        kernel=31,
        vocab_size=128,
    ),
    "m": _sizes(
        width=256,
        num_layers=12,
        num_heads=4,
        head_width=64,
        feed_forward=1024,
        channels=256,
        kernel=31,
        vocab_size=1024,
    ),
}
