"""Label sets of CTC heads."""

from __future__ import annotations

LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")
"""The 32 labels of the public English wav2vec 2.0 and HuBERT models, in their order; `<pad>` is CTC's blank."""


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
