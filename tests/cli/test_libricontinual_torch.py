"""`edgekit benchmark libricontinual` with arms that tune a checkpoint in torch."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from edgekit.cli import libricontinual
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import UsageError
from edgekit.runtime.builtin import builtin_bundle
from edgekit.runtime.libricontinual import benchmark
from edgekit.runtime.libricontinual.arms import AsItIs
from edgekit.runtime.libricontinual.tasks import Job, measure
from edgekit.train.libricontinual.arms import Full, Lora, Matched

pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
pytest.importorskip("jiwer", reason="counts the errors: pip install jiwer")
pytest.importorskip("matplotlib", reason="draws: pip install matplotlib")

Cli = Callable[..., Any]


@pytest.fixture
def data(cli: Cli, tmp_path: Path) -> Path:
    """One speaker, who hums."""
    folder = tmp_path / "speech" / "7" / "1"
    folder.mkdir(parents=True)
    rng, names = np.random.default_rng(0), [f"7-1-{index:04}" for index in range(4)]
    for name in names:
        hum = 0.1 * np.sin(np.arange(16_000) * rng.uniform(0.02, 0.2)) + rng.normal(0, 0.01, 16_000)
        soundfile.write(folder / f"{name}.wav", hum, 16_000)
    (folder / "7-1.trans.txt").write_text("".join(f"{name} NO\n" for name in names))
    sizes = ("--splits", "1s", "--validation", "1s", "--test", "2s")
    ran = cli("data", "libricontinual", tmp_path / "speech", "--speakers", 1, *sizes, "--out", tmp_path / "data")
    assert ran.code == 0, ran.err
    return tmp_path / "data"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tasks travel, but no further than into this process."""

    def run(jobs: Sequence[Job], *, num_workers: int, num_threads: int) -> Iterator[tuple[Job, Any]]:
        for job in jobs:
            yield job, measure(pickle.loads(pickle.dumps(job)), num_threads)

    monkeypatch.setattr(benchmark, "run_in_processes", run)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


RATES = (1e-4, 1e-3)


def test_arms_as_they_are_spelled(tmp_path: Path) -> None:
    arms = [
        libricontinual._arm(spelled, tmp_path, False, RATES)
        for spelled in ("full", "lora", "matched", "full=runs/t/best", "lora=me/model", "matched=a=b", "fuller=other")
    ]
    assert arms == [
        Full("full", tmp_path, rates=RATES),
        Lora("lora", tmp_path, rates=RATES),
        Matched("matched", tmp_path, rates=RATES),
        Full("full", tmp_path, "runs/t/best", rates=RATES),
        Lora("lora", tmp_path, "me/model", rates=RATES),
        Matched("matched", tmp_path, "a=b", rates=RATES),
        AsItIs("fuller", Path("other")),
    ]


def test_rates_as_they_are_spelled() -> None:
    assert libricontinual._rates("1e-4, 0.5") == (1e-4, 0.5)
    for spelled in ("", "fast", "0", "1,-1", "nan", "2"):
        with pytest.raises(UsageError, match="expected learning rates"):
            libricontinual._rates(spelled)


@pytest.mark.usefixtures("here")
def test_of_the_built_in_weights(cli: Cli, data: Path, tmp_path: Path) -> None:
    options = ("--arms", "none,full,matched", "--threads", 1, "--out", tmp_path / "out", "--json")
    ran = cli("benchmark", "libricontinual", builtin_bundle(), data, *options)
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert found["num_done"] == found["num_tasks"] == 4, "what begins with the same is measured once"
    arms = found["arms"]
    assert {name: arm["tuned_parameters"] for name, arm in arms.items()} == {
        "none": 0,
        "full": 1_616_480,
        "matched": 336_592,
    }
    assert arms["full"]["start_speakers"] == arms["matched"]["start_speakers"] == arms["none"]["start_speakers"]
    assert found["starts"]["full"] == found["starts"]["matched"] != found["starts"]["none"]
    assert found["settings"]["matched"]["units"] == 1744
    assert found["settings"]["full"]["tuned"] == "full"
    for name in ("full", "matched"):
        result = json.loads((tmp_path / "out" / "tasks" / name / "7" / "1s-seed0.json").read_text())
        first, last = result["details"]["validation_loss"]
        assert last < first
        assert result["cost"]["seconds"] > 0


def test_what_is_wrong_is_said_before_the_work(cli: Cli, data: Path, tmp_path: Path) -> None:
    manifest = open_bundle(builtin_bundle()).manifest.to_json()
    random = {**manifest, "provenance": {"weights": {"source": "random", "seed": 0}}}
    (tmp_path / "random").mkdir()
    (tmp_path / "random" / "manifest.json").write_text(json.dumps(random))
    for bundle, arms, told in (
        (builtin_bundle(), f"none,full={tmp_path / 'nowhere'}", "expected a checkpoint's folder"),
        (builtin_bundle(), f"none,full={tmp_path / 'random'}", "expected config.json"),
        (tmp_path / "random", "lora", "--arms lora=CHECKPOINT"),
    ):
        ran = cli("benchmark", "libricontinual", bundle, data, "--arms", arms, "--out", tmp_path / "out")
        assert ran.code in (1, 2)
        assert told in ran.err
        assert "Traceback" not in ran.err
        assert not (tmp_path / "out" / "tasks").exists()
