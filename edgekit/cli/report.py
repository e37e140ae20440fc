"""`edgekit report`: results of `edgekit profile` as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.output import log


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT.json...",
            help="What `edgekit profile --out` wrote; `edgekit benchmark asr --json` beside them adds the accuracy.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page; default: the first result's name with .html.")
    ] = None,
) -> None:
    """Draw results as one HTML page: latency, throughput, energy, accuracy, sensors, layers, and what spoilt them."""
    from edgekit.core.errors import UsageError
    from edgekit.runtime.profile.report.page import write_report

    page = results[0].parent / f"{results[0].stem}.html" if out is None else out
    if page.is_dir() or (page.exists() and any(each.exists() and page.samefile(each) for each in results)):
        raise UsageError(f"expected a file of its own for the page, received {page}", hint="--out page.html")
    write_report(results, page)
    log(f"written to {page}")
