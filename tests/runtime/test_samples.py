from __future__ import annotations

import numpy as np
import pytest
import soundfile

from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.samples import sample_clips, transcripts

pytestmark = pytest.mark.device_side


def test_the_clips_are_what_the_readme_says() -> None:
    clips = sample_clips()
    readme = (clips[0].parent / "README.md").read_text(encoding="utf-8")
    lengths = []
    for clip in clips:
        info = soundfile.info(clip)
        assert (info.samplerate, info.channels, info.format, info.subtype) == (16000, 1, "FLAC", "PCM_16")
        lengths.append(info.frames)
        row = f"| `{clip.name}` | {info.frames / 16000:.3f} |"
        assert row in readme
        assert f"| {transcripts()[clip.name]} |" in readme
        assert f'"{transcripts()[clip.name]}"' in readme, "the command that made it"
    assert lengths == sorted(lengths)
    assert len(lengths) == 3
    assert sum(clip.stat().st_size for clip in clips) < 300_000


def test_every_clip_in_the_folder_is_listed() -> None:
    clips = sample_clips()
    assert sorted(clips) == sorted(clips[0].parent.glob("*.flac"))


def test_the_clips_hold_speech_that_is_not_clipped() -> None:
    for clip in sample_clips():
        waveform = load_audio(clip)
        assert 0.3 < np.abs(waveform).max() < 0.99, clip.name
        loud = np.sqrt((waveform[: len(waveform) // 400 * 400].reshape(-1, 400) ** 2).mean(axis=1)) > 0.01
        assert 0.5 < loud.mean() < 1.0, clip.name
