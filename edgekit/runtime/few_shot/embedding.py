"""Pictures of classes to embeddings by a bundle, kept by what they were made of, so that the next run has them at once.

The key is the SHA-256 of all that they depend on: the files of the bundle's graph and its preprocessing, where it ran,
the version of edgekit, and the name, size, time of change and class of each picture.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

import edgekit
from edgekit.core.errors import DataError, EdgekitError, PictureError
from edgekit.core.files import write_atomic
from edgekit.runtime.few_shot.features import Features, read_features
from edgekit.runtime.few_shot.layouts import ClassPictures
from edgekit.runtime.layouts import Skipped
from edgekit.runtime.tasks.image_classification import ImageClassification

Report = Callable[[int, int], None]
"""Called with the number of pictures that are done, and of all."""


@dataclass(frozen=True)
class Embedded:
    """What became of the pictures.

    Attributes:
        skipped: pictures that cannot be read, and why.
        cached: they were kept of an earlier run.
        not_kept: why the next run will not find them; None: it will.
    """

    features: Features
    skipped: tuple[Skipped, ...]
    cached: bool
    not_kept: str | None = None


def default_cache() -> Path:
    """Where embeddings are kept unless `--cache` says otherwise."""
    return user_cache_path("edgekit") / "embeddings"


def embed_classes(
    classifier: ImageClassification,
    pictures: ClassPictures,
    cache: Path | None = None,
    report: Report = lambda done, total: None,
) -> Embedded:
    """The embeddings of all pictures that can be read.

    Args:
        cache: the folder of what is kept; None: the platform's.

    Raises:
        DataError: none can be read.
    """
    file = (cache or default_cache()) / f"{_key(classifier, pictures)}.npz"
    if file.is_file():
        try:
            return Embedded(read_features(file), _read_skipped(file), cached=True)
        except (DataError, LookupError):
            pass  # damaged: made again
    rows: list[np.ndarray] = []
    labels: list[str] = []
    skipped: list[Skipped] = []
    for start in range(0, len(pictures.paths), classifier.most_together):
        part = slice(start, start + classifier.most_together)
        group, names = pictures.paths[part], pictures.labels[part]
        try:
            rows.append(classifier.embed(group))
            labels += names
        except PictureError:  # which of them shows when each is alone
            for path, name in zip(group, names):
                try:
                    rows.append(classifier.embed([path]))
                    labels.append(name)
                except PictureError as error:
                    skipped.append(Skipped(path, error.message))
        report(min(part.stop, len(pictures.paths)), len(pictures.paths))
    if not rows:
        raise DataError(f"expected pictures that can be read in {pictures.root}, the first: {skipped[0].reason}")
    embeddings, names_n = np.concatenate(rows), np.array(labels)
    features = Features.of(embeddings, names_n)
    content = io.BytesIO()
    left_out = np.array([(str(each.path), each.reason) for each in skipped], str).reshape(-1, 2)
    np.savez(content, embeddings=embeddings, labels=names_n, skipped=left_out)
    not_kept = None
    try:
        write_atomic(file, content.getvalue())
    except EdgekitError as error:
        not_kept = error.message  # what took so long is still wanted
    return Embedded(features, tuple(skipped), cached=False, not_kept=not_kept)


def _read_skipped(file: Path) -> tuple[Skipped, ...]:
    with np.load(file, allow_pickle=False) as archive:
        return tuple(Skipped(Path(path), reason) for path, reason in archive["skipped"].tolist())


def _key(classifier: ImageClassification, pictures: ClassPictures) -> str:
    manifest = classifier.bundle.manifest
    # one precision may be built anew, from other pictures to calibrate with
    files = [file.sha256 for artifact in manifest.graphs["infer"].artifacts for file in artifact.files]
    described = [edgekit.__version__, files, manifest.features, manifest.output, str(classifier.session)]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for path, label in zip(pictures.paths, pictures.labels):
        status = path.stat()
        told = [str(path.resolve()), status.st_size, status.st_mtime_ns, label]
        digest.update(json.dumps(told).encode())
    return digest.hexdigest()
