"""How a classifier learns: from scratch or from a checkpoint, plain, with stochastic depth, or by cosub."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import torch

from edgekit.train.data.picture_sets import open_pictures
from edgekit.train.data.picture_settings import PictureDataSettings
from edgekit.train.families.classifier.config import Config
from edgekit.train.families.classifier.model import NAME, build
from edgekit.train.families.classifier.pretraining import Pretraining, pretrain
from edgekit.train.layers.classifier.checkpoint import begin_with, require_whole, save_classifier
from edgekit.train.loop import LoopSettings, fit
from edgekit.train.recipe import Recipe, Workplace
from edgekit.train.techniques.classification import Classification, ClassificationSettings


@dataclass(frozen=True)
class Training:
    """Learning classes.

    Attributes:
        init: a checkpoint of ours or of transformers whose backbone is taken, or "imagenet"; "": from scratch.
    """

    variant: str
    model: Config
    init: str = ""
    data: PictureDataSettings = field(default_factory=PictureDataSettings)
    learning: ClassificationSettings = field(default_factory=ClassificationSettings)
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(
            learning_rate=1e-3, schedule="cosine", warmup=0.05, weight_decay=0.05, betas=(0.9, 0.999), eps=1e-8
        )
    )


def learn(settings: Training, place: Workplace) -> dict[str, float]:
    """Train a classifier of the classes that the data have."""
    require_whole(settings.model)
    data = open_pictures(settings.data, settings.model.image, place)
    config = replace(settings.model, num_classes=len(data.classes))
    torch.manual_seed(settings.loop.seed)
    module = build(config, "classes")
    if settings.init:
        begin_with(module, settings.init, config)
    save = partial(
        save_classifier, module=module, config=config, family=NAME, variant=settings.variant, tokens=data.classes
    )
    objective = Classification(module, settings.learning, save)
    return fit(place.fabric, objective, data, settings.loop, place.run, place.report, what="learning classes")


RECIPES = {
    "classes": Recipe("classes of pictures, plain or by co-training submodels (cosub)", Training, learn),
    "s2m2": Recipe("features for few-shot classes, from base classes (S2M2)", Pretraining, pretrain),
}
