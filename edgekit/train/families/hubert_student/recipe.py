"""How a student learns: `distil` from a HuBERT, then `ctc` to write down speech."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from edgekit.core.errors import CheckpointError, SettingsError
from edgekit.train.data.sets import SpeechData, open_data
from edgekit.train.data.settings import DataSettings
from edgekit.train.data.statistics import corpus_frames
from edgekit.train.families.hubert_student.config import Config
from edgekit.train.families.hubert_student.model import FbankStudentEncoder, build, save_model
from edgekit.train.families.hubert_student.objective import Distillation, DistilLosses
from edgekit.train.layers.features import features_of
from edgekit.train.layers.hubert.learning import copy_where_equal
from edgekit.train.layers.hubert.teacher import Codes, Teacher, open_teacher
from edgekit.train.loop import LoopSettings, fit
from edgekit.train.recipe import Recipe, Workplace
from edgekit.train.techniques.clusters import fit_clusters
from edgekit.train.techniques.ctc import CtcSettings
from edgekit.train.techniques.hubert_ctc import fine_tune


@dataclass(frozen=True)
class DistilSettings:
    """Distillation.

    Attributes:
        teacher: a HuBERT's folder or a hub's name.
        num_codes: clusters of the teacher's last state, where it brings no code vectors.
        code_hours: how much sound they are clustered from.
    """

    variant: str
    model: Config
    teacher: str = ""
    data: DataSettings = field(default_factory=DataSettings)
    losses: DistilLosses = field(default_factory=DistilLosses)
    num_codes: int = 504
    code_hours: float = 2.0
    loop: LoopSettings = field(default_factory=LoopSettings)

    def __post_init__(self) -> None:
        if self.num_codes < 2 or not self.code_hours > 0:
            raise ValueError("num_codes must be at least 2 and code_hours positive")


@dataclass(frozen=True)
class FineTuneSettings:
    """CTC on letters.

    Attributes:
        init: a distilled student's folder; "": from scratch.
    """

    variant: str
    model: Config
    init: str = ""
    data: DataSettings = field(default_factory=DataSettings)
    ctc: CtcSettings = field(default_factory=CtcSettings)
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(learning_rate=3e-4, schedule="tri-stage", warmup=0.1)
    )


def distil_settings(variant: str, config: Config) -> DistilSettings:
    """A variant's defaults: shallow-wide ones predict layers from their last state, deep-thin ones layer by layer."""
    settings = DistilSettings(variant, config)
    if variant.startswith("shallow-wide"):
        losses = replace(settings.losses, regression="prediction", distance="l1", cosine_weight=1.0)
        return replace(settings, losses=losses)
    return settings


def distil(settings: DistilSettings, place: Workplace) -> dict[str, float]:
    """Train a student without head against its teacher."""
    if not settings.teacher:
        raise SettingsError("expected a teacher, received none", hint="--set teacher=FOLDER (edgekit train hubert)")
    teacher = open_teacher(settings.teacher).to(place.fabric.device)
    _require_same_frames(teacher, settings.model)
    data = open_data(settings.data, place, texts=False)
    codes = _codes(teacher, data, settings, place) if settings.losses.discriminative else None
    torch.manual_seed(settings.loop.seed)
    module = build(settings.model, None).init_weights()
    features = features_of(settings.model.features())
    if settings.losses.copy:
        copied = copy_where_equal(module.hubert, teacher.encoder)
        place.report.say(f"copied {len(copied)} tensors of the teacher")
    if isinstance(module.hubert, FbankStudentEncoder):
        module.hubert.front_end.set_statistics(corpus_frames(data, features))
    objective = Distillation(
        module,
        features,
        teacher,
        codes,
        settings.losses,
        width=settings.model.hidden_size,
        num_layers=settings.model.num_hidden_layers,
        front_end=settings.model.front_end == "fbank",
        save=partial(save_model, module=module, config=settings.model, variant=settings.variant, tokens=()),
    )
    return fit(place.fabric, objective, data, settings.loop, place.run, place.report, what="distilling")


def ctc(settings: FineTuneSettings, place: Workplace) -> dict[str, float]:
    """A student with a CTC head, from a distilled one or from nothing."""
    module = build(settings.model, "ctc")
    write = partial(save_model, module=module, config=settings.model, variant=settings.variant)
    return fine_tune(settings, module, write, place)


def _require_same_frames(teacher: Teacher, student: Config) -> None:
    """A student's frame is compared with the teacher's of the same place; a filter bank's are those of HuBERT."""
    expected = student.frames if student.front_end == "waveform" else Config().frames
    frames = teacher.config.frames
    if frames != expected:
        raise CheckpointError(
            f"expected a teacher with a frame of {expected.minus} samples every {expected.over}, as the student's, "
            f"{teacher.checkpoint.source} has one of {frames.minus} every {frames.over}"
        )


def _codes(teacher: Teacher, data: SpeechData, settings: DistilSettings, place: Workplace) -> Codes:
    """The code vectors beside the teacher, or of this run, or new ones: centroids of its centred last state."""
    device, width = place.fabric.device, teacher.config.hidden_size
    found = Codes.load(teacher.checkpoint.folder, width)
    if found is not None:
        return found.to(device)

    def frames() -> Iterator[np.ndarray]:
        for batch in data.once():
            moved = batch.to(device)
            states, frames_B = teacher.states(moved.wave_BN, moved.lengths_B)
            yield from (h_TD[:count].cpu().numpy() for h_TD, count in zip(states[-1], frames_B.tolist()))

    def make() -> None:
        if Codes.load(place.run.path, width) is not None:
            return
        place.report.say(f"clustering the teacher's last state into {settings.num_codes} codes")
        most = int(settings.code_hours * 3600 * 50)
        centroids_KD = fit_clusters(frames(), settings.num_codes, max_frames=most, seed=settings.loop.seed)
        # cosines of raw states all lie near 1: what they have in common is taken away
        mean_D = centroids_KD.mean(0)
        Codes(centroids_KD - mean_D, torch.eye(width), -mean_D).save(place.run.path)

    place.first(make)
    made = Codes.load(place.run.path, width)
    assert made is not None
    return made.to(device)


RECIPES: dict[str, Any] = {
    "distil": Recipe("learn the states and soft labels of a HuBERT", distil_settings, distil),
    "ctc": Recipe("letters by CTC, from a distilled student or from scratch", FineTuneSettings, ctc),
}
