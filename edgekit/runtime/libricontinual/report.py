"""One HTML file that needs no other: pictures, tables, and how all was measured; light or dark as the reader has it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from edgekit.core.files import write_atomic
from edgekit.runtime.libricontinual.benchmark import Run
from edgekit.runtime.libricontinual.plots import DARK, LIGHT, Theme, load_figure, plot_forgetting, plot_wer
from edgekit.runtime.libricontinual.statistics import Estimate
from edgekit.runtime.libricontinual.summary import ArmFigures, SplitFigures, Summary

_STYLE = f"""
:root {{ color-scheme: light dark; --paper: {LIGHT.background}; --ink: {LIGHT.ink}; --faint: {LIGHT.faint}; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: {DARK.background}; --ink: {DARK.ink}; --faint: {DARK.faint}; }}
}}
body {{ background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 62rem; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.15rem; margin-top: 2.2rem; }}
img {{ max-width: 100%; height: auto; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ border-bottom: 1px solid var(--faint); padding: .3rem .8rem .3rem 0; text-align: right;
  vertical-align: top; }}
th:first-child, td:first-child {{ text-align: left; }}
td.words {{ text-align: left; overflow-wrap: anywhere; }}
small {{ opacity: .75; white-space: nowrap; }} .note {{ max-width: 46rem; }}
"""


def check_drawing() -> None:
    """Raise UnavailableError unless matplotlib is installed."""
    load_figure()


def write_report(run: Run, out: Path) -> Path:
    """Write `report.html`, which needs no other file, `results.json` and the pictures, into the folder `out`.

    Returns:
        The report.

    Raises:
        UnavailableError: matplotlib is not installed.
        EdgekitError: the folder cannot be written.
    """
    for name, plot in (("wer.png", plot_wer), ("forgetting.png", plot_forgetting)):
        if (picture := plot(run.summary)) is not None:
            write_atomic(out / name, picture)
    text = json.dumps(run.to_json(), indent=1, ensure_ascii=False) + "\n"
    write_atomic(out / "results.json", text.encode("utf-8", "backslashreplace"))
    write_atomic(out / "report.html", to_html(run))
    return out / "report.html"


def to_html(run: Run) -> bytes:
    """The report.

    Raises:
        UnavailableError: matplotlib is not installed.
    """
    summary, context = run.summary, run.context
    parts = [
        f"<h1>{escape(context['data']['name'])}: {escape(', '.join(arm.name for arm in summary.arms))}</h1>",
        _state(run),
        "<h2>Word error rate of the speaker</h2>",
        _picture("Word error rate over minutes of speech, a line for each arm", plot_wer, summary),
        _note(
            "Micro over a speaker's recordings, plain mean over speakers; bands and ranges are 95 % intervals over "
            "speakers. Gain: the rate before adaptation minus after, of the same speakers, so that what they differ in "
            "cancels out. A dashed line is an arm that tunes nothing. In brackets: weights tuned for a speaker."
        ),
        _wer_table(summary),
    ]
    if any(split.forgetting for arm in summary.arms for split in arm.splits.values()):
        parts += [
            "<h2>What is forgotten for what is gained</h2>",
            _picture("Forgetting over gain, a point for each arm and split", plot_forgetting, summary),
            _note(
                "Forgetting: error rate of the general list after adaptation minus before, mean over speakers. Gain: "
                "error rate of the speaker before minus after. Both in points. A line goes through an arm's "
                "splits, of which the last is named."
            ),
            _forgetting_table(summary),
        ]
    parts += ["<h2>Arms against each other</h2>", _difference_table(summary)]
    parts += ["<h2>What it costs</h2>", _cost_table(summary)]
    parts += ["<h2>Speakers</h2>", _speaker_table(summary)]
    parts += ["<h2>How it was measured</h2>", _context_table(context)]
    head = "<meta charset=utf-8><meta name=viewport content='width=device-width'><title>LibriContinual</title>"
    page = (
        f"<!doctype html><html lang=en><head>{head}<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )
    # bytes of a file's name that are no text
    return page.encode("utf-8", "xmlcharrefreplace")


def _state(run: Run) -> str:
    summary = run.summary
    told = [f"{summary.num_done} of {summary.num_tasks} tasks are done."]
    if summary.num_done < summary.num_tasks:
        told.append("Figures are over those; the same command does the rest.")
    if run.failures:
        told.append(f"{len(run.failures)} failed; the first: {run.failures[0].message}")
    if summary.num_skipped:
        told.append(f"Recordings that could not be used, over all tasks: {summary.num_skipped}.")
    if summary.num_left_out:
        told.append(f"Recordings too long to be learned or validated by, over all tasks: {summary.num_left_out}.")
    return _note(" ".join(told))


def _wer_table(summary: Summary) -> str:
    sizes = sorted({size for arm in summary.arms for size in arm.splits})
    found = [
        (arm.name, [arm.start_wer, *(arm.splits[size].wer if size in arm.splits else None for size in sizes)])
        for arm in summary.arms
    ]
    most = max((each.num_speakers for _, row in found for each in row if each is not None), default=0)
    rows = [[escape(name), *(_estimate(each) + _of_fewer(each, most) for each in row)] for name, row in found]
    return _table(["WER, %", "before", *map(str, sizes)], rows)


def _forgetting_table(summary: Summary) -> str:
    rows = [
        [
            escape(arm.name),
            str(size),
            _rate(arm.start_general_wer),
            _estimate(split.general_wer),
            _estimate(split.forgetting, signed=True),
            _estimate(split.gain, signed=True),
        ]
        for arm, size, split in _splits(summary)
    ]
    header = ["arm", "split", "general WER before, %", "after", "forgetting, points", "gain, points"]
    return _table(header, rows)


def _difference_table(summary: Summary) -> str:
    if not summary.differences:
        return _note("There is nothing to compare.")
    rows = [
        [
            str(d.split),
            escape(f"{d.a} - {d.b}"),
            _estimate(d.wer, signed=True),
            str(d.wer.num_speakers),
            escape(d.verdict),
        ]
        for d in summary.differences
    ]
    note = _note(
        "Word error rates of the same speakers, one minus the other, in points; no difference is measured where "
        "the 95 % interval holds zero. Pairs are not corrected for how many there are."
    )
    return note + _table(["split", "arms", "difference", "speakers", "verdict"], rows)


def _cost_table(summary: Summary) -> str:
    rows = [
        [
            escape(arm.name),
            str(size),
            f"{arm.tuned_parameters:,}",
            _number(split.seconds, 1),
            _number(split.cpu_seconds, 1),
            _number(split.peak_memory_mib, 0),
            _number(split.joules, 0),
        ]
        for arm, size, split in _splits(summary)
    ]
    if not rows:
        return _note("No arm tunes anything.")
    note = _note(
        "Of one adaptation, the sum of all learning rates that were tried, median over speakers. Joules are of the "
        "whole processor by its own counters, with whatever else ran on it; a dash: not measurable there."
    )
    header = ["arm", "split", "tuned parameters", "seconds", "CPU seconds", "peak MiB", "joules"]
    return note + _table(header, rows)


def _speaker_table(summary: Summary) -> str:
    columns = [(arm, size, split) for arm, size, split in _splits(summary)]
    names = sorted(
        {name for arm in summary.arms for name in arm.start_rates} | {n for *_, s in columns for n in s.rates}
    )
    starts = [arm for arm in summary.arms if arm.start_rates]
    rows = [
        [
            escape(name),
            *(_rate(arm.start_rates.get(name)) for arm in starts),
            *(_rate(split.rates.get(name)) for _, _, split in columns),
        ]
        for name in names
    ]
    header = ["WER, %", *(f"{arm.name} before" for arm in starts), *(f"{arm.name} {size}" for arm, size, _ in columns)]
    return f"<details><summary>{len(names)} speakers</summary>{_table(header, rows)}</details>"


def _context_table(context: dict[str, Any]) -> str:
    rows = [[escape(key), _words(value)] for key, value in context.items() if value not in (None, {}, "")]
    body = "".join(f"<tr><td>{key}</td><td class=words>{value}</td></tr>" for key, value in rows)
    return f"<div class=wide><table>{body}</table></div>"


def _words(value: Any) -> str:
    """Plain data for a person."""
    if isinstance(value, dict):
        return "<br>".join(f"{escape(str(key))}: {_words(each)}" for key, each in value.items() if each is not None)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value))
    return escape(str(value))


def _splits(summary: Summary) -> Iterable[tuple[ArmFigures, Any, SplitFigures]]:
    return ((arm, size, split) for arm in summary.arms for size, split in arm.splits.items())


def _picture(alt: str, plot: Any, summary: Summary) -> str:
    def address(theme: Theme) -> str:
        return "data:image/png;base64," + base64.b64encode(plot(summary, theme)).decode()

    dark = f"<source media='(prefers-color-scheme: dark)' srcset='{address(DARK)}'>"
    return f"<picture>{dark}<img alt='{escape(alt)}' width=900 src='{address(LIGHT)}'></picture>"


def _note(text: str) -> str:
    return f"<p class=note>{escape(text)}</p>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """`header` is text, cells are HTML."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _estimate(found: Estimate | None, *, signed: bool = False) -> str:
    if found is None:
        return "-"
    form = "{:+.2f}" if signed else "{:.2f}"
    mean = form.format(100 * found.mean)
    if found.interval is None:
        return mean
    low, high = (form.format(100 * end) for end in found.interval)
    return f"{mean}<br><small>{low} to {high}</small>"


def _of_fewer(found: Estimate | None, most: int) -> str:
    """That a mean is over other speakers than those beside it."""
    if found is None or found.num_speakers == most:
        return ""
    return f"<br><small>{found.num_speakers} of {most} speakers</small>"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
