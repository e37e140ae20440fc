"""CTC fine-tuning of HuBERT and its students: first weights, what is augmented, and the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from edgekit.core.errors import CheckpointError
from edgekit.core.settings import settings_to_dict
from edgekit.train.checkpoint import Checkpoint, open_checkpoint
from edgekit.train.data.sets import open_data
from edgekit.train.data.settings import DataSettings
from edgekit.train.data.statistics import corpus_frames
from edgekit.train.layers.features import features_of
from edgekit.train.layers.hubert.config import HubertConfig
from edgekit.train.layers.hubert.head import WithHead
from edgekit.train.layers.hubert.learning import HiddenSpans
from edgekit.train.layers.hubert.weights import load_weights
from edgekit.train.loop import LoopSettings, fit
from edgekit.train.recipe import Workplace
from edgekit.train.techniques.ctc import Ctc, CtcSettings, spec_augment, unspelled
from edgekit.train.tokens import LETTERS

# what of a model's config may differ from that of the checkpoint it begins with
_FREE = ("dropout", "vocab_size")


@dataclass(frozen=True)
class CtcRun:
    """What is learned from what.

    Attributes:
        init: a checkpoint of the same sizes, or "".
        features: a manifest's description of them.
        model: the sizes.
    """

    init: str
    data: DataSettings
    ctc: CtcSettings
    loop: LoopSettings
    features: Mapping[str, Any]
    model: HubertConfig


def fine_tune(
    run: CtcRun, module: WithHead, width: int, write: Callable[..., None], place: Workplace
) -> dict[str, float]:
    """Train the module with its head; `write(folder, tokens=...)` saves it."""
    data = open_data(run.data, place, texts=True)
    told = unspelled((utterance.text for utterance in data.train.utterances), LETTERS)
    if told is not None:
        place.report.say(told)
    torch.manual_seed(run.loop.seed)
    module.init_weights()
    if run.init:
        found = open_checkpoint(run.init)
        _require_same_model(found, run.model)
        tensors = found.tensors()
        if "lm_head.weight" not in tensors:
            tensors |= {f"lm_head.{name}": tensor for name, tensor in module.lm_head.state_dict().items()}  # type: ignore[union-attr]
        load_weights(module, tensors, found.source)
    elif hasattr(module.hubert, "front_end"):
        module.hubert.front_end.set_statistics(corpus_frames(data, features_of(run.features)))
    assert module.lm_head is not None
    features = features_of(run.features)
    augment = None
    if run.features["kind"] != "waveform":
        augment = spec_augment(run.ctc, lambda: module.hubert.front_end.mean_M)
    save = partial(write, tokens=LETTERS)
    objective = Ctc(module.hubert, module.lm_head, features, LETTERS, save, run.ctc, augment=augment)
    if augment is None:
        spans = HiddenSpans(width, run.ctc.mask_probability, run.ctc.mask_length)
        spans.attach(module.hubert.encoder)
        objective.add_module("spans", spans)
    return fit(place.fabric, objective, data, run.loop, place.run, place.report, what="CTC")


def _require_same_model(found: Checkpoint, model: HubertConfig) -> None:
    """Also in what no tensor's shape shows: heads, strides, norms."""
    own = {name: value for name, value in settings_to_dict(model).items() if not name.endswith(_FREE)}
    theirs = (found.edgekit or {}).get("config") or settings_to_dict(HubertConfig.from_transformers(found.config))
    preprocessor = found.json("preprocessor_config.json") or {}
    theirs = {**theirs, "normalise": preprocessor.get("do_normalize", own.get("normalise"))}
    others = {name: theirs[name] for name, value in own.items() if theirs.get(name, value) != value}
    if others:
        raise CheckpointError(
            f"expected a model as {found.source} is, received another {', '.join(others)}",
            hint=" ".join(f"--set model.{name}={_as_typed(value)}" for name, value in others.items()),
        )


def _as_typed(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_as_typed, value))
    return value if isinstance(value, str) else json.dumps(value)
