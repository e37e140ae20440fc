"""`tools/builtin_speech.py`: what is said, how it is recorded, and that nothing of what is tested on is said."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the tool resamples with scipy")

SCRIPT = Path(__file__).parents[2] / "tools" / "builtin_speech.py"
NOVEL = """CHAPTER I. In which we begin at the very beginning

It is a truth, which nobody -- not even Mr. Bennet -- denies; in 1797 it was so too, they say.
"You must know," said she, "that it was _very_ late that evening!"

Yes. No.
"""


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("builtin_speech", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sentences(tool: ModuleType) -> None:
    assert [letters for _, letters in tool.sentences(NOVEL)] == [
        "IT IS A TRUTH WHICH NOBODY NOT EVEN MISTER BENNET DENIES",
        "YOU MUST KNOW SAID SHE THAT IT WAS VERY LATE THAT EVENING",
    ]


def test_what_is_tested_on_is_not_said(tool: ModuleType) -> None:
    known = set(tool.in_a_row("WE SAW THAT IT WAS VERY LATE INDEED"))
    assert tool.shares_words("THAT IT WAS VERY LATE INDEED", known)
    assert not tool.shares_words("THAT IT WAS VERY LATE THAT EVENING", known)


def test_recorded(tool: ModuleType) -> None:
    wave = np.sin(np.arange(16_000) * 0.1).astype(np.float32)
    made = [tool.recorded(wave, np.random.default_rng(number)) for number in (1, 1, 2)]
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    for each in made:
        assert (each.shape, each.dtype) == ((16_000,), np.float32)
        assert 0.05 < np.abs(each).max() <= 1
        assert np.corrcoef(each, wave)[0, 1] > 0.8


def test_trimmed(tool: ModuleType) -> None:
    wave = np.concatenate([np.zeros(8000), np.ones(1600), np.zeros(8000)])
    assert len(tool.trimmed(wave, 0.05, 0.1)) == pytest.approx(1600 + 800 + 1600, abs=1)


@pytest.mark.skipif(
    not (shutil.which("flite") and shutil.which("pico2wave")), reason="speaks with the programs flite and pico2wave"
)
def test_it_speaks(tmp_path: Path) -> None:
    novel = tmp_path / "novel.txt"
    novel.write_text(NOVEL)
    command = [sys.executable, str(SCRIPT), str(novel), "--digits", "12", "--out", str(tmp_path)]
    subprocess.run(command, check=True)
    speech, digits = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("speech", "digits")
    )
    assert {line["text"] for line in speech} == {
        "IT IS A TRUTH WHICH NOBODY NOT EVEN MISTER BENNET DENIES",
        "YOU MUST KNOW SAID SHE THAT IT WAS VERY LATE THAT EVENING",
    }
    assert [line["text"] for line in digits][8:] == ["EIGHT", "NINE", "ZERO", "ONE"]
    assert all(1 < line["duration"] < 16 for line in speech)
    assert all(0.1 < line["duration"] < 1.5 for line in digits)
