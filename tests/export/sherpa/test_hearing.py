"""Whether what sherpa-onnx heard follows from log-probabilities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.errors import VerificationError
from edgekit.export.sherpa.hearing import Kind, hold, strays
from edgekit.export.sherpa.symbols import symbols_of

pytest.importorskip("onnx", reason="writes graphs with the package onnx")
device_side = pytest.mark.device_side


@device_side
def test_a_path_of_best_symbols_is_recognised() -> None:
    log_probs = np.full((6, 3), -9.0)
    log_probs[range(6), [1, 1, 0, 1, 2, 0]] = 0
    assert strays(log_probs, [1, 1, 2], [0, 3, 4]) is None
    assert strays(log_probs, [1, 2], [0, 4]) == 3
    assert strays(log_probs, [1, 1, 2], [1, 3, 4]) == 0
    assert strays(log_probs, [1, 1, 1, 2], [0, 1, 3, 4]) == 1
    assert strays(log_probs, [1, 1, 2, 2], [0, 3, 4, 6]) == 6
    log_probs[3, 0] = -1e-4  # a tie: either is right
    assert strays(log_probs, [1, 1, 2], [0, 3, 4]) is None
    assert strays(log_probs, [1, 2], [0, 4]) is None


@device_side
@pytest.mark.parametrize(
    ("kind", "said", "written"),
    [
        ("offline", "'A", "'A"),
        ("online", "'A", "'A"),
        ("online", "'A", "A"),  # sherpa-onnx 2.0.1
        ("online", "|'A", "A"),
        ("online", "A'", "A'"),
        ("online", "", ""),
        ("offline", "'A", None),
        ("online", "A'", None),
        ("online", "''A", None),
    ],
)
def test_a_stream_may_lose_a_mark_at_its_beginning(
    babbling: Callable[..., Bundle], kind: Kind, said: str, written: str | None
) -> None:
    labels = ("<pad>", "|", "'", "A")
    bundle = babbling(labels)
    log_probs = np.full((2 * len(said) + 1, len(labels)), -9.0)
    log_probs[0::2, 0] = 0
    log_probs[range(1, len(log_probs), 2), [labels.index(label) for label in said]] = 0
    answer = {
        "text": said.replace("'", "").replace("|", " ") if written is None else written,
        "tokens": [" " if label == "|" else label for label in said],
        "timestamps": [0.04 * frame for frame in range(1, len(log_probs), 2)],
    }
    symbols = symbols_of(bundle, bundle.graph())
    if written is None:
        with pytest.raises(VerificationError, match="sherpa-onnx wrote 'A'"):
            hold(bundle, symbols, log_probs, "clip", answer, kind=kind)
    else:
        hold(bundle, symbols, log_probs, "clip", answer, kind=kind)
