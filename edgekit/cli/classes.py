"""`edgekit classes`: which classes the store holds for a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.options import BundlePath, Json, StoreRoot
from edgekit.cli.output import log, print_json, table
from edgekit.cli.stored import erase_asking, made_at

if TYPE_CHECKING:
    from edgekit.runtime.classes.library import Classes

classes = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="The class.")]


@classes.callback()
def _root() -> None:
    """Show, move and erase the classes that were enrolled for a bundle."""


@classes.command("list")
def list_classes(bundle: BundlePath, store: StoreRoot = None, json: Json = False) -> None:
    """Show the classes of a bundle: the version in use, of how many pictures, and how it is told apart."""
    from edgekit.core.errors import StoreError

    known = _classes(bundle, store)
    rows, lines = [], []
    for name in known.names():
        try:
            record, versions = known.store.open("classes", name), known.store.versions("classes", name)
        except StoreError as error:
            log(f"warning: {name}: {error.message}")  # the others are still wanted
            continue
        card = record.card
        told = {"class": card.name, "version": card.version, "versions": versions, "created": card.created}
        rows.append({**told, "details": card.details})
        pictures, threshold, method = (card.details.get(key) for key in ("num_pictures", "threshold", "method"))
        lines.append([name, card.version, len(versions), _number(pictures), _number(threshold), _word(method)])
        lines[-1].append(made_at(record))
    if json:
        print_json(rows)
    elif lines:
        header = ["class", "version", "of", "pictures", "threshold", "method", "made"]
        table(header, lines, right=(1, 2, 3, 4))
    else:
        log(f"no classes in {known.store.path}: edgekit enroll {bundle} --class NAME PICTURES makes one")


@classes.command("export")
def export_class(
    bundle: BundlePath,
    name: _Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    version: Annotated[int | None, typer.Option(help="Default: the one in use.")] = None,
    store: StoreRoot = None,
) -> None:
    """Write a class to one file, for `import` on another machine that has the same bundle."""
    from edgekit.core.errors import UsageError

    if file.is_dir():
        raise UsageError(f"expected a file, received the folder {file}")
    _classes(bundle, store).store.export("classes", name, file, version)
    log(f"written to {file}")


@classes.command("import")
def import_class(
    bundle: BundlePath,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `export` wrote.")],
    name: Annotated[str | None, typer.Option(help="Default: the name it was exported under.")] = None,
    store: StoreRoot = None,
) -> None:
    """Install a class from a file, as a new version."""
    card = _classes(bundle, store).import_from(file, name).card
    typer.echo(f"{card.name} (version {card.version})")


@classes.command("rollback")
def rollback(
    bundle: BundlePath,
    name: _Name,
    version: Annotated[int | None, typer.Option(help="Default: the one that the present one was made after.")] = None,
    store: StoreRoot = None,
) -> None:
    """Put an earlier version back in use."""
    card = _classes(bundle, store).store.rollback("classes", name, version).card
    typer.echo(f"{card.name} (version {card.version})")


@classes.command("forget")
def forget(
    bundle: BundlePath,
    name: _Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreRoot = None,
) -> None:
    """Erase all that is known of a class for this bundle. The others answer as before."""
    erase_asking(_classes(bundle, store).store, "classes", name, store, yes=yes)


def _classes(bundle: Path, store: Path | None) -> Classes:
    from edgekit.core.bundle import open_bundle
    from edgekit.runtime.classes.library import Classes

    return Classes(open_bundle(bundle), store)


def _number(value: Any) -> str:
    """A figure of a card, which was perhaps imported and may hold anything."""
    if type(value) is int:
        return str(value)
    return f"{value:.3f}" if type(value) is float else "-"


def _word(value: Any) -> str:
    return value if value in ("csca", "nearest prototype") else "-"
