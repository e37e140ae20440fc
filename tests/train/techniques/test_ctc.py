from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekit.core.errors import DataError
from edgekit.train.data.loading import Batch
from edgekit.train.techniques.ctc import Ctc, CtcSettings, unspelled
from edgekit.train.tokens import LETTERS, encode


class Spelled(nn.Module):
    """An "encoder" whose frames are the labels, one-hot: each held for two frames, with a blank between."""

    def forward(self, x_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        return 50 * nn.functional.one_hot(x_BN.long(), len(LETTERS)).float(), lengths_B


class AsIs(nn.Module):
    def forward(self, wave_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        return wave_BN, lengths_B


def spelled(*texts: str, heard: tuple[str, ...] | None = None) -> Batch:
    frames = [[f for index in encode(text, LETTERS)[0] for f in (index, index, 0)] for text in heard or texts]
    lengths = torch.tensor([len(item) for item in frames])
    wave_BN = torch.full((len(frames), int(lengths.max())), 5.0)  # padding says E
    for row, item in zip(wave_BN, frames):
        row[: len(item)] = torch.tensor(item, dtype=torch.float32)
    return Batch(wave_BN, lengths, texts, tuple(map(str, range(len(texts)))), epoch=0, index=0)


def objective(encoder: nn.Module | None = None, head: nn.Module | None = None, **settings: int) -> Ctc:
    def nothing(folder: Path) -> None: ...

    return Ctc(encoder or Spelled(), head or nn.Identity(), AsIs(), LETTERS, nothing, CtcSettings(**settings))


def test_a_perfect_speller_makes_no_error_and_has_no_loss() -> None:
    batch = spelled("HELLO WORLD", "AB")
    scores = objective().validate([batch])
    assert scores == {"loss": pytest.approx(0, abs=1e-4), "wer": 0, "cer": 0}
    model = objective()
    assert float(model(**model.inputs(batch, 0))["loss"]) == pytest.approx(0, abs=1e-4)


def test_errors_are_counted_over_all_words() -> None:
    """One of four words is wrong, by one letter of 16."""
    batch = spelled("HELLO WORLD", "ABC D", heard=("HELLO WORLX", "ABC D"))
    scores = objective().validate([batch])
    assert scores["wer"] == pytest.approx(1 / 4)
    assert scores["cer"] == pytest.approx(1 / 16)


def test_the_loss_is_torchs_per_label() -> None:
    torch.manual_seed(0)
    batch = spelled("CAB", "DAD A")
    head = nn.Linear(len(LETTERS), len(LETTERS))
    model = objective(head=head)
    value = model(**model.inputs(batch, 0))["loss"]
    expected = []
    for index, text in enumerate(batch.texts):
        length = int(batch.lengths_B[index])
        h, _ = Spelled()(batch.wave_BN[index : index + 1, :length], None)
        labels = torch.tensor(encode(text or "", LETTERS)[0])
        loss = nn.functional.ctc_loss(
            head(h).log_softmax(-1)[0], labels, torch.tensor(length), torch.tensor(len(labels)), reduction="sum"
        )
        expected.append(loss / len(labels))
    torch.testing.assert_close(value, torch.stack(expected).mean())


def test_a_text_without_a_letter_of_ours_teaches_nothing() -> None:
    """Not that there is silence."""
    batch = spelled("CAB", "1984", heard=("CAB", "DAD"))
    head = nn.Linear(len(LETTERS), len(LETTERS))
    model = objective(head=head)
    both = model(**model.inputs(batch, 0))["loss"]
    alone = model(**model.inputs(spelled("CAB"), 0))["loss"]
    torch.testing.assert_close(both, alone / 2)


def test_another_spelling_of_texts_is_learned_and_scored() -> None:
    """Word pieces: the labels of a word are not its letters."""
    tokens = ("<pad>", "▁HE", "LL", "O", "▁A")

    def spell(text: str) -> tuple[list[int], int]:
        return [index for word in text.split() for index in ([1, 2, 3] if word == "HELLO" else [4])], 0

    def nothing(folder: Path) -> None: ...

    class Pieces(nn.Module):
        def forward(self, x_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
            return 50 * nn.functional.one_hot(x_BN.long(), len(tokens)).float(), lengths_B

    model = Ctc(Pieces(), nn.Identity(), AsIs(), tokens, nothing, CtcSettings(), spell=spell)
    frames_N = torch.tensor([1, 0, 2, 2, 3, 0, 4])
    batch = Batch(frames_N[None].float(), torch.tensor([7]), ("HELLO A",), ("0",), epoch=0, index=0)
    assert model.inputs(batch, 0)["targets"].tolist() == [1, 2, 3, 4]
    assert model.validate([batch]) == {"loss": pytest.approx(0, abs=1e-4), "wer": 0, "cer": 0}
    wrong = Batch(batch.wave_BN, batch.lengths_B, ("HELLO HELLO",), ("0",), epoch=0, index=0)
    assert model.validate([wrong])["wer"] == 0.5


def test_only_the_head_learns_while_the_encoder_is_frozen() -> None:
    class Encoder(Spelled):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.1))

        def forward(self, x_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
            h, lengths_B = super().forward(x_BN, lengths_B)
            return h * self.scale, lengths_B

    encoder, head = Encoder(), nn.Linear(len(LETTERS), len(LETTERS))
    model = objective(encoder, head, freeze_steps=3)
    for step, learns in ((2, False), (3, True)):
        model.zero_grad()
        model(**model.inputs(spelled("CAB"), step))["loss"].backward()
        assert (encoder.scale.grad is not None and float(encoder.scale.grad) != 0) is learns
        assert head.weight.grad is not None


def test_what_the_labels_cannot_spell_is_told() -> None:
    spell = partial(encode, tokens=LETTERS)
    assert unspelled(["hello world", None, "it's"], spell) is None
    assert unspelled(["in 1990", "ok", "café!"], spell) == (
        "6 of 14 characters, in 2 texts, are not among the labels and are left out"
    )


def test_nothing_to_score_is_told() -> None:
    batch = spelled("A")
    silent = Batch(batch.wave_BN, batch.lengths_B, (None,), ("0",), 0, 0)
    with pytest.raises(DataError, match="with texts"):
        objective().validate([silent])
