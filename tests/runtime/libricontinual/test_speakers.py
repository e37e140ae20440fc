from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.errors import DataError, UsageError
from edgekit.runtime.libricontinual.books import Gender
from edgekit.runtime.libricontinual.divide import Division
from edgekit.runtime.libricontinual.sources import Unit
from edgekit.runtime.libricontinual.speakers import choose, parse_speakers, read_names


def holding(names: str, disjoint: Unit | None = "book") -> dict[str, Division]:
    return {name: Division({}, (), (), disjoint, True) for name in names}


GENDERS: dict[str, Gender] = {**dict.fromkeys("abcdef", "F"), **dict.fromkeys("uvwxyz", "M")}


def test_how_many_or_who() -> None:
    assert parse_speakers("118") == 118
    assert parse_speakers("61, 121") == ("61", "121")
    assert parse_speakers("61,") == ("61",)
    assert parse_speakers("anna") == ("anna",)


@pytest.mark.parametrize("text", ["", ",", "0", "a,a"])
def test_no_speakers(text: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        parse_speakers(text)


def test_names_or_a_file_of_them(tmp_path: Path) -> None:
    assert read_names("14, 16") == {"14", "16"}
    table = tmp_path / "SPEAKERS.TXT"
    table.write_text(";ID | SEX\n14   | F | x\n\n16\n# no\nanna, and more\n")
    assert read_names(str(table)) == {"14", "16", "anna"}
    table.write_text(";nobody\n")
    with pytest.raises(DataError, match="expected a name on each line"):
        read_names(str(table))
    with pytest.raises(DataError, match="expected a file of names"):
        read_names("a" * 5000)


def test_half_are_women() -> None:
    divisions = holding("abcdefuvwxyz")
    for wanted in (1, 2, 5, 12):
        chosen = choose(divisions, GENDERS, wanted, 0, balanced=True)
        women = sum(GENDERS[name] == "F" for name in chosen)
        assert chosen == sorted(set(chosen))
        assert (len(chosen), abs(2 * women - wanted) <= 1) == (wanted, True)
    assert len({tuple(choose(divisions, GENDERS, 4, seed, balanced=True)) for seed in range(9)}) > 3


def test_too_few_of_one_gender_is_told() -> None:
    divisions = holding("abcdefu")
    assert len(choose(divisions, GENDERS, 3, 0, balanced=True)) == 3
    with pytest.raises(DataError, match="half of them women; received 6 F, 1 M") as raised:
        choose(divisions, GENDERS, 4, 0, balanced=True)
    assert raised.value.hint is not None
    assert "--no-gender-balanced" in raised.value.hint
    assert len(choose(divisions, GENDERS, 7, 0, balanced=False)) == 7


def test_those_first_whose_books_are_apart() -> None:
    divisions = {**holding("abc", None), **holding("de", "chapter"), **holding("f")}
    assert choose(divisions, {}, 1, 0, balanced=False) == ["f"]
    assert choose(divisions, {}, 3, 0, balanced=False) == ["d", "e", "f"]
    with pytest.raises(DataError, match="expected 7 speakers who hold enough, received 6"):
        choose(divisions, {}, 7, 0, balanced=False)
