"""Two results against each other, point by point: ratios B/A with intervals, of what is the same but for what ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from edgekit.core.errors import EdgekitError, UsageError
from edgekit.runtime.profile.figures import Figure, figures_of
from edgekit.runtime.profile.measured import Asked, Measured, Missing, Result, describe_asked
from edgekit.runtime.profile.ratios import LEAST_RESAMPLES, NUM_RESAMPLES

_OF_ONE = (
    "Percentiles and throughput: both runs drawn again in blocks of successive samples, as long as these hang together "
    f"(circular block bootstrap, block length by Politis and White 2004), {NUM_RESAMPLES} times (very long "
    f"runs fewer times, at least {LEAST_RESAMPLES}); interval: the 2.5th to the 97.5th percentile of the ratio. Cold "
    "start: the median of all ratios of two processes, with the exact interval by Mann and Whitney's distribution "
    "(Hodges and Lehmann 1963). Intervals know how a run varies within itself, not what differs from one run to the "
    "next (other load, other clocks): take 4 results or more of each, in turns, and compare their folders. Nothing is "
    "corrected for the number of figures."
)
_OF_SEVERAL = (
    "Each figure is one value of each result. Ratio: the median of the ratios of all results of B to all of A, with "
    "the exact interval by Mann and Whitney's distribution (Hodges and Lehmann 1963), which assumes that runs are "
    "independent: take them in turns, one of A, one of B. Nothing is corrected for the number of figures."
)
_MOST_TOLD = 3


@dataclass(frozen=True)
class Pair:
    """A point of A and the same of B.

    Attributes:
        name: what tells it from the other pairs; empty where there is one.
        differs: what ran differently, in words: that is what is compared.
        not_same: what should not differ, in words; empty unless it was asked for `anyway`.
        warnings: what may have spoilt one of both, in words.
    """

    name: str
    differs: tuple[str, ...]
    not_same: tuple[str, ...]
    warnings: tuple[str, ...]
    figures: tuple[Figure, ...]

    def slower_by_more_than(self, share: float) -> list[Figure]:
        """Latencies whose whole interval lies above 1 + share; of the offline query its throughput, below 1 / that."""
        latencies = [each for each in self.figures if each.unit == "ms"]
        if latencies:
            return [each for each in latencies if each.ratio.low is not None and each.ratio.low > 1 + share]
        throughputs = [each for each in self.figures if each.name == "throughput"]
        return [each for each in throughputs if each.ratio.high is not None and each.ratio.high < 1 / (1 + share)]

    @property
    def can_be_slower(self) -> bool:
        """Whether `slower_by_more_than` has anything to look at."""
        latencies = [each for each in self.figures if each.unit == "ms"]
        looked_at = latencies or [each for each in self.figures if each.name == "throughput"]
        return any(each.ratio.holds_one is not None for each in looked_at)


@dataclass(frozen=True)
class Comparison:
    """All pairs, and what has none.

    Attributes:
        num_a, num_b: results of each side, which are more than one where they lay in a folder.
        only_a, only_b: points that the other does not hold, in words.
        failed_b: points that A has measured and B could not, in words with the reason.
    """

    a: Result
    b: Result
    pairs: tuple[Pair, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    failed_b: tuple[str, ...]

    @property
    def num_a(self) -> int:
        return 1 + len(self.a.points[0].again)

    @property
    def num_b(self) -> int:
        return 1 + len(self.b.points[0].again)

    @property
    def method(self) -> str:
        """How ratios and intervals were made, in words."""
        return _OF_ONE if self.num_a == self.num_b == 1 else _OF_SEVERAL

    def to_json(self) -> dict[str, Any]:
        """Plain data, every figure."""

        def origin(result: Result, num_results: int) -> dict[str, Any]:
            told = result.origin
            names = ("path", "command", "date", "device", "versions", "model", "sha256", "graph")
            return {"num_results": num_results, **{name: getattr(told, name) for name in names}}

        return {
            "a": origin(self.a, self.num_a),
            "b": origin(self.b, self.num_b),
            "method": self.method,
            "pairs": [asdict(pair) for pair in self.pairs],
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "failed_b": list(self.failed_b),
        }


def compare(a: Result, b: Result, *, anyway: bool = False) -> Comparison:
    """Compare two results, or two times several (`read_repeated`).

    Points are matched by what is not the same for all points of A, or of B: the others are what is compared.

    Args:
        anyway: also where inputs, batch, length, scenario or machine differ.

    Raises:
        UsageError: they differ, or no point of one is one of the other.
        EdgekitError: nothing was measured in one of them.
    """
    for result in (a, b):
        if not result.points:
            raise EdgekitError(f"expected a point that was measured in {result.origin.path}, received none")
    names = [name for name in a.points[0].asked if any(len({_ran(p)[name] for p in r.points}) > 1 for r in (a, b))]
    of_a, of_b = ({_key(_ran(point), names): point for point in result.points} for result in (a, b))
    for result, found in ((a, of_a), (b, of_b)):
        if len(found) < len(result.points):
            raise EdgekitError(f"expected points that differ in what is asked of them in {result.origin.path}")
    both = [key for key in of_a if key in of_b]
    if not both:
        raise UsageError(
            f"expected points in {b.origin.path} with the same {', '.join(names)} as {a.origin.path}, received none: "
            f"A's first is {_named(next(iter(of_a)), names)}, B's {_named(next(iter(of_b)), names)}",
            hint="profile both with the same --batch, --length, --threads, --backend, --precision and --scenario",
        )
    pairs = [_pair(of_a[key], of_b[key], _named(key, names)) for key in both]
    found_not_same = list(dict.fromkeys(chain.from_iterable(pair.not_same for pair in pairs)))
    if found_not_same and not anyway:
        more = len(found_not_same) - _MOST_TOLD
        told = "; ".join(found_not_same[:_MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")
        raise UsageError(f"expected the same in both but for what ran, received {told}", hint="--anyway compares them")
    alone_a = [point for key, point in of_a.items() if key not in of_b]
    failed = [(point, lost) for point in alone_a if (lost := _lost(point, b.missing, names)) is not None]
    with_failed = [point for point, _ in failed]
    return Comparison(
        a,
        b,
        tuple(pairs),
        tuple(describe_asked(point.asked) for point in alone_a if point not in with_failed),
        tuple(describe_asked(point.asked) for key, point in of_b.items() if key not in of_a),
        tuple(f"{describe_asked(lost.asked)}: {lost.state}: {lost.reason}" for _, lost in failed),
    )


def _ran(point: Measured) -> dict[str, str | int | None]:
    """What was asked, with what the defaults came to."""
    return {
        **point.asked,
        "backend": point.run_on["backend"],
        "precision": point.run_on["precision"],
        "batch": point.items_per_call,
        "length": point.length,
    }


def _key(asked: Asked, names: Sequence[str]) -> tuple[str | int | None, ...]:
    return tuple(asked[name] for name in names)


def _named(key: Sequence[str | int | None], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {'default' if value is None else value}" for name, value in zip(names, key))


def _lost(point: Measured, missing: Sequence[Missing], names: Sequence[str]) -> Missing | None:
    return next((each for each in missing if _key(each.asked, names) == _key(point.asked, names)), None)


def _pair(a: Measured, b: Measured, name: str) -> Pair:
    models = [] if a.origin.sha256 == b.origin.sha256 else [("model", a.origin.model, b.origin.model)]
    models += _differences({"graph": a.origin.graph or "none"}, {"graph": b.origin.graph or "none"})
    harness = _differences({"harness": a.harness}, {"harness": b.harness})
    versions, run_on = _differences(a.origin.versions, b.origin.versions), _differences(a.run_on, b.run_on)
    differs = [*models, *versions, *run_on, *harness]
    warnings = dict.fromkeys(f"{side}: {words}" for side, point in (("A", a), ("B", b)) for words in _spoilt(point))
    prefix = f"{name}: " if name else ""
    not_same = [f"{prefix}{words}" for words in map(_in_words, _not_same(a, b))]
    not_same += map(_in_words, _differences(a.origin.machine, b.origin.machine))
    return Pair(name, tuple(map(_in_words, differs)), tuple(not_same), tuple(warnings), tuple(figures_of(a, b)))


def _spoilt(point: Measured) -> list[str]:
    """What may have spoilt one of its measurements."""
    told = [
        each for point in (point, *point.again) for each in (*point.warnings, *([point.busy] if point.busy else []))
    ]
    # as the blocks account for, or that there are several results
    return [each for each in told if not each.startswith("successive latencies correlate")]


def _not_same(a: Measured, b: Measured) -> list[tuple[str, str, str]]:
    found = _differences(a.load, b.load)
    found += _differences({"batch": str(a.items_per_call)}, {"batch": str(b.items_per_call)})
    found += _differences({"length": a.length or "default"}, {"length": b.length or "default"})
    # of another batch or length they differ in any case
    return found or _differences({"inputs": "; ".join(a.inputs)}, {"inputs": "; ".join(b.inputs)})


def _differences(a: Any, b: Any) -> list[tuple[str, str, str]]:
    """By name, what two mappings of texts hold."""
    names = dict.fromkeys([*a, *b])
    found = [(name, a.get(name, "none"), b.get(name, "none")) for name in names]
    return [each for each in found if each[1] != each[2]]


def _in_words(difference: tuple[str, str, str]) -> str:
    name, old, new = difference
    return f"{name}: {old} in A, {new} in B"
