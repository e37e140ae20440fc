"""Pictures of a run: error rate against minutes of speech, forgetting against gain."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import UnavailableError
from edgekit.runtime.libricontinual.statistics import Estimate
from edgekit.runtime.libricontinual.summary import ArmFigures, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Theme:
    """Colours of a picture; arms in order, told apart by people who see no red or no green (Okabe and Ito 2008)."""

    background: str
    ink: str
    faint: str
    arms: tuple[str, ...]


LIGHT = Theme("#ffffff", "#1f2328", "#d0d7de", ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"))
DARK = Theme("#15181c", "#e6e9ec", "#3a4048", ("#56b4e9", "#f0813a", "#2ebd8f", "#e29ac4", "#f2b632", "#8fd0ff"))
_MARKERS = "osD^vP"
_WIDTH_INCHES, _HEIGHT_INCHES, _DPI = 7.6, {1: 4.4, 2: 6.2}, 150


def plot_wer(summary: Summary, theme: Theme = LIGHT) -> bytes:
    """PNG: over minutes of speech, the mean word error rate, and below it what was gained against before adaptation.

    A line and a band (95 %) for each arm. The lower bands are narrower: what speakers differ in cancels out. An arm
    that tunes nothing is a dashed line across.

    Raises:
        UnavailableError: matplotlib is not installed.
    """
    figure, (upper, lower) = _axes(theme, 2)
    minutes = sorted({split.minutes for arm in summary.arms for split in arm.splits.values()})
    lower.axhline(0, color=theme.ink, linewidth=0.8)
    for index, arm in enumerate(summary.arms):
        colour, _ = _style(theme, index)
        if not arm.tuned_parameters:
            if arm.start_wer is not None:
                upper.axhline(100 * arm.start_wer.mean, color=colour, linestyle="--", linewidth=1.6, label=arm.name)
            continue
        splits = list(arm.splits.values())
        _line(upper, theme, index, [(split.minutes, split.wer) for split in splits], _label(arm))
        _line(lower, theme, index, [(split.minutes, split.gain) for split in splits if split.gain is not None])
    if minutes:
        lower.set_xscale("log")
        lower.set_xticks(minutes, labels=[_minutes(value) for value in minutes])
        lower.set_xticks([], minor=True)
        lower.set_xlim(minutes[0] / 1.15, minutes[-1] * 1.15)
    else:
        lower.set_xticks([])
    lower.set_xlabel("speech to adapt to")
    upper.set_ylabel("WER of the speaker (%)")
    lower.set_ylabel("gain (points)")
    return _png(figure, upper, theme)


def _line(axes: Axes, theme: Theme, index: int, points: list[tuple[float, Estimate]], label: str | None = None) -> None:
    """A line through the means, in percent, with its band."""
    colour, marker = _style(theme, index)
    x, found = [each for each, _ in points], [each for _, each in points]
    axes.plot(x, [100 * e.mean for e in found], color=colour, marker=marker, markersize=5, label=label)
    ends = [e.interval or (e.mean, e.mean) for e in found]
    low, high = ([100 * each[side] for each in ends] for side in (0, 1))
    axes.fill_between(x, low, high, color=colour, alpha=0.07, linewidth=0)
    for edge in (low, high):  # five bands on each other are mud without
        axes.plot(x, edge, color=colour, linewidth=0.7, linestyle=":", alpha=0.8)


def plot_forgetting(summary: Summary, theme: Theme = LIGHT) -> bytes | None:
    """PNG: what is forgotten over what is gained, in points of word error rate; a point for each arm and split.

    None where forgetting was not measured.

    Raises:
        UnavailableError: matplotlib is not installed.
    """
    if not any(split.forgetting for arm in summary.arms for split in arm.splits.values()):
        return None
    figure, (axes,) = _axes(theme, 1)
    axes.axhline(0, color=theme.ink, linewidth=0.8)
    axes.axvline(0, color=theme.ink, linewidth=0.8)
    for index, arm in enumerate(summary.arms):
        colour, marker = _style(theme, index)
        if not arm.tuned_parameters:
            axes.plot([0], [0], color=colour, marker=marker, linestyle="none", label=arm.name)
            continue
        told = [
            (size, split.gain, split.forgetting)
            for size, split in arm.splits.items()
            if split.gain is not None and split.forgetting is not None
        ]
        gains, forgettings = [gain for _, gain, _ in told], [forgetting for _, _, forgetting in told]
        x, y = [100 * gain.mean for gain in gains], [100 * forgetting.mean for forgetting in forgettings]
        axes.plot(x, y, color=colour, marker=marker, linewidth=1, label=_label(arm))
        axes.errorbar(
            x, y, xerr=_whiskers(gains), yerr=_whiskers(forgettings), color=colour, linestyle="none", linewidth=0.8
        )
        if told:  # names at the other ends would lie on each other
            at = (x[-1], y[-1])
            axes.annotate(str(told[-1][0]), at, xytext=(5, 5), textcoords="offset points", fontsize=8, color=theme.ink)
    axes.margins(0.12)
    axes.set_xlabel("gain on the speaker (points of word error rate; right is better)")
    axes.set_ylabel("forgetting (points; down is better)")
    return _png(figure, axes, theme)


def load_figure() -> Any:
    """Matplotlib's class of figures; not pyplot, which keeps them and picks a window system.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnavailableError(
            f"expected the package matplotlib to draw, it cannot be imported ({error})",
            hint='pip install "edgekit[benchmark]"',
        ) from error
    return Figure


def _axes(theme: Theme, num_rows: int) -> tuple[Figure, list[Axes]]:
    """Rows that share the axis below."""
    size = (_WIDTH_INCHES, _HEIGHT_INCHES[num_rows])
    figure: Figure = load_figure()(figsize=size, dpi=_DPI, facecolor=theme.background, layout="constrained")
    rows = list(figure.subplots(num_rows, sharex=True, squeeze=False)[:, 0])
    for axes in rows:
        axes.set_facecolor(theme.background)
        axes.grid(color=theme.faint, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(colors=theme.ink, labelsize=9)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(theme.faint)
        axes.xaxis.label.set_color(theme.ink)
        axes.yaxis.label.set_color(theme.ink)
    return figure, rows


def _png(figure: Figure, axes: Axes, theme: Theme) -> bytes:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9, labelcolor=theme.ink)
    written = io.BytesIO()
    # what would name version and time is left out: the same figures are the same bytes
    nothing: dict[str, Any] = {"Software": None}
    figure.savefig(written, format="png", facecolor=theme.background, metadata=nothing)
    return written.getvalue()


def _style(theme: Theme, index: int) -> tuple[str, str]:
    return theme.arms[index % len(theme.arms)], _MARKERS[index % len(_MARKERS)]


def _label(arm: ArmFigures) -> str:
    return f"{arm.name} ({_count(arm.tuned_parameters)})"


def _count(number: int) -> str:
    """As 337 k or 1.6 M."""
    if number < 1000:
        return str(number)
    return f"{number / 1e3:.0f} k" if number < 999_500 else f"{number / 1e6:.1f} M"


def _minutes(minutes: float) -> str:
    """As 30 s, 10 min or 2 h."""
    if minutes < 0.95:
        return f"{60 * minutes:.0f} s"
    return f"{minutes:.0f} min" if minutes < 57 else f"{minutes / 60:.0f} h"


def _whiskers(estimates: list[Estimate]) -> list[list[float]]:
    """From the mean to both ends, in points; none where there is no interval."""
    ends = [e.interval or (e.mean, e.mean) for e in estimates]
    return [
        [100 * max(0.0, e.mean - low) for e, (low, _) in zip(estimates, ends)],
        [100 * max(0.0, high - e.mean) for e, (_, high) in zip(estimates, ends)],
    ]
