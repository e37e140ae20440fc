"""Sizes of the students of arXiv 2210.15631: shallow-wide or deep-thin, on waveform or filter bank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgekit.core.signature import Derived, Signature
from edgekit.runtime.features.fbank import FbankConfig
from edgekit.train.layers.hubert.config import (
    FBANK_TIME,
    SAMPLE_RATE,
    WAVEFORM_TIME,
    HubertConfig,
    encoder_signature,
)


@dataclass(frozen=True)
class Config(HubertConfig):
    """A student and its head.

    Attributes:
        front_end: "fbank" (one convolution over log-mel features) or "waveform" (HuBERT's own).
        vocab_size: labels of the CTC head.
        fbank_kernel: taps of the convolution over log-mel frames; it halves their rate to one per 20 ms.
    """

    feat_proj_layer_norm: bool = False
    front_end: str = "fbank"
    vocab_size: int = 32
    fbank_kernel: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.front_end not in ("fbank", "waveform"):
            raise ValueError(f"front_end must be 'fbank' or 'waveform', got {self.front_end!r}")
        if self.fbank_kernel < 1 or self.fbank_kernel % 2 == 0:
            raise ValueError(f"fbank_kernel must be odd and positive, got {self.fbank_kernel}")
        if self.vocab_size < 2:
            raise ValueError(f"vocab_size must be at least 2, got {self.vocab_size}")

    @property
    def fbank(self) -> FbankConfig:
        """Kaldi's 80 log-mel bins over 25 ms every 10 ms, of samples times 2^15."""
        return FbankConfig(sample_rate=SAMPLE_RATE, num_mel_bins=80)

    @property
    def deployed_frames(self) -> Derived:
        """Output frames per input step: of samples, or of filter bank frames."""
        return self.frames if self.front_end == "waveform" else Derived("time", minus=1, over=2, plus=1)

    @property
    def frame_s(self) -> float:
        step = 1 if self.front_end == "waveform" else self.fbank.frame_shift
        return self.deployed_frames.over * step / SAMPLE_RATE

    def graphs(self, head: str) -> dict[str, Signature]:
        output = ("log_probs", self.vocab_size) if head == "ctc" else ("hidden_states", self.hidden_size)
        if self.front_end == "waveform":
            return {"infer": encoder_signature(WAVEFORM_TIME, (), self.deployed_frames, *output)}
        features = (self.fbank.num_mel_bins,)
        return {"infer": encoder_signature(FBANK_TIME, features, self.deployed_frames, *output)}

    def features(self) -> dict[str, Any]:
        if self.front_end == "waveform":
            return {"kind": "waveform", "sample_rate": SAMPLE_RATE, "normalise": False}
        return {"kind": "kaldi-fbank", **asdict(self.fbank)}

    def front_end_parameters(self) -> int:
        if self.front_end == "waveform":
            return super().front_end_parameters()
        d, bins = self.hidden_size, self.fbank.num_mel_bins
        return (bins * self.fbank_kernel + 1) * 2 * d + (d + 1) * d


_SHALLOW_WIDE: Mapping[str, Any] = {"hidden_size": 768, "num_hidden_layers": 2, "intermediate_size": 3072}
_DEEP_THIN: Mapping[str, Any] = {"hidden_size": 480, "num_hidden_layers": 12, "intermediate_size": 480}

VARIANTS = {
    "deep-thin-fbank": Config(**_DEEP_THIN, front_end="fbank"),
    "deep-thin-waveform": Config(**_DEEP_THIN, front_end="waveform"),
    "shallow-wide-fbank": Config(**_SHALLOW_WIDE, front_end="fbank"),
    "shallow-wide-waveform": Config(**_SHALLOW_WIDE, front_end="waveform"),
}
