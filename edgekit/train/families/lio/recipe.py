"""How LIO learns: classes with extent and structure, from a pretrained backbone or from nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import torch

from edgekit.train.data.picture_augment import AugmentSettings
from edgekit.train.data.picture_sets import open_pictures
from edgekit.train.data.picture_settings import PictureDataSettings
from edgekit.train.families.lio.config import Config
from edgekit.train.families.lio.model import NAME, build, heads_of
from edgekit.train.families.lio.objective import Lio, LioSettings
from edgekit.train.layers.classifier.checkpoint import begin_with, require_whole, save_classifier
from edgekit.train.loop import LoopSettings, fit
from edgekit.train.recipe import Recipe, Workplace
from edgekit.train.techniques.classification import ClassificationSettings


@dataclass(frozen=True)
class Training:
    """Learning classes with LIO.

    Attributes:
        init: a checkpoint of ours or of transformers whose backbone is taken, or "imagenet"; "": from scratch.
    """

    variant: str
    model: Config
    init: str = ""
    data: PictureDataSettings = field(
        default_factory=lambda: PictureDataSettings(
            batch_size=16, augment=AugmentSettings(crop="random", rotate_degrees=15.0)
        )
    )
    learning: ClassificationSettings = field(default_factory=lambda: ClassificationSettings(head_rate=10.0))
    lio: LioSettings = field(default_factory=LioSettings)
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(
            optimizer="sgd", learning_rate=1e-3, schedule="cosine", warmup=0.02, weight_decay=0.0
        )
    )

    def __post_init__(self) -> None:
        if self.learning.mixing.mixup or self.learning.mixing.cutmix:
            raise ValueError(
                "pictures of two classes in one share no extent: learning.mixing.mixup and cutmix must be 0"
            )


def learn(settings: Training, place: Workplace) -> dict[str, float]:
    """Train a classifier of the classes that the data have, and its heads."""
    require_whole(settings.model)
    data = open_pictures(settings.data, settings.model.image, place, positives=settings.lio.positives)
    config = replace(settings.model, num_classes=len(data.classes))
    torch.manual_seed(settings.loop.seed)
    module = build(config, "classes")
    heads = heads_of(module, config)
    if settings.init:
        begin_with(module, settings.init, config)
    save = partial(
        save_classifier,
        module=module,
        config=config,
        family=NAME,
        variant=settings.variant,
        tokens=data.classes,
        aside=heads,
    )
    objective = Lio(module, heads, settings.learning, settings.lio, config.image, save)
    return fit(place.fabric, objective, data, settings.loop, place.run, place.report, what="learning classes with LIO")


RECIPES = {"classes": Recipe("classes of pictures with the object's extent and structure", Training, learn)}
