"""A way in which a family learns (pretrain, distil, ctc), and the call that runs one: `edgekit train FAMILY`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from edgekit.core.errors import EdgekitError, TrainingError, UsageError, unknown
from edgekit.core.settings import apply_settings, merge_settings
from edgekit.train.family import find_family
from edgekit.train.loop import Reporter, open_fabric
from edgekit.train.run import RunFolder

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Recipe:
    """A way to learn.

    Attributes:
        summary: one line.
        settings: a variant's name and config -> the frozen dataclass of all that can be set, with its defaults; it has
            fields `variant`, `model` (the config), `data` (`DataSettings`) and `loop` (`LoopSettings`).
        run: trains into a run's folder; its `best` is a checkpoint.
    """

    summary: str
    settings: Callable[[str, Any], Any]
    run: Callable[[Any, Workplace], dict[str, float]]


@dataclass(frozen=True)
class Workplace:
    """Where a recipe runs: devices, folder, and who is told."""

    fabric: Fabric
    run: RunFolder
    report: Reporter

    def part(self, name: str) -> Workplace:
        """The same, in a folder inside."""
        return replace(self, run=self.run.part(name))

    def first(self, work: Callable[[], None]) -> None:
        """Have the first process do what is done once, while the others wait. Where it fails, all of them do."""
        failed: EdgekitError | None = None
        if self.run.writes:
            try:
                work()
            except EdgekitError as error:
                failed = error
        failed = self.fabric.broadcast(failed)
        if failed is not None:
            raise failed


def recipes(family: str) -> dict[str, Recipe]:
    """The recipes of a family; the first is the default.

    Raises:
        UsageError: no such family, or it brings none.
    """
    found = find_family(family)
    if found.training is None:
        raise UsageError(f"expected a family that can be trained; {family} brings no recipe")
    made: dict[str, Recipe] = importlib.import_module(found.training).RECIPES
    return made


def resolve(
    family: str,
    recipe: str | None,
    variant: str | None,
    *,
    data: str | None = None,
    file: Path | None = None,
    assignments: Sequence[str] = (),
) -> tuple[Recipe, Any]:
    """The recipe, and its settings: defaults, then a TOML file, then `field=value`.

    Raises:
        UsageError: an unknown family, recipe or variant.
        SettingsError: a setting that does not fit.
    """
    known = recipes(family)
    name = next(iter(known)) if recipe is None else recipe
    if name not in known:
        raise unknown(f"recipe of {family}", name, known)
    variant, config = find_family(family).variant(variant)
    settings = known[name].settings(variant, config)
    if file is not None:
        settings = merge_settings(settings, file)
    if data is not None:
        settings = apply_settings(settings, (f"data.train={data}",))
    settings = apply_settings(settings, assignments)
    dropout = {f.name: getattr(settings.model, f.name) for f in fields(config) if f.name.endswith("dropout")}
    if settings.model != replace(config, **dropout) and settings.variant == variant:
        settings = replace(settings, variant=f"scaled-{variant}")
    if not settings.data.train:
        raise UsageError("expected data to learn from, received none", hint="--data DIR")
    return known[name], settings


def train(recipe: Recipe, settings: Any, out: Path, report: Reporter, *, resume: bool = False) -> dict[str, float]:
    """Run a recipe into a folder.

    Returns:
        The numbers of the best checkpoint, which is `out/best`.

    Raises:
        UsageError: the folder holds another run, or none where one was to be resumed.
        EdgekitError: data, a checkpoint or the device cannot be used, or learning failed.
    """
    fabric = open_fabric(settings.loop)
    place = Workplace(fabric, RunFolder(out, writes=fabric.is_global_zero), report)
    place.first(lambda: place.run.begin(settings, resume))
    try:
        return recipe.run(settings, place)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"expected batches that fit into the GPU's memory: {str(error).splitlines()[0]}",
            hint="begin again with shorter ones, and more of them: --set data.batch_s=... --set loop.accumulate=...",
        ) from error
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise TrainingError(
            f"expected the processes that read to live on: {error}",
            hint="memory is short, or that of /dev/shm: --set data.workers=0 --resume",
        ) from error
