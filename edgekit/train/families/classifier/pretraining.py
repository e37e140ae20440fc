"""How a backbone learns features for few-shot classes: S2M2's pretraining, whose checkpoint has no classes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import torch

from edgekit.train.data.picture_augment import AugmentSettings
from edgekit.train.data.picture_sets import open_pictures
from edgekit.train.data.picture_settings import PictureDataSettings
from edgekit.train.families.classifier.config import Config
from edgekit.train.families.classifier.model import NAME, build
from edgekit.train.layers.classifier.checkpoint import begin_with, require_whole, save_classifier
from edgekit.train.loop import LoopSettings, fit
from edgekit.train.recipe import Workplace
from edgekit.train.techniques.s2m2 import S2M2, S2M2Settings


@dataclass(frozen=True)
class Pretraining:
    """Learning features.

    Attributes:
        init: as `recipe.Training.init`.
    """

    variant: str
    model: Config
    init: str = ""
    data: PictureDataSettings = field(
        default_factory=lambda: PictureDataSettings(batch_size=16, augment=AugmentSettings(jitter=0.4))
    )
    s2m2: S2M2Settings = field(default_factory=S2M2Settings)
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(
            learning_rate=1e-3, schedule="constant", warmup=0.0, weight_decay=0.0, betas=(0.9, 0.999), eps=1e-8
        )
    )


def pretrain(settings: Pretraining, place: Workplace) -> dict[str, float]:
    """Train a backbone on base classes; what is saved gives embeddings alone."""
    require_whole(settings.model)
    data = open_pictures(settings.data, settings.model.image, place)
    config = replace(settings.model, num_classes=len(data.classes))
    torch.manual_seed(settings.loop.seed)
    module = build(config, None)
    if settings.init:
        begin_with(module, settings.init, config)
    save = partial(
        save_classifier, module=module, config=config, family=NAME, variant=settings.variant, tokens=data.classes
    )
    objective = S2M2(module, len(data.classes), settings.s2m2, save)
    return fit(place.fabric, objective, data, settings.loop, place.run, place.report, what="learning features (S2M2)")
