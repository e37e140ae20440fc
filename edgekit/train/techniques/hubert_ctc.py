"""CTC fine-tuning of HuBERT and its students: first weights, what is augmented, and the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from edgekit.train.checkpoint import open_checkpoint
from edgekit.train.data.sets import SpeechData, open_data
from edgekit.train.data.settings import DataSettings
from edgekit.train.layers.features import features_of
from edgekit.train.layers.hubert.head import WithHead
from edgekit.train.layers.hubert.learning import HiddenSpans
from edgekit.train.layers.hubert.weights import load_weights
from edgekit.train.layers.spec_augment import SpecAugment
from edgekit.train.loop import LoopSettings, fit
from edgekit.train.recipe import Workplace
from edgekit.train.techniques.ctc import Augment, Ctc, CtcSettings
from edgekit.train.tokens import LETTERS


@dataclass(frozen=True)
class CtcRun:
    """What is learned from what.

    Attributes:
        init: a checkpoint of the same sizes, or "".
        features: a manifest's description of them.
    """

    init: str
    data: DataSettings
    ctc: CtcSettings
    loop: LoopSettings
    features: Mapping[str, Any]


def fine_tune(
    run: CtcRun, module: WithHead, width: int, write: Callable[..., None], place: Workplace
) -> dict[str, float]:
    """Train the module with its head; `write(folder, tokens=...)` saves it."""
    data = open_data(run.data, place, texts=True)
    torch.manual_seed(run.loop.seed)
    module.init_weights()
    if run.init:
        found = open_checkpoint(run.init)
        tensors = found.tensors()
        if "lm_head.weight" not in tensors:
            tensors |= {f"lm_head.{name}": tensor for name, tensor in module.lm_head.state_dict().items()}  # type: ignore[union-attr]
        load_weights(module, tensors, found.source)
    elif hasattr(module.hubert, "front_end"):
        measure_statistics(module, features_of(run.features), data, place)
    assert module.lm_head is not None
    features = features_of(run.features)
    augment = None if run.features["kind"] == "waveform" else _spec_augment(module, run.ctc)
    save = partial(write, tokens=LETTERS)
    objective = Ctc(module.hubert, module.lm_head, features, LETTERS, save, run.ctc, augment=augment)
    if augment is None:
        spans = HiddenSpans(width, run.ctc.mask_probability, run.ctc.mask_length)
        spans.attach(module.hubert.encoder)
        objective.add_module("spans", spans)
    return fit(place.fabric, objective, data, run.loop, place.run, place.report, what="CTC")


def _spec_augment(module: WithHead, settings: CtcSettings) -> Augment:
    """Bands of time and frequency become the corpus' mean, which the front end turns to zero."""
    masks = SpecAugment(
        num_freq=settings.freq_masks,
        freq_width=settings.freq_width,
        num_time=settings.time_masks,
        time_width=settings.time_width,
    )

    def augment(x_BFM: Tensor, lengths_B: Tensor) -> Tensor:
        masked_BFM: Tensor = masks(x_BFM, lengths_B, module.hubert.front_end.mean_M)
        return masked_BFM

    return augment


def measure_statistics(module: WithHead, features: Any, data: SpeechData, place: Workplace, hours: float = 0.5) -> None:
    """Give a filter bank's front end the mean and deviation of each bin over part of the corpus."""
    seen, count = [], 0
    for batch in data.once():
        x_BFM, frames_B = features(batch.wave_BN, batch.lengths_B)
        seen += [x_FM[:size] for x_FM, size in zip(x_BFM, frames_B.tolist())]
        count += int(frames_B.sum())
        if count >= hours * 360_000:
            break
    module.hubert.front_end.set_statistics(torch.cat(seen))
