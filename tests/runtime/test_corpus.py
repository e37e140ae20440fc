"""Every layout is read, and nothing in it is believed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import DataError
from edgekit.runtime.corpus import Corpus, Utterance, read_corpus, split_speakers, subset, write_jsonl


def record(path: Path, duration_s: float = 0.5, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, round(duration_s * rate)).astype(np.float32)
    soundfile.write(path, samples, rate)
    return path


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def made_up(*speakers: str | None, duration_s: float = 10.0) -> Corpus:
    return Corpus(
        tuple(Utterance(f"{i:04}", Path(f"{i}.wav"), duration_s, "a", speaker) for i, speaker in enumerate(speakers))
    )


# Layouts.


def test_librispeech(tmp_path: Path) -> None:
    for speaker, suffix in (("19", "flac"), ("7", "wav")):
        for i in range(2):
            record(tmp_path / f"train/{speaker}/22/{speaker}-22-000{i}.{suffix}", 0.5 + i)
        write(
            tmp_path / f"train/{speaker}/22/{speaker}-22.trans.txt", f"{speaker}-22-0001 B  C", f"{speaker}-22-0000 A"
        )
    corpus = read_corpus(tmp_path)
    assert [(u.id, u.text, u.speaker, u.duration_s) for u in corpus.utterances] == [
        ("19-22-0000", "A", "19", 0.5),
        ("19-22-0001", "B C", "19", 1.5),
        ("7-22-0000", "A", "7", 0.5),
        ("7-22-0001", "B C", "7", 1.5),
    ]
    assert corpus.duration_s == 4.0
    assert corpus.skipped == ()


def test_librispeech_with_names_of_its_own(tmp_path: Path) -> None:
    record(tmp_path / "anna/1/hello.wav")
    write(tmp_path / "anna/1/x.trans.txt", "hello HELLO", "missing NOT THERE")
    corpus = read_corpus(tmp_path)
    assert [(u.id, u.speaker) for u in corpus.utterances] == [("hello", "anna")]
    assert [(s.path.name, s.reason[:7]) for s in corpus.skipped] == [("x.trans.txt", "line 2:")]


def test_ljspeech(tmp_path: Path) -> None:
    for i in (1, 2, 3):
        record(tmp_path / f"wavs/LJ-{i}.wav")
    write(
        tmp_path / "metadata.csv", "LJ-1|In 1900|In nineteen hundred", "LJ-2|so|", "LJ-3|it is", "LJ-4|lost|lost", "?"
    )
    corpus = read_corpus(tmp_path)
    assert [(u.id, u.text) for u in corpus.utterances] == [
        ("LJ-1", "In nineteen hundred"),
        ("LJ-2", "so"),
        ("LJ-3", "it is"),
    ]
    assert [s.reason[:7] for s in corpus.skipped] == ["line 4:", "line 5:"]


@pytest.mark.parametrize("name", ["validated.tsv", "train.tsv"])
def test_common_voice(tmp_path: Path, name: str) -> None:
    record(tmp_path / "clips/a.wav")
    record(tmp_path / "clips/b.mp3")
    rows = ["client_id\tpath\tsentence\tage", 'x\ta.wav\t"Ja!"\t', "y\tb\tNein\tteens", "z\tc.mp3", "z\td.mp3\tWeg\t"]
    table = write(tmp_path / name, *rows)
    corpus = read_corpus(tmp_path)
    assert [(u.id, u.text, u.speaker) for u in corpus.utterances] == [("a", '"Ja!"', "x"), ("b", "Nein", "y")]
    assert {(s.path.name, s.reason) for s in corpus.skipped} == {
        (name, "line 4: expected 4 columns, received 2"),
        ("d.mp3", "expected a recording, received no file"),
    }
    assert read_corpus(table) == corpus


@pytest.mark.parametrize("whole", [True, False])
def test_multilingual_librispeech(tmp_path: Path, whole: bool) -> None:
    train = tmp_path / "train"
    record(train / "audio/4800/10003/4800_10003_000000.flac")
    (train / "audio/4800/10003/4800_10003_000001.opus").write_bytes(b"its length is in the table")
    record(train / "audio/7/9/7_9_000000.wav", 1.5)
    names = ("4800_10003_000001", "7_9_000000", "4800_10003_000000", "../4800_1_0", "7_9_000001")
    write(train / "transcripts.txt", *(f"{name}\tword  of {name[0]}" for name in names), "no tab")
    url = "http://www.archive.org/download/a/b.mp3"
    times = ("12.5\t25.25", "1\tx", "nan\tnan", "5\t4")
    write(train / "segments.txt", *(f"{name}\t{url}\t{each}" for name, each in zip(names, times)), "broken")
    write(tmp_path / "metainfo.txt", " SPEAKER | GENDER | PARTITION | MINUTES | BOOK ID | TITLE | CHAPTER ")
    corpus = read_corpus(tmp_path if whole else train)
    assert [(u.id, u.text, u.speaker, u.duration_s) for u in corpus.utterances] == [
        ("4800_10003_000000", "word of 4", "4800", 0.5),
        ("4800_10003_000001", "word of 4", "4800", 12.75),
        ("7_9_000000", "word of 7", "7", 1.5),
    ]
    assert [s.reason[:7] for s in corpus.skipped] == ["line 4:", "line 5:", "line 6:"]


def test_multilingual_librispeech_in_parts(tmp_path: Path) -> None:
    for name, partition in (("1_2_000000", "dev"), ("3_4_000000", "test")):
        speaker, book, _ = name.split("_")
        record(tmp_path / partition / "audio" / speaker / book / f"{name}.flac")
        write(tmp_path / partition / "transcripts.txt", f"{name}\tword")
    assert [u.id for u in read_corpus(tmp_path).utterances] == ["1_2_000000", "3_4_000000"]


def test_a_folder_of_recordings(tmp_path: Path) -> None:
    record(tmp_path / "b.wav")
    record(tmp_path / "a/12-34-0001.FLAC")
    write(tmp_path / "notes.txt", "no recording")
    corpus = read_corpus(tmp_path)
    assert [(u.id, u.text, u.speaker) for u in corpus.utterances] == [
        ("a/12-34-0001.FLAC", None, "12"),
        ("b.wav", None, None),
    ]
    assert corpus.with_text().utterances == ()


def test_json_lines_of_transcribe(tmp_path: Path) -> None:
    record(tmp_path / "sub/a.wav")
    line = {"audio": "sub/a.wav", "text": " two  words ", "words": [{"text": "two"}], "audio_s": 0.5, "rtf": 0.1}
    corpus = read_corpus(write(tmp_path / "x.jsonl", json.dumps(line)))
    assert corpus.utterances == (Utterance("sub/a.wav", tmp_path / "sub/a.wav", 0.5, "two words", None),)


# What is hostile or broken.


def test_broken_json_lines_are_told_by_number(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    bad = [
        '{"audio": "a.wav"',
        "[]",
        "7",
        '{"audio": 7}',
        '{"audio": ""}',
        '{"text": "a"}',
        '{"audio": "a.wav", "text": 7}',
        '{"audio": "a.wav", "duration": -1}',
        '{"audio": "a.wav", "duration": NaN}',
        '{"audio": "a.wav", "duration": 1e400}',
        '{"audio": "a.wav", "duration": ' + "9" * 400 + "}",
        '{"audio": "a.wav", "duration": "1"}',
        "[" * 100_000,
    ]
    path = write(tmp_path / "x.jsonl", '{"audio": "a.wav"}', "", *bad)
    with path.open("ab") as file:
        file.write(b'{"audio": "\xff.wav"}\n')
    corpus = read_corpus(path)
    assert [u.id for u in corpus.utterances] == ["a.wav"]
    assert [s.reason.split(":")[0] for s in corpus.skipped] == [f"line {n}" for n in range(3, 3 + len(bad) + 1)]
    assert {s.path for s in corpus.skipped} == {path}


def test_unusable_recordings_are_told(tmp_path: Path) -> None:
    record(tmp_path / "good.wav")
    record(tmp_path / "none.wav", 0.0)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.flac").write_text("no recording")
    (tmp_path / "folder.wav").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.wav")
    names = ("good.wav", "missing.wav", "a.raw", "nul\0.wav", ".", "long" * 2000)
    lines = [json.dumps({"audio": name}) for name in names]
    (tmp_path / "a.raw").write_bytes(bytes(100))
    corpus = read_corpus(tmp_path)
    assert [u.id for u in corpus.utterances] == ["good.wav"]
    expected = {"none.wav", "empty.wav", "text.flac", "folder.wav", *(["pipe.wav"] if hasattr(os, "mkfifo") else [])}
    assert {s.path.name for s in corpus.skipped} == expected
    assert len(read_corpus(write(tmp_path / "x.jsonl", *lines)).skipped) == len(names) - 1


def test_an_id_is_taken_once(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    line = '{"audio": "a.wav", "text": "%s"}'
    corpus = read_corpus(write(tmp_path / "x.jsonl", line % "first", line % "second"))
    assert [u.text for u in corpus.utterances] == ["first"]
    assert len(corpus.skipped) == 1


@pytest.mark.parametrize("columns", ["a\tb", "path,sentence", "", "\xff"])
def test_a_table_with_other_columns(tmp_path: Path, columns: str) -> None:
    table = tmp_path / "x.tsv"
    table.write_bytes(columns.encode("latin-1") + b"\nx\ty\n")
    with pytest.raises(DataError, match="columns path and sentence"):
        read_corpus(table)


@pytest.mark.parametrize("name", ["nothing", "nothing.jsonl", "file.txt", "folder", "empty.jsonl", "lost.jsonl"])
def test_nothing_of_use(tmp_path: Path, name: str) -> None:
    write(tmp_path / "file.txt", "text")
    (tmp_path / "folder").mkdir()
    write(tmp_path / "empty.jsonl", "")
    write(tmp_path / "lost.jsonl", '{"audio": "lost.wav"}')
    with pytest.raises(DataError, match="expected") as raised:
        read_corpus(tmp_path / name)
    assert raised.value.hint


@given(content=st.binary(max_size=200) | st.text('{}[]"audio:,\t|.wav\n 01', max_size=200).map(str.encode))
@pytest.mark.parametrize("layout", ["x.jsonl", "x.tsv", "metadata.csv", "x.trans.txt", "transcripts.txt"])
def test_any_bytes_as_a_table(tmp_path_factory: pytest.TempPathFactory, layout: str, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "wavs").mkdir()
    (folder / "audio").mkdir()
    (folder / "segments.txt").write_bytes(content)
    (folder / layout).write_bytes(b"path\tsentence\n" + content if layout == "x.tsv" else content)
    with pytest.raises(DataError):
        read_corpus(folder / layout if layout.startswith("x.j") or layout.endswith("tsv") else folder)


# Written and read again.


def test_round_trip_without_opening(tmp_path: Path) -> None:
    odd = b"\xff.wav".decode("utf-8", "surrogateescape")
    elsewhere = tmp_path / "other/b.wav"
    for audio in (tmp_path / "data/a.wav", tmp_path / "data" / odd, elsewhere):
        audio.parent.mkdir(exist_ok=True)
        audio.write_bytes(b"is not looked at")
    corpus = Corpus(
        (
            Utterance("a", tmp_path / "data/a.wav", 1 / 3, "„Schön“ it’s", "anna"),
            Utterance("b", elsewhere, 2.0, None, None),
            Utterance("c", tmp_path / "data" / odd, 3.0, None, "bert"),
        )
    )
    write_jsonl(tmp_path / "data/x.jsonl", corpus)
    assert read_corpus(tmp_path / "data/x.jsonl") == corpus
    first = json.loads((tmp_path / "data/x.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first["audio"] == "a.wav", "relative, so that both can be moved"


def test_progress_is_reported(tmp_path: Path) -> None:
    for i in range(3):
        record(tmp_path / f"{i}.wav")
    calls: list[tuple[int, int]] = []
    read_corpus(tmp_path, report=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


# Splits and subsets.


def test_whole_speakers_are_held_out() -> None:
    corpus = made_up(*"aaabbbccccd", None)
    train, validation = split_speakers(corpus, 2, seed=0)
    assert {u.id for u in train.utterances} | {u.id for u in validation.utterances} == {u.id for u in corpus.utterances}
    heard, held_out = {u.speaker for u in train.utterances}, {u.speaker for u in validation.utterances}
    assert len(held_out) == 2
    assert not heard & held_out
    assert None in heard
    assert split_speakers(corpus, 2, seed=0) == (train, validation)
    assert len({split_speakers(corpus, 2, seed)[1] for seed in range(20)}) > 1


def test_a_speaker_stays() -> None:
    train, validation = split_speakers(made_up(*"aab"), 5, seed=0)
    assert train.utterances
    assert validation.utterances


@pytest.mark.parametrize(("speakers", "expected"), [([None] * 100, 5), (["a"] * 30, 2), ([None] * 2, 1)])
def test_utterances_are_held_out_where_there_are_no_speakers(speakers: list[str | None], expected: int) -> None:
    train, validation = split_speakers(made_up(*speakers), 2, seed=3)
    assert len(validation.utterances) == expected
    assert len(train.utterances) + expected == len(speakers)
    assert not set(train.utterances) & set(validation.utterances)


def test_one_utterance_cannot_be_split() -> None:
    with pytest.raises(DataError, match="two utterances"):
        split_speakers(made_up("a"), 1, seed=0)


def test_split_by_name() -> None:
    train, validation = made_up(*"abca").split({"a", "unknown"})
    assert [u.speaker for u in train.utterances] == ["b", "c"]
    assert [u.speaker for u in validation.utterances] == ["a", "a"]


@given(
    durations=st.lists(st.floats(0.5, 30), min_size=1, max_size=60),
    hours=st.tuples(st.floats(0.001, 0.5), st.floats(0.001, 0.5)).map(sorted),
    seed=st.integers(0, 3),
)
def test_subsets_are_nested(durations: list[float], hours: list[float], seed: int) -> None:
    corpus = Corpus(tuple(Utterance(f"{i:03}", Path("x"), d, None, str(i % 3)) for i, d in enumerate(durations)))
    small, large = (subset(corpus, each, seed) for each in hours)
    assert set(small.utterances) <= set(large.utterances) <= set(corpus.utterances)
    assert list(large.utterances) == sorted(large.utterances, key=lambda u: u.id)
    for part, limit in ((small, hours[0]), (large, hours[1])):
        assert part.duration_s <= limit * 3600 + 1e-6 or len(part.utterances) == 1
        left = len(part.utterances) < len(corpus.utterances)
        assert not left or part.duration_s > limit * 3600 - 30 or len(part.utterances) == 1


def test_a_subset_is_spread_over_speakers() -> None:
    corpus = made_up(*(["talks much"] * 90 + list("abcdefghij")))
    chosen = subset(corpus, 110 / 3600, seed=0)
    assert len({u.speaker for u in chosen.utterances}) == 11


# Real data.


def test_real_corpora(shared_data: Path) -> None:
    folder = shared_data / "librispeech" / "train-clean-5"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    corpus = read_corpus(folder)
    assert len(corpus.with_text().utterances) == 1519
    assert corpus.skipped == ()
    assert len({u.speaker for u in corpus.utterances}) == 28
    assert 5.2 < corpus.duration_s / 3600 < 5.5
    assert all(u.audio.parents[1].name == u.speaker for u in corpus.utterances)
