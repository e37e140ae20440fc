"""`edgekit train`: what it shows, what it refuses. That it learns: tests/train."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("lightning_fabric", reason="training needs edgekit[train]")

Cli = Callable[..., Any]
TINY = (
    "model.num_hidden_layers=1",
    "model.hidden_size=16",
    "model.num_attention_heads=2",
    "model.intermediate_size=16",
    "loop.steps=4",
    "loop.validate_every=2",
    "loop.save_every=2",
    "loop.accelerator=cpu",
    "data.workers=0",
    "data.batch_s=4",
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six seconds of noise of three speakers, with texts, and a file that is no recording."""
    rng = np.random.default_rng(0)
    lines = []
    for index in range(6):
        soundfile.write(tmp_path / f"{index}.wav", rng.normal(0, 0.1, 16000), 16000)
        lines.append({"audio": f"{index}.wav", "text": "A B", "speaker": f"s{index % 3}"})
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    lines.append({"audio": "broken.wav", "text": "A", "speaker": "s0"})
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def settings(*more: str) -> list[str]:
    return [word for setting in (*TINY, *more) for word in ("--set", setting)]


def test_show_lists_recipes_and_settings(cli: Cli) -> None:
    ran = cli("train", "hubert-student", "--show")
    assert ran.code == 0
    assert "--recipe distil" in ran.out
    assert "--recipe ctc" in ran.out
    assert "losses.discriminative=2" in ran.out
    assert "loop.steps=25000" in ran.out
    assert "model.conv_bias=false" in ran.out
    shown = [line.strip() for line in ran.out.splitlines() if line.startswith("  ")]
    again = cli("train", "hubert-student", "--show", *(word for line in shown for word in ("--set", line)))
    assert again.code == 0
    assert again.out == ran.out


def test_trains_reports_and_goes_on(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ("train", "hubert-student", "--recipe", "ctc", "--data", corpus, "--out", out)
    ran = cli(*command, *settings(), "--json")
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    assert report["best"]["step"] in (2, 4)
    assert "broken.wav" in ran.err
    assert {"settings.json", "metrics.jsonl", "state.safetensors", "best", "last"} <= {p.name for p in out.iterdir()}
    again = cli(*command, *settings())
    assert (again.code, "--resume" in again.err) == (2, True)
    longer = cli(*command, *settings("loop.steps=6"), "--resume")
    assert longer.code == 0, longer.err
    assert "going on from step 4 of 6" in longer.err
    assert f"edgekit export hubert-student {out / 'best'}" in longer.out
    other = cli(*command, *settings("loop.learning_rate=1"), "--resume")
    assert (other.code, "loop.learning_rate" in other.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["hubert-studnet"], 2, "did you mean hubert-student"),
        (["hubert-student"], 2, "expected data"),
        (["hubert-student", "--recipe", "distill"], 2, "did you mean distil"),
        (["hubert-student", "--variant", "wide"], 2, "expected a variant"),
        (["hubert-student", "--data", "nowhere", "--recipe", "ctc"], 1, "does not exist"),
        (["hubert-student", "--data", "x", "--set", "loop.step=3"], 2, "did you mean steps"),
        (["hubert-student", "--data", "x", "--set", "loop.learning_rate=-1"], 2, "must be positive"),
        (["hubert-student", "--data", "x", "--config", "none.toml"], 2, "expected a TOML file"),
        (["hubert-student", "--data", "x", "--set", "loop.accelerator=tpu"], 2, "loop.accelerator"),
        (["hubert-student", "--data", "x", "--resume"], 2, "go on with"),
    ],
)
def test_wrong_use_is_told(cli: Cli, arguments: list[str], code: int, told: str, tmp_path: Path) -> None:
    ran = cli("train", *arguments, "--out", tmp_path / "run")
    assert ran.code == code
    assert told in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("package", ["torch", "jiwer"])
def test_a_missing_package_is_told(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from edgekit.cli import main; main()"
    command = [sys.executable, "-c", code, "train", "hubert", "--data", "x"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    told = f'error: expected the package {package} to train, it is not installed\nhint:  pip install "edgekit[train]"\n'
    assert ran.stderr == told


def test_a_checkpoint_of_another_size_is_told(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    first = cli("train", "hubert-student", "--recipe", "ctc", "--data", corpus, "--out", tmp_path / "a", *settings())
    assert first.code == 0
    wider = settings("model.hidden_size=32", f"init={tmp_path / 'a/best'}")
    ran = cli("train", "hubert-student", "--recipe", "ctc", "--data", corpus, "--out", tmp_path / "b", *wider)
    assert ran.code == 1
    assert "received another hidden_size" in ran.err
    assert "hint:  --set model.hidden_size=16\n" in ran.err
    same_shapes = settings(
        "model.num_attention_heads=4", "model.conv_pos_batch_norm=true", f"init={tmp_path / 'a/best'}"
    )
    ran = cli("train", "hubert-student", "--recipe", "ctc", "--data", corpus, "--out", tmp_path / "b", *same_shapes)
    assert ran.code == 1
    assert "hint:  --set model.num_attention_heads=2 --set model.conv_pos_batch_norm=false\n" in ran.err
    no_hubert = settings(f"teacher={tmp_path / 'a/best'}")
    ran = cli("train", "hubert-student", "--data", corpus, "--out", tmp_path / "c", *no_hubert)
    assert ran.code == 1
    assert "model_type 'hubert'" in ran.err
