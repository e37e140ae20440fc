"""Masks have the sizes and numbers that were asked for, stay inside an item, and depend on the seed alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgekit.train.layers.masking import valid
from edgekit.train.layers.spec_augment import SpecAugment, span_mask

LENGTHS = torch.tensor([300, 200, 30, 5, 1, 0])


def augmented(layer: SpecAugment, lengths_B: Tensor, *, size: int = 300, bins: int = 40) -> Tensor:
    """bool [B, F, M]: what was masked."""
    return layer(torch.ones(len(lengths_B), size, bins), lengths_B) == 0


def runs(row: Tensor) -> list[int]:
    """Lengths of the runs of true."""
    return [len(run) for run in "".join("x" if value else " " for value in row.tolist()).split()]


# SpecAugment.


def test_padding_is_never_touched() -> None:
    torch.manual_seed(0)
    layer = SpecAugment(num_freq=3, freq_width=40, num_time=5, time_width=80)
    for _ in range(20):
        assert not augmented(layer, LENGTHS)[~valid(LENGTHS, 300)].any()


def test_widths_are_uniform() -> None:
    torch.manual_seed(0)
    lengths_B = torch.full((1000,), 100)
    frequency = augmented(SpecAugment(num_freq=1, freq_width=9, num_time=0), lengths_B, size=100)[:, 0]
    time = augmented(SpecAugment(num_freq=0, num_time=1, time_width=20), lengths_B, size=100)[:, :, 0]
    for masked, most in ((frequency, 9), (time, 20)):
        widths = masked.sum(1)
        assert set(widths.tolist()) == set(range(most + 1))
        assert float(widths.float().mean()) == pytest.approx(most / 2, rel=0.1)
        assert all(len(runs(row)) <= 1 for row in masked[:200])
        # every place is reached
        assert masked.any(0).all()


def test_several_bands() -> None:
    torch.manual_seed(0)
    masked = augmented(SpecAugment(num_freq=2, freq_width=27, num_time=0), torch.full((3000,), 10), size=10, bins=80)[
        :, 0
    ]
    assert {len(runs(row)) for row in masked} == {0, 1, 2}
    assert float(masked.float().mean()) == pytest.approx(2 * 13.5 / 80, rel=0.2)


def test_a_share_of_the_item_limits_time() -> None:
    torch.manual_seed(0)
    layer = SpecAugment(num_freq=0, num_time=1, time_width=100, time_share=0.2)
    widest = torch.stack([augmented(layer, LENGTHS, bins=1)[:, :, 0].sum(1) for _ in range(300)]).amax(0)
    assert widest.tolist() == [60, 40, 6, 1, 0, 0]


def test_the_fill() -> None:
    torch.manual_seed(0)
    layer = SpecAugment(num_freq=0, num_time=1, time_width=100)
    log_mel_BFM, fill_M = torch.randn(2, 100, 4), torch.tensor([1.0, 2.0, 3.0, 4.0])
    changed = layer(log_mel_BFM, torch.tensor([100, 100]), fill_M)
    masked_BF = (changed != log_mel_BFM).any(-1)
    assert masked_BF.any()
    assert (changed[masked_BF] == fill_M).all()
    half = layer(log_mel_BFM.bfloat16(), torch.tensor([100, 100]), fill_M)
    assert half.dtype == torch.bfloat16


def test_evaluation_changes_nothing() -> None:
    log_mel_BFM = torch.randn(2, 50, 8)
    assert SpecAugment().eval()(log_mel_BFM, torch.tensor([50, 20])) is log_mel_BFM
    off = SpecAugment(num_freq=0, num_time=0)
    torch.testing.assert_close(off(log_mel_BFM, torch.tensor([50, 20])), log_mel_BFM)


def test_the_seed_decides() -> None:
    layer, masked = SpecAugment(), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masked.append((augmented(layer, LENGTHS), span_mask(LENGTHS, 300, 0.5, 10)))
    assert all(torch.equal(a, b) for a, b in zip(masked[0], masked[1]))
    assert not any(torch.equal(a, b) for a, b in zip(masked[0], masked[2]))


# Spans.


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    extra=st.integers(0, 5),
    probability=st.floats(0, 1),
    span=st.integers(1, 12),
    min_spans=st.integers(0, 3),
    seed=st.integers(0, 100),
)
def test_spans(lengths: list[int], extra: int, probability: float, span: int, min_spans: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths_B, size = torch.tensor(lengths), max(lengths) + extra
    masked_BT = span_mask(lengths_B, size, probability, span, min_spans=min_spans, generator=generator)
    assert masked_BT.shape == (len(lengths), size)
    assert masked_BT.dtype == torch.bool
    assert not masked_BT[~valid(lengths_B, size)].any()
    for row, length in zip(masked_BT, lengths):
        assert all(run >= span for run in runs(row))
        most = max(int(probability * length / span + 1), min_spans)
        assert int(row.sum()) <= most * span
        if min_spans and length >= span:
            assert row.any()
        if length < span:
            assert not row.any()


def test_the_number_of_spans() -> None:
    generator = torch.Generator().manual_seed(0)
    # spans of one frame: their number is that of masked frames
    counts = span_mask(torch.full((4000,), 50), 50, 0.25, 1, generator=generator).sum(1)
    assert set(counts.tolist()) == {12, 13}
    assert float(counts.float().mean()) == pytest.approx(12.5, abs=0.05)


def test_the_share_of_masked_frames() -> None:
    generator = torch.Generator().manual_seed(0)
    masked = span_mask(torch.full((500,), 750), 800, 0.65, 10, generator=generator)[:, :750]
    # wav2vec 2.0, section 4.2: "approximately 49 % of all time steps"
    assert float(masked.float().mean()) == pytest.approx(0.49, abs=0.01)
    # every place is reached, the edges less often
    share_T = masked.float().mean(0)
    assert float(share_T[20:-20].min()) > 0.35
    assert 0 < float(share_T[0]) < 0.2
    assert 0 < float(share_T[-1]) < 0.2


def test_arguments_out_of_range() -> None:
    for arguments in ((1.5, 10, 0), (-0.1, 10, 0), (0.5, 0, 0), (0.5, 10, -1)):
        with pytest.raises(ValueError, match="expected"):
            span_mask(LENGTHS, 300, arguments[0], int(arguments[1]), min_spans=int(arguments[2]))
    for wrong in ({"num_freq": -1}, {"time_width": -1}, {"time_share": 1.5}):
        with pytest.raises(ValueError, match="expected"):
            SpecAugment(**wrong)  # type: ignore[arg-type]
