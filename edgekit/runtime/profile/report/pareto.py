"""What a lower latency costs: energy of an item, and accuracy, with the points that no other beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.runtime.profile.report.accuracy import Accuracy, accuracy_of
from edgekit.runtime.profile.report.chart import Chart, legend
from edgekit.runtime.profile.report.markup import figure
from edgekit.runtime.profile.report.scale import fitting
from edgekit.runtime.profile.report.words import Named, digits, sources

_MOST_NAMED = 30
_SAME_WORK = ("scenario", "length")


@dataclass(frozen=True)
class _Spot:
    latency_ms: float
    cost: float
    interval: tuple[float, float] | None
    of: Named

    def beats(self, other: _Spot) -> bool:
        mine, its = (self.latency_ms, self.cost), (other.latency_ms, other.cost)
        return mine != its and mine[0] <= its[0] and mine[1] <= its[1]


def draw_energy(points: Sequence[Named]) -> tuple[str | None, str]:
    """Energy of an item over median latency: a figure; or None, and why there is none."""
    known = [each for each in points if each.point.energy_j is not None]
    if not known:
        reasons = [each.point.not_measured.get("energy") for each in points]
        return None, next((reason for reason in reasons if reason), "energy was not measured")
    spots = [_spot(each, 1e3 * each.point.energy_j) for each in known if each.point.energy_j is not None]
    by = " and ".join(dict.fromkeys(each.point.energy_by or "" for each in known))
    return _draw(spots, "Energy against latency", "energy of an item (mJ)", f"Energy by {by}, idle power included.", [])


def draw_accuracy(points: Sequence[Named], accuracies: Sequence[Accuracy]) -> tuple[str | None, str]:
    """Word error rate over median latency: a figure; or None, and why there is none."""
    if not accuracies:
        return None, "accuracy was not measured: name results of edgekit benchmark asr --json beside these"
    found = [(each, accuracy_of(each.point, accuracies)) for each in points]
    known = [(each, accuracy) for each, accuracy in found if accuracy is not None]
    if not known:
        return None, "no point has the model, backend and precision whose accuracy was measured"
    spots = [_spot(each, 100 * accuracy.wer, accuracy.percent) for each, accuracy in known]
    told = dict.fromkeys(accuracy.source for _, accuracy in known)
    note = "Word error rate with its 95 % interval, measured apart from the latency."
    return _draw(spots, "Accuracy against latency", "word error rate (%)", note, list(told))


def _spot(each: Named, cost: float, interval: tuple[float, float] | None = None) -> _Spot | None:
    median = each.point.percentiles.get(50.0)
    return None if median is None or median.value is None else _Spot(median.value, cost, interval, each)


def _draw(
    found: Sequence[_Spot | None], title: str, label: str, note: str, more_sources: list[str]
) -> tuple[str | None, str]:
    spots = [spot for spot in found if spot is not None]
    if len(spots) < 2:
        return None, f"it takes two points with a median latency, there {'is one' if spots else 'is none'}"
    groups: dict[str, list[_Spot]] = {}
    for spot in spots:
        groups.setdefault(_same_work(spot.of.told), []).append(spot)
    ends = [end for spot in spots for end in (spot.interval or (spot.cost,))]
    chart = Chart(
        title,
        fitting([spot.latency_ms for spot in spots], num_ticks=8),
        fitting(ends),
        x_label="median latency (ms)",
        y_label=label,
        described="; ".join(sources([spot.of for spot in spots])),
        height=330,
    )
    for series, group in enumerate(groups.values()):
        best = sorted((s for s in group if not any(o.beats(s) for o in group)), key=lambda spot: spot.latency_ms)
        chart.line([(spot.latency_ms, spot.cost) for spot in best], series, stepped=True)
        for spot in group:
            if spot.interval is not None:
                chart.whisker(spot.latency_ms, *spot.interval, series)
        told = [f"{spot.of.title}: {digits(spot.latency_ms)} ms, {label} {digits(spot.cost)}" for spot in group]
        numbered = group if len(spots) <= _MOST_NAMED else best
        names = [f"#{spot.of.number}" if spot in numbered else "" for spot in group]
        chart.points([(spot.latency_ms, spot.cost) for spot in group], series, told, named=names)
    note += " The line joins the points that no other beats in both; numbers are those of the table."
    names = list(groups) if len(groups) > 1 else [""]
    told_sources = [*sources([spot.of for spot in spots]), *more_sources]
    return figure(title, chart.svg() + legend(names), note, told_sources), ""


def _same_work(told: Mapping[str, str]) -> str:
    """Points with other lengths or scenarios do not beat each other: they do something else."""
    return ", ".join(told[name] for name in _SAME_WORK if told.get(name))
