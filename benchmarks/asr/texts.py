"""Texts as they are compared, by two rules, the same for references and answers.

`python -m asr.texts` takes a JSON list of texts and writes them back by rule; it runs where the peers are installed,
since the second rule is Whisper's.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal

from shared.worker import environment

try:
    from num2words import num2words
except ImportError:  # only the environment of the peers need have it
    num2words = None

RULES = {
    "spelled": "num2words spells numbers (four digits from 1100 to 2099 as a year); Mr, Mrs and Dr in full; then "
    "edgekit.runtime.word_errors.normalise: upper-case letters and apostrophes",
    "whisper": "whisper.normalizers.EnglishTextNormalizer: numbers as digits, American spelling, contractions in full, "
    "no fillers",
}
"""The second is left out where openai-whisper is not installed."""

_NUMBER = re.compile(r"([$£€]?)(\d+(?:,\d{3})*(?:\.\d+)?)(st\b|nd\b|rd\b|th\b|s\b|%)?", re.IGNORECASE)
_CURRENCIES = {"$": "dollar", "£": "pound", "€": "euro"}
_TITLES = {"mr": "mister", "mrs": "missus", "dr": "doctor"}
_TITLE = re.compile(rf"\b({'|'.join(_TITLES)})\b\.?", re.IGNORECASE)
_LONGEST = 15
"""Digits of a number; more are read one by one."""


def by_rule(python: str, texts: Sequence[str]) -> dict[str, list[str]]:
    """The texts by each rule that `python`'s environment has.

    Raises:
        SystemExit: it has no num2words, as is then said on standard error.
    """
    ended = subprocess.run(
        [python, "-m", "asr.texts"],
        input=json.dumps(list(texts)),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env=environment(1),
    )
    if ended.returncode:
        raise SystemExit(ended.returncode)
    found: dict[str, list[str]] = json.loads(ended.stdout)
    return found


def spelled(text: str) -> str:
    """`Mr. Lee paid $5 in 1895, on the 21st` to `mister Lee paid five dollars in eighteen ninety-five, ...`."""
    return _NUMBER.sub(_spell, _TITLE.sub(lambda found: _TITLES[found[1].lower()], text))


def _spell(found: re.Match[str]) -> str:
    currency, digits, suffix = found[1], found[2], (found[3] or "").lower()
    number = Decimal(digits.replace(",", ""))
    is_year = digits.isdigit() and len(digits) == 4 and 1100 <= number < 2100 and not currency
    if len(digits) > _LONGEST:
        words = " ".join(num2words(int(digit)) for digit in digits if digit.isdigit())
    elif suffix in ("st", "nd", "rd", "th") and number == int(number):
        words = num2words(int(number), to="ordinal")
    else:
        words = num2words(int(number) if number == int(number) else number, to="year" if is_year else "cardinal")
    if suffix == "s":
        words = re.sub(r"y$", "ie", words) + "s"
    elif suffix == "%":
        words += " percent"
    if currency:
        words += f" {_CURRENCIES[currency]}{'' if number == 1 else 's'}"
    return f" {words} "


def main() -> None:
    texts = json.load(sys.stdin)
    if num2words is None:
        raise SystemExit(f"expected num2words to spell numbers: {sys.executable} -m pip install num2words")
    found = {"spelled": [spelled(text) for text in texts]}
    try:
        from whisper.normalizers import EnglishTextNormalizer
    except ImportError:
        pass
    else:
        found["whisper"] = list(map(EnglishTextNormalizer(), texts))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
