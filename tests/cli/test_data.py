"""`edgekit data libricontinual`, over silence and, where they are, real readers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytestmark = pytest.mark.device_side

Cli = Callable[..., Any]
SMALL = ("--splits", "2s,4s", "--validation", "1s", "--test", "2s")


@pytest.fixture
def build(cli: Cli) -> Cli:
    return partial(cli, "data", "libricontinual")


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    return record(tmp_path / "speech", {"7": 8, "8": 8})


def record(corpus: Path, readers: Mapping[str, int]) -> Path:
    """So many recordings of a second each, of one chapter."""
    for reader, count in readers.items():
        folder = corpus / reader / "1"
        folder.mkdir(parents=True)
        names = [f"{reader}-1-{index:04}" for index in range(count)]
        for name in names:
            soundfile.write(folder / f"{name}.wav", np.zeros(8000, np.int16), 8000)
        (folder / f"{reader}-1.trans.txt").write_text("".join(f"{name} WORDS\n" for name in names))
    return corpus


def test_a_person_sees_what_was_built(build: Cli, speech: Path, tmp_path: Path) -> None:
    ran = build(speech, "--speakers", 2, *SMALL, "--out", tmp_path / "out")
    assert ran.code == 0
    assert "train 4s" in ran.out
    assert "speakers: 2 (2 of unknown gender)" in ran.out
    assert "speakers whose train and test share no recording: 2" in ran.out
    sha256 = json.loads((tmp_path / "out" / "manifest.json").read_text())["sha256"]
    assert f"{tmp_path / 'out' / 'manifest.json'}: sha256 {sha256}" in ran.out
    assert ran.err == ("warning: one book may be in train and test, of so many speakers: 2; the manifest names them\n")


def test_json_is_the_manifest(build: Cli, speech: Path, tmp_path: Path) -> None:
    ran = build(speech, "--speakers", "8,", *SMALL, "--out", tmp_path / "out", "--json", "--seed", 3)
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert found == json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (found["name"], found["seed"], list(found["speakers"])) == ("LibriContinual-like", 3, ["8"])


def test_halves_and_exclusion(build: Cli, speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--splits", "1s,3s", "--validation", "1s", "--test", "4s", "--divide", "halves")
    ran = build(speech, "--speakers", 1, "--exclude-speakers", "7", *options, "--out", out)
    assert ran.code == 0
    test = [json.loads(line)["id"] for line in (out / "8" / "test.jsonl").read_text().splitlines()]
    assert test == [f"8-1-{index:04}" for index in range(4, 8)]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 1, "expected 118 speakers with 12h each"),
        (("--splits", "1x"), 2, "expected a size from 1s to 1000h"),
        (("--test", "0s"), 2, "expected a size"),
        (("--speakers", "0"), 2, "expected one speaker or more"),
        (("--speakers", "7,99"), 2, "expected a speaker among 7, 8; received '99'"),
        (("--divide", "half"), 2, "did you mean halves?"),
        (("--out", "{speech}"), 2, "holds something else"),
    ],
)
def test_wrong_turns(
    build: Cli, speech: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    default = () if not arguments else ("--speakers", 2, *SMALL)
    filled = [argument.format(speech=speech) for argument in arguments]
    ran = build(speech, "--out", tmp_path / "out", *default, *filled)
    assert (ran.code, ran.out) == (code, "")
    assert told in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("speakers", "count"), [("118", 2), ("7,8", 2), ("7,", 1), ("3", 2), ("7,9", 1)])
def test_what_does_not_fit_is_told_with_a_command_that_does(
    cli: Cli, build: Cli, tmp_path: Path, speakers: str, count: int
) -> None:
    speech = record(tmp_path / "speech", {"7": 120, "8": 120, "9": 3})
    ran = build(speech, "--speakers", speakers, "--out", tmp_path / "out")
    assert (ran.code, ran.out) == (1, "")
    assert "with 12h each (10h to train, 1h to validate, 1h to test), received 0 who hold that" in ran.err
    assert not (tmp_path / "out").exists()
    hint = shlex.split(ran.err.partition("hint:")[2])
    assert hint[0] == "edgekit"
    ran = cli(*hint[1:], "--out", tmp_path / "out", "--json")
    assert ran.code == 0
    made = json.loads(ran.out)
    assert made["asked"]["splits"] == ["10s", "20s", "40s"]
    assert len(made["speakers"]) == count


def test_a_missing_corpus(build: Cli, tmp_path: Path) -> None:
    ran = build(tmp_path / "none", "--out", tmp_path / "out")
    assert (ran.code, ran.out) == (1, "")
    assert "which does not exist" in ran.err


def test_real_readers(build: Cli, shared_data: Path, tmp_path: Path) -> None:
    """The personal speakers of the shared data, by name; and one woman for splits of up to 20 minutes."""
    librispeech, ljspeech = shared_data / "librispeech", shared_data / "ljspeech"
    if not (librispeech / "splits.json").is_file() or not ljspeech.is_dir():
        pytest.skip(f"no librispeech and ljspeech in {shared_data}")
    names = json.loads((librispeech / "splits.json").read_text())["personal"]["speakers"]
    options = ("--splits", "30s,1m,2m,4m", "--validation", "1m", "--test", "2m", "--json")
    ran = build(librispeech / "test-clean", "--speakers", ",".join(names), *options, "--out", tmp_path / "personal")
    assert ran.code == 0
    found = json.loads(ran.out)
    assert sorted(found["speakers"]) == sorted(names)
    assert found["corpora"][0]["books"] == "book"
    assert {speaker["gender"] for speaker in found["speakers"].values()} == {"F", "M"}
    for speaker in found["speakers"].values():
        assert speaker["splits"]["4m"]["seconds"] == pytest.approx(240, abs=17)
        assert speaker["test"]["seconds"] == pytest.approx(120, abs=17)
    ran = build(
        ljspeech,
        "--speakers",
        1,
        "--splits",
        "1m,20m",
        "--validation",
        "5m",
        "--test",
        "10m",
        "--json",
        "--out",
        tmp_path / "lj",
    )
    woman = json.loads(ran.out)["speakers"]["LJ"]
    assert (woman["gender"], woman["disjoint"]) == ("F", "chapter")
    assert woman["splits"]["20m"]["seconds"] == pytest.approx(1200, abs=6)
