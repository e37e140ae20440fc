"""HuBERT as published, exported with an exact length mask."""

from __future__ import annotations

from edgekit.train.families.hubert.config import VARIANTS
from edgekit.train.family import Family

FAMILY = Family(
    name="hubert",
    summary="any HuBERT in transformers' format, exported as it is, with an exact length mask",
    paper="Hsu et al. 2021, arXiv 2106.07447",
    variants=VARIANTS,
    heads={"ctc": "speech-recognition", "embedding": "speech-embedding"},
    code="edgekit.train.families.hubert.model",
    training="edgekit.train.families.hubert.recipe",
    small=(
        "num_hidden_layers=1",
        "hidden_size=64",
        "num_attention_heads=4",
        "intermediate_size=64",
        "conv_dim=32,32,32,32,32,32,32",
    ),
)
