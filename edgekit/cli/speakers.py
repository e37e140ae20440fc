"""`edgekit speakers`: whose weights the store holds for a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.options import Json, OptionalBundlePath, StoreRoot
from edgekit.cli.output import log, print_json, table
from edgekit.cli.stored import erase_asking, made_at

if TYPE_CHECKING:
    from edgekit.core.record import Record
    from edgekit.runtime.speakers import Speakers

speakers = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_SHORT_BUNDLE = "The folder that `edgekit export` wrote; left out: the built-in model."
_Bundle = Annotated[str | None, typer.Argument(metavar="BUNDLE", help=_SHORT_BUNDLE)]
_Name = Annotated[str | None, typer.Argument(metavar="NAME", help="The speaker.")]


@speakers.callback()
def _root() -> None:
    """Show, move and erase the speakers that `edgekit adapt` made for a bundle."""


@speakers.command("list")
def list_speakers(bundle: OptionalBundlePath = None, store: StoreRoot = None, json: Json = False) -> None:
    """Show the speakers of a bundle: the version in use, what it was made of, and what it gained."""
    from edgekit.core.errors import StoreError

    known = _speakers(bundle, store)
    rows, lines = [], []
    for name in known.names():
        try:
            record, versions = known.store.open("speakers", name), known.store.versions("speakers", name)
        except StoreError as error:
            log(f"warning: {name}: {error.message}")  # the others are still wanted
            continue
        rows.append(_described(record, versions))
        lines.append([name, record.card.version, len(versions), *_figures(record.card.details), made_at(record)])
    if json:
        print_json(rows)
    elif lines:
        table(["speaker", "version", "of", "speech", "WER", "loss", "made"], lines, right=(1, 2, 3, 4, 5))
    else:
        log(f"no speakers in {known.store.path}: edgekit adapt BUNDLE --speaker NAME DATA makes one")


@speakers.command("show")
def show(bundle: _Bundle = None, name: _Name = None, store: StoreRoot = None, json: Json = False) -> None:
    """Show a speaker: each version, and all that is known of the one in use."""
    import json as jsonlib

    bundle, name = _shifted("show [BUNDLE] NAME", bundle, name)
    known = _speakers(bundle, store)
    record, versions = known.store.open("speakers", name), known.store.versions("speakers", name)
    if json:
        print_json({**_described(record, versions), "path": str(record.path)})
        return
    rows = []
    for number in versions:
        made = known.store.open("speakers", name, number)
        rows.append(
            [f"{number}{' *' if number == record.card.version else ''}", *_figures(made.card.details), made_at(made)]
        )
    table(["version (* in use)", "speech", "WER", "loss", "made"], rows, right=(1, 2, 3))
    # JSON writes no control characters, which an imported card may hold
    typer.echo(jsonlib.dumps(record.card.details, indent=2))
    typer.echo(f"files: {record.path}")


@speakers.command("export")
def export_speaker(
    bundle: _Bundle = None,
    name: _Name = None,
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="The file to write.")] = None,
    version: Annotated[int | None, typer.Option(help="Default: the one in use.")] = None,
    store: StoreRoot = None,
) -> None:
    """Write a speaker to one file, for `import` on another machine that has the same bundle."""
    from edgekit.core.errors import UsageError

    bundle, name, file = _shifted("export [BUNDLE] NAME FILE", bundle, name, file)
    if Path(file).is_dir():
        raise UsageError(f"expected a file, received the folder {file}")
    _speakers(bundle, store).store.export("speakers", name, file, version)
    log(f"written to {file}")


@speakers.command("import")
def import_speaker(
    bundle: _Bundle = None,
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="What `export` wrote.")] = None,
    name: Annotated[str | None, typer.Option(help="Default: the name it was exported under.")] = None,
    store: StoreRoot = None,
) -> None:
    """Install a speaker from a file, as a new version."""
    bundle, file = _shifted("import [BUNDLE] FILE", bundle, file)
    card = _speakers(bundle, store).import_from(file, name).card
    typer.echo(f"{card.name} (version {card.version})")


@speakers.command("rollback")
def rollback(
    bundle: _Bundle = None,
    name: _Name = None,
    version: Annotated[int | None, typer.Option(help="Default: the one that the present one was made after.")] = None,
    store: StoreRoot = None,
) -> None:
    """Put an earlier version back in use."""
    bundle, name = _shifted("rollback [BUNDLE] NAME", bundle, name)
    card = _speakers(bundle, store).store.rollback("speakers", name, version).card
    typer.echo(f"{card.name} (version {card.version})")


@speakers.command("forget")
def forget(
    bundle: _Bundle = None,
    name: _Name = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreRoot = None,
) -> None:
    """Erase all that is known of a speaker for this bundle: every version, and what was left to resume."""
    bundle, name = _shifted("forget [BUNDLE] NAME", bundle, name)
    erase_asking(_speakers(bundle, store).store, "speakers", name, store, yes=yes)


def _shifted(usage: str, *arguments: str | None) -> tuple[Any, ...]:
    """The arguments, of which the first may be left out. They are counted: a name may also be a folder's."""
    from edgekit.core.errors import UsageError

    given = [argument for argument in arguments if argument is not None]
    if len(given) < len(arguments) - 1:
        raise UsageError(f"expected {usage}, received {' '.join(given) or 'nothing'}")
    return arguments if len(given) == len(arguments) else (None, *given)


def _speakers(bundle: Path | str | None, store: Path | None) -> Speakers:
    from edgekit.core.bundle import open_bundle
    from edgekit.runtime.builtin import builtin_bundle
    from edgekit.runtime.speakers import Speakers

    return Speakers(open_bundle(bundle or builtin_bundle()), store)


def _described(record: Record, versions: list[int]) -> dict[str, Any]:
    card = record.card
    data = {"speaker": card.name, "version": card.version, "versions": versions, "created": card.created}
    return {**data, "details": card.details}


def _figures(details: dict[str, Any]) -> tuple[str, str, str]:
    """Seconds of speech, word error rate and loss before and after; "-" for what a card does not tell."""
    held_back = _part(details, "held_back")
    before, after = _part(held_back, "before"), _part(held_back, "after")
    return (
        _numbers("{:.0f} s", details.get("speech_s")),
        _numbers("{:.1%} -> {:.1%}", before.get("wer"), after.get("wer")),
        _numbers("{:.3f} -> {:.3f}", before.get("loss"), after.get("loss")),
    )


def _part(data: dict[str, Any], key: str) -> dict[str, Any]:
    part = data.get(key)
    return part if isinstance(part, dict) else {}


def _numbers(form: str, *values: object) -> str:
    return form.format(*values) if all(type(value) in (int, float) for value in values) else "-"
