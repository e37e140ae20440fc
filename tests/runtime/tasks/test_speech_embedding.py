"""Frames of a long recording, in windows, equal those of the whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import edgekit
from edgekit.core.bundle import Bundle

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")


@pytest.mark.parametrize("seconds", [1, 19, 21, 37, 64])
def test_windows_join_to_the_frames_of_the_whole(toy_with: Callable[..., Bundle], seconds: int) -> None:
    bundle = toy_with(task="speech-embedding", output={"kind": "embedding", "frame_s": 0.02})
    wave = np.random.default_rng(0).uniform(-0.7, 0.7, seconds * 16000 + 123).astype(np.float32)
    found = edgekit.load(bundle.path).embed((wave, 16000))
    windows = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float64), 400)[::320, :320].mean(1)
    # the last window may lack up to one hop of samples, so up to one frame
    assert len(windows) - len(found.frames) in (0, 1)
    levels = np.linspace(-0.75, 0.75, 6)
    expected = np.abs(windows[: len(found.frames), None] - levels).argmin(1)
    assert np.array_equal(found.frames.argmax(1), expected)
    assert (found.frame_s, found.audio_s) == (0.02, len(wave) / 16000)
