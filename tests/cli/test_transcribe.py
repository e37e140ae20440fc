"""`edgekit transcribe` with a beam, hotwords and a language model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import soundfile

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

Speak = Callable[..., np.ndarray]


class Ran(Protocol):
    """What a command left behind."""

    code: object
    out: str
    err: str


Cli = Callable[..., Ran]

ARPA = "\\data\\\nngram 1=5\n\\1-grams:\n-3 <unk>\n-99 <s>\n-1 </s>\n-0.7 ac\n-0.7 d\n\\end\\\n"


@pytest.fixture
def unclear(speak: Speak, tmp_path: Path) -> Path:
    """D, then what is AC or BC, one frame a letter; BC is nearer by 1.8 (natural logarithm of the odds)."""
    wave = 0.49 * speak("D AC", frames_each=1) + 0.51 * speak("D BC", frames_each=1)
    soundfile.write(tmp_path / "unclear.wav", wave, 16000, subtype="FLOAT")
    return tmp_path / "unclear.wav"


@pytest.fixture
def hotwords(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text("# a name\nac\ncad :3\n")
    return tmp_path / "words.txt"


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    (tmp_path / "lm.arpa").write_text(ARPA)
    return tmp_path / "lm.arpa"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "D BC"),
        ("--beam 1", "D BC"),
        ("--beam 8", "D BC"),
        ("--hotwords HOTWORDS", "D AC"),
        ("--hotwords HOTWORDS --hotwords-weight 0.5", "D BC"),
        ("--hotwords HOTWORDS --beam 4 --hotwords-weight 2", "D AC"),
        ("--lm LM", "D AC"),
        ("--lm LM --lm-weight 0", "D AC"),
        ("--lm LM --hotwords HOTWORDS --lm-weight 0.8", "D AC"),
    ],
)
def test_what_is_unclear_is_decided(
    cli: Cli, toy_bundle: Path, unclear: Path, hotwords: Path, arpa: Path, options: str, expected: str
) -> None:
    given = [{"HOTWORDS": str(hotwords), "LM": str(arpa)}.get(word, word) for word in options.split()]
    ran = cli("transcribe", toy_bundle, unclear, *given)
    assert (ran.code, ran.out) == (0, f"{expected}\n")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--hotwords-weight 2", 2, "expected a hotwords file with a weight for it"),
        ("--lm-weight 2 --beam 4", 2, "expected a language model file with a weight for it"),
        ("--hotwords HOTWORDS --hotwords-weight -1", 2, "expected a weight of hotwords above 0, received -1"),
        ("--word-bonus 2", 2, "expected a language model file with a word bonus for it"),
        ("--lm LM --word-bonus inf", 2, "expected a finite bonus for words, received inf"),
        ("--lm LM --lm-weight nan", 2, "expected a weight of the language model of at least 0, received nan"),
        ("--hotwords none.txt", 1, "expected hotwords, no such file: none.txt"),
        ("--lm HOTWORDS", 1, "expected a language model in ARPA format"),
        ("--hotwords LM", 1, "the bundle's labels can spell, received '\\\\data\\\\'"),
    ],
)
def test_what_does_not_fit_is_said_first(
    cli: Cli, toy_bundle: Path, tmp_path: Path, hotwords: Path, arpa: Path, options: str, code: int, message: str
) -> None:
    given = [{"HOTWORDS": str(hotwords), "LM": str(arpa)}.get(word, word) for word in options.split()]
    ran = cli("transcribe", toy_bundle, tmp_path / "no-recording.wav", *given)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("error: ")
    assert message in ran.err


def test_a_beam_of_none_cannot_be_parsed(cli: Cli, toy_bundle: Path, unclear: Path) -> None:
    ran = cli("transcribe", toy_bundle, unclear, "--beam", "0")
    assert ran.code == 2
    assert "Error: " in ran.err
