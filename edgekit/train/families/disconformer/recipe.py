"""How a DisConformer learns: CTC of core and augment nets together, in chunks and whole, in letters or word pieces."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch

from edgekit.core.errors import CheckpointError, SettingsError
from edgekit.train.checkpoint import Checkpoint, open_checkpoint
from edgekit.train.data.sets import SpeechData, open_data
from edgekit.train.data.settings import DataSettings
from edgekit.train.data.statistics import corpus_frames
from edgekit.train.families.disconformer.config import Config
from edgekit.train.families.disconformer.model import build, described, fill, save_model
from edgekit.train.families.disconformer.objective import NetAug, NetAugSettings
from edgekit.train.layers.chunks import ChunkSettings
from edgekit.train.layers.features import features_of
from edgekit.train.loop import LoopSettings, fit
from edgekit.train.recipe import Recipe, Workplace
from edgekit.train.techniques.ctc import CtcSettings, unspelled
from edgekit.train.tokens import LETTERS, encode
from edgekit.train.word_pieces import FILE, WordPieces, learn, read_word_pieces


@dataclass(frozen=True)
class CtcTraining:
    """CTC with NetAug.

    Attributes:
        init: a checkpoint of the same sizes and labels to begin from; "": from scratch.
        tokens: what the labels spell; "bpe": word pieces, learned from the training texts or those of `init`.
    """

    variant: str
    model: Config
    init: str = ""
    tokens: Literal["letters", "bpe"] = "letters"
    data: DataSettings = field(default_factory=lambda: DataSettings(speed=(0.9, 1.0, 1.1)))
    ctc: CtcSettings = field(default_factory=lambda: CtcSettings(time_masks=5, time_width=25))
    netaug: NetAugSettings = field(default_factory=NetAugSettings)
    chunks: ChunkSettings = field(default_factory=ChunkSettings)
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(
            learning_rate=1e-3, schedule="cosine", warmup=0.1, weight_decay=0.01, clip_norm=1.0, ema=0.999
        )
    )


def ctc_settings(variant: str, config: Config) -> CtcTraining:
    """A variant's defaults: letters where it has as many labels, else word pieces."""
    return CtcTraining(variant, config, tokens="letters" if config.vocab_size == len(LETTERS) else "bpe")


def ctc(settings: CtcTraining, place: Workplace) -> dict[str, float]:
    """Train core and augment nets to the end together."""
    _require_sense(settings)
    data = open_data(settings.data, place, texts=True)
    found = open_checkpoint(settings.init) if settings.init else None
    if found is not None:
        found.require_family("disconformer")
    pieces = _word_pieces(settings, data, found, place) if settings.tokens == "bpe" else None
    tokens, spell = (LETTERS, partial(encode, tokens=LETTERS)) if pieces is None else (pieces.tokens, pieces.encode)
    if found is not None:
        _require_labels(found, tokens, settings.model.vocab_size)
    told = unspelled((utterance.text for utterance in data.train.utterances), spell)
    if told is not None:
        place.report.say(told)
    torch.manual_seed(settings.loop.seed)
    module = build(settings.model, "ctc").init_weights()
    features = features_of(settings.model.features())
    if found is not None:
        fill(module, found.tensors(), found.source)
    else:
        module.encoder.subsampling.set_statistics(corpus_frames(data, features))
    objective = NetAug(
        module,
        settings.model,
        features,
        tokens,
        partial(
            save_model, module=module, config=settings.model, variant=settings.variant, tokens=tokens, pieces=pieces
        ),
        settings.ctc,
        settings.netaug,
        settings.chunks,
        core_only_from=settings.netaug.core_only_from(settings.loop.steps),
        spell=spell,
    )
    return fit(place.fabric, objective, data, settings.loop, place.run, place.report, what="CTC")


def _require_sense(settings: CtcTraining) -> None:
    """Settings that fit together."""
    labels, letters = settings.model.vocab_size, len(LETTERS)
    if settings.tokens == "letters" and labels != letters:
        raise SettingsError(
            f"expected model.vocab_size {letters} for letters, received {labels}",
            hint=f"--set model.vocab_size={letters}, or word pieces: --set tokens=bpe",
        )
    if settings.tokens == "bpe" and labels == letters:
        raise SettingsError(
            f"expected another model.vocab_size for word pieces than the {letters} of the letters",
            hint="--set tokens=letters",
        )
    at_once, num_augments = settings.netaug.at_once, settings.model.num_augments
    if settings.netaug.weight and 0 < num_augments < at_once:
        raise SettingsError(
            f"expected netaug.at_once of at most the {num_augments} augment nets that there are, received {at_once}",
            hint=f"--set netaug.at_once={num_augments}",
        )


def _word_pieces(settings: CtcTraining, data: SpeechData, found: Checkpoint | None, place: Workplace) -> WordPieces:
    """The word pieces of this run: those of the checkpoint it begins with, or learned; kept in its folder."""

    def keep() -> None:
        if (place.run.path / FILE).is_file():
            return
        if found is not None:
            pieces = read_word_pieces(found.folder)
        else:
            pieces = learn((utterance.text for utterance in data.train.utterances), settings.model.vocab_size)
            place.report.say(f"learned {len(pieces.tokens) - 1} word pieces from the texts")
        pieces.save(place.run.path)

    place.first(keep)
    return read_word_pieces(place.run.path)


def _require_labels(found: Checkpoint, tokens: tuple[str, ...], num_labels: int) -> None:
    """A head goes on with the labels that it has learned."""
    _, _, learned = described(found)
    if learned != tokens or len(tokens) != num_labels:
        kind = "letters" if learned == LETTERS else "bpe"
        raise CheckpointError(
            f"expected {found.source} to answer with the {num_labels} labels of this run, it has {len(learned)} others",
            hint=f"--set tokens={kind} --set model.vocab_size={len(learned)}",
        )


RECIPES = {"ctc": Recipe("letters or word pieces by CTC, core and augment nets together", ctc_settings, ctc)}
