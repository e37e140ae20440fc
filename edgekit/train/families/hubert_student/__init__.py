"""Small HuBERT students for speech recognition at the edge."""

from __future__ import annotations

from edgekit.train.families.hubert_student.config import VARIANTS
from edgekit.train.family import Family

FAMILY = Family(
    name="hubert-student",
    summary="HuBERT distilled to a quarter of its size, on waveform or filter bank",
    paper="arXiv 2210.15631",
    variants=VARIANTS,
    heads={"ctc": "speech-recognition", "embedding": "speech-embedding"},
    code="edgekit.train.families.hubert_student.model",
    training="edgekit.train.families.hubert_student.recipe",
    small=(
        "num_hidden_layers=1",
        "hidden_size=64",
        "num_attention_heads=4",
        "intermediate_size=64",
        "conv_dim=32,32,32,32,32,32,32",
    ),
)
