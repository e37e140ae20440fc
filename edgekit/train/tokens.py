"""Label sets of CTC heads, and texts as their indices; those of word pieces are made in `word_pieces.py`."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")
"""The 32 labels of the public English wav2vec 2.0 and HuBERT models, in their order; `<pad>` is CTC's blank."""

Encode = Callable[[str], tuple[list[int], int]]
"""A text to the indices of labels, without blanks, and the number of its characters that no label spells."""

APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\uff07", "'"))
"""Those of print, for `str.translate`."""


def ctc_output(
    tokens: tuple[str, ...], frame_s: float, *, blank: int | None = None, delimiter: str | None = None
) -> dict[str, object]:
    """The manifest's `output` for a CTC head over `tokens`.

    Args:
        tokens: labels in the order of the head's classes.
        frame_s: seconds of sound per output frame.
        blank: CTC's blank; None: `<pad>`, or the first label where there is none.
        delimiter: the label between words; None: the first of "|", a space and the prefix of word pieces that there is.
    """
    if blank is None:
        blank = tokens.index("<pad>") if "<pad>" in tokens else 0
    if delimiter is None:
        delimiter = next((label for label in ("|", " ") if label in tokens), "\u2581")
    return {"kind": "ctc", "blank": blank, "delimiter": delimiter, "frame_s": frame_s}


def encode(text: str, tokens: Sequence[str]) -> tuple[list[int], int]:
    """Text to the indices of a letter set.

    Letters are made upper case where the set has no lower-case ones, and the reverse; typographic apostrophes become
    "'"; white space between words becomes the set's delimiter; what the set lacks is dropped.

    Args:
        text: as a person wrote it.
        tokens: the labels; those of several characters are not used, except the delimiter.

    Returns:
        The indices, without blanks, and the number of characters that were dropped.
    """
    output = ctc_output(tuple(tokens), 0.0)
    letters = {token: index for index, token in enumerate(tokens) if len(token) == 1 and index != output["blank"]}
    delimiter = letters.get(str(output["delimiter"]))
    if not any(letter.islower() for letter in letters):
        text = text.upper()
    elif not any(letter.isupper() for letter in letters):
        text = text.lower()
    if "'" in letters:
        text = text.translate(APOSTROPHES)
    ids: list[int] = []
    num_unknown = 0
    for word in unicodedata.normalize("NFC", text).split():
        # a delimiter as a character of the text would be read as white space
        spelled = [letters[letter] for letter in word if letter in letters and letters[letter] != delimiter]
        num_unknown += len(word) - len(spelled)
        if ids and spelled and delimiter is not None:
            ids.append(delimiter)
        ids += spelled
    return ids, num_unknown
