"""`edgekit train`: a family learns, with a progress bar, into a run's folder that can be gone on with."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.options import Json
from edgekit.cli.output import log, print_json


def train(
    family: Annotated[str, typer.Argument(help="A family of `edgekit list`.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Recordings: LibriSpeech, LJSpeech, Common Voice, JSON lines, a folder. "
            "Pictures: a folder per class, CUB-200-2011, Stanford Cars, FGVC-Aircraft, JSON lines."
        ),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="How it learns (see --show); default: the family's first.")] = None,
    variant: Annotated[str | None, typer.Option(help="A variant of `edgekit list`.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; default ./runs/FAMILY-RECIPE.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings as TOML.")] = None,
    set: Annotated[list[str] | None, typer.Option(help="FIELD=VALUE, as loop.steps=1000; see --show.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print recipes and settings, and do nothing.")] = False,
    json: Json = False,
) -> None:
    """Train a model; `best` in the run's folder is what `edgekit export` takes."""
    from edgekit.core.errors import UnavailableError

    try:
        from edgekit.train.recipe import recipes, resolve
        from edgekit.train.recipe import train as run_recipe

        known = recipes(family)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package == "edgekit":
            raise  # a fault of ours
        raise UnavailableError(
            f"expected the package {package} to train, it is not installed", hint='pip install "edgekit[train]"'
        ) from error
    name = recipe or next(iter(known))
    if show:
        _show(family, known, resolve(family, recipe, variant, data=data or "DIR", file=config, assignments=set or ()))
        return
    chosen, settings = resolve(family, recipe, variant, data=data, file=config, assignments=set or ())
    out = out or Path("runs") / f"{family}-{name}"
    again = f"to go on, give the same command with --resume (run: {out})"
    try:
        with _progress() as report:
            scores = run_recipe(chosen, settings, out, report, resume=resume)
    except KeyboardInterrupt:
        if _first_process():
            log(f"stopped; {again}")
        raise SystemExit(130) from None
    if not _first_process():
        return
    if json:
        print_json({"path": str(out), "best": scores})
        return
    told = ", ".join(f"{key} {value:.4g}" for key, value in scores.items() if key != "step")
    typer.echo(f"{out / 'best'} (step {int(scores['step'])}): {told}")
    typer.echo(f"next: edgekit export {family} {out / 'best'}")


def _first_process() -> bool:
    """Whether this is the process that tells a person: torchrun and Fabric's own launcher number all of them."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def _show(family: str, known: Any, resolved: tuple[Any, Any]) -> None:
    from edgekit.core.settings import settings_to_dict

    for name, recipe in known.items():
        typer.echo(f"--recipe {name}: {recipe.summary}")
    typer.echo(f"\nsettings of {family} {resolved[1].variant} (--set FIELD=VALUE, or a TOML file with --config):")

    def lines(values: dict[str, Any], where: str) -> Iterator[str]:
        for name, value in values.items():
            if isinstance(value, dict):
                yield from lines(value, f"{where}{name}.")
            else:
                yield f"  {where}{name}={_as_typed(value)}"

    for line in lines(settings_to_dict(resolved[1]), ""):
        typer.echo(line)


def _as_typed(value: Any) -> str:
    """A setting's value as `--set` takes it."""
    if isinstance(value, list):
        return ",".join(map(_as_typed, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


class _Bar:
    """Tells a person how a run goes: a bar on a terminal, a line every half minute elsewhere."""

    _EVERY_S = 30.0

    def __init__(self, bar: Any) -> None:
        self.bar = bar
        self.task: Any = None
        self._what, self._total, self._begun, self._first, self._told = "", 0, 0.0, 0, 0.0

    def begin(self, what: str, done: int, total: int) -> None:
        self._what, self._total, self._begun, self._first = what, total, time.monotonic(), done
        self._told = self._begun
        if self.bar is not None:
            if self.task is not None:
                self.bar.remove_task(self.task)
            self.task = self.bar.add_task(what, total=total, completed=done, numbers="")
        elif done:
            log(f"{what}: going on from step {done} of {total}")

    def step(self, done: int, numbers: dict[str, float]) -> None:
        text = f"loss {numbers['loss']:.4g}, {_speed(numbers)}" if numbers else ""
        if self.bar is not None:
            self.bar.update(self.task, completed=done, **({"numbers": text} if text else {}))
        elif text and time.monotonic() - self._told > self._EVERY_S:
            self._told = time.monotonic()
            left_s = (self._told - self._begun) / (done - self._first) * (self._total - done)
            log(f"{self._what}: step {done} of {self._total}, {text}, {left_s / 60:.1f} min left")

    def say(self, text: str) -> None:
        if self.bar is not None:
            self.bar.console.print(text, highlight=False, markup=False)
        else:
            log(text)


def _speed(numbers: dict[str, float]) -> str:
    """How fast it learns; each kind of data counts its own unit."""
    units = {"audio_s_per_s": "s of sound", "pictures_per_s": "pictures"}
    return ", ".join(f"{numbers[name]:.0f} {unit} per s" for name, unit in units.items() if name in numbers)


class _Nobody:
    """The other processes of a run tell nobody."""

    def begin(self, what: str, done: int, total: int) -> None: ...

    def step(self, done: int, numbers: dict[str, float]) -> None: ...

    def say(self, text: str) -> None: ...


@contextmanager
def _progress() -> Iterator[Any]:
    if not _first_process():
        yield _Nobody()
        return
    if not sys.stderr.isatty():
        yield _Bar(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[numbers]}"), console=Console(stderr=True)) as bar:
        yield _Bar(bar)
