"""Label sets of CTC heads."""

from __future__ import annotations

LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")
"""The 32 labels of the public English wav2vec 2.0 and HuBERT models, in their order; `<pad>` is CTC's blank."""


def ctc_output(tokens: tuple[str, ...], frame_s: float) -> dict[str, object]:
    """The manifest's `output` for a CTC head over `tokens`.

    Args:
        tokens: labels in the order of the head's classes; `<pad>` is the blank, else the first label.
        frame_s: seconds of sound per output frame.
    """
    blank = tokens.index("<pad>") if "<pad>" in tokens else 0
    delimiter = "|" if "|" in tokens else "\u2581"
    return {"kind": "ctc", "blank": blank, "delimiter": delimiter, "frame_s": frame_s}
