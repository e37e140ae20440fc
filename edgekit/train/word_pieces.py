"""Word pieces: learned from texts by sentencepiece's BPE (Sennrich et al. 2016), and texts as their indices.

The labels are CTC's blank, where sentencepiece has its `<unk>`, and the pieces as they stand: those that begin a word
begin with `▁`. Whoever reads an answer needs the labels alone; the model is for learning on.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgekit.core.errors import CheckpointError, DataError, SettingsError, UnavailableError
from edgekit.core.files import write_atomic
from edgekit.runtime.decode.ctc import WORD_PREFIX
from edgekit.train.tokens import APOSTROPHES

FILE = "bpe.model"
"""What keeps them, in a run's folder and beside a checkpoint's config.json, in sentencepiece's format."""

_BLANK = "<pad>"
# letters of other alphabets, a few in a large corpus, are not worth a piece each
_COVERAGE = 0.9999
_LONGEST_TEXT = 2**20


class WordPieces:
    """Pieces that were learned.

    Args:
        model: in sentencepiece's format, as `learn` has it made.
        source: where it is from, for errors.

    Attributes:
        tokens: the labels, the blank first.

    Raises:
        CheckpointError: it is something else.
        UnavailableError: sentencepiece is not installed.
    """

    def __init__(self, model: bytes, source: str) -> None:
        self.model = model
        try:
            if not model:
                raise ValueError("an empty file")
            self._processor = _sentencepiece().SentencePieceProcessor(model_proto=model)
            pieces = [self._processor.id_to_piece(index) for index in range(self._processor.get_piece_size())]
            if len(pieces) < 2 or self._processor.unk_id() != 0:
                raise ValueError("there are none, or <unk> is not the first")
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"expected word pieces that edgekit learned in {source}, received something else: {error}",
                hint="begin again: without init, or from another checkpoint",
            ) from error
        self.tokens = (_BLANK, *pieces[1:])
        self._letters = frozenset("".join(pieces[1:])) - {WORD_PREFIX}

    def encode(self, text: str) -> tuple[list[int], int]:
        """As `tokens.encode`: what the pieces lack is dropped."""
        words, num_unknown = [], 0
        for word in _folded(text).split():
            spelled = "".join(letter for letter in word if letter in self._letters)
            num_unknown += len(word) - len(spelled)
            words += [spelled] if spelled else []
        ids: list[int] = self._processor.encode(" ".join(words))
        return ids, num_unknown

    def save(self, folder: Path) -> None:
        """Write them into a folder."""
        write_atomic(folder / FILE, self.model)


def read_word_pieces(folder: Path) -> WordPieces:
    """The word pieces of a run's folder or of a checkpoint.

    Raises:
        CheckpointError: there are none, or they cannot be read.
        UnavailableError: sentencepiece is not installed.
    """
    path = folder / FILE
    try:
        model = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"expected word pieces at {path}, received: {error.strerror}",
            hint="what has learned letters goes on with letters: --set tokens=letters",
        ) from error
    return WordPieces(model, str(path))


def learn(texts: Iterable[str | None], num_labels: int) -> WordPieces:
    """As many pieces as there are labels beside the blank; of the same texts in the same order always the same.

    They are upper case and spell letters, marks and the apostrophe: signs and digits are said in other words.

    Raises:
        DataError: no text has a letter.
        SettingsError: the texts have more letters than that, or too few words for so many pieces.
        UnavailableError: sentencepiece is not installed.
    """
    spoken = [text for text in (_spoken(text or "") for text in texts) if text]
    if not spoken:
        raise DataError("expected texts of words to learn word pieces from, received none")
    trainer, made = _sentencepiece().SentencePieceTrainer, io.BytesIO()
    try:
        trainer.train(
            sentence_iterator=iter(spoken),
            model_writer=made,
            model_type="bpe",
            vocab_size=num_labels,
            hard_vocab_limit=False,  # what comes short is told below, with a number that can be had
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            character_coverage=_COVERAGE,
            normalization_rule_name="identity",
            max_sentence_length=_LONGEST_TEXT,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        num_letters = len(set("".join(spoken)) - {" "})
        raise SettingsError(
            f"expected room for {num_letters} different letters, the blank and the space between words, "
            f"received {num_labels} labels",
            hint=f"--set model.vocab_size={num_letters + 2}, or more",
        ) from error
    pieces = WordPieces(made.getvalue(), "memory")
    if len(pieces.tokens) < num_labels:
        num_words = len({word for text in spoken for word in text.split()})
        raise SettingsError(
            f"expected texts that make {num_labels - 1} word pieces, received {num_words:,} different words, which "
            f"make {len(pieces.tokens) - 1}",
            hint=f"more texts, or fewer labels: --set model.vocab_size={len(pieces.tokens)}, or less",
        )
    return pieces


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.upper().translate(APOSTROPHES))


def _spoken(text: str) -> str:
    words = ("".join(filter(_is_spoken, word)) for word in _folded(text).split())
    return " ".join(word for word in words if word)


def _is_spoken(letter: str) -> bool:
    return letter == "'" or unicodedata.category(letter)[0] in "LM"


def _sentencepiece() -> Any:
    try:
        import sentencepiece
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"expected the package {error.name} for word pieces, it is not installed",
            hint='pip install "edgekit[train]"',
        ) from error
    return sentencepiece
