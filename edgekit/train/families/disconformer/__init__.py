"""A Conformer core for everyone and small augment nets for someone."""

from __future__ import annotations

from pathlib import Path

from edgekit.train.families.disconformer.config import VARIANTS
from edgekit.train.family import Builtin, Family

FAMILY = Family(
    name="disconformer",
    summary="Conformer core for everyone, augment nets for one speaker each",
    paper="arXiv 2212.01393",
    variants=VARIANTS,
    heads={"ctc": "speech-recognition", "embedding": "speech-embedding"},
    code="edgekit.train.families.disconformer.model",
    deployable=("active", "personal"),
    adapted=("personal=true",),
    training="edgekit.train.families.disconformer.recipe",
    builtin=Builtin("t", Path(__file__).parent / "builtin", licence="CC-BY-SA-4.0"),
    small=(
        "width=32",
        "num_layers=1",
        "num_heads=2",
        "head_width=8",
        "feed_forward=32",
        "channels=16",
        "kernel=7",
        "vocab_size=32",
        "augment_feed_forward=8",
        "augment_channels=8",
    ),
)
