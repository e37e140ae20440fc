"""Results of `edgekit profile` for who draws or compares them: points with their figures, typed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.devices.percentiles import Percentile

_BUSY = 1.25
"""Runnable processes per processor before a point from which on others took part of its time."""

Columns = Mapping[str, tuple[float | None, ...]]
Asked = Mapping[str, str | int | None]


@dataclass(frozen=True)
class Origin:
    """What all points of a result share.

    Attributes:
        path: of the file.
        device: the machine in words.
        machine: of it what makes figures comparable, by name.
        model: its name in words; `sha256`, and of a bundle its `graph`, tell it from others.
    """

    path: str
    command: str
    date: str
    device: str
    machine: Mapping[str, str]
    num_cpus: int
    versions: Mapping[str, str]
    model: str
    sha256: str
    graph: str | None
    random_weights: bool


@dataclass(frozen=True)
class Group:
    """Nodes of a graph: their time in one run, and its share of the time of all."""

    name: str
    ms: float
    share: float
    num_nodes: int


@dataclass(frozen=True)
class Layers:
    """Nodes of a graph in groups, the longest first; `by_module` is None where their names tell of no module."""

    source: str
    num_runs: int
    run_ms: float
    sum_ms: float
    by_type: tuple[Group, ...]
    by_module: tuple[Group, ...] | None


@dataclass(frozen=True)
class Sensed:
    """The machine's sensors during a point; `t_s` since the first sample, columns by the sensor's name."""

    total: str | None
    not_measured: Mapping[str, str]
    t_s: tuple[float, ...]
    power_mw: Columns
    temperature_c: Columns
    clock_mhz: Columns
    throttled: tuple[bool | None, ...]


@dataclass(frozen=True)
class Measured:
    """One point.

    Attributes:
        asked: what tells it from the others of its file.
        run_on: backend, its version, precision, what it is computed in, device, threads.
        inputs: of each, its name, type, shape and values in words.
        length: of an item: "3 s" of sound, or "300 steps"; None: the default of an input that is no sound.
        load: what was asked of it, by name: the fields in which scenarios differ.
        latencies_ms: float64 [n] of each query in order; None offline, which is one query.
        call_ms: float64 [n], of each query or, offline, from one answer to the next.
        percentiles: of the latency, by their number; empty offline.
        harness: whose clock and traffic.
        bound: whether the latency kept what the server was held to, in words.
        memory_read: when, as "after the scenario".
        cold_starts_s: of each fresh process from its making to the first answer.
        energy_j: of an item, by `energy_by`.
        again: the same as further results have measured it (`repeated.py`).
    """

    origin: Origin
    asked: Asked
    date: str
    load_before: tuple[float, ...] | None
    load_after: tuple[float, ...] | None
    run_on: Mapping[str, str]
    inputs: tuple[str, ...]
    items_per_call: int
    audio_s: float | None
    load: Mapping[str, str]
    num_queries: int
    latencies_ms: np.ndarray | None
    call_ms: np.ndarray
    percentiles: Mapping[float, Percentile]
    throughput_per_s: float
    rtf: float | None
    harness: str
    bound: str | None
    peak_mib: float
    memory_read: str
    gpu_mib: float | None
    cold_starts_s: tuple[float, ...]
    energy_j: float | None
    energy_by: str | None
    layers: Layers | None
    sensed: Sensed
    warnings: tuple[str, ...]
    not_measured: Mapping[str, str]
    again: tuple[Measured, ...] = ()

    @property
    def length(self) -> str | None:
        asked = self.asked["length"]
        if self.audio_s is not None:
            return f"{self.audio_s:g} s"
        return None if asked is None else f"{asked} steps"

    @property
    def busy(self) -> str | None:
        """That the machine had other work before the point began, in words; None: it had not, or does not tell."""
        load, num = self.load_before, self.origin.num_cpus
        if load is None or load[0] <= _BUSY * num:
            return None
        return f"the machine was busy before it began: a load above {_BUSY * num:g} on {num} processors"


@dataclass(frozen=True)
class Missing:
    """A point that was asked for and could not be measured."""

    asked: Asked
    state: str
    reason: str


@dataclass(frozen=True)
class Result:
    """A file of `edgekit profile`."""

    origin: Origin
    points: tuple[Measured, ...]
    missing: tuple[Missing, ...]


def merged(groups: Sequence[Group]) -> list[Group]:
    """Modules that differ in numbers alone, as the blocks of an encoder, as one; the longest first."""
    found: dict[str, Group] = {}
    for group in groups:
        name = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", group.name)
        one = found.get(name, Group(name, 0.0, 0.0, 0))
        found[name] = Group(name, one.ms + group.ms, one.share + group.share, one.num_nodes + group.num_nodes)
    return sorted(found.values(), key=lambda group: -group.ms)


def describe_bound(bound_ms: float, percentile: float, verdict: str, share_within: float) -> str:
    """Whether a latency was kept."""
    kept = f"{100 * share_within:.1f} % of the queries keep it"
    return f"p{percentile:g} at most {bound_ms:g} ms: {verdict} ({kept})"


def describe_asked(asked: Asked) -> str:
    """As "scenario offline, batch 4"; what was left to its default is not named."""
    return ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
