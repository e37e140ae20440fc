"""Embeddings with their classes: what episodes are drawn from."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.core.errors import DataError

_WRITE = "numpy.savez(FILE, embeddings=[n, C], labels=[n]) writes such a file"


@dataclass(frozen=True)
class Features:
    """Pictures as a frozen backbone sees them.

    Attributes:
        embeddings: float32 `[n, C]`, finite.
        labels: int [n], into `classes`.
        classes: the names of the classes, sorted.
    """

    embeddings: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    @classmethod
    def of(cls, embeddings: np.ndarray, labels: np.ndarray) -> Features:
        """From embeddings of real numbers `[n, C]` and labels [n], whole numbers or text.

        Raises:
            DataError: other shapes or types, no embeddings, or values that are not finite in float32.
        """
        if embeddings.ndim != 2 or embeddings.dtype.kind not in "fiu" or 0 in embeddings.shape:
            raise DataError(f"expected embeddings [n, C] of real numbers, received {_told(embeddings)}")
        if labels.shape != embeddings.shape[:1] or labels.dtype.kind not in "iuU":
            raise DataError(f"expected {len(embeddings)} labels, whole numbers or text, received {_told(labels)}")
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(embeddings, np.float32)
        if not np.isfinite(values).all():
            raise DataError("expected finite embeddings, received NaN or infinity among them")
        names, indices = np.unique(labels, return_inverse=True)
        return cls(values, indices.reshape(-1), tuple(str(name) for name in names))


def read_features(path: Path | str) -> Features:
    """Read `embeddings` `[n, C]` and `labels` [n] from a file of `numpy.savez`; nothing pickled is read.

    Raises:
        DataError: no such file, or its arrays are missing or unfit.
    """
    try:
        opened = np.load(path, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise DataError(f"expected an .npz file, {path} holds one array", hint=_WRITE)
        with opened as archive:
            missing = {"embeddings", "labels"} - set(archive.files)
            if missing:
                found = ", ".join(archive.files) or "nothing"
                raise DataError(f"expected embeddings and labels in {path}, received {found}", hint=_WRITE)
            embeddings, labels = archive["embeddings"], archive["labels"]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", hint=_WRITE) from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"expected an .npz file of numbers and text, {path} is none: {error}", hint=_WRITE) from error
    try:
        return Features.of(embeddings, labels)
    except DataError as error:
        raise DataError(f"{path}: {error.message}", hint=_WRITE) from error


def _told(array: np.ndarray) -> str:
    return f"{array.dtype}{list(array.shape)}"
