"""CTC fine-tuning of HuBERT and its students: first weights, what is augmented, and the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

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
from edgekit.train.tokens import LETTERS, encode

# what of a model's config may differ from that of the checkpoint it begins with
_FREE = ("dropout", "vocab_size")


class FineTuning(Protocol):
    """What the settings of a `ctc` recipe have."""

    @property
    def model(self) -> Any: ...

    @property
    def init(self) -> str: ...

    @property
    def data(self) -> DataSettings: ...

    @property
    def ctc(self) -> CtcSettings: ...

    @property
    def loop(self) -> LoopSettings: ...


def fine_tune(settings: FineTuning, module: WithHead, write: Callable[..., None], place: Workplace) -> dict[str, float]:
    """Train a module with a head, from `settings.init` or from scratch; `write(folder, tokens=...)` saves it."""
    data = open_data(settings.data, place, texts=True)
    told = unspelled((utterance.text for utterance in data.train.utterances), partial(encode, tokens=LETTERS))
    if told is not None:
        place.report.say(told)
    features = features_of(settings.model.features())
    torch.manual_seed(settings.loop.seed)
    module.init_weights()
    if settings.init:
        found = open_checkpoint(settings.init)
        _require_same_model(found, settings.model)
        tensors = found.tensors()
        if "lm_head.weight" not in tensors:
            tensors |= {f"lm_head.{name}": tensor for name, tensor in module.lm_head.state_dict().items()}  # type: ignore[union-attr]
        load_weights(module, tensors, found.source)
    elif hasattr(module.hubert, "front_end"):
        module.hubert.front_end.set_statistics(corpus_frames(data, features))
    assert module.lm_head is not None
    augment = None
    if settings.model.features()["kind"] != "waveform":
        augment = spec_augment(settings.ctc, lambda: module.hubert.front_end.mean_M)
    save = partial(write, tokens=LETTERS)
    objective = Ctc(module.hubert, module.lm_head, features, LETTERS, save, settings.ctc, augment=augment)
    if augment is None:
        spans = HiddenSpans(settings.model.hidden_size, settings.ctc.mask_probability, settings.ctc.mask_length)
        spans.attach(module.hubert.encoder)
        objective.add_module("spans", spans)
    return fit(place.fabric, objective, data, settings.loop, place.run, place.report, what="CTC")


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
