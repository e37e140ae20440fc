from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.errors import DataError
from edgekit.runtime.corpus import Utterance
from edgekit.runtime.libricontinual.books import read_tables, recording_of


def said(name: str, speaker: str | None = None, text: str | None = "words") -> Utterance:
    return Utterance(name, Path("x.wav"), 1.2345, text, speaker)


@pytest.fixture
def librispeech(tmp_path: Path) -> Path:
    (tmp_path / "train-clean-5").mkdir()
    (tmp_path / "SPEAKERS.TXT").write_text(
        ";ID  |SEX| SUBSET | MINUTES | NAME\n19   | F | train | 25 | A\n7 | M | x | 1 | B | C\n8 | ? | x | 1 | D\n"
    )
    (tmp_path / "CHAPTERS.TXT").write_text(
        ";ID    |READER|\n198 | 19 | 8.42 | train-clean-100 | 219 | 121 | One | A | B\n199 | 19\nbroken\n"
    )
    return tmp_path


def test_a_subset_finds_the_tables_above_it(librispeech: Path) -> None:
    for path in (librispeech, librispeech / "train-clean-5"):
        tables = read_tables(path)
        assert tables.books == {"198": "219"}, "LibriVox's project, not Gutenberg's book"
        assert tables.genders == {"LJ": "F", "19": "F", "7": "M"}


def test_multilingual_librispeech(tmp_path: Path) -> None:
    rows = " SPEAKER   |   GENDER   | PARTITION  |  MINUTES   |  BOOK ID   | TITLE | CHAPTER \n"
    (tmp_path / "metainfo.txt").write_text(
        rows + "  4800     |     M      |   train    |   20.876   |   10021  | V | 1\n"
    )
    assert read_tables(tmp_path / "train").genders["4800"] == "M"


def test_names_tell(librispeech: Path) -> None:
    tables = read_tables(librispeech)
    for utterance, speaker, book, chapter in (
        (said("19-198-0001"), "19", "219", "198"),
        (said("19-7-0001", "19"), "19", None, "7"),
        (said("4800_10021_000001"), "4800", "10021", None),
        (said("LJ012-0034"), "LJ", None, "LJ012"),
        (said("hello", "anna"), "anna", None, None),
    ):
        found = recording_of(utterance, tables)
        assert found is not None
        assert (found.id, found.speaker, found.book, found.chapter) == (utterance.id, speaker, book, chapter)
        assert found.ms == 1234
    assert recording_of(said("hello"), tables) is None
    assert recording_of(said("19-198-0001", text=None), tables) is None


@pytest.mark.parametrize("name", ["SPEAKERS.TXT", "CHAPTERS.TXT", "metainfo.txt"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"a | b | c | d | e\n", b"; 1 | F | 2 | 3 | 4\n"])
def test_a_broken_table_is_told(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"expected rows of the form .*, received none in .*{name}") as raised:
        read_tables(tmp_path)
    assert raised.value.hint


def test_no_table_is_none(tmp_path: Path) -> None:
    assert read_tables(tmp_path / "x.jsonl").books == {}
