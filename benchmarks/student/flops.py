"""Floating-point operations of HuBERT and its students, from their sizes.

A multiply-accumulate counts as two; norms, activations, softmax and sums are left out (about 1 % of the whole).
"""

from __future__ import annotations

from itertools import pairwise

from edgekit.runtime.features.fbank import FbankConfig
from edgekit.train.families.hubert.config import VARIANTS as BASES
from edgekit.train.families.hubert_student.config import VARIANTS as STUDENTS
from edgekit.train.families.hubert_student.config import Config as StudentConfig
from edgekit.train.layers.hubert.config import SAMPLE_RATE, HubertConfig

MODELS: dict[str, HubertConfig] = {
    "base": BASES["base"],
    "waveform": STUDENTS["deep-thin-waveform"],
    "fbank": STUDENTS["deep-thin-fbank"],
}
_VOCAB_SIZE = 32


def count(config: HubertConfig, audio_s: int) -> dict[str, float]:
    """GFLOP of one recording, by part of the network: `front_end`, `positional`, `linear`, `attention`, `head`."""
    num_frames, front_end = _front_end(config, audio_s * SAMPLE_RATE)
    d, ffn, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    per_part = {
        "front_end": front_end,
        "positional": num_frames * d * (d // config.num_conv_pos_embedding_groups) * config.num_conv_pos_embeddings,
        "linear": layers * num_frames * (4 * d * d + 2 * d * ffn),
        "attention": layers * 2 * num_frames**2 * d,
        "head": num_frames * d * _VOCAB_SIZE,
    }
    return {part: round(2 * products / 1e9, 4) for part, products in per_part.items()}


def total(config: HubertConfig, audio_s: int) -> float:
    """GFLOP of one recording."""
    return sum(count(config, audio_s).values())


def _front_end(config: HubertConfig, num_samples: int) -> tuple[int, int]:
    """Encoder frames, and multiplications up to the Transformer's input."""
    d = config.hidden_size
    if isinstance(config, StudentConfig) and config.front_end == "fbank":
        bins = config.fbank.num_mel_bins
        num_frames = config.deployed_frames.of_size(_fbank_frames(config.fbank, num_samples))
        return num_frames, num_frames * (bins * config.fbank_kernel * 2 * d + d * d)
    products, length = 0, num_samples
    for (into, out), kernel, stride in zip(pairwise((1, *config.conv_dim)), config.conv_kernel, config.conv_stride):
        length = (length - kernel) // stride + 1
        products += length * into * out * kernel
    return length, products + length * config.conv_dim[-1] * d


def _fbank_frames(config: FbankConfig, num_samples: int) -> int:
    return 1 + (num_samples - config.frame_length) // config.frame_shift
