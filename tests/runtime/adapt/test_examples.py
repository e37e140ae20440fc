"""What a person has corrected, a corpus, and recordings alone become examples; what does not is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgekit.core.bundle import Bundle
from edgekit.core.errors import AudioError, DataError
from edgekit.runtime.adapt.examples import CORRECTED, PSEUDO, TRANSCRIPTS, Example, ExampleMaker, read_data, split
from edgekit.runtime.adapt.labels import read_labels
from edgekit.runtime.adapt.settings import AdaptSettings

pytestmark = pytest.mark.device_side

Speak = Callable[..., np.ndarray]
Record = Callable[..., Path]


@pytest.fixture
def record(tmp_path: Path, speak: Speak) -> Record:
    """`record("a.wav", "AB")`: the recording, whose path is given."""

    def make(name: str, text: str = "AB", frames_each: int = 5) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, speak(text, frames_each), 16000, subtype="FLOAT" if path.suffix == ".wav" else None)
        return path

    return make


def lines(path: Path, *records: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


# Sources.


def test_corrected_lines(tmp_path: Path, record: Record) -> None:
    for name in ("a", "b", "c"):
        record(f"{name}.wav")
    path = lines(
        tmp_path / "said.jsonl",
        {"audio": "a.wav", "text": "AB", "words": [{"text": "AC", "start_s": 0.1}], "rtf": 0.1},
        {"audio": "b.wav", "text": ""},  # a person heard nothing
        {"audio": "c.wav", "text": "a b", "speaker": "anna"},
        {"audio": "none.wav", "text": "A"},
    )
    recordings, skipped = read_data([path])
    assert [(r.utterance.text, r.source, r.utterance.speaker) for r in recordings] == [
        ("AB", CORRECTED, None),
        ("a b", CORRECTED, "anna"),
    ]
    assert [(each.path.name, each.reason.split(",")[0]) for each in skipped] == [
        ("none.wav", "expected a recording"),
        ("b.wav", "no text"),
    ]


def test_a_corpus_and_recordings_alone(tmp_path: Path, record: Record) -> None:
    record("corpus/7/1/7-1-0000.flac")
    (tmp_path / "corpus/7/1/7-1.trans.txt").write_text("7-1-0000 AB\n")
    record("alone/x.wav")
    single = record("y.wav")
    recordings, skipped = read_data([tmp_path / "corpus", tmp_path / "alone", single, single])
    assert [(r.utterance.audio.name, r.source) for r in recordings] == [
        ("7-1-0000.flac", TRANSCRIPTS),
        ("x.wav", PSEUDO),
        ("y.wav", PSEUDO),
    ]
    assert [each.reason for each in skipped] == ["named a second time"]


def test_a_recording_by_two_paths_is_one(tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one of the two could be learned and the other held back."""
    monkeypatch.chdir(tmp_path)
    absolute = record("a.wav")
    (tmp_path / "link.wav").symlink_to(absolute)
    corrected = lines(tmp_path / "said.jsonl", {"audio": str(absolute), "text": "AB"})
    recordings, skipped = read_data([corrected, "a.wav", "link.wav"])
    assert [(r.utterance.text, r.source) for r in recordings] == [("AB", CORRECTED)]
    assert [each.reason for each in skipped] == ["named a second time"] * 2


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which does not exist"):
        read_data([tmp_path / "none"])
    with pytest.raises(AudioError, match="expected a recording"):
        read_data([tmp_path / "none.wav"])
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(AudioError, match="expected a recording"):
        read_data([tmp_path / "text.wav"])


# Examples.


def maker(bundle: Bundle, longest_s: float = 20.0, cache_mib: float = 64.0) -> ExampleMaker:
    return ExampleMaker(bundle, read_labels(bundle), longest_s, cache_mib)


@pytest.mark.parametrize("cache_mib", [64.0, 0.0])
def test_an_example(opened: Bundle, tmp_path: Path, record: Record, speak: Speak, cache_mib: float) -> None:
    record("a.wav", "AB C")
    (recorded,), _ = read_data([lines(tmp_path / "said.jsonl", {"audio": "a.wav", "text": "ab, c!"})])
    example = maker(opened, cache_mib=cache_mib).make(recorded)
    assert (example.id, example.text, example.labels) == ("a.wav", "AB C", (2, 3, 1, 4))
    assert example.duration_s == pytest.approx(len(speak("AB C")) / 16000)
    np.testing.assert_array_equal(example.features(), speak("AB C"))
    assert (example.features() is example.features()) == (cache_mib > 0)


@pytest.mark.parametrize(
    ("text", "frames_each", "message"),
    [
        ("ABX", 5, "expected letters that the labels have, received 'X'"),
        ("12", 5, "received '1'"),
        ("DADA", 100, "expected at most 5 s, received 10.0 s"),
        ("AB AB AB AB AB AB AB AB", 1, "expected at least 23 frames for its 23 labels, received 4"),
        ("AAAA", 1, "expected at least 7 frames for its 4 labels, received 4"),
    ],
)
def test_what_cannot_be_learned(
    opened: Bundle, tmp_path: Path, record: Record, text: str, frames_each: int, message: str
) -> None:
    record("a.wav", "AB", frames_each)
    (recorded,), _ = read_data([lines(tmp_path / "said.jsonl", {"audio": "a.wav", "text": text})])
    with pytest.raises(DataError) as error:
        maker(opened, longest_s=5).make(recorded)
    assert message in error.value.message


def test_the_graph_bounds_the_length_too(opened: Bundle) -> None:
    assert maker(opened, longest_s=1e6).longest_s == 480_000 / 16_000


# What is held back.


def examples(*durations_s: float) -> list[Example]:
    return [Example(f"{i:03}", d, "A", (2,), lambda: np.empty(0)) for i, d in enumerate(durations_s)]


def test_a_share_is_held_back() -> None:
    training, held_back = split(examples(*[5.0] * 50), AdaptSettings())
    assert (len(training), len(held_back)) == (40, 10)
    assert {e.id for e in training} | {e.id for e in held_back} == {e.id for e in examples(*[5.0] * 50)}
    again = split(examples(*[5.0] * 50)[::-1], AdaptSettings())
    assert [e.id for e in again[1]] == [e.id for e in held_back]
    assert [e.id for e in split(examples(*[5.0] * 50), AdaptSettings(seed=1))[1]] != [e.id for e in held_back]


def test_at_most_two_minutes_and_at_least_one() -> None:
    assert len(split(examples(*[5.0] * 1000), AdaptSettings())[1]) == 24
    assert len(split(examples(10, 10), AdaptSettings())[1]) == 1
    assert len(split(examples(10, 10, 10), AdaptSettings(held_back=0.99))[0]) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_too_few(count: int) -> None:
    with pytest.raises(DataError, match=f"received {count} of use") as error:
        split(examples(*[5.0] * count), AdaptSettings())
    assert error.value.hint
