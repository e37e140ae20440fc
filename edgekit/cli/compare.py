"""`edgekit compare`: results of `edgekit profile` against each other, as ratios with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.options import Json
from edgekit.cli.output import log, print_json, table

if TYPE_CHECKING:
    from edgekit.runtime.profile.compare import Comparison, Pair
    from edgekit.runtime.profile.figures import Figure


def compare(
    a: Annotated[
        Path,
        typer.Argument(
            metavar="A.json", help="What `edgekit profile --out` wrote, or a folder of several: the one before."
        ),
    ],
    b: Annotated[Path, typer.Argument(metavar="B.json", help="The one, or the folder, to compare with it.")],
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also where inputs, batch, length, scenario or machine differ.")
    ] = False,
    fail_if_slower: Annotated[
        str | None,
        typer.Option(
            metavar="P%", help="Exit code 1 where a latency's whole 95 % interval is by more than P % above A's."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare two results: ratios B/A of latency, throughput, memory, energy and cold start, with 95 % intervals.

    Sweeps are compared point by point. With --fail-if-slower also a point that B could not measure exits with 1.

    One result of each does not tell what differs from one run to the next, and on a machine that has other work the
    check fails for nothing. For a CI profile both 4 times or more, in turns, A and B, each into a folder of its own:
    edgekit profile new.onnx --out new/1.json; then edgekit compare old new --fail-if-slower 5%.
    """
    from edgekit.core.errors import EdgekitError, UsageError
    from edgekit.runtime.profile.compare import compare as compared
    from edgekit.runtime.profile.repeated import read_repeated

    share = None if fail_if_slower is None else _share(fail_if_slower)
    found = compared(read_repeated(a), read_repeated(b), anyway=anyway)
    once, unseen = found.num_a == found.num_b == 1, [pair for pair in found.pairs if not pair.can_be_slower]
    if share is not None and len(unseen) == len(found.pairs) and not found.failed_b:
        raise UsageError(
            "expected a latency with an interval for --fail-if-slower, received none",
            hint="profile both for longer: --duration 30" if once else "profile both again, 4 times or more in all",
        )
    slower = [] if share is None else [(pair, each) for pair in found.pairs for each in pair.slower_by_more_than(share)]
    if json:
        limit = None if share is None else {"ratio": 1 + share, "slower": [_place(*each) for each in slower]}
        print_json({**found.to_json(), "fail_if_slower": limit})
    else:
        _print(found)
    for pair in found.pairs:
        for words in pair.not_same:
            log(f"warning: not the same: {words}")
        for words in pair.warnings:
            log(f"warning: {pair.name + ': ' if pair.name else ''}{words}")
    for pair in unseen if share is not None else ():
        log(
            f"warning: {pair.name + ': ' if pair.name else ''}no latency with an interval, which --fail-if-slower needs"
        )
    if share is not None and (slower or found.failed_b):
        told = [f"{_place(*each)} is {each[1].ratio.value:.3f} times that of A" for each in slower]
        told += [f"B could not measure {words}" for words in found.failed_b]
        hint = None
        if slower and once:
            hint = "one run differs from the next: edgekit compare --help says how to profile for a CI"
        elif any(pair.warnings for pair in found.pairs):
            hint = "see the warnings: profile both again where nothing else runs"
        raise EdgekitError(
            f"expected B to be at most {100 * share:g} % slower than A, received: {'; '.join(told)}", hint=hint
        )


def _share(text: str) -> float:
    """Of "5%": 0.05."""
    from edgekit.core.errors import UsageError

    try:
        percent = float(text.strip().removesuffix("%")) if text.strip().endswith("%") else -1.0
    except ValueError:
        percent = -1.0
    if not 0 <= percent < 1e6:
        raise UsageError(f"expected a percentage for --fail-if-slower, received {text!r}", hint="--fail-if-slower 5%")
    return percent / 100


def _place(pair: Pair, figure: Figure) -> str:
    return f"{figure.name} of {pair.name}" if pair.name else figure.name


def _print(found: Comparison) -> None:
    for side, result, num in (("A", found.a, found.num_a), ("B", found.b, found.num_b)):
        origin = result.origin
        path = f"{origin.path}, {num} results" if num > 1 else origin.path
        typer.echo(f"{side}: {path}: {origin.model}; {origin.device}; {origin.date}")
    for words in dict.fromkeys(words for pair in found.pairs for words in pair.differs):
        typer.echo(f"differs: {words}")
    for pair in found.pairs:
        if pair.name:
            typer.echo(f"\n{pair.name}")
        rows = [[*_cells(each), each.verdict] for each in pair.figures]
        table(["", "unit", "A", "B", "B / A", "95 % interval", ""], rows, right=(2, 3, 4))
    for words in found.only_a:
        typer.echo(f"only in A: {words}")
    for words in found.only_b:
        typer.echo(f"only in B: {words}")
    for words in found.failed_b:
        typer.echo(f"not measured in B: {words}")
    typer.echo(found.method)


def _cells(figure: Figure) -> list[str]:
    ratio = figure.ratio
    interval = "-" if ratio.low is None or ratio.high is None else f"{ratio.low:.3f} to {ratio.high:.3f}"
    value = "-" if ratio.value is None else f"{ratio.value:.3f}"
    return [figure.name, figure.unit, _value(figure.a), _value(figure.b), value, interval]


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
