"""The same corpora and plan make the same benchmark, wherever it is built; what does not fit is told with what does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.core.errors import DataError, EdgekitError, UsageError
from edgekit.runtime.corpus import read_corpus
from edgekit.runtime.libricontinual.build import build
from edgekit.runtime.libricontinual.manifest import read_benchmark
from edgekit.runtime.libricontinual.plan import Plan
from edgekit.runtime.libricontinual.sizes import Sizes, parse_size, parse_splits

Librispeech = Callable[..., Path]

SIZES = Sizes(parse_splits("2s,4s"), parse_size("1s"), parse_size("2s"))
PLAN = Plan(SIZES, speakers=2)
READERS = {name: {f"{name}1": 4, f"{name}2": 2, f"{name}3": 2} for name in ("7", "8", "9", "10")}
GENDERS = {"7": "F", "8": "F", "9": "M", "10": "M"}


@pytest.fixture
def speech(librispeech: Librispeech) -> Path:
    return librispeech(READERS, genders=GENDERS)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_lists_and_manifest(speech: Path, tmp_path: Path) -> None:
    built = build([speech], tmp_path / "out", replace(PLAN, speakers=("9", "7")))
    assert list(built.speakers) == ["7", "9"]
    assert sorted(content(tmp_path / "out")) == [
        *(f"7/{name}.jsonl" for name in ("test", "train-2s", "train-4s", "validation")),
        *(f"9/{name}.jsonl" for name in ("test", "train-2s", "train-4s", "validation")),
        "manifest.json",
    ]
    seven = built.speakers["7"]
    assert seven.gender == "F"
    told = {str(size): part for size, part in seven.splits.items()}
    assert [(name, part.num_recordings, part.seconds) for name, part in told.items()] == [
        ("2s", 2, 2.0),
        ("4s", 4, 4.0),
    ]
    train, validation, test = (
        {u.id.split("-")[1] for u in built.read(part).utterances} for part in (told["4s"], seven.validation, seven.test)
    )
    assert train == {"71"}
    assert not validation & test
    assert {u.speaker for u in built.read(seven.test).utterances} == {"7"}
    entry = built.data["speakers"]["7"]
    assert (entry["disjoint"], entry["validation_and_test_disjoint"]) == ("chapter", True)
    assert built.data["corpora"][0]["books"] == "chapter"
    assert built.data["asked"] == {
        "speakers": ["7", "9"],
        "splits": ["2s", "4s"],
        "validation": "1s",
        "test": "2s",
        "divide": "books",
        "gender_balanced": False,
        "excluded": [],
    }


def test_train_lists_are_nested(speech: Path, tmp_path: Path) -> None:
    built = build([speech], tmp_path / "out", PLAN)
    for speaker in built.speakers.values():
        small, large = ({u.id for u in built.read(part).utterances} for part in speaker.splits.values())
        assert small < large


def test_books_of_the_table_are_told_from_chapters(librispeech: Librispeech, tmp_path: Path) -> None:
    """Two chapters of one book are not on both sides, although they hold enough."""
    projects = {"71": "100", "72": "100", "73": "200", "74": "300"}
    speech = librispeech({"7": {"71": 4, "72": 2, "73": 2, "74": 1}}, projects=projects)
    built = build([speech], tmp_path / "out", replace(PLAN, speakers=1))
    entry = built.data["speakers"]["7"]
    assert (entry["disjoint"], built.data["corpora"][0]["books"]) == ("book", "book")
    test = {u.id.split("-")[1] for u in built.read(built.speakers["7"].test).utterances}
    assert test == {"73"}


def test_two_people_have_the_same(librispeech: Librispeech, tmp_path: Path) -> None:
    """Elsewhere, created in another order, in another codec and locale: the same manifest."""
    here = librispeech(READERS, genders=GENDERS)
    backwards = {name: dict(reversed(READERS[name].items())) for name in reversed(READERS)}
    there = librispeech(backwards, "elsewhere/speech", genders=GENDERS, suffix="flac")
    plan = ["--speakers", "2", "--splits", "2s,4s", "--validation", "1s", "--test", "2s"]
    made = []
    for corpus, locale, seed in ((here, "C", "1"), (here, "C.UTF-8", "2"), (there, "C", "3")):
        out = tmp_path / f"out{seed}"
        environment = {**os.environ, "LC_ALL": locale, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-m", "edgekit", "data", "libricontinual", str(corpus), "--out", str(out), *plan]
        subprocess.run(command, check=True, capture_output=True, env=environment, timeout=60)
        made.append(content(out))
    assert made[0] == made[1]
    assert made[0]["manifest.json"] == made[2]["manifest.json"]
    assert str(tmp_path) not in made[0]["manifest.json"].decode()
    assert made[0] != content(build([here], tmp_path / "seed", replace(PLAN, seed=1)).folder)


def test_corpora_in_any_order(librispeech: Librispeech, tmp_path: Path) -> None:
    """A reader of two corpora is one speaker."""
    one = librispeech({"7": {"71": 4}, "8": {"81": 9}}, "one")
    two = librispeech({"7": {"72": 2, "73": 3}}, "two")
    plan = replace(PLAN, speakers=("7",))
    built = build([one, two], tmp_path / "out", plan)
    assert content(built.folder) == content(build([two, one], tmp_path / "again", plan).folder)
    assert len(built.data["corpora"]) == 2
    assert {u.id.split("-")[1] for u in built.read(built.speakers["7"].test).utterances} < {"72", "73"}


def test_a_corpus_given_twice(speech: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected each recording once, received 10-101-0000 from .* and from .*"):
        build([speech, speech / "10"], tmp_path / "out", PLAN)


def test_a_recording_by_two_names(librispeech: Librispeech, tmp_path: Path) -> None:
    """Else one of the two could be learned and the other tested."""
    speech = librispeech({"7": {"71": 4}})
    recordings = sorted((speech / "7" / "71").glob("*.wav"))
    listed = tmp_path / "listed.jsonl"
    told = [{"audio": str(path), "id": f"mine {path.stem}", "text": "A B", "speaker": "7"} for path in recordings]
    listed.write_text("".join(json.dumps(each) + "\n" for each in told))
    with pytest.raises(DataError, match=r"7-71-0000\.wav as 7-71-0000 and as mine 7-71-0000"):
        build([speech, listed], tmp_path / "out", replace(PLAN, speakers=("7",)))
    assert not (tmp_path / "out").exists()


def test_genders_are_balanced_where_known(speech: Path, tmp_path: Path) -> None:
    built = build([speech], tmp_path / "out", PLAN)
    assert sorted(speaker.gender or "" for speaker in built.speakers.values()) == ["F", "M"]
    assert built.data["asked"]["gender_balanced"] is True


def test_excluded_speakers_take_no_part(speech: Path, tmp_path: Path) -> None:
    plan = replace(PLAN, excluded=frozenset({"7", "9", "unheard of"}))
    built = build([speech], tmp_path / "out", plan)
    assert list(built.speakers) == ["10", "8"]
    assert built.data["asked"]["excluded"] == ["7", "9"]
    with pytest.raises(UsageError, match="expected speaker 7 to be wanted or excluded, received both"):
        build([speech], tmp_path / "other", replace(plan, speakers=("7",)))


def test_hopelessly_little(librispeech: Librispeech, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the most: 0.1 min") as raised:
        build([librispeech({"7": {"71": 5}})], tmp_path / "out", Plan())
    assert raised.value.hint == "give a corpus with more recordings of one speaker"
    with pytest.raises(DataError, match="all are excluded"):
        build([tmp_path / "speech"], tmp_path / "out", Plan(excluded=frozenset({"7"})))


def test_an_unknown_speaker(speech: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a speaker among 10, 7, 8, 9; received '99'"):
        build([speech], tmp_path / "out", replace(PLAN, speakers=("7", "99")))


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "con", "", " ", "a" * 65, "x\0"])
def test_hostile_names_become_no_folders(tmp_path: Path, speech: Path, name: str) -> None:
    audio = next(speech.rglob("*.wav"))
    lines = [json.dumps({"id": str(i), "audio": str(audio), "text": "a", "speaker": name}) for i in range(9)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match="expected"):
        build([tmp_path / "x.jsonl"], tmp_path / "deep" / "out", replace(PLAN, speakers=1))
    assert not (tmp_path / "deep").exists()
    assert not (tmp_path / "x").exists()


def test_names_that_differ_in_case_alone(tmp_path: Path, speech: Path) -> None:
    audio = next(speech.rglob("*.wav"))
    lines = [json.dumps({"id": name, "audio": str(audio), "text": "a", "speaker": name}) for name in ("anna", "Anna")]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match="differ in more than case, received 'Anna' and 'anna'"):
        build([tmp_path / "x.jsonl"], tmp_path / "out", PLAN)


def test_recordings_alone_are_no_corpus(tmp_path: Path, speech: Path) -> None:
    for table in speech.rglob("*.trans.txt"):
        table.unlink()
    with pytest.raises(DataError, match=r"expected recordings with words and speakers in .*, received 32 without"):
        build([speech], tmp_path / "out", PLAN)
    with pytest.raises(UsageError, match="expected a corpus, received none"):
        build([], tmp_path / "out", PLAN)


# The folder.


def test_built_again_it_is_the_same_and_nothing_else_is_lost(speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    before = content(build([speech], out, PLAN).folder)
    assert content(build([speech], out, PLAN).folder) == before
    with pytest.raises(UsageError, match="holds another benchmark"):
        build([speech], out, replace(PLAN, seed=5))
    (out / "manifest.json").unlink()
    with pytest.raises(UsageError, match="holds something else"):
        build([speech], out, PLAN)
    with pytest.raises(UsageError, match="expected a folder for --out"):
        build([speech], out / "7" / "test.jsonl" if (out / "7").is_dir() else out / "8" / "test.jsonl", PLAN)
    assert {path.name for path in tmp_path.iterdir()} == {"speech", "out"}, "nothing is left beside"


def test_a_folder_that_cannot_be_written(speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EdgekitError, match=r"cannot write .*: No space left on device"):
        build([speech], tmp_path / "out", PLAN)
    assert [path.name for path in tmp_path.iterdir()] == ["speech"]


def test_lists_move_with_their_recordings(speech: Path, tmp_path: Path) -> None:
    built = build([speech], speech / "benchmark", PLAN)
    name = next(iter(built.speakers))
    line = json.loads((built.folder / name / "test.jsonl").read_text().splitlines()[0])
    assert Path(line["audio"]).is_absolute(), "recordings lie above, not below"
    assert len(read_corpus(built.folder / name / "test.jsonl").utterances) == 2


def test_an_altered_benchmark_is_refused(speech: Path, tmp_path: Path) -> None:
    built = build([speech], tmp_path / "out", PLAN)
    name, speaker = next(iter(built.speakers.items()))
    path = built.folder / name / "test.jsonl"
    written = path.read_text()
    path.write_text(written.replace("A B", "A C"))
    with pytest.raises(DataError, match="as it was built, it was altered"):
        built.read(speaker.test)
    path.write_text(written)
    next((speech / name).rglob(json.loads(written.splitlines()[0])["id"] + ".wav")).unlink()
    with pytest.raises(DataError, match=r"expected all recordings of .*, received 1 that cannot be used") as raised:
        built.read(speaker.test)
    assert raised.value.hint


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": 2}, "expected a benchmark of schema 1"),
        ({"name": "other"}, "its name is 'other'"),
        ({"sha256": "0"}, "its hash is not that of its lists"),
        ({"speakers": {"7": {}}}, "splits"),
        ({"speakers": [7]}, "expected the manifest of a benchmark"),
        ({"schema": "x"}, "expected the manifest of a benchmark"),
    ],
)
def test_a_broken_manifest(speech: Path, tmp_path: Path, change: dict[str, object], told: str) -> None:
    built = build([speech], tmp_path / "out", PLAN)
    (built.folder / "manifest.json").write_text(json.dumps({**built.data, **change}))
    with pytest.raises(DataError, match=told):
        read_benchmark(built.folder)


def test_a_list_outside_is_refused(speech: Path, tmp_path: Path) -> None:
    built = build([speech], tmp_path / "out", PLAN)
    text = (built.folder / "manifest.json").read_text()
    name = next(iter(built.speakers))
    for hostile in ("../x.jsonl", f"{name}/../../x.jsonl", "/etc/passwd"):
        (built.folder / "manifest.json").write_text(text.replace(f"{name}/test.jsonl", hostile))
        with pytest.raises(DataError, match="expected the manifest of a benchmark"):
            read_benchmark(built.folder)


@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff", b"{}"])
def test_no_benchmark(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match="expected") as raised:
        read_benchmark(tmp_path)
    assert "edgekit data libricontinual" in (raised.value.hint or "")
