"""Where the time of one run goes: the operators and the modules that take most of it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from edgekit.runtime.profile.measured import Group, merged
from edgekit.runtime.profile.report.markup import bar, figure, table
from edgekit.runtime.profile.report.words import Named, digits, sources

NUM_SHOWN = 12


def draw_layers(each: Named) -> list[str]:
    """Figures by operator and, where the nodes' names tell it, by module; none where layers were not timed."""
    layers = each.point.layers
    if layers is None or not layers.by_type:
        return []
    note = (
        f"{layers.source}, mean of {layers.num_runs} runs of a pass of its own, which measuring makes slower: nodes "
        f"{digits(layers.sum_ms)} ms of {digits(layers.run_ms)} ms."
    )
    shown: list[tuple[str, str, Sequence[Group], str]] = [("Time by operator", "operator", layers.by_type, note)]
    if layers.by_module:
        shown.append(("Time by module", "module", merged(layers.by_module), f"A star is any number. {note}"))
    return [figure(title, _bars(kind, groups), told, sources([each])) for title, kind, groups, told in shown]


def _bars(kind: str, groups: Sequence[Group]) -> str:
    shown, others = list(groups[:NUM_SHOWN]), groups[NUM_SHOWN:]
    longest = max(group.share for group in shown) or 1.0
    if others:
        ms, share = sum(group.ms for group in others), sum(group.share for group in others)
        shown.append(Group(f"{len(others)} more", ms, share, sum(group.num_nodes for group in others)))
    rows = [
        [
            escape(group.name),
            bar(group.share / longest) if index < NUM_SHOWN else "",
            digits(group.ms),
            f"{100 * group.share:.1f} %",
            str(group.num_nodes),
        ]
        for index, group in enumerate(shown)
    ]
    return table([kind, "", "ms", "share", "nodes"], rows, words=(0, 1))
