from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.train.layers.mfcc import Mfcc


@pytest.fixture(scope="module")
def waves() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(0.1 * np.cumsum(rng.normal(0, 0.1, n)) / 10).clip(-1, 1).astype(np.float32) for n in (16000, 7777, 2000)]


def test_equals_kaldi(waves: list[np.ndarray]) -> None:
    kaldi = pytest.importorskip("kaldi_native_fbank")
    for wave in waves:
        options = kaldi.MfccOptions()
        options.frame_opts.dither = 0.0
        options.use_energy = False
        computer = kaldi.OnlineMfcc(options)
        computer.accept_waveform(16000, (wave * 32768).tolist())
        computer.input_finished()
        expected_FC = np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])
        ours_BFC, frames_B = Mfcc()(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))
        assert frames_B.item() == len(expected_FC)
        np.testing.assert_allclose(ours_BFC[0, :, :13].numpy(), expected_FC, atol=2e-2, rtol=1e-3)


def test_differences_are_slopes() -> None:
    """Of a straight line the first difference is its slope, the second nothing, away from the ends."""
    from edgekit.train.layers.mfcc import _differences

    line_BFC = (3.0 * torch.arange(10.0))[None, :, None]
    first = _differences(line_BFC, torch.tensor([10]))
    torch.testing.assert_close(first[0, 2:8, 0], torch.full((6,), 3.0))
    assert _differences(first, torch.tensor([10]))[0, 4:6].abs().max() < 1e-6


def test_a_batch_equals_one_by_one(waves: list[np.ndarray]) -> None:
    lengths = torch.tensor([len(wave) for wave in waves])
    batch = torch.full((3, int(lengths.max())), 0.7)
    for row, wave in zip(batch, waves):
        row[: len(wave)] = torch.from_numpy(wave)
    together, frames = Mfcc()(batch, lengths)
    for index, wave in enumerate(waves):
        alone, _ = Mfcc()(torch.from_numpy(wave)[None], lengths[index : index + 1])
        torch.testing.assert_close(together[index, : frames[index]], alone[0], atol=1e-3, rtol=1e-4)
