"""What sherpa-onnx hears: its answers to recordings, and whether they follow from a file's log-probabilities.

It runs in a process of its own (`python -m edgekit.export.sherpa`): it ends its process where a file does not please
it, and brings an ONNX Runtime of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.errors import UnavailableError, VerificationError
from edgekit.export.sherpa.symbols import FRAME_S, Symbols, labels_of
from edgekit.runtime.decode.ctc import WORD_PREFIX, Token, words

Kind = Literal["offline", "online"]

NOT_INSTALLED = 3
"""The status with which the process ends where sherpa-onnx cannot be imported."""
_TIE = 0.01
"""Log-probabilities this near to the best may come out on top: sherpa-onnx's filter bank is rounded otherwise."""


def transcribe(
    kind: Kind, model: Path, tokens: Path, clips: Sequence[Path], *, padding: int = 0
) -> tuple[str, list[dict[str, Any]]]:
    """sherpa-onnx's version and, for each clip, its `text`, `tokens` and `timestamps`.

    Args:
        kind: the recogniser that reads the files; an online one has all clips at once.
        padding: samples of silence after each clip.

    Raises:
        UnavailableError: it is not installed.
        VerificationError: it refuses the files or fails.
    """
    paths = (str(path.resolve()) for path in (model, tokens, *clips))
    command = [sys.executable, "-m", __package__, kind, str(padding), *paths]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    if done.returncode == NOT_INSTALLED:
        raise UnavailableError(f"missing the package sherpa-onnx ({said})", hint="pip install sherpa-onnx")
    if done.returncode != 0:
        raise VerificationError(f"sherpa-onnx ended with: {said}")
    version, answers = json.loads(done.stdout.splitlines()[-1])
    return version, answers


def hold(
    bundle: Bundle, symbols: Symbols, log_probs: np.ndarray, clip: str, answer: dict[str, Any], *, kind: Kind
) -> None:
    """Raise `VerificationError` where sherpa-onnx's answer does not follow from log-probabilities `[T, V]`.

    Args:
        clip: the name of what was heard.
    """
    ids = {text.replace(WORD_PREFIX, " ", 1): index for index, text in enumerate(symbols.texts) if index}
    if not set(answer["tokens"]) <= ids.keys():
        raise VerificationError(f"{clip}: expected symbols of tokens.txt, sherpa-onnx gave {answer['tokens']}")
    heard = [ids[text] for text in answer["tokens"]]
    frames = [round(time / FRAME_S) for time in answer["timestamps"]]
    frame = strays(log_probs, heard, frames)
    if frame is not None:
        raise VerificationError(
            f"{clip}: expected a best path of the log-probabilities, sherpa-onnx's leaves it at "
            f"{frame * FRAME_S:.2f} s: {answer['text']!r}"
        )
    said = [Token(symbols.spelled[index - 1], frame, frame + 1, 0.0) for index, frame in zip(heard, frames)]
    spelled = words(said, labels_of(bundle), delimiter=bundle.manifest.output["delimiter"], frame_s=FRAME_S)
    text = " ".join(word.text for word in spelled)
    written = {text}
    if kind == "online" and not text[:1].isalnum():  # of a mark at the beginning it keeps the symbol alone
        written.add(" ".join(text[1:].split()))
    if " ".join(answer["text"].split()) not in written:
        raise VerificationError(f"{clip}: expected {text!r}, sherpa-onnx wrote {answer['text']!r}")


def strays(log_probs: np.ndarray, symbols: Sequence[int], frames: Sequence[int]) -> int | None:
    """The first frame from which no path of best symbols, ties included, gives `symbols`, each begun at its frame.

    Args:
        log_probs: `[T, V]`, the blank first.
    """
    best = log_probs >= log_probs.max(1, keepdims=True) - _TIE
    begins = dict(zip(frames, symbols, strict=True))
    before = {0}  # the symbols that the frame before may have had
    for frame, near in enumerate(best):
        begun = begins.pop(frame, None)
        after = before | {0} if begun is None else {begun} if begun and before - {begun} else set()
        before = {symbol for symbol in after if near[symbol]}
        if not before:
            return frame
    return len(log_probs) if begins else None
