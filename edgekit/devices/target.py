"""Targets: devices that a bundle is made for, described by TOML files whose every fact names its public source."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Literal

from edgekit.core.errors import unknown
from edgekit.core.settings import load_settings

FOLDER = Path(__file__).parent / "targets"
_FACTS_WITHOUT_SOURCE = ("title", "kind", "sources")


@dataclass(frozen=True)
class PowerMode:
    """A mode of `nvpmodel`.

    Attributes:
        watts: its budget; None: it has none, as MAXN, which caps nothing.
    """

    name: str
    watts: float | None = None


@dataclass(frozen=True)
class Software:
    """A release of the device's own software and what comes with it; None: not known."""

    jetpack: str | None = None
    l4t: str | None = None
    python: str | None = None
    tensorrt: str | None = None
    cuda: str | None = None


@dataclass(frozen=True)
class Source:
    """Where facts were read.

    Attributes:
        facts: fields of `Target`.
    """

    facts: tuple[str, ...]
    url: str


@dataclass(frozen=True)
class Target:
    """A device. What has no public source is left out: None, or empty.

    Attributes:
        title: its name as its vendor writes it.
        kind: "jetson", "gpu" (a card in any x86-64 machine), "board" (Arm without an NVIDIA GPU) or "cpu" (a class of
            x86-64 processors).
        formats: what edgekit makes that runs there, best first.
        precisions: what it computes in natively.
        memory_gb: as its vendor states it; of sizes that are sold, the smallest. With `shared_memory`, of processor and
            GPU together.
        compute_capability: its NVIDIA GPU's ("8.7"); None: it has none.
        instruction_sets: as `devices.cpu` names them.
        software: newest first.
        rails: power rails, as the labels of hwmon name them.
        total_rails: of these, what is the power of the whole module (VIN of a Thor: with its carrier board).
    """

    title: str
    kind: Literal["jetson", "gpu", "board", "cpu"]
    formats: tuple[str, ...]
    precisions: tuple[str, ...]
    sources: tuple[Source, ...]
    memory_gb: float | None = None
    compute_capability: str | None = None
    instruction_sets: tuple[str, ...] = ()
    software: tuple[Software, ...] = ()
    power_modes: tuple[PowerMode, ...] = ()
    rails: tuple[str, ...] = ()
    total_rails: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = {field.name for field in fields(self)}
        sourced = {fact for source in self.sources for fact in source.facts}
        if not sourced <= known:
            raise ValueError(f"sources name facts that a target does not have: {', '.join(sorted(sourced - known))}")
        stated = {name for name in known.difference(_FACTS_WITHOUT_SOURCE) if getattr(self, name) not in (None, ())}
        if stated != sourced:
            raise ValueError(
                f"expected a source of every fact and of nothing else; without one: "
                f"{', '.join(sorted(stated - sourced)) or 'none'}; without a fact: "
                f"{', '.join(sorted(sourced - stated)) or 'none'}"
            )

    @property
    def shared_memory(self) -> bool:
        """Processor and GPU use the same memory."""
        return self.kind == "jetson"

    @property
    def memory_mib(self) -> int | None:
        """What vendors call GB is 10^9 bytes at least."""
        return None if self.memory_gb is None else int(self.memory_gb * 1e9) >> 20


@cache
def targets() -> dict[str, Target]:
    """All targets by their names, which are those of the files.

    Raises:
        SettingsError: a file is not what it must be.
    """
    return {file.stem: load_settings(Target, file) for file in sorted(FOLDER.glob("*.toml"))}


def find_target(name: str) -> Target:
    """A target by its name.

    Raises:
        UsageError: there is none of that name; the hint is the nearest.
    """
    known = targets()
    if name not in known:
        raise unknown("target", name, known)
    return known[name]
