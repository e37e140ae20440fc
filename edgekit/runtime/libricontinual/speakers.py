"""Which speakers take part: so many by a seed, half of them women, or those that are named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgekit.core.errors import DataError, UsageError
from edgekit.runtime.libricontinual.books import GENDERS, Gender
from edgekit.runtime.libricontinual.divide import Division, digest

Wanted = int | tuple[str, ...]
"""How many speakers, or their names."""


def parse_speakers(text: str) -> Wanted:
    """Read "118", or names as "61,121"; a comma makes one number a name: "61,".

    Raises:
        UsageError: no speaker at all, or a name twice.
    """
    if "," not in text and text.strip().isdecimal():
        count = int(text.strip()[:9])
        if count < 1:
            raise UsageError(f"expected one speaker or more, received {text}")
        return count
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"expected a number of speakers, or their names by commas, each once; received {text[:80]!r}")
    return tuple(names)


def read_names(text: str) -> frozenset[str]:
    """Names by commas, or the path of a file with one on each line: its first word, or what stands before a `|`.

    `SPEAKERS.TXT` of LibriSpeech is such a file; lines after `;` or `#` are none.

    Raises:
        DataError: the file cannot be read, or names nobody.
    """
    path = Path(text)
    try:
        if not path.is_file():
            return frozenset(name.strip() for name in text.split(",") if name.strip())
        lines = path.read_bytes().decode(errors="replace").split("\n")
    except (OSError, ValueError) as error:
        raise DataError(f"expected a file of names, or names by commas; received {text[:80]!r}: {error}") from error
    names = (line.partition("|")[0].split() for line in lines if not line.startswith((";", "#")))
    found = frozenset(name[0].rstrip(",") for name in names if name)
    if not found:
        raise DataError(f"expected a name on each line, received none in {path}")
    return found


def choose(
    divisions: Mapping[str, Division], genders: Mapping[str, Gender], wanted: int, seed: int, *, balanced: bool
) -> list[str]:
    """So many of the speakers that hold enough, those first whose lists share the least.

    Args:
        balanced: as many women as men, one more of either where the number is odd.

    Returns:
        Names, ascending.

    Raises:
        DataError: fewer than `wanted`, or too few of one gender.
    """
    ordered = sorted(divisions, key=lambda name: (divisions[name].rank, digest(seed, "speaker", name)))
    if len(ordered) < wanted:
        raise DataError(f"expected {wanted} speakers who hold enough, received {len(ordered)}")
    if not balanced:
        return sorted(ordered[:wanted])
    by_gender = {gender: [name for name in ordered if genders.get(name) == gender] for gender in GENDERS}
    chosen = [name for names in by_gender.values() for name in names[: wanted // 2]]
    if wanted % 2:
        chosen += [name for name in ordered if name in genders and name not in chosen][:1]
    if len(chosen) < wanted:
        held = ", ".join(f"{len(names)} {gender}" for gender, names in by_gender.items())
        raise DataError(
            f"expected {wanted} speakers who hold enough, half of them women; received {held}",
            hint="ask for fewer speakers, or pass --no-gender-balanced",
        )
    return sorted(chosen)
