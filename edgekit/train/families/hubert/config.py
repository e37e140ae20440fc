"""Sizes of the public HuBERT models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit.core.signature import Signature
from edgekit.train.layers.hubert.config import SAMPLE_RATE, WAVEFORM_TIME, HubertConfig, encoder_signature


@dataclass(frozen=True)
class Config(HubertConfig):
    """A HuBERT and its head.

    Attributes:
        vocab_size: labels of the CTC head.
        normalise: bring each recording to zero mean and unit variance first.
    """

    vocab_size: int = 32
    normalise: bool = True

    def graphs(self, head: str) -> dict[str, Signature]:
        output = ("log_probs", self.vocab_size) if head == "ctc" else ("hidden_states", self.hidden_size)
        return {"infer": encoder_signature(WAVEFORM_TIME, (), self.frames, *output)}

    def features(self) -> dict[str, Any]:
        return {"kind": "waveform", "sample_rate": SAMPLE_RATE, "normalise": self.normalise}


_LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}

VARIANTS = {
    "base": Config(),
    "large": Config(1024, 24, 16, 4096, **_LARGE),  # type: ignore[arg-type]
}
