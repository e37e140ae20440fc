"""How a DisConformer learns: CTC of core and augment nets together, in chunks and whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch

from edgekit.core.errors import SettingsError
from edgekit.train.checkpoint import open_checkpoint
from edgekit.train.data.sets import open_data
from edgekit.train.data.settings import DataSettings
from edgekit.train.data.statistics import corpus_frames
from edgekit.train.families.disconformer.config import Config
from edgekit.train.families.disconformer.model import build, fill, save_model
from edgekit.train.families.disconformer.objective import NetAug, NetAugSettings
from edgekit.train.layers.chunks import ChunkSettings
from edgekit.train.layers.features import features_of
from edgekit.train.loop import LoopSettings, fit
from edgekit.train.recipe import Recipe, Workplace
from edgekit.train.techniques.ctc import CtcSettings, unspelled
from edgekit.train.tokens import LETTERS


@dataclass(frozen=True)
class CtcTraining:
    """CTC with NetAug.

    Attributes:
        init: a checkpoint of the same sizes to begin from; "": from scratch.
    """

    variant: str
    model: Config
    init: str = ""
    data: DataSettings = field(default_factory=lambda: DataSettings(speed=(0.9, 1.0, 1.1)))
    ctc: CtcSettings = field(default_factory=lambda: CtcSettings(time_masks=5, time_width=25))
    netaug: NetAugSettings = field(default_factory=NetAugSettings)
    chunks: ChunkSettings = field(default_factory=ChunkSettings)
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(
            learning_rate=1e-3, schedule="cosine", warmup=0.1, weight_decay=0.01, clip_norm=1.0, ema=0.999
        )
    )


def ctc(settings: CtcTraining, place: Workplace) -> dict[str, float]:
    """Train core and augment nets to the end together."""
    if settings.model.vocab_size != len(LETTERS):
        raise SettingsError(
            f"expected vocab_size {len(LETTERS)} (letters), received {settings.model.vocab_size}",
            hint=f"--set model.vocab_size={len(LETTERS)}",
        )
    data = open_data(settings.data, place, texts=True)
    told = unspelled((utterance.text for utterance in data.train.utterances), LETTERS)
    if told is not None:
        place.report.say(told)
    torch.manual_seed(settings.loop.seed)
    module = build(settings.model, "ctc").init_weights()
    features = features_of(settings.model.features())
    if settings.init:
        found = open_checkpoint(settings.init)
        found.require_family("disconformer")
        fill(module, found.tensors(), found.source)
    else:
        module.encoder.subsampling.set_statistics(corpus_frames(data, features))
    write = partial(save_model, module=module, config=settings.model, variant=settings.variant, tokens=LETTERS)
    objective = NetAug(module, settings.model, features, LETTERS, write, settings.ctc, settings.netaug, settings.chunks)
    return fit(place.fabric, objective, data, settings.loop, place.run, place.report, what="CTC")


RECIPES = {"ctc": Recipe("letters by CTC, core and augment nets together", CtcTraining, ctc)}
