"""`edgekit speakers` and `edgekit transcribe --speaker` as a person types them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import soundfile

from edgekit.core.bundle import open_bundle
from edgekit.core.record import Record
from edgekit.core.store import Store

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

Install = Callable[..., Record]
Hears = Callable[[str], np.ndarray]
Speak = Callable[..., np.ndarray]


class Ran(Protocol):
    """What a command left behind."""

    code: object
    out: str
    err: str


Cli = Callable[..., Ran]


class TerminalText(io.StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        return True


GAINED = {
    "speech_s": 612.4,
    "held_back": {"before": {"loss": 0.5, "wer": 0.1234}, "after": {"loss": 0.25, "wer": 0.061}},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def anna(personal_toy: Path, root: Path, install: Install, hears: Hears) -> Path:
    """A bundle that knows anna in two versions, of which the newer says more on its card, and ben."""
    install(personal_toy, root, "anna", hears("CDAB"))
    install(personal_toy, root, "anna", hears("BACD"), **GAINED)
    install(personal_toy, root, "ben", hears("DBCA"), speech_s="long", held_back=[1])
    return personal_toy


@pytest.fixture
def recordings(tmp_path: Path, speak: Speak) -> list[Path]:
    paths = [tmp_path / f"{index}.wav" for index in range(5)]
    for path, text in zip(paths, ("AB", "CAD BAD", "D", "ABC", "BB")):
        soundfile.write(path, speak(text), 16000, subtype="FLOAT")
    return paths


def test_list(cli: Cli, anna: Path, root: Path) -> None:
    ran = cli("speakers", "list", anna, "--store", root)
    first, second = (line.split() for line in ran.out.splitlines() if line.startswith((" anna", " ben")))
    assert first[:-2] == ["anna", "2", "2", "612", "s", "12.3%", "->", "6.1%", "0.500", "->", "0.250"]
    assert second[:-2] == ["ben", "1", "1", "-", "-", "-"]
    rows = json.loads(cli("speakers", "list", anna, "--store", root, "--json").out)
    assert [(row["speaker"], row["version"], row["versions"]) for row in rows] == [("anna", 2, [1, 2]), ("ben", 1, [1])]
    assert rows[0]["details"]["held_back"] == GAINED["held_back"]


def test_list_leaves_out_whose_card_is_broken(cli: Cli, anna: Path, root: Path) -> None:
    core = open_bundle(anna).manifest.core_hash
    (root / core / "speakers" / "anna" / "2" / "card.json").write_text("{}")
    ran = cli("speakers", "list", anna, "--store", root, "--json")
    assert (ran.code, [row["speaker"] for row in json.loads(ran.out)]) == (0, ["ben"])
    assert "warning: anna: expected a card" in ran.err


def test_list_of_nobody(cli: Cli, anna: Path, tmp_path: Path) -> None:
    """Of another store, and of the built-in model."""
    for bundle in ((anna,), ()):
        ran = cli("speakers", "list", *bundle, "--store", tmp_path / "empty")
        assert (ran.code, ran.out) == (0, "")
        assert "no speakers in" in ran.err
        assert json.loads(cli("speakers", "list", *bundle, "--store", tmp_path / "empty", "--json").out) == []


def test_show(cli: Cli, anna: Path, root: Path) -> None:
    ran = cli("speakers", "show", anna, "anna", "--store", root)
    assert ran.code == 0
    assert "2 *" in ran.out
    assert '"speech_s": 612.4' in ran.out
    shown = json.loads(cli("speakers", "show", anna, "anna", "--store", root, "--json").out)
    assert (shown["version"], shown["versions"]) == (2, [1, 2])
    assert Path(shown["path"]).is_dir()


def test_what_an_imported_card_says_is_no_command_to_the_terminal(
    cli: Cli, anna: Path, root: Path, install: Install, hears: Hears
) -> None:
    record = install(anna, root, "eve", hears("ABCD"), note="\x1b[2J", **{"\x1b[31m": "\x9b"})
    card = record.path / "card.json"
    card.write_text(card.read_text().replace(record.card.created, "\\u001b[5m"))
    for command in (("list", anna), ("show", anna, "eve")):
        ran = cli("speakers", *command, "--store", root)
        assert (ran.code, "\x1b" in ran.out, "\x9b" in ran.out) == (0, False, False)


def test_rollback(cli: Cli, anna: Path, root: Path, recordings: list[Path]) -> None:
    assert cli("speakers", "rollback", anna, "anna", "--store", root).out == "anna (version 1)\n"
    assert cli("transcribe", anna, recordings[0], "--speaker", "anna", "--store", root).out == "CD\n"
    ran = cli("speakers", "rollback", anna, "anna", "--store", root)
    assert (ran.code, "is the first" in ran.err) == (1, True)
    assert cli("speakers", "rollback", anna, "anna", "--version", "2", "--store", root).code == 0
    assert cli("transcribe", anna, recordings[0], "--speaker", "anna", "--store", root).out == "BA\n"


def test_export_and_import_on_another_machine(
    cli: Cli, anna: Path, root: Path, tmp_path: Path, recordings: list[Path]
) -> None:
    file, other = tmp_path / "anna.speaker", tmp_path / "other"
    assert cli("speakers", "export", anna, "anna", file, "--store", root).code == 0
    assert cli("speakers", "import", anna, file, "--store", other).out == "anna (version 1)\n"
    assert cli("speakers", "import", anna, file, "--name", "anne", "--store", other).out == "anne (version 1)\n"
    assert cli("transcribe", anna, recordings[0], "--speaker", "anne", "--store", other).out == "BA\n"
    ran = cli("speakers", "export", anna, "anna", tmp_path, "--store", root)
    assert (ran.code, "expected a file" in ran.err) == (2, True)
    ran = cli("speakers", "export", anna, "anna", file, "--version", "7", "--store", root)
    assert (ran.code, "expected a version" in ran.err) == (1, True)


def test_an_import_that_does_not_fit(cli: Cli, anna: Path, toy_bundle: Path, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "anna.speaker"
    cli("speakers", "export", anna, "anna", file, "--store", root)
    ran = cli("speakers", "import", toy_bundle, file, "--store", tmp_path / "other")
    assert (ran.code, "expected an export for the core" in ran.err) == (1, True)
    assert "hint:  open the bundle it was made with" in ran.err
    file.write_bytes(b"PK")
    ran = cli("speakers", "import", anna, file, "--store", tmp_path / "other")
    assert (ran.code, "expected an export of a speaker" in ran.err) == (1, True)
    assert not (tmp_path / "other").exists()


def test_forget_asks_first(cli: Cli, anna: Path, root: Path, tmp_path: Path) -> None:
    Store("f" * 64, root).write("speakers", "anna", {})
    ran = cli("speakers", "forget", anna, "anna", "--store", root)
    assert (ran.code, "hint:  --yes" in ran.err) == (2, True)
    ran = cli("speakers", "forget", anna, "anna", "--store", root, "--yes")
    assert ran.code == 0
    assert "anna is erased" in ran.err
    assert "other bundles still know a 'anna': ffffffffffffffff..." in ran.err
    assert [row["speaker"] for row in json.loads(cli("speakers", "list", anna, "--store", root, "--json").out)] == [
        "ben"
    ]
    ran = cli("speakers", "forget", anna, "anna", "--store", root, "--yes")
    assert (ran.code, "received 'anna'" in ran.err) == (1, True)


@pytest.mark.parametrize(("answer", "kept"), [("y\n", 0), ("n\n", 1), ("", 1)])
def test_a_person_may_say_no(
    cli: Cli, anna: Path, root: Path, monkeypatch: pytest.MonkeyPatch, answer: str, kept: int
) -> None:
    monkeypatch.setattr("sys.stdin", TerminalText(answer))
    ran = cli("speakers", "forget", anna, "ben", "--store", root)
    assert ran.code == kept
    assert "cannot be undone" in ran.err
    assert Store(open_bundle(anna).manifest.core_hash, root).names("speakers") == ["anna", "ben"][: 1 + kept]


@pytest.mark.parametrize("command", ["show", "export", "import", "rollback", "forget"])
def test_arguments_that_are_missing(cli: Cli, command: str) -> None:
    ran = cli("speakers", command)
    assert ran.code == 2
    assert f"expected {command} [BUNDLE]" in ran.err


def test_a_folder_named_like_the_speaker_is_no_bundle(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "anna").mkdir()
    monkeypatch.chdir(tmp_path)
    ran = cli("speakers", "show", "anna", "--store", tmp_path / "store")
    assert (ran.code, "0 speakers" in ran.err) == (1, True)


def test_transcribe(cli: Cli, anna: Path, root: Path, recordings: list[Path]) -> None:
    speaker = ("--speaker", "anna", "--store", root)
    ran = cli("transcribe", anna, recordings[0], *speaker)
    assert (ran.code, ran.out) == (0, "BA\n")
    assert "anna (version 2)" in ran.err
    lines = [json.loads(line) for line in cli("transcribe", anna, *recordings, *speaker, "--jsonl").out.splitlines()]
    assert [line["text"] for line in lines] == ["BA", "CBD ABD", "D", "BAC", "AA"]
    assert {(line["speaker"], line["speaker_version"]) for line in lines} == {("anna", 2)}
    whole = json.loads(cli("transcribe", anna, recordings[0], *speaker, "--json").out)
    assert whole["transcripts"][0]["speaker"] == "anna"
    lines = [json.loads(line) for line in cli("transcribe", anna, *recordings, "--jsonl").out.splitlines()]
    assert not any("speaker" in line for line in lines)


@pytest.mark.parametrize("batch", [1, 2, 3, 16, 100])
def test_transcribe_in_batches(cli: Cli, anna: Path, root: Path, recordings: list[Path], batch: int) -> None:
    speaker = ("--speaker", "anna", "--store", root)
    ran = cli("transcribe", anna, *recordings, *speaker, "--batch", batch, "--jsonl")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line["audio"] for line in lines] == [str(path) for path in recordings]
    assert [line["text"] for line in lines] == ["BA", "CBD ABD", "D", "BAC", "AA"]
    recordings[2].write_bytes(b"RIFF")
    ran = cli("transcribe", anna, *recordings, *speaker, "--batch", batch, "--jsonl")
    assert ran.code == 1
    assert [json.loads(line)["text"] for line in ran.out.splitlines()] == ["BA", "CBD ABD", "BAC", "AA"]
    assert ran.err.count("error:") == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--speaker carl", 1, "received 'carl'"),
        ("--speaker an", 1, "did you mean anna?"),
        ("--speaker ../anna", 1, "expected a name of"),
        ("", 2, "expected --speaker with --store"),
        ("--batch 2 --stream --speaker anna", 2, "expected --batch with whole recordings"),
        ("--batch 0 --speaker anna", 2, "batch"),
    ],
)
def test_what_does_not_fit_is_said_first(
    cli: Cli, anna: Path, root: Path, tmp_path: Path, options: str, code: int, message: str
) -> None:
    (tmp_path / "no.wav").write_bytes(b"")
    ran = cli("transcribe", anna, tmp_path / "no.wav", tmp_path / "none.wav", *options.split(), "--store", root)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err
    assert ran.err.count("error:") <= 1


def test_a_bundle_without_theta(cli: Cli, toy_bundle: Path, root: Path, recordings: list[Path]) -> None:
    ran = cli("transcribe", toy_bundle, recordings[0], "--speaker", "anna", "--store", root)
    assert (ran.code, ran.out) == (1, "")
    assert "hint:  edgekit export disconformer --adapt" in ran.err
