"""The command line: parse, one library call, print, map errors. Heavy imports stand inside the commands."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from edgekit.cli.adapt import adapt
from edgekit.cli.benchmark import benchmark
from edgekit.cli.build import build
from edgekit.cli.classes import classes
from edgekit.cli.classify import classify
from edgekit.cli.compare import compare
from edgekit.cli.data import data
from edgekit.cli.demo import demo
from edgekit.cli.devices import devices
from edgekit.cli.doctor import doctor
from edgekit.cli.enroll import enroll
from edgekit.cli.export import export
from edgekit.cli.inspect import inspect
from edgekit.cli.list import list_families
from edgekit.cli.output import shown
from edgekit.cli.profile import profile
from edgekit.cli.report import report
from edgekit.cli.speakers import speakers
from edgekit.cli.train import train
from edgekit.cli.transcribe import transcribe
from edgekit.cli.verify import verify
from edgekit.core.errors import EdgekitError

_LINES = "\n\t"
"""Of a message of several lines."""

app = typer.Typer(
    name="edgekit",
    help="Train small models, export them to checked bundles, run, personalise and measure them at the edge.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("list")(list_families)
app.command("inspect")(inspect)
app.command("doctor")(doctor)
app.command("devices")(devices)
app.command("train")(train)
app.command("export")(export)
app.command("build")(build)
app.command("verify")(verify)
app.command("transcribe")(transcribe)
app.command("classify")(classify)
app.command("enroll")(enroll)
app.command("adapt")(adapt)
app.command("profile")(profile)
app.command("report")(report)
app.command("compare")(compare)
app.add_typer(speakers, name="speakers")
app.add_typer(classes, name="classes")
app.add_typer(benchmark, name="benchmark")
app.add_typer(data, name="data")
app.add_typer(demo, name="demo")


def _version(show: bool) -> None:
    if show:
        from edgekit import __version__

        typer.echo(f"edgekit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train small models, export them to checked bundles, run, personalise and measure them at the edge."""


def main() -> None:
    """Run the command line. Exit codes: 0, 1 (failed), 2 (wrong usage), 130 (interrupted)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # a file's name need not be text; what stands for such a byte is JSON's own escape
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except EdgekitError as error:
        # names of files and classes must not command the terminal
        print(f"error: {shown(error.message, keep=_LINES)}", file=sys.stderr)
        if error.hint:
            print(f"hint:  {shown(error.hint, keep=_LINES)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as leaving:
        # typer and rich leave with 1 where the reader of our output has closed it (`| head`), but nothing failed
        if isinstance(leaving.__context__, BrokenPipeError):
            sys.exit(0)
        raise
