"""LIO's deployed module is a plain classifier; its heads stand beside it in a checkpoint, for who wants to see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from edgekit.core.errors import CheckpointError
from edgekit.train.checkpoint import open_checkpoint
from edgekit.train.families.lio.config import VARIANTS, Config
from edgekit.train.families.lio.heads import Explanation, Heads
from edgekit.train.family import LoadedModel
from edgekit.train.layers.backbones.from_transformers import fill
from edgekit.train.layers.classifier.checkpoint import ASIDE, load_classifier
from edgekit.train.layers.classifier.model import PictureClassifier, build
from edgekit.train.layers.classifier.model import random_model as random_classifier

__all__ = ["NAME", "build", "heads_of", "load_model", "random_model"]

NAME = "lio"


def heads_of(module: PictureClassifier, config: Config) -> Heads:
    """New heads for a classifier."""
    return Heads(module.backbone, config.stages, config.pool)


def random_model(config: Config, head: str, seed: int) -> LoadedModel:
    """A classifier whose shapes and latency are real and whose answers are not."""
    found = random_classifier(config, head, seed)
    return _explained(found, config, heads_of(_classifier(found), config)) if config.explain else found


def load_model(
    checkpoint: Path | str, variant: str | None, head: str | None, settings: Sequence[str] = ()
) -> tuple[str, LoadedModel]:
    """A checkpoint of ours; of transformers or a package there are no heads to explain with.

    Raises:
        CheckpointError: of another family or size, its tensors do not fit, or `explain` is asked and it has no heads.
    """
    name, found = load_classifier(NAME, VARIANTS, checkpoint, variant, head, settings)
    config = found.config
    assert isinstance(config, Config)
    if not config.explain:
        return name, found
    source = open_checkpoint(checkpoint)
    tensors = {key.removeprefix(ASIDE): value for key, value in source.tensors().items() if key.startswith(ASIDE)}
    if not tensors:
        raise CheckpointError(
            f"expected heads to explain with in {source.source}, there are none", hint="--set explain=false"
        )
    heads = heads_of(_classifier(found), config)
    fill(heads, tensors, source.source)
    return name, _explained(found, config, heads)


def _explained(found: LoadedModel, config: Config, heads: Heads) -> LoadedModel:
    module: torch.nn.Module = Explanation(_classifier(found).backbone, heads, config.stages[-1])
    return replace(found, others={"explain": module.eval()})


def _classifier(found: LoadedModel) -> PictureClassifier:
    assert isinstance(found.module, PictureClassifier)
    return found.module
