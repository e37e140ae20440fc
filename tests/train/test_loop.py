from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgekit.core.errors import CheckpointError, TrainingError, UnavailableError, UsageError
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


class Deaf:
    def begin(self, what: str, done: int, total: int) -> None: ...

    def say(self, text: str) -> None: ...

    def step(self, done: int, numbers: dict[str, float]) -> None: ...


class KilledAt(Deaf):
    def __init__(self, step: int) -> None:
        self.step_to_die = step

    def step(self, done: int, numbers: dict[str, float]) -> None:
        if done == self.step_to_die:
            raise Killed


class StoppedAt(KilledAt):
    """Is asked to end: after the step's state was saved, or was not."""

    def step(self, done: int, numbers: dict[str, float]) -> None:
        if done == self.step_to_die:
            os.kill(os.getpid(), signal.SIGTERM)


def run_all(path: Path, report: Any, settings: LoopSettings = SETTINGS, **objective: Any) -> dict[str, float]:
    fabric = open_fabric(settings)
    return fit(fabric, Regression(**objective), Numbers(), settings, RunFolder(path), report)


def weights(path: Path) -> dict[str, Tensor]:
    return load_file(path / "state.safetensors")


def steps_done(path: Path) -> int:
    state = RunFolder(path).load_state()
    assert state is not None
    return int(state.facts["step"])


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("average", [{"ema": 0.9}, {"ema": 0.0, "average_last": 2}], ids=str)
@pytest.mark.parametrize("step", [1, 2, 4, 5, 11])
def test_a_killed_run_goes_on_exactly(step: int, average: dict[str, Any], tmp_path: Path, silent: Any) -> None:
    settings = replace(SETTINGS, **average)
    whole = run_all(tmp_path / "whole", silent, settings)
    with pytest.raises(Killed):
        run_all(tmp_path / "killed", KilledAt(step), settings)
    resumed = run_all(tmp_path / "killed", silent, settings)
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


class Kept(Regression):
    """Remembers the weights at each validation: its own, and those that are saved."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: list[Tensor] = []

    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        self.saved.append(self.layer[0].weight.detach().clone())
        return super().validate(batches)


def test_the_mean_of_the_last_validations_is_what_is_saved(tmp_path: Path, silent: Any) -> None:
    plain, mean = Kept(), Kept()
    for objective, last in ((plain, 0), (mean, 2)):
        settings = replace(SETTINGS, ema=0.0, average_last=last)
        fit(open_fabric(settings), objective, Numbers(), settings, RunFolder(tmp_path / str(last)), silent)
    # neither validating nor averaging has a part in what is learned
    torch.testing.assert_close(plain.layer[0].weight, mean.layer[0].weight, rtol=0, atol=0)
    first, second, third = plain.saved
    for found, expected in zip(mean.saved, (first, (first + second) / 2, (second + third) / 2)):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(load_file(tmp_path / "2/last/model.safetensors")["layer.0.weight"], mean.saved[-1])


def test_only_the_best_and_the_last_checkpoint_stay(tmp_path: Path, silent: Any) -> None:
    run_all(tmp_path, silent)
    kept = {folder.name for folder in (tmp_path / "checkpoints").iterdir()}
    assert kept == {(tmp_path / name).resolve().name for name in ("best", "last")}


def test_gradients_that_stay_infinite_end_the_run(tmp_path: Path, silent: Any) -> None:
    settings = LoopSettings(steps=60, learning_rate=1e-3, accelerator="cpu")
    with pytest.raises(TrainingError, match="finite gradients") as caught:
        run_all(tmp_path, silent, settings, explode_at=5)
    assert "loop.learning_rate" in str(caught.value.hint)


def test_fp16_is_given_up_too(tmp_path: Path, silent: Any) -> None:
    """A scaler skips such steps itself, and would for ever."""
    settings = LoopSettings(steps=60, learning_rate=1e-3, accelerator="cpu")
    fabric = open_fabric(settings)
    fabric.strategy.precision.state_dict = lambda: {"scale": 1.0}  # type: ignore[method-assign]
    fp16 = replace(settings, precision="16-mixed")
    with pytest.raises(TrainingError, match="finite gradients"):
        fit(fabric, Regression(explode_at=5), Numbers(), fp16, RunFolder(tmp_path), silent)


class Watched(Regression):
    """Notes in what precision it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, Any] = {}

    def inputs(self, batch: Batch, step: int) -> dict[str, Any]:
        self.seen["inputs"] = torch.is_autocast_enabled("cpu")
        return super().inputs(batch, step)

    def forward(self, **inputs: Any) -> dict[str, Tensor]:
        self.seen |= {"forward": torch.is_autocast_enabled("cpu"), "x": inputs["x"].dtype}
        self.seen["layer"] = self.layer(inputs["x"]).dtype
        return super().forward(**inputs)


def test_mixed_precision_is_the_modules_alone(tmp_path: Path, silent: Any) -> None:
    """A teacher answers in float32, and neither its answers nor a waveform are rounded before the module has them."""
    settings = replace(SETTINGS, precision="bf16-mixed")
    objective = Watched()
    fit(open_fabric(settings), objective, Numbers(), settings, RunFolder(tmp_path), silent)
    assert objective.seen == {"inputs": False, "forward": True, "x": torch.float32, "layer": torch.bfloat16}
    assert {tensor.dtype for tensor in weights(tmp_path).values()} == {torch.float32}


def test_what_this_machine_cannot_do_is_told() -> None:
    with pytest.raises(UnavailableError, match="expected a GPU to train with 16-mixed") as caught:
        open_fabric(LoopSettings(precision="16-mixed", accelerator="cpu"))
    assert caught.value.hint == "--set loop.precision=bf16-mixed"
    with pytest.raises(UnavailableError, match="expected 99 CUDA devices"):
        open_fabric(LoopSettings(accelerator="cuda", devices=99))


@pytest.mark.parametrize("step", [5, 6])
def test_a_run_that_is_stopped_loses_nothing(step: int, tmp_path: Path, silent: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        run_all(tmp_path / "stopped", StoppedAt(step))
    assert signal.getsignal(signal.SIGTERM) == before
    assert steps_done(tmp_path / "stopped") == step + 1
    run_all(tmp_path / "stopped", silent)
    run_all(tmp_path / "whole", silent)
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))


class ReadersDieToo(Numbers):
    """A signal to a group of processes also ends those that read."""

    def batches(self, start: int, rank: int, world: int, accumulate: int) -> Iterator[Batch]:
        for index, batch in enumerate(super().batches(start, rank, world, accumulate)):
            if index == 11:  # the second of step 6
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGCHLD)
                raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
            yield batch


def test_a_run_that_is_stopped_with_its_readers_loses_nothing(tmp_path: Path, silent: Any) -> None:
    def raises(number: int, frame: Any) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated")

    before = signal.signal(signal.SIGCHLD, raises)
    settings = replace(SETTINGS, accumulate=2)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(open_fabric(settings), Regression(), ReadersDieToo(), settings, RunFolder(tmp_path / "stopped"), silent)
    finally:
        assert signal.signal(signal.SIGCHLD, before) is raises
    assert steps_done(tmp_path / "stopped") == 5
    run_all(tmp_path / "stopped", silent, settings)
    run_all(tmp_path / "whole", silent, settings)
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))


def test_a_log_is_the_mean_since_the_last(tmp_path: Path, silent: Any) -> None:
    """Whatever was saved and validated in between."""
    losses = []
    for every in (1, 12):
        settings = replace(SETTINGS, log_every=12, save_every=every, validate_every=every)
        run_all(tmp_path / str(every), silent, settings)
        lines = map(json.loads, (tmp_path / str(every) / "metrics.jsonl").read_text().splitlines())
        losses += [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses[0] == losses[1]


def test_tensorboard_has_every_step_once(tmp_path: Path, silent: Any) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with pytest.raises(Killed):
        run_all(tmp_path, KilledAt(5))
    run_all(tmp_path, silent)
    read = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in read.Scalars("train/loss")] == [2, 4, 6, 8, 10, 12]


class NoNumberFirst(Regression):
    """Its first validation overflows."""

    num_validations = 0

    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        self.num_validations += 1
        return {"loss": math.nan} if self.num_validations == 1 else super().validate(batches)


def test_any_number_is_better_than_none(tmp_path: Path, silent: Any) -> None:
    best = fit(open_fabric(SETTINGS), NoNumberFirst(), Numbers(), SETTINGS, RunFolder(tmp_path), silent)
    assert best["step"] > 4
    assert math.isfinite(best["loss"])


def test_a_best_checkpoint_that_is_gone_is_replaced(tmp_path: Path, silent: Any) -> None:
    with pytest.raises(Killed):
        run_all(tmp_path, KilledAt(7))
    shutil.rmtree(tmp_path / "checkpoints")
    run_all(tmp_path, silent)
    assert (tmp_path / "best/model.safetensors").is_file()
    assert any("checkpoint of step 4 is gone" in text for text in silent.said)
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(UsageError, match="expected more than the 12 steps"):
        run_all(tmp_path, silent)


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
    for state in ("state.safetensors", "iteration-1/state.safetensors"):
        (tmp_path / "run" / state).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / state).write_bytes(b"")
        with pytest.raises(UsageError, match="holds a run already"):
            run.begin(SETTINGS, resume=False)
        (tmp_path / "run" / state).unlink()


def test_a_setting_that_came_after_a_run_began_has_its_default(tmp_path: Path) -> None:
    """A run of an older edgekit goes on."""

    @dataclass(frozen=True)
    class Settings:
        loop: LoopSettings = SETTINGS
        pair: tuple[int, int] = (1, 2)

    run, kept = RunFolder(tmp_path), tmp_path / "settings.json"
    run.begin(Settings(), resume=False)
    older = json.loads(kept.read_text())
    del older["loop"]["average_last"], older["pair"]
    kept.write_text(json.dumps(older))
    for changed, told in (
        ({"loop": replace(SETTINGS, ema=0.0, average_last=2)}, "loop.average_last, loop.ema differ"),
        ({"pair": (1, 3)}, "pair differ"),
    ):
        with pytest.raises(UsageError, match=told):
            run.begin(replace(Settings(), **changed), resume=True)
    run.begin(Settings(), resume=True)
    assert json.loads(kept.read_text())["loop"]["average_last"] == 0


def test_a_run_that_begins_uses_nothing_of_one_that_got_nowhere(tmp_path: Path) -> None:
    """What was prepared before the first save was prepared from other settings."""
    run = RunFolder(tmp_path)
    prepared = [
        tmp_path / name
        for name in ("data-train.jsonl", "bpe.model", "codes.safetensors", "iteration-1/clusters.safetensors")
    ]
    run.begin(SETTINGS, resume=False)
    for file in prepared:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"")
    run.begin(SETTINGS, resume=True)
    assert all(file.exists() for file in prepared)
    run.begin(replace(SETTINGS, learning_rate=1.0), resume=False)
    assert not any(file.exists() for file in prepared)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'"steps"'])
def test_settings_broken_by_hand_are_told(content: bytes, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.begin(SETTINGS, resume=False)
    (tmp_path / "settings.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot read .*settings\.json"):
        run.begin(SETTINGS, resume=True)


def test_broken_lines_of_metrics_are_dropped(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(
        b'{"step": 1}\n\xff}\n{}\n[]\n{"step": "x"}\n{"step": 2}\n{"step": 3}\n{"st'
    )
    run.forget_metrics_after(2)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


# run by torchrun on two processes: python -m torch.distributed.run this_file RUN_FOLDER [stop]
if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = replace(SETTINGS, ema=0.0)
    fabric = open_fabric(chosen)
    folder = RunFolder(Path(sys.argv[1]), writes=fabric.is_global_zero)
    told = StoppedAt(4) if "stop" in sys.argv and fabric.global_rank == 1 else Deaf()
    try:
        fit(fabric, Regression(), Numbers(), chosen, folder, told)
    except KeyboardInterrupt:
        print("stopped")


def two_processes(*arguments: str) -> str:
    """What this file prints, run by torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_processes_stop_together(tmp_path: Path) -> None:
    """A signal reaches one before the other, or one alone."""
    # two processes write to one pipe: their lines may be mixed
    assert two_processes(str(tmp_path), "stop").count("stopped") == 2
    assert steps_done(tmp_path) == 5


def test_two_processes_equal_one_that_accumulates(tmp_path: Path, silent: Any) -> None:
    two_processes(str(tmp_path / "two"))
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


class HalfAsFast(Regression):
    def rate_share(self, name: str) -> float:
        return 0.5 if name.startswith("layer.2") else 1.0


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_each_parameter_has_its_share_of_the_rate(optimizer: Any, tmp_path: Path, silent: Any) -> None:
    """One step of SGD without momentum's past is rate x share x gradient; AdamW's first is rate x share x sign."""
    settings = replace(
        SETTINGS,
        optimizer=optimizer,
        steps=1,
        schedule="constant",
        warmup=0.0,
        weight_decay=0.0,
        clip_norm=0.0,
        ema=0.0,
    )
    moved = []
    for kind in (Regression, HalfAsFast):
        objective = kind()
        before = {name: value.detach().clone() for name, value in objective.named_parameters()}
        fit(open_fabric(settings), objective, Numbers(), settings, RunFolder(tmp_path / kind.__name__), silent)
        moved.append({name: value.detach() - before[name] for name, value in objective.named_parameters()})
    for name, whole in moved[0].items():
        share = 0.5 if name.startswith("layer.2") else 1.0
        torch.testing.assert_close(moved[1][name], share * whole, atol=1e-6, rtol=1e-3)
        assert float(whole.abs().max()) > 0
        if optimizer == "adamw":
            assert float(whole.abs().max()) <= settings.learning_rate * 1.001


def test_a_killed_run_by_sgd_goes_on_exactly(tmp_path: Path, silent: Any) -> None:
    settings = replace(SETTINGS, optimizer="sgd", nesterov=True, learning_rate=1e-3)
    whole = run_all(tmp_path / "whole", silent, settings)
    with pytest.raises(Killed):
        run_all(tmp_path / "killed", KilledAt(5), settings)
    assert run_all(tmp_path / "killed", silent, settings) == whole
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    with pytest.raises(ValueError, match="momentum"):
        replace(settings, momentum=1.0)
