"""What a model family is, and how families are found: by folder, and by the entry-point group `edgekit.families`."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edgekit.core.errors import BackendError, UsageError
from edgekit.core.signature import Signature

if TYPE_CHECKING:
    from pathlib import Path

    import torch

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
class LoadedModel:
    """A model with weights, ready to be exported.

    Attributes:
        module: in evaluation mode; its `forward` takes the graph's inputs in order and returns its outputs.
        config: its sizes.
        head: the head that it carries.
        features: the manifest's `features`, where the checkpoint knows better than `config.features()`.
        output: how its answer is read, the manifest's `output` (tokens are an asset).
        tokens: one label per output class, for heads that name classes.
        weights: the manifest's `provenance.weights`: `{"source": "random", "seed": 0}`, ...
    """

    module: torch.nn.Module
    config: Config
    head: str
    features: dict[str, Any]
    output: dict[str, Any]
    weights: dict[str, Any]
    tokens: tuple[str, ...] = ()


class ModelCode(Protocol):
    """What a family's `model.py` offers. It is imported only when a module is needed."""

    def build(self, config: Any, head: str | None) -> torch.nn.Module:
        """The module, with weights as torch makes them; None: without a head."""
        ...

    def random_model(self, config: Any, head: str, seed: int) -> LoadedModel:
        """Fresh weights, for shapes and latency."""
        ...

    def load_model(self, checkpoint: Path | str, variant: str | None, head: str | None) -> tuple[str, LoadedModel]:
        """The variant's name and the model of a checkpoint."""
        ...


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
    """

    name: str
    summary: str
    paper: str
    variants: Mapping[str, Config]
    heads: Mapping[str, str]
    code: str
    small: tuple[str, ...] = ()

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


def unknown(kind: str, name: str, known: Mapping[str, Any]) -> UsageError:
    """The error for a name that is not among `known`, with the nearest ones."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else None
    return UsageError(f"expected a {kind} among {', '.join(known)}; received {name!r}", hint=hint)


@cache
def families() -> Mapping[str, Family]:
    """All families by name: ours, then those of installed packages.

    Raises:
        UsageError: two families have one name.
    """
    import edgekit.train.families as ours

    found = [
        importlib.import_module(f"{ours.__name__}.{module.name}").FAMILY
        for module in pkgutil.iter_modules(ours.__path__)
        if module.ispkg
    ]
    found += [entry.load() for entry in entry_points(group=ENTRY_POINTS)]
    by_name: dict[str, Family] = {}
    for family in found:
        if family.name in by_name:
            raise UsageError(f"expected one family named {family.name!r}, two packages bring one")
        by_name[family.name] = family
    return by_name


def find_family(name: str) -> Family:
    """The family of that name.

    Raises:
        UsageError: there is none.
    """
    known = families()
    if name not in known:
        raise unknown("family", name, known)
    return known[name]
