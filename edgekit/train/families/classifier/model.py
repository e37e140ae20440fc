"""The classifier's module, from nothing or from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.train.families.classifier.config import VARIANTS
from edgekit.train.family import LoadedModel
from edgekit.train.layers.classifier.checkpoint import load_classifier
from edgekit.train.layers.classifier.model import build, random_model

__all__ = ["NAME", "build", "load_model", "random_model"]

NAME = "classifier"


def load_model(
    checkpoint: Path | str, variant: str | None, head: str | None, settings: Sequence[str] = ()
) -> tuple[str, LoadedModel]:
    """A checkpoint of ours, of transformers ("ForImageClassification" or a backbone alone), or "imagenet".

    Raises:
        CheckpointError: of another family or size, or its tensors do not fit.
    """
    return load_classifier(NAME, VARIANTS, checkpoint, variant, head, settings)
