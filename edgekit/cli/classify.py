"""`edgekit classify`: what pictures show, by the bundle's own classes or by those that were enrolled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.options import AllowFallback, Backend, BundlePath, Device, Json, Precision, StoreRoot, Threads
from edgekit.cli.output import log, print_json, shown
from edgekit.cli.picture_files import picture_files

if TYPE_CHECKING:
    from edgekit.core.errors import EdgekitError
    from edgekit.runtime.tasks.image_classification import Classification, ImageClassification


def classify(
    bundle: BundlePath,
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURE", help="Pictures, or folders: all pictures in and below them.")
    ],
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many classes of each.")] = 5,
    backend: Backend = None,
    device: Device = None,
    precision: Precision = "fp32",
    threads: Threads = None,
    allow_fallback: AllowFallback = False,
    batch: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Pictures that are computed together, 8 at most; fewer where the graph takes fewer.",
        ),
    ] = 8,
    enrolled: Annotated[
        bool | None,
        typer.Option(
            "--enrolled/--own",
            help="Answer with the classes of `edgekit enroll`, or that it is unknown; or with the bundle's own. "
            "Default: its own, where it has such.",
            show_default=False,
        ),
    ] = None,
    store: StoreRoot = None,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Draw a PNG of each: where the model sees the object and how it is laid out."),
    ] = None,
    allow_random_weights: Annotated[
        bool, typer.Option("--allow-random-weights", help="Answer although the answers mean nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Say what pictures show.

    Prints a line for each picture and class, the likeliest first: file, class, probability, with tabs between. With
    enrolled classes the first may be `unknown`, and scores, -1 to 1, stand in the place of probabilities.
    """
    from edgekit.core.errors import EdgekitError, UsageError
    from edgekit.runtime.tasks import load
    from edgekit.runtime.tasks.image_classification import ImageClassification

    files = [file for path in pictures for file in picture_files(path)]
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
    # what hinders all of them is said before the first
    enrolled = classifier.require_classes(enrolled, allow_random_weights) is not None
    drawn = iter(_drawings(classifier, files, explain)) if explain is not None else None
    records, failed = [], 0
    for path, answer in _answers(classifier, files, batch, top, enrolled):
        drawing = None if drawn is None else next(drawn)
        if not isinstance(answer, EdgekitError) and drawing is not None:
            try:
                _draw(classifier, path, answer, drawing)
            except EdgekitError as error:
                if len(files) == 1:
                    raise
                # what it shows is still wanted
                log(f"error: {shown(error.message)}")
                failed, drawing = failed + 1, None
        if isinstance(answer, EdgekitError):
            if len(files) == 1:
                raise answer
            # the other pictures are still wanted
            log(f"error: {shown(answer.message)}")
            failed += 1
            continue
        if not json:
            for name, value in _lines(answer)[:top]:
                typer.echo(f"{shown(str(path))}\t{shown(name)}\t{value:.4f}")
        told = {} if drawing is None else {"explanation": str(drawing)}
        records.append({"picture": str(path), **answer.to_json(), **told})
    if json:
        print_json({"session": str(classifier.session), "pictures": records})
    elif explain is not None:
        log(f"drawn in {shown(str(explain))}: {sum('explanation' in record for record in records)}")
    if failed:
        raise typer.Exit(1)


def _lines(answer: Classification) -> list[tuple[str, float]]:
    """Classes with their values; before them `unknown`, with the score of the nearest, where the picture is of none."""
    values = [each.score if answer.enrolled else each.probability for each in answer.classes]
    lines = [(each.name, value) for each, value in zip(answer.classes, values) if value is not None]
    if answer.name is not None:
        return lines
    from edgekit.runtime.classes.library import UNKNOWN  # which the bundle's own classes never need

    return [(UNKNOWN, lines[0][1]), *lines]


def _answers(
    classifier: ImageClassification, files: Sequence[Path], batch: int, top: int, enrolled: bool
) -> Iterator[tuple[Path, Classification | EdgekitError]]:
    """Each picture's answer, or why it has none, in order."""
    from edgekit.core.errors import EdgekitError

    batch = min(batch, classifier.most_together)
    for start in range(0, len(files), batch):
        group = files[start : start + batch]
        if len(group) > 1:
            try:
                found = classifier.classify(list(group), top=top, enrolled=enrolled, allow_random_weights=True)
            except EdgekitError:
                pass  # which of them cannot be answered shows when each is alone
            else:
                yield from zip(group, found)
                continue
        for path in group:
            try:
                yield path, classifier.classify(path, top=top, enrolled=enrolled, allow_random_weights=True)
            except EdgekitError as error:
                yield path, error


def _drawings(classifier: ImageClassification, files: Sequence[Path], folder: Path) -> list[Path]:
    """A file for each picture; over an earlier drawing, but over nothing else that is there.

    Raises:
        BundleError: the bundle has no graph that explains.
        EdgekitError: the folder cannot be made.
    """
    from edgekit.core.files import explained
    from edgekit.runtime.explain import is_drawing

    _ = classifier.explaining
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    # whatever the case: some file systems know none
    taken, drawings = {str(file.absolute()).casefold() for file in files}, []
    for file in files:
        letters = (letter if letter.isalnum() or letter in "-_." else "_" for letter in file.stem)
        stem, number = "".join(letters)[:60] or "_", 1
        drawing = folder / f"{stem}.png"
        while str(drawing.absolute()).casefold() in taken or not is_drawing(drawing):
            number += 1
            drawing = folder / f"{stem}-{number}.png"
        taken.add(str(drawing.absolute()).casefold())
        drawings.append(drawing)
    return drawings


def _draw(classifier: ImageClassification, path: Path, answer: Classification, drawing: Path) -> None:
    from edgekit.core.files import write_atomic
    from edgekit.runtime.explain import draw, png

    name, value = _lines(answer)[0]
    image = draw(classifier.pixels.resized(path), classifier.explain(path), f"{path.name}: {name} {value:.2f}")
    write_atomic(drawing, png(image))
