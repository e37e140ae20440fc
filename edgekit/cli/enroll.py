"""`edgekit enroll`: new classes from a few pictures of each, on the device."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.options import AllowFallback, Backend, BundlePath, Device, Json, Precision, StoreRoot, Threads
from edgekit.cli.output import log, print_json, table
from edgekit.cli.picture_files import different_files, picture_files

if TYPE_CHECKING:
    from edgekit.core.record import Record


def enroll(
    bundle: BundlePath,
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PICTURE", help="Pictures of the class, or folders: all pictures in and below them."),
    ] = None,
    name: Annotated[str | None, typer.Option("--class", metavar="NAME", help="What the pictures show.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="In place of --class: several classes together, a folder of pictures for each."
        ),
    ] = None,
    store: StoreRoot = None,
    backend: Backend = None,
    device: Device = None,
    precision: Precision = "fp32",
    threads: Threads = None,
    allow_fallback: AllowFallback = False,
    json: Json = False,
) -> None:
    """Enrol classes from 1 to 20 pictures of each; `edgekit classify --enrolled` then answers with them.

    Kept are two vectors and two scores of each class, and no picture. Classes that come together are fitted together;
    those that are there already stay as they are. One of the same name gets a new version, of the new pictures alone.
    A picture that a class has twice counts once; where one cannot be read, nothing is enrolled.
    """
    from edgekit.core.errors import UsageError
    from edgekit.runtime.classes.library import check_class_names
    from edgekit.runtime.tasks import load
    from edgekit.runtime.tasks.image_classification import ImageClassification

    if (name is None) == (folder is None) or (folder is not None) == bool(pictures):
        raise UsageError(
            "expected a class and its pictures, or a folder of classes",
            hint=f"edgekit enroll {bundle} --class NAME PICTURES, or --folder DIR",
        )
    asked = _asked(name, pictures or [], folder)
    check_class_names(asked)
    classifier = load(
        bundle,
        backend=backend,
        device=device,
        precision=precision,
        num_threads=threads,
        allow_fallback=allow_fallback,
        store=store,
    )
    if not isinstance(classifier, ImageClassification):
        raise UsageError(
            f"expected a bundle for image-classification, {bundle} is for {classifier.bundle.manifest.task}"
        )
    if classifier.bundle.manifest.weights == "random":
        log("warning: random weights: what is enrolled will mean little")
    known = classifier.enrolled.names()
    check_class_names(asked, known)
    begun = time.perf_counter()
    embedded = {each: classifier.embed(files) for each, files in asked.items()}
    embedded_s = time.perf_counter()
    records = classifier.enrolled.enrol(embedded)
    enrol_ms = 1000 * (time.perf_counter() - embedded_s)
    rows = [_described(record) for record in records]
    if json:
        timing = {"embed_ms": round(1000 * (embedded_s - begun), 2), "enrol_ms": round(enrol_ms, 2)}
        print_json({"session": str(classifier.session), "num_known_before": len(known), **timing, "classes": rows})
        return
    cells = [
        [row["class"], row["version"], row["num_pictures"], row["method"], _score(row["threshold"])] for row in rows
    ]
    table(["class", "version", "pictures", "method", "threshold"], cells, right=(1, 2, 4))
    if lacking := [row["class"] for row in rows if row["threshold"] is None]:
        log(
            f"warning: nothing will be unknown for {', '.join(lacking)}: enrol a second class, "
            "or give three pictures of it or more"
        )
    log(f"{enrol_ms:.0f} ms beside {1000 * (embedded_s - begun):.0f} ms for the features; {_told(records[0])}")


def _asked(name: str | None, pictures: Sequence[Path], folder: Path | None) -> dict[str, list[Path]]:
    """The pictures of each class, none of them twice.

    Raises:
        DataError: no folder, no folders in it, or more pictures than are enrolled together.
        PictureError: a folder without pictures.
    """
    from edgekit.core.errors import DataError
    from edgekit.runtime.classes.enrolment import MOST_PICTURES

    if folder is None:
        found = {name or "": [file for path in pictures for file in picture_files(path)]}
    else:
        found = _inside(folder)
    if (num := sum(map(len, found.values()))) > MOST_PICTURES:
        raise DataError(
            f"expected 1 to 20 pictures of each class, {MOST_PICTURES} of all at most; received {num}",
            hint="enrol fewer at a time; of so many, edgekit train classifier learns better",
        )
    different = {each: different_files(files) for each, files in found.items()}
    if twice := num - sum(map(len, different.values())):
        log(f"warning: {twice} of {num} pictures are there twice and count once")
    return different


def _inside(folder: Path) -> dict[str, list[Path]]:
    """The pictures of each folder in it; raises as `_asked`."""
    from edgekit.core.errors import DataError
    from edgekit.core.files import explained

    with explained(folder):
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        names = [path.name for path in inside if path.is_dir() and not path.name.startswith(".")]
    if not names:
        raise DataError(f"expected a folder of pictures for each class in {folder}, there is none", hint=f"ls {folder}")
    return {each: picture_files(folder / each) for each in names}


def _described(record: Record) -> dict[str, Any]:
    details = record.card.details
    told = {key: details[key] for key in ("num_pictures", "method", "threshold", "own_score", "leave_one_out")}
    return {"class": record.card.name, "version": record.card.version, "created": record.card.created, **told}


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _told(record: Record) -> str:
    """How well the pictures are told apart when left out, or why nobody knows."""
    told = record.card.details["leave_one_out"]
    if told["before"] is None:
        return "with one picture of each, or one class, nothing tells how well they are told apart"
    return (
        f"of {told['num_pictures']} pictures, each left out, {told['before']:.0%} are recognised by the mean alone and "
        f"{told['after']:.0%} with the weights, which saw them"
    )
