"""What a model family is, and how families are found: by folder, and by the entry-point group `edgekit.families`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edgekit.core.errors import BackendError, EdgekitError, unknown
from edgekit.core.signature import Signature

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch

    from edgekit.core.theta import ThetaLayout

ENTRY_POINTS = "edgekit.families"


class Config(Protocol):
    """A family's frozen dataclass of sizes: all that is known of a model before torch is imported."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def graphs(self, head: str) -> dict[str, Signature]:
        """The graphs that are exported, by name; the first is the one that answers."""
        ...

    def features(self) -> dict[str, Any]:
        """How a recording or picture becomes the graph's input: the manifest's `features`."""
        ...

    def num_parameters(self) -> int:
        """Parameters of the deployed model without its head."""
        ...


@dataclass(frozen=True)
class Tunable:
    """What of a model a device may learn for one user: the values of its graphs' input theta.

    Attributes:
        layout: which of them are which parameter's.
        starts: float32 `[N, P]`, where learning may begin; N may be 0.
    """

    layout: ThetaLayout
    starts: np.ndarray


@dataclass(frozen=True)
class LoadedModel:
    """A model with weights, ready to be exported.

    Attributes:
        module: in evaluation mode; its `forward` takes the first graph's inputs in order and returns its outputs.
        config: its sizes.
        head: the head that it carries.
        features: the manifest's `features`, where the checkpoint knows better than `config.features()`.
        output: how its answer is read, the manifest's `output` (tokens are an asset).
        tokens: one label per output class, for heads that name classes.
        others: the modules of the other graphs, by name.
        weights: the manifest's `provenance.weights`: `{"source": "random", "seed": 0}`, ...
        tunable: None where no graph takes a theta.
    """

    module: torch.nn.Module
    config: Config
    head: str
    features: dict[str, Any]
    output: dict[str, Any]
    weights: dict[str, Any]
    tokens: tuple[str, ...] = ()
    others: Mapping[str, torch.nn.Module] = field(default_factory=dict)
    tunable: Tunable | None = None

    def graph(self, name: str) -> torch.nn.Module:
        """The module of a graph."""
        return self.others.get(name, self.module)


class ModelCode(Protocol):
    """What a family's `model.py` offers. It is imported only when a module is needed."""

    def build(self, config: Any, head: str | None) -> torch.nn.Module:
        """The module, with weights as torch makes them; None: without a head."""
        ...

    def random_model(self, config: Any, head: str, seed: int) -> LoadedModel:
        """Fresh weights, for shapes and latency."""
        ...

    def load_model(
        self, checkpoint: Path | str, variant: str | None, head: str | None, settings: Sequence[str] = ()
    ) -> tuple[str, LoadedModel]:
        """The variant's name and the model of a checkpoint.

        `settings` are `field=value` of fields that are `Family.deployable`; a family without such need not take them.
        """
        ...


@dataclass(frozen=True)
class Builtin:
    """Trained weights that a family brings.

    Attributes:
        variant: whose they are.
        folder: a checkpoint of it, with LICENSE and training.json beside it.
        licence: of the weights, as SPDX names it; the code has its own.
    """

    variant: str
    folder: Path
    licence: str


@dataclass(frozen=True)
class Family:
    """A kind of model.

    Attributes:
        name: as typed on the command line.
        summary: one line for `edgekit list`.
        paper: where it comes from.
        variants: named sizes; the first is the default.
        heads: what the model answers with, and the task that serves it; the first is the default.
        code: the dotted name of its `model.py`.
        small: settings (`field=value`) that make any variant small enough to be built and exported in seconds, for
            tests that run over every family.
        deployable: fields of the config that say what of trained weights is deployed: an export may set them.
        adapted: settings of such fields with which its graphs take a theta (`LoadedModel.tunable`), so that a device
            can learn it; (): it names nothing that can be tuned.
        training: the dotted name of its `recipe.py`, whose `RECIPES` are the ways in which it learns; None: it cannot.
        builtin: the trained weights of one variant; None: weights are random without a checkpoint.
    """

    name: str
    summary: str
    paper: str
    variants: Mapping[str, Config]
    heads: Mapping[str, str]
    code: str
    small: tuple[str, ...] = ()
    deployable: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    training: str | None = None
    builtin: Builtin | None = None

    @property
    def model(self) -> ModelCode:
        """Its `model.py`, imported now (this imports torch)."""
        try:
            module: Any = importlib.import_module(self.code)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in ("edgekit", self.code.split(".")[0]):
                raise  # a fault of the family's own
            raise BackendError(
                f"expected the package {error.name} to make a model, it is not installed",
                hint='pip install "edgekit[export]"',
            ) from error
        code: ModelCode = module
        return code

    def variant(self, name: str | None) -> tuple[str, Config]:
        """A variant's name and config; None gives the default.

        Raises:
            UsageError: no such variant.
        """
        chosen = next(iter(self.variants)) if name is None else name
        if chosen not in self.variants:
            raise unknown(f"variant of {self.name}", chosen, self.variants)
        return chosen, self.variants[chosen]

    def head(self, name: str | None) -> str:
        """A head's name; None gives the default."""
        chosen = next(iter(self.heads)) if name is None else name
        if chosen not in self.heads:
            raise unknown(f"head of {self.name}", chosen, self.heads)
        return chosen


class Families(dict[str, Family]):
    """Families by name.

    Attributes:
        broken: families of installed packages that cannot be used, by the name of their entry point, and why.
    """

    def __init__(self) -> None:
        super().__init__()
        self.broken: dict[str, str] = {}


@cache
def families() -> Families:
    """All families: ours, then those of installed packages. Of two with one name the first is kept."""
    import edgekit.train.families as ours

    found = Families()
    for module in pkgutil.iter_modules(ours.__path__):
        if module.ispkg:
            family: Family = importlib.import_module(f"{ours.__name__}.{module.name}").FAMILY
            found[family.name] = family
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (entry.name, entry.value)):
        try:
            family = _loaded(entry)
            if family.name in found:
                raise ValueError(f"there is another family named {family.name!r}")
        except Exception as error:  # noqa: BLE001  (a stranger's code may raise anything, and stops no other family)
            found.broken[entry.name] = f"{_package(entry)}: {type(error).__name__}: {error}"
        else:
            found[family.name] = family
    return found


def find_family(name: str) -> Family:
    """The family of that name.

    Raises:
        UsageError: there is none.
        EdgekitError: the package that brings it is broken.
    """
    known = families()
    if name in known:
        return known[name]
    if name in known.broken:
        raise EdgekitError(
            f"expected a family in the entry point {name!r}, received {known.broken[name]}",
            hint="mend, upgrade or uninstall that package",
        )
    raise unknown("family", name, known)


def _loaded(entry: EntryPoint) -> Family:
    """The family of another package, after a look at what `edgekit list` shows of it."""
    family = entry.load()
    if not isinstance(family, Family):
        raise TypeError(f"expected {entry.value} to be an edgekit.train.family.Family, it is {family!r}")
    if not family.variants or not family.heads:
        raise ValueError(f"expected {entry.value} to have variants and heads, it has none")
    for config in family.variants.values():
        config.num_parameters()
    return family


def _package(entry: EntryPoint) -> str:
    return f"package {entry.dist.name}" if entry.dist is not None else entry.value
