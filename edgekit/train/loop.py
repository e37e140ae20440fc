"""The training loop, on Lightning Fabric: the same file for a CPU, a GPU, or many of them through torchrun.

What happens in a step depends on its number alone: the data (`BatchPlan`), the learning rate and, because torch's
generator is seeded anew for every batch, all random numbers. A run that was killed therefore goes on exactly, from
`RunFolder`'s state, and a run on several processes equals one that accumulates as many batches (in float32, with
losses that are means over a batch).
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from edgekit.core.errors import TrainingError, UnavailableError, UsageError
from edgekit.core.files import explained
from edgekit.train.average import open_average
from edgekit.train.objective import Batch, Objective
from edgekit.train.run import RunFolder
from edgekit.train.schedule import rate_share
from edgekit.train.state import Learner

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_MAX_SKIPPED = 20
"""Steps in a row whose gradient is not finite before a run is given up. An fp16 scaler needs 16 to come down to 1."""

WriteScalars = Callable[[int, str, dict[str, float]], None]
"""Called with a step, what was measured there ("train", "validation") and its numbers."""


@dataclass(frozen=True)
class LoopSettings:
    """How long and how fast a model learns.

    Attributes:
        steps: updates of the weights.
        accumulate: batches per update and process.
        precision: "32-true", "bf16-mixed" or "16-mixed" (Fabric's names; the last on GPUs). Inputs stay float32.
        optimizer: "adamw", or "sgd" with Nesterov's or plain momentum.
        momentum, nesterov: of SGD.
        learning_rate: its peak.
        schedule: its course after the warm-up (`schedule.rate_share`).
        warmup: the share of the steps in which it rises, 0..1.
        betas, eps: AdamW's.
        weight_decay: of either; AdamW's is not part of the gradient.
        clip_norm: the largest norm of a gradient; 0: not clipped.
        ema: decay of the exponential moving average of the weights that is validated and saved, 0.99..0.9999; 0: none.
        average_last: in its place, the mean of the weights at so many last validations; 0: none.
        validate_every, save_every, log_every: steps between them. A killed run goes on from the last save.
        seed: of weights, data and dropout.
        accelerator: "auto", "cpu" or "cuda".
        devices: processes on this machine; torchrun's number where torchrun started us.
        nodes: machines.
    """

    steps: int = 25_000
    accumulate: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9
    nesterov: bool = False
    learning_rate: float = 2e-4
    schedule: Literal["linear", "cosine", "tri-stage", "constant"] = "linear"
    warmup: float = 0.07
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 1e-6
    clip_norm: float = 5.0
    ema: float = 0.0
    average_last: int = 0
    validate_every: int = 500
    save_every: int = 250
    log_every: int = 20
    seed: int = 0
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    nodes: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "validate_every", "save_every", "log_every", "devices", "nodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if not (0 <= self.warmup <= 1 and 0 <= self.ema < 1 and self.clip_norm >= 0):
            raise ValueError("warmup and ema must be in 0..1 and clip_norm not negative")
        if not 0 < self.momentum < 1:
            raise ValueError(f"momentum must be between 0 and 1, got {self.momentum}")
        if self.average_last < 0 or (self.average_last and self.ema):
            raise ValueError(
                f"average_last must not be negative, and takes the place of ema, which must be 0 then; "
                f"got {self.average_last} and {self.ema}"
            )


class Reporter(Protocol):
    """Who is told how a run goes."""

    def begin(self, what: str, done: int, total: int) -> None:
        """A stage of `total` steps begins, `done` of which were done before."""
        ...

    def step(self, done: int, numbers: dict[str, float]) -> None:
        """So many steps are done; `numbers` may be empty."""
        ...

    def say(self, text: str) -> None:
        """A line for a person."""
        ...


class Data(Protocol):
    """Batches to learn from and to validate on."""

    def batches(self, start: int, rank: int, world: int, accumulate: int) -> Iterator[Batch]:
        """Without end, from the first batch of optimiser step `start`."""
        ...

    def validation(self) -> Iterable[Batch]: ...


def open_fabric(settings: LoopSettings) -> Fabric:
    """Fabric on the devices asked for, or on those that torchrun gave us.

    Raises:
        UnavailableError: Lightning Fabric is not installed, or there is no such device.
    """
    try:
        from lightning_fabric import Fabric
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"expected the package {error.name} to train, it is not installed", hint='pip install "edgekit[train]"'
        ) from error
    from lightning_fabric.plugins.precision import MixedPrecision

    class Mixed(MixedPrecision):
        """Fabric's, but for what it makes of the inputs: a waveform or a teacher's answer of 8 bits is another one."""

        def convert_input(self, data: Any) -> Any:
            return data

    devices, nodes = settings.devices, settings.nodes
    if "LOCAL_WORLD_SIZE" in os.environ and "WORLD_SIZE" in os.environ:  # torchrun
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    on_cpu = settings.accelerator == "cpu" or (settings.accelerator == "auto" and not torch.cuda.is_available())
    if not on_cpu and torch.cuda.device_count() < devices:
        raise UnavailableError(
            f"expected {devices} CUDA devices, torch {torch.__version__} sees {torch.cuda.device_count()}",
            hint="train on the CPU: --set loop.accelerator=cpu",
        )
    if settings.precision == "16-mixed" and on_cpu:
        raise UnavailableError(
            "expected a GPU to train with 16-mixed, received the CPU", hint="--set loop.precision=bf16-mixed"
        )
    device = "cpu" if on_cpu else "cuda"
    if devices * nodes > 1:
        from lightning_fabric.strategies.ddp import DDPStrategy

        # in a stage that trains the front end alone the layers above it get no gradient
        strategy: Any = DDPStrategy(find_unused_parameters=True)
    else:
        strategy = "auto"
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        plugins=None if settings.precision == "32-true" else Mixed(settings.precision, device),
        strategy=strategy,
    )
    fabric.launch()
    return fabric


def fit(
    fabric: Fabric,
    objective: Objective,
    data: Data,
    settings: LoopSettings,
    run: RunFolder,
    report: Reporter,
    *,
    what: str = "training",
) -> dict[str, float]:
    """Train, validate and save, from the run's state where there is one.

    Returns:
        The best checkpoint's numbers, and its "step"; the checkpoint is `run.best`.

    Raises:
        TrainingError: the loss became NaN or infinite and stayed so.
        UsageError: the run has gone further than `settings.steps`, and there is no checkpoint.
        KeyboardInterrupt: after SIGINT or SIGTERM to any of the processes, once the state is saved.
    """
    plain_optimizer = _optimizer(objective, settings)
    module, optimizer = fabric.setup(objective, plain_optimizer)
    average = open_average(objective, ema=settings.ema, last=settings.average_last)
    learner = Learner(objective, plain_optimizer, average, fabric)
    start, best = learner.restore(run.load_state())
    if best and not run.best.exists():
        report.say(f"the checkpoint of step {best['step']:g} is gone from {run.path}; the next one takes its place")
        best = {}
    if start >= settings.steps and not best:
        raise UsageError(
            f"expected more than the {start} steps that {run.path} has done, received {settings.steps}",
            hint=f"--set loop.steps={start + settings.validate_every}",
        )
    run.forget_metrics_after(start)
    meter = _Meter()
    skipped = 0
    scaled = bool(fabric.strategy.precision.state_dict())  # fp16: the scaler skips such steps itself, then scales less
    report.begin(what, start, settings.steps)
    batches = data.batches(start, fabric.global_rank, fabric.world_size, settings.accumulate)
    with _tensorboard(run, start) as write_scalars, _asked_to_stop() as stop:
        for step in range(start, settings.steps):
            rate = settings.learning_rate * rate_share(settings.schedule, step, settings.steps, settings.warmup)
            for group in plain_optimizer.param_groups:
                group["lr"] = rate * group["share"]
            module.train()
            for index in range(settings.accumulate):
                waited = time.perf_counter()
                try:
                    batch = next(batches).to(fabric.device)
                except (RuntimeError, OSError, EOFError):
                    if not stop():
                        raise
                    # whoever stopped us has ended the processes that read, too: this step does not happen
                    run.save_state(learner.state(step, best))
                    raise KeyboardInterrupt from None
                meter.add_wait(time.perf_counter() - waited, batch)
                torch.manual_seed(_seed_of(settings.seed, batch.index))
                with torch.no_grad():
                    inputs = objective.inputs(batch, step)
                last = index == settings.accumulate - 1
                with nullcontext() if last or fabric.world_size == 1 else fabric.no_backward_sync(module):
                    values = module(**inputs)
                    fabric.backward(values["loss"] / settings.accumulate)
                meter.add_values(values)
            norm = fabric.clip_gradients(
                module, optimizer, max_norm=settings.clip_norm or math.inf, error_if_nonfinite=False
            )
            assert norm is not None, "a largest norm was given"
            sound = bool(torch.isfinite(norm))
            if sound or scaled:
                optimizer.step()
                average.after_step()
            skipped = 0 if sound else skipped + 1
            if skipped > _MAX_SKIPPED:
                raise TrainingError(
                    f"expected finite gradients, those of {skipped} steps up to {step + 1} were not",
                    hint=f"begin again with a lower rate: --set loop.learning_rate={settings.learning_rate / 3:.1g}",
                )
            optimizer.zero_grad(set_to_none=True)
            done = step + 1
            numbers: dict[str, float] = {}
            if done % settings.log_every == 0 or done == settings.steps:
                numbers = {**meter.take(), "learning_rate": rate, "gradient_norm": float(norm)}
                _log(run, write_scalars, done, "train", numbers)
            if done % settings.validate_every == 0 or done == settings.steps:
                average.before_validation()
                with meter.paused(), average.in_place(), torch.no_grad():
                    objective.eval()
                    scores = objective.validate(batch.to(fabric.device) for batch in data.validation())
                    lowest = best.get(objective.monitor, math.nan)
                    better = math.isnan(lowest) or scores[objective.monitor] < lowest
                    best = {**scores, "step": done} if better else best
                    run.save_checkpoint(done, objective.save, best=better)
                _log(run, write_scalars, done, "validation", scores)
                report.say(f"step {done}: " + ", ".join(f"{k} {v:.4g}" for k, v in scores.items()))
            stopping = _any(fabric, stop())
            if done % settings.save_every == 0 or done == settings.steps or stopping:
                with meter.paused():
                    run.save_state(learner.state(done, best))
            report.step(done, numbers)
            if stopping and done < settings.steps:
                raise KeyboardInterrupt
    fabric.barrier()
    return best


def _optimizer(objective: Objective, settings: LoopSettings) -> torch.optim.Optimizer:
    """Over all that learns; parameters whose rates have the same share are one group, which remembers its "share"."""
    shares: dict[float, list[Tensor]] = {}
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            shares.setdefault(objective.rate_share(name), []).append(parameter)
    groups = [{"params": parameters, "share": share} for share, parameters in shares.items()]
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=rate, momentum=settings.momentum, nesterov=settings.nesterov, weight_decay=decay
        )
    return torch.optim.AdamW(groups, lr=rate, betas=settings.betas, eps=settings.eps, weight_decay=decay)


def _seed_of(seed: int, index: int) -> int:
    """A seed per batch; neighbouring ones give unrelated numbers (a 64-bit mixing as in SplitMix64)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + index + 1) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ (mixed >> 31)) >> 1


class _Meter:
    """Means of what a step answers, and how fast data are learned from, since the last `take`."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget all."""
        self._since = time.perf_counter()
        self._values: dict[str, list[Tensor]] = {}
        self._waited_s, self._amount, self._unit = 0.0, 0.0, ""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside takes no time: validating and saving are not training."""
        begun = time.perf_counter()
        yield
        self._since += time.perf_counter() - begun

    def add_wait(self, waited_s: float, batch: Batch) -> None:
        self._waited_s += waited_s
        self._amount += batch.amount
        self._unit = batch.unit

    def add_values(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self._values.setdefault(name, []).append(value.detach())

    def take(self) -> dict[str, float]:
        means = {name: float(torch.stack(values).float().mean()) for name, values in self._values.items()}
        elapsed_s = time.perf_counter() - self._since
        speed = {f"{self._unit}_per_s": self._amount / elapsed_s, "waiting_share": self._waited_s / elapsed_s}
        self.restart()
        return {**means, **speed}


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Inside, SIGINT and SIGTERM wait for the step to end; a second one kills.

    Where they are sent to a whole group of processes, those that read die of them, and torch would raise here wherever
    we are: so the first also silences SIGCHLD.
    """
    asked: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, before[number])
        before.setdefault(int(signal.SIGCHLD), signal.signal(signal.SIGCHLD, lambda *_: None))

    try:
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            try:
                before[number] = signal.signal(number, note)
            except ValueError:  # not the main thread: whoever owns the signals stops us
                break
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _any(fabric: Fabric, here: bool) -> bool:
    """Whether it is so in any process: they stop at the same step, or one would wait for another for ever."""
    if fabric.world_size == 1:
        return here
    number: Any = fabric.all_reduce(torch.tensor(float(here), device=fabric.device), reduce_op="sum")
    return bool(number > 0)


def _log(run: RunFolder, write_scalars: WriteScalars, step: int, kind: str, numbers: dict[str, float]) -> None:
    run.append_metrics({"step": step, "kind": kind, **numbers})
    write_scalars(step, kind, numbers)


@contextmanager
def _tensorboard(run: RunFolder, start: int) -> Iterator[WriteScalars]:
    """Writes for TensorBoard, which forgets what steps after `start` wrote before; nothing where it is absent."""
    writer: Any = None
    if run.writes:
        with suppress(ImportError), explained(run.path):
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(str(run.path / "tensorboard"), purge_step=start + 1 if start else None)

    def write(step: int, kind: str, numbers: dict[str, float]) -> None:
        if writer is not None:
            with explained(run.path):
                for name, value in numbers.items():
                    writer.add_scalar(f"{kind}/{name}", value, step)

    try:
        yield write
    finally:
        if writer is not None:
            with explained(run.path):
                writer.close()
