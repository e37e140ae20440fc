"""What a run is fed with: chosen once, kept in its folder, and the same when it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgekit.core.errors import DataError
from edgekit.train.data.sets import open_data
from edgekit.train.data.settings import DataSettings
from edgekit.train.recipe import Workplace
from edgekit.train.run import RunFolder


class Alone:
    def broadcast(self, value: Any) -> Any:
        return value


@pytest.fixture
def place(tmp_path: Path, silent: Any) -> Workplace:
    fabric: Any = Alone()
    return Workplace(fabric, RunFolder(tmp_path / "run"), silent)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Two seconds of each of eight files, one of which is a minute long; no texts."""
    for index in range(8):
        seconds = 60 if index == 5 else 2
        soundfile.write(tmp_path / f"{index}.flac", np.full(seconds * 16000, 0.1), 16000)
    return tmp_path


def test_a_run_that_goes_on_has_the_same_data(tone_corpus: Path, place: Workplace) -> None:
    settings = DataSettings(train=str(tone_corpus), validation_speakers=1, workers=0)
    first = open_data(settings, place, texts=True)
    assert {u.speaker for u in first.train.utterances}.isdisjoint({u.speaker for u in first.held_back.utterances})
    again = open_data(DataSettings(train="gone", workers=0), place, texts=True)
    assert (again.train, again.held_back) == (first.train, first.held_back)


def test_a_recording_that_has_gone_is_told(speech: Path, place: Workplace, silent: Any) -> None:
    settings = DataSettings(train=str(speech), workers=0)
    gone = open_data(settings, place, texts=False).train.utterances[0].audio
    gone.unlink()
    silent.said.clear()
    assert gone not in {u.audio for u in open_data(settings, place, texts=False).train.utterances}
    assert silent.said[0] == f"left out {gone}: expected a recording, received no file"


def test_what_is_held_back_fits_into_memory(speech: Path, place: Workplace) -> None:
    data = open_data(DataSettings(train=str(speech), validation=str(speech), workers=0), place, texts=False)
    assert max(batch.wave_BN.shape[1] for batch in data.validation()) == 35 * 16000


def test_recordings_without_texts_are_told(speech: Path, place: Workplace) -> None:
    with pytest.raises(DataError, match="with texts") as caught:
        open_data(DataSettings(train=str(speech), workers=0), place, texts=True)
    assert caught.value.hint
