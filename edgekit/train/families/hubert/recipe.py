"""How a HuBERT learns: `pretrain` on recordings alone, and `ctc` to write them down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from edgekit.core.errors import CheckpointError
from edgekit.core.files import write_atomic
from edgekit.core.settings import settings_to_dict
from edgekit.train.data.sets import SpeechData, open_data
from edgekit.train.data.settings import DataSettings
from edgekit.train.families.hubert.config import Config
from edgekit.train.families.hubert.model import build
from edgekit.train.families.hubert.objective import MaskedPrediction, MfccFrames, PredictionLosses, StateFrames
from edgekit.train.layers.hubert.head import WithHead
from edgekit.train.layers.hubert.learning import save_hubert
from edgekit.train.layers.hubert.teacher import open_teacher
from edgekit.train.loop import LoopSettings, fit
from edgekit.train.recipe import Recipe, Workplace
from edgekit.train.techniques.clusters import fit_clusters
from edgekit.train.techniques.ctc import CtcSettings
from edgekit.train.techniques.hubert_ctc import fine_tune

CLUSTERS_FILE = "clusters.safetensors"


@dataclass(frozen=True)
class PretrainSettings:
    """HuBERT's recipe.

    Attributes:
        clusters: of each iteration. The first clusters MFCC; each later one a layer of the model before it.
        label_layer: that layer, from 1; 0: the middle one (the paper's 6th of 12).
        cluster_hours: how much sound is clustered.
        loop: of every iteration.
    """

    variant: str
    model: Config
    data: DataSettings = field(default_factory=DataSettings)
    clusters: tuple[int, ...] = (100, 500)
    label_layer: int = 0
    cluster_hours: float = 2.0
    losses: PredictionLosses = field(default_factory=PredictionLosses)
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(
            learning_rate=5e-4, warmup=0.08, weight_decay=0.01, clip_norm=10.0, validate_every=1000
        )
    )

    def __post_init__(self) -> None:
        if not self.clusters or min(self.clusters) < 2:
            raise ValueError(f"clusters must be numbers of at least 2, one per iteration, got {self.clusters}")
        if not 0 <= self.label_layer <= self.model.num_hidden_layers:
            raise ValueError(f"label_layer must be in 0..{self.model.num_hidden_layers}, got {self.label_layer}")
        if not self.cluster_hours > 0:
            raise ValueError(f"cluster_hours must be positive, got {self.cluster_hours}")


@dataclass(frozen=True)
class FineTuneSettings:
    """CTC on letters.

    Attributes:
        init: a pretrained checkpoint (a folder or a hub's name); "": from scratch.
    """

    variant: str
    model: Config
    init: str = ""
    data: DataSettings = field(default_factory=DataSettings)
    ctc: CtcSettings = field(default_factory=lambda: CtcSettings(freeze_steps=500))
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(learning_rate=1e-4, schedule="tri-stage", warmup=0.1)
    )


def save_model(folder: Path, module: WithHead, config: Config, variant: str, tokens: tuple[str, ...]) -> None:
    """Write a checkpoint that `transformers` reads too."""
    own = {"edgekit": {"family": "hubert", "variant": variant, "config": settings_to_dict(config)}}
    save_hubert(folder, module, config, tokens, normalise=config.normalise, extra=own, leave_out=("normalise",))


def pretrain(settings: PretrainSettings, place: Workplace) -> dict[str, float]:
    """Iterations of clustering and masked prediction; the last one's best checkpoint is the run's."""
    data = open_data(settings.data, place, texts=False)
    before: Path | None = None
    scores: dict[str, float] = {}
    for index, num_clusters in enumerate(settings.clusters):
        part, after = place.part(f"iteration-{index + 1}"), place.part(f"iteration-{index + 2}")
        if index + 1 < len(settings.clusters) and (after.run.path / CLUSTERS_FILE).is_file():
            before = part.run.best  # more steps would change the model that those clusters are of
            continue
        labelled: nn.Module
        if before is None:
            labelled = MfccFrames()
        else:
            labelled = StateFrames(open_teacher(before), settings.label_layer or settings.model.num_hidden_layers // 2)
        labelled.to(place.fabric.device).requires_grad_(False).eval()
        centroids_KD = _centroids(part, labelled, data, num_clusters, settings).to(place.fabric.device)
        torch.manual_seed(settings.loop.seed)
        module = build(settings.model, None).init_weights()
        objective = MaskedPrediction(
            module,
            settings.model.hidden_size,
            settings.model.normalise,
            labelled,
            centroids_KD,
            settings.losses,
            partial(save_model, module=module, config=settings.model, variant=settings.variant, tokens=()),
        )
        what = f"iteration {index + 1} of {len(settings.clusters)}"
        scores = fit(place.fabric, objective, data, settings.loop, part.run, place.report, what=what)
        before = part.run.best
    assert before is not None
    place.run.point_best(before)
    return scores


def _centroids(
    part: Workplace, labelled: nn.Module, data: SpeechData, num_clusters: int, settings: PretrainSettings
) -> Tensor:
    """The clusters of an iteration: made once by the first process and kept in its folder."""
    path = part.run.path / CLUSTERS_FILE

    def frames() -> Iterator[np.ndarray]:
        for batch in data.once():
            moved = batch.to(part.fabric.device)
            with torch.no_grad():
                h_BTD, frames_B = labelled(moved.wave_BN, moved.lengths_B)
            yield from (h_TD[:count].float().cpu().numpy() for h_TD, count in zip(h_BTD, frames_B.tolist()))

    def make() -> None:
        if path.is_file():
            return
        part.report.say(f"clustering {settings.cluster_hours:g} h of sound into {num_clusters} units")
        most = int(settings.cluster_hours * 3600 * 50)
        centroids_KD = fit_clusters(frames(), num_clusters, max_frames=most, seed=settings.loop.seed)
        write_atomic(path, save({"centroids": centroids_KD}))

    part.first(make)
    try:
        return load_file(path)["centroids"]
    except (SafetensorError, OSError, KeyError) as error:
        raise CheckpointError(f"cannot read {path}: {error}", hint="begin the run again in another --out") from error


def ctc(settings: FineTuneSettings, place: Workplace) -> dict[str, float]:
    """A HuBERT with a CTC head, from a pretrained one or from nothing."""
    module = build(settings.model, "ctc")
    write = partial(save_model, module=module, config=settings.model, variant=settings.variant)
    return fine_tune(settings, module, write, place)


RECIPES = {
    "pretrain": Recipe("masked prediction of clusters, from recordings alone", PretrainSettings, pretrain),
    "ctc": Recipe("letters by CTC, from a pretrained checkpoint or from scratch", FineTuneSettings, ctc),
}
