from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgekit.core.errors import CheckpointError, TrainingError, UsageError
from edgekit.train.data.loading import Batch
from edgekit.train.loop import LoopSettings, fit, open_fabric
from edgekit.train.objective import Objective
from edgekit.train.run import RunFolder

pytest.importorskip("lightning_fabric", reason="training needs edgekit[train]")


class Regression(Objective):
    """Learns a fixed linear map, through dropout; every random number comes from torch's generator."""

    def __init__(self, explode_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.layer = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.2), nn.Linear(16, 1))
        self.explode_at = explode_at

    def inputs(self, batch: Batch, step: int) -> dict[str, Any]:
        noisy_BN = batch.wave_BN + 0.01 * torch.randn_like(batch.wave_BN)
        explode = self.explode_at is not None and step >= self.explode_at
        return {"x": noisy_BN * (float("inf") if explode else 1.0), "y": batch.wave_BN.sum(1, keepdim=True)}

    def forward(self, **inputs: Any) -> dict[str, Tensor]:
        return {"loss": (self.layer(inputs["x"]) - inputs["y"]).square().mean()}

    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        torch.rand(3)  # a validation may draw random numbers without changing the run
        losses = [float((self.layer(b.wave_BN) - b.wave_BN.sum(1, keepdim=True)).square().mean()) for b in batches]
        return {"loss": sum(losses) / len(losses)}

    def save(self, folder: Path) -> None:
        folder.mkdir()
        save_file(self.state_dict(), folder / "model.safetensors")


class Numbers:
    """Batches that depend on their index alone."""

    def batch(self, index: int) -> Batch:
        wave_BN = torch.randn(4, 8, generator=torch.Generator().manual_seed(index))
        return Batch(wave_BN, torch.full((4,), 8), (None,) * 4, ("",) * 4, epoch=0, index=index)

    def batches(self, start: int, rank: int, world: int, accumulate: int) -> Iterator[Batch]:
        step = start
        while True:
            for a in range(accumulate):
                yield self.batch((step * accumulate + a) * world + rank)
            step += 1

    def validation(self) -> Iterable[Batch]:
        return [self.batch(10**6)]


SETTINGS = LoopSettings(
    steps=12, learning_rate=1e-2, validate_every=4, save_every=3, log_every=2, ema=0.9, accelerator="cpu"
)


class Killed(Exception):
    """Stands for the moment at which the process dies: nothing is saved after it."""


class KilledAt:
    def __init__(self, step: int) -> None:
        self.step_to_die = step

    def begin(self, what: str, done: int, total: int) -> None: ...

    def say(self, text: str) -> None: ...

    def step(self, done: int, numbers: dict[str, float]) -> None:
        if done == self.step_to_die:
            raise Killed


def run_all(path: Path, report: Any, settings: LoopSettings = SETTINGS, **objective: Any) -> dict[str, float]:
    fabric = open_fabric(settings)
    return fit(fabric, Regression(**objective), Numbers(), settings, RunFolder(path), report)


def weights(path: Path) -> dict[str, Tensor]:
    return {
        name: tensor
        for name, tensor in load_file(path / "state.safetensors").items()
        if not name.startswith("optimizer") or "step" not in name
    }


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("step", [1, 4, 5, 11])
def test_a_killed_run_goes_on_exactly(step: int, tmp_path: Path, silent: Any) -> None:
    whole = run_all(tmp_path / "whole", silent)
    with pytest.raises(Killed):
        run_all(tmp_path / "killed", KilledAt(step))
    resumed = run_all(tmp_path / "killed", silent)
    assert resumed == whole
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert_equal(
        load_file(tmp_path / "whole/best/model.safetensors"), load_file(tmp_path / "killed/best/model.safetensors")
    )
    texts = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "killed")]
    lines = [[(line["step"], line["kind"], line["loss"]) for line in map(json.loads, text)] for text in texts]
    # what is logged between two saves is a mean over fewer steps after a resumption
    assert [line[:2] for line in lines[0]] == [line[:2] for line in lines[1]]
    assert [line for line in lines[0] if line[1] == "validation"] == [
        line for line in lines[1] if line[1] == "validation"
    ]


def test_it_learns_and_the_average_is_what_is_saved(tmp_path: Path, silent: Any) -> None:
    settings = LoopSettings(steps=300, learning_rate=1e-2, validate_every=100, ema=0.9, accelerator="cpu")
    scores = run_all(tmp_path, silent, settings)
    first = Regression().validate(Numbers().validation())["loss"]
    assert scores["loss"] < first / 20
    state, saved = load_file(tmp_path / "state.safetensors"), load_file(tmp_path / "last/model.safetensors")
    torch.testing.assert_close(saved["layer.0.weight"], state["average/layer.0.weight"], rtol=0, atol=0)
    assert not torch.equal(saved["layer.0.weight"], state["model/layer.0.weight"])


def test_only_the_best_and_the_last_checkpoint_stay(tmp_path: Path, silent: Any) -> None:
    run_all(tmp_path, silent)
    kept = {folder.name for folder in (tmp_path / "checkpoints").iterdir()}
    assert kept == {(tmp_path / name).resolve().name for name in ("best", "last")}


def test_gradients_that_stay_infinite_end_the_run(tmp_path: Path, silent: Any) -> None:
    settings = LoopSettings(steps=60, learning_rate=1e-3, accelerator="cpu")
    with pytest.raises(TrainingError, match="finite gradients") as caught:
        run_all(tmp_path, silent, settings, explode_at=5)
    assert "loop.learning_rate" in str(caught.value.hint)


def test_a_broken_state_is_told(tmp_path: Path, silent: Any) -> None:
    run_all(tmp_path, silent)
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot read"):
        run_all(tmp_path, silent)


def test_begin_holds_a_run_to_its_settings(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(UsageError, match="there is none"):
        run.begin(SETTINGS, resume=True)
    run.begin(SETTINGS, resume=False)
    run.begin(LoopSettings(**{**SETTINGS.__dict__, "steps": 99}), resume=True)
    with pytest.raises(UsageError, match="learning_rate differ"):
        run.begin(LoopSettings(**{**SETTINGS.__dict__, "learning_rate": 1.0}), resume=True)
    (tmp_path / "run/state.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="holds a run already"):
        run.begin(SETTINGS, resume=False)


# run by torchrun on two processes: python -m torch.distributed.run this_file RUN_FOLDER
if __name__ == "__main__":
    from edgekit.cli.train import _Nobody

    torch.set_num_threads(1)
    chosen = LoopSettings(**{**SETTINGS.__dict__, "ema": 0.0})
    fabric = open_fabric(chosen)
    folder = RunFolder(Path(sys.argv[1]), writes=fabric.is_global_zero)
    fit(fabric, Regression(), Numbers(), chosen, folder, _Nobody())


def test_two_processes_equal_one_that_accumulates(tmp_path: Path, silent: Any) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, __file__, str(tmp_path / "two")], env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-3000:]
    run_all(tmp_path / "one", silent, LoopSettings(**{**SETTINGS.__dict__, "ema": 0.0, "accumulate": 2}))
    two, one = (load_file(tmp_path / name / "state.safetensors") for name in ("two", "one"))
    for name in (name for name in one if name.startswith("model/")):
        torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=1e-6)


def test_a_run_killed_by_the_system_goes_on_exactly(tone_corpus: Path, tmp_path: Path) -> None:
    """The whole command, killed with SIGKILL at a random moment after its first save, against one that was not."""
    small = ["model.num_hidden_layers=1", "model.hidden_size=32", "model.num_attention_heads=2", "loop.steps=30"]
    fast = [
        "model.intermediate_size=32",
        "loop.save_every=2",
        "loop.validate_every=10",
        "data.batch_s=8",
        "data.workers=1",
    ]
    command = [
        sys.executable,
        "-m",
        "edgekit",
        "train",
        "hubert-student",
        "--recipe",
        "ctc",
        "--data",
        str(tone_corpus),
    ]
    for setting in (*small, *fast):
        command += ["--set", setting]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def train(*more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*command, *more], env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    assert train("--out", str(tmp_path / "whole")).wait(timeout=180) == 0
    process = train("--out", str(tmp_path / "killed"))
    state = tmp_path / "killed/state.safetensors"
    deadline = time.monotonic() + 120
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.5))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert train("--out", str(tmp_path / "killed"), "--resume").wait(timeout=180) == 0
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
