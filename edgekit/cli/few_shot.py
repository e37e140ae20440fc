"""`edgekit benchmark few-shot`: how well classes are told apart from a few pictures of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.options import AllowFallback, Backend, Device, Json, Precision, Threads
from edgekit.cli.output import log, print_json, progress_bar, table

if TYPE_CHECKING:
    from edgekit.runtime.few_shot.episodes import EpisodeSettings
    from edgekit.runtime.few_shot.features import Features
    from edgekit.runtime.few_shot.intervals import Mean
    from edgekit.runtime.few_shot.layouts import ClassPictures
    from edgekit.runtime.tasks.image_classification import ImageClassification

_NUM_SKIPPED = 5


def few_shot(
    bundle: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE|FEATURES",
            help="A bundle that embeds pictures; or, alone, an .npz file of embeddings [n, C] and labels [n].",
        ),
    ],
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="Pictures of classes: a folder in one of the layouts.")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="folders (one per class), csv (miniImageNet, tieredImageNet), lists (CIFAR-FS), cub, or json "
            "(base.json, val.json, novel.json); default: as it looks."
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Which classes: novel (test), validation, or base (train), where the layout tells.")
    ] = "novel",
    limit: Annotated[int | None, typer.Option(min=2, help="At most so many pictures of each class.")] = None,
    ways: Annotated[int, typer.Option(min=2, help="Classes of an episode.")] = 5,
    shots: Annotated[int, typer.Option(min=1, help="Labelled pictures of each class.")] = 5,
    queries: Annotated[int, typer.Option(min=1, help="Pictures of each class that are to be told apart.")] = 15,
    episodes: Annotated[int, typer.Option(min=1, help="How many; the authors of CSCA take 10000.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="The number of the first episode, which draws it.")] = 0,
    power: Annotated[bool, typer.Option("--power", help="Square root of each value first.")] = False,
    l2: Annotated[bool, typer.Option("--l2", help="Vectors of length 1 first.")] = False,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Base classes, whose mean is taken away first: an .npz file, or the base part of DATA (as it is "
            "usual) or of another set (cross-domain).",
        ),
    ] = None,
    backend: Backend = None,
    device: Device = None,
    precision: Precision = "fp32",
    threads: Threads = None,
    allow_fallback: AllowFallback = False,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where embeddings are kept; default: the user's cache.")
    ] = None,
    json: Json = False,
    out: Annotated[Path | None, typer.Option(help="Also write the result to this JSON file.")] = None,
) -> None:
    """Accuracy over episodes, with 95 % intervals, of CSCA beside nearest prototype and other controls.

    Every query is answered alone (inductive). Embeddings are kept: the next run on the same pictures has them at once.
    """
    import json as jsonlib
    import os
    import shlex
    import sys

    from edgekit.core.errors import UsageError
    from edgekit.core.files import write_atomic
    from edgekit.runtime.few_shot.benchmark import benchmark_few_shot
    from edgekit.runtime.few_shot.episodes import EpisodeSettings
    from edgekit.runtime.few_shot.preprocessing import Preprocessing

    settings = EpisodeSettings(ways, shots, queries, episodes, seed)
    if out is not None and out.is_dir():
        raise UsageError(f"expected a file for --out, received the folder {out}")
    classifier = None
    if data is not None:
        classifier = _classifier(bundle, backend, device, precision, threads, allow_fallback)
    elif bundle.is_dir():
        raise UsageError(f"expected pictures for {bundle}", hint=f"edgekit benchmark few-shot {bundle} DATA")
    source = data or bundle
    if _of_embeddings(source, classifier) and (layout is not None or limit is not None or split != "novel"):
        raise UsageError(f"--layout, --split and --limit are for pictures, {source} holds embeddings")
    with progress_bar() as bar:

        def report(done: int, total: int) -> None:
            bar(done, total, done / total)

        features, described, pictures = _source(source, classifier, layout, split, limit, cache, report, settings)
        base_features, base_described = None, None
        if base is not None:
            same = os.path.realpath(base) == os.path.realpath(source)
            base_features, base_described, base_pictures = _source(
                base, classifier, layout if same else None, "base", limit, cache, report
            )
            _require_apart(base, features, base_features, pictures, base_pictures)
        result = benchmark_few_shot(
            features,
            settings,
            Preprocessing(power, l2, None if base_features is None else base_features.embeddings),
            data={**described, "base": base_described},
            command=shlex.join(["edgekit", *sys.argv[1:]]),
            report=report,
        )
    if left_out := result.context["data"]["num_classes_left_out"]:
        log(f"{left_out} of {len(features.classes)} classes have too few pictures and are left out")
    if classifier is not None and classifier.bundle.manifest.weights == "random":
        log("warning: random weights: the accuracies are real, but say nothing of a trained backbone")
    if out is not None:
        text = jsonlib.dumps(result.to_json(), indent=2, ensure_ascii=False) + "\n"
        write_atomic(out, text.encode("utf-8", "backslashreplace"))
        log(f"written to {out}")
    if json:
        print_json(result.to_json())
        return
    header = [f"{ways}-way {shots}-shot", "accuracy, %", "beside nearest prototype, points", ""]
    rows = [[arm.name, _percent(arm.accuracy), _percent(arm.gain, signed=True), arm.note] for arm in result.arms]
    table(header, rows, right=(1, 2))
    log(f"episodes: {episodes}, from number {seed}; intervals are of 95 %, over episodes of these classes")


def _classifier(
    bundle: Path, backend: str | None, device: str | None, precision: str, threads: int | None, allow_fallback: bool
) -> ImageClassification:
    from edgekit.core.errors import UsageError
    from edgekit.runtime.tasks import load
    from edgekit.runtime.tasks.image_classification import ImageClassification

    loaded = load(
        bundle,
        backend=backend,
        device=device,
        precision=precision,
        num_threads=threads,
        allow_fallback=allow_fallback,
    )
    if not isinstance(loaded, ImageClassification):
        raise UsageError(f"expected a bundle for image-classification, {bundle} is for {loaded.bundle.manifest.task}")
    return loaded


def _source(
    path: Path,
    classifier: ImageClassification | None,
    layout: str | None,
    split: str,
    limit: int | None,
    cache: Path | None,
    report: Callable[[int, int], None],
    settings: EpisodeSettings | None = None,
) -> tuple[Features, dict[str, Any], ClassPictures | None]:
    """Embeddings of a file, or of pictures by the bundle; with what the record says of them.

    Args:
        settings: of the episodes that these classes must be enough for, before any picture is embedded.
    """
    import os
    from collections import Counter

    from edgekit.runtime.few_shot.embedding import embed_classes
    from edgekit.runtime.few_shot.features import read_features
    from edgekit.runtime.few_shot.layouts import read_class_pictures

    if classifier is None or _of_embeddings(path, classifier):
        return read_features(path), {"path": str(path)}, None
    # told apart from base classes by where they lie, however that is spelled
    pictures = read_class_pictures(Path(os.path.realpath(path)), split, layout)
    if limit is not None:
        pictures = pictures.first(limit)
    if settings is not None:
        settings.require(list(Counter(pictures.labels).values()))
    embedded = embed_classes(classifier, pictures, cache, report)
    for each in embedded.skipped[:_NUM_SKIPPED]:
        log(f"left out {each.path}: {each.reason}")
    if embedded.not_kept is not None:
        log(f"warning: the embeddings are not kept for the next run: {embedded.not_kept}")
    described = {
        "path": str(path),
        "layout": pictures.layout,
        "split": pictures.split,
        "limit": limit,
        "num_missing": pictures.num_missing,
        "num_skipped": len(embedded.skipped),
        "embedded_by": str(classifier.session),
        "bundle": {"core": classifier.bundle.manifest.core_hash, "family": classifier.bundle.manifest.family},
    }
    return embedded.features, described, pictures


def _of_embeddings(path: Path, classifier: ImageClassification | None) -> bool:
    return classifier is None or path.suffix == ".npz"


def _require_apart(
    path: Path,
    features: Features,
    base_features: Features,
    pictures: ClassPictures | None,
    base_pictures: ClassPictures | None,
) -> None:
    """Base classes that are also measured would tell of pictures that are to be answered."""
    import numpy as np

    from edgekit.core.errors import DataError

    rows = {row.tobytes() for row in base_features.embeddings}
    alike = np.array([row.tobytes() in rows for row in features.embeddings])
    # a picture may be in a set twice, but not most of a class
    counts = np.bincount(features.labels), np.bincount(features.labels, alike)
    classes = {features.classes[index] for index in np.flatnonzero(counts[1] > counts[0] / 2)}
    shared = int(alike.sum())
    if pictures is not None and base_pictures is not None:
        same = set(pictures.paths) & set(base_pictures.paths)
        shared = max(shared, len(same))
        classes |= {label for file, label in zip(pictures.paths, pictures.labels) if file in same}
        if pictures.root == base_pictures.root:
            classes |= set(pictures.labels) & set(base_pictures.labels)
    if classes:
        raise DataError(
            f"expected base classes apart from those that are measured, {path} has {shared} of the same pictures and "
            f"{len(classes)} of the same classes",
            hint="--base with another set, or one whose layout tells base from novel classes",
        )


def _percent(mean: Mean | None, *, signed: bool = False) -> str:
    if mean is None:
        return "-"
    around = "" if mean.half_width is None else f" ± {100 * mean.half_width:.2f}"
    return f"{100 * mean.mean:{'+' if signed else ''}.2f}{around}"
