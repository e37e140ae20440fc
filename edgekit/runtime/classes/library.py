"""The classes of a bundle: enrolled into the store, and asked which of them a picture's embedding is of.

What is enrolled, rolled back or forgotten meanwhile, in this process or another, counts for the next question.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BundleError, SignatureError, StoreError
from edgekit.core.record import Record, check_name, unpack
from edgekit.core.store import Store
from edgekit.runtime.classes.csca import CscaSettings
from edgekit.runtime.classes.enrolment import EnrolledClass, enrol
from edgekit.runtime.classes.file import FILE, KIND, install, read_class
from edgekit.runtime.classes.scoring import FoldedClasses

_Stamp = tuple[int, int, int]
UNKNOWN = "unknown"
"""What a person reads for a picture of no class; no class may be called so."""
NUM_RIVALS = 64
"""Known classes that new ones are fitted against, the nearest: the others cost, and change little that matters."""


@dataclass(frozen=True)
class ClassAnswer:
    """What a picture is.

    Attributes:
        name: the class that scored highest; None: unknown, since that was below the class's own threshold.
        ranked: the highest classes with their scores, -1 to 1, the highest first.
    """

    name: str | None
    ranked: tuple[tuple[str, float], ...]


class ClassLibrary:
    """Classes as they were at one time, ready to be asked. Threads may share it."""

    def __init__(self, enrolled: Sequence[EnrolledClass], num_channels: int) -> None:
        self.classes, self.num_channels = tuple(enrolled), num_channels
        self.names = tuple(each.name for each in self.classes)
        shape = (len(self.classes), num_channels)
        self._folded = FoldedClasses(
            np.array([each.prototype for each in self.classes], np.float32).reshape(shape),
            np.array([each.weights for each in self.classes], np.float32).reshape(shape),
        )
        thresholds = [each.threshold for each in self.classes]
        self._thresholds_N = np.array([-np.inf if least is None else least for least in thresholds])

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """The scores of embeddings float32 `[n, C]` at each class, float32 `[n, N]`.

        A score is the same to the last bit whichever other classes there are.

        Raises:
            SignatureError: another shape or dtype, or not finite.
        """
        shaped = embeddings.ndim == 2 and embeddings.shape[1] == self.num_channels
        if not shaped or embeddings.dtype != np.float32 or not np.isfinite(embeddings).all():
            received = f"{embeddings.dtype}{list(embeddings.shape)}"
            raise SignatureError(f"expected finite embeddings float32[n, {self.num_channels}], received {received}")
        return self._folded.scores(embeddings)

    def answer(self, embeddings: np.ndarray, top: int = 5) -> list[ClassAnswer]:
        """The class of each of n embeddings; see `scores`. Of no classes all is unknown."""
        answers = []
        for scores_N in self.scores(embeddings):
            order = np.argsort(-scores_N, kind="stable")[: max(1, top)]
            ranked = tuple((self.names[index], float(scores_N[index])) for index in order)
            known = len(order) > 0 and scores_N[order[0]] >= self._thresholds_N[order[0]]
            answers.append(ClassAnswer(ranked[0][0] if known else None, ranked[:top]))
        return answers

    def nearest(self, embeddings: np.ndarray, most: int = NUM_RIVALS) -> tuple[EnrolledClass, ...]:
        """The classes that come nearest to any of embeddings `[n, C]`: `most` of them, or n where that is more.

        The best of every embedding is among them.
        """
        most = max(most, len(embeddings))
        if len(self.classes) <= most:
            return self.classes
        scores_nN = self.scores(embeddings)
        behind_N = (scores_nN.max(1, keepdims=True) - scores_nN).min(0)
        return tuple(self.classes[index] for index in np.sort(np.argsort(behind_N, kind="stable")[:most]))


class Classes:
    """The classes of a bundle's core.

    Args:
        bundle: whose embeddings they are made of.
        root: the store's folder; None: the platform's (`default_root`).
    """

    def __init__(self, bundle: Bundle, root: Path | str | None = None) -> None:
        self.store = Store(bundle.manifest.core_hash, root)
        self._bundle = bundle
        self._known: tuple[dict[str, _Stamp], ClassLibrary] | None = None

    def names(self) -> list[str]:
        """Which there are."""
        return self.store.names(KIND)

    def library(self, without: Collection[str] = ()) -> ClassLibrary:
        """All classes in use now; read again only where one has changed.

        Args:
            without: names that are left out, and not read.

        Raises:
            BundleError: the bundle gives no embeddings.
            StoreError: a class was altered, or has another width.
        """
        while True:
            stamps = self._stamps(without)
            try:
                return self._read(stamps)
            except StoreError:
                # one that was forgotten while it was read is no error; each turn needs another change
                if stamps == self._stamps(without):
                    raise

    def _read(self, stamps: dict[str, _Stamp]) -> ClassLibrary:
        known = self._known
        if known is None or known[0] != stamps:
            # one that has not changed is not read again: there may be a thousand
            kept = {} if known is None else {each.name: each for each in known[1].classes}
            same = {name for name in kept if known is not None and stamps.get(name) == known[0][name]}
            found = [kept[name] if name in same else self.find(name) for name in stamps]
            known = stamps, ClassLibrary(found, self.num_channels)
            self._known = known
        return known[1]

    def find(self, name: str) -> EnrolledClass:
        """One class; raises as `library`."""
        record = self.store.open(KIND, name)
        return read_class(record.card, record.read(FILE), self.num_channels)

    def enrol(self, pictures: Mapping[str, np.ndarray], settings: CscaSettings | None = None) -> list[Record]:
        """Make classes of embeddings and commit each as a new version; the others stay as they are.

        Classes that come together are fitted together. Each is committed by itself: a process that is killed leaves
        the first ones.

        Args:
            pictures: by the class's name its embeddings, float32 `[k, C]`, k of at least 1. A class that is there is
                not read if it comes again: what was altered can be made anew.

        Raises:
            BundleError: the bundle gives no embeddings.
            SignatureError: embeddings of another width, not finite, all zeros, or more than `MOST_PICTURES`.
            StoreError: a name that is refused, or another class that is there and was altered; nothing has changed.
            EdgekitError: the store cannot be written; classes before the one that it names are committed.
        """
        settings = settings or CscaSettings()
        check_class_names(pictures, self.names())
        for embeddings in pictures.values():
            if embeddings.ndim != 2 or embeddings.shape[1] != self.num_channels:
                received = f"{embeddings.dtype}{list(embeddings.shape)}"
                raise SignatureError(f"expected embeddings float32[k, {self.num_channels}], received {received}")
        library = self.library(without=frozenset(pictures))
        known = library.classes
        if pictures and len(known) > NUM_RIVALS:
            known = library.nearest(np.concatenate([each.astype(np.float32) for each in pictures.values()]))
        made = enrol(pictures, known, settings)
        return [install(self.store, each, made, settings) for each in made.classes]

    def import_from(self, path: Path | str, name: str | None = None) -> Record:
        """Install what `Store.export` wrote, as a new version of its own name or of `name`, after a look at its values.

        Raises:
            BundleError: the bundle gives no embeddings.
            StoreError: not an export, altered, for another core or width; nothing has changed.
        """
        card, files = unpack(Path(path))
        check_class_names([name or card.name])
        if (card.kind, card.core) == (KIND, self.store.core):
            read_class(card, files.get(FILE, b""), self.num_channels)
        # which refuses what is for another core
        return self.store.import_from(KIND, path, name)

    @cached_property
    def num_channels(self) -> int:
        """How many values an embedding has.

        Raises:
            BundleError: the bundle gives no embeddings of one vector a picture.
        """
        name = self._bundle.manifest.output.get("embedding")
        for output in self._bundle.graph().signature.outputs:
            if output.name == name and len(output.shape) == 2 and isinstance(output.shape[1], int):
                return output.shape[1]
        task = self._bundle.manifest.task
        raise BundleError(
            f"expected a bundle that gives an embedding of each picture, {self._bundle.path} is for {task}",
            hint="edgekit list names the families for image-classification",
        )

    def _stamps(self, without: Collection[str]) -> dict[str, _Stamp]:
        return {name: self._stamp(name) for name in self.names() if name not in without}

    def _stamp(self, name: str) -> _Stamp:
        """What changes with the version in use: the store replaces the file that says it. Zeros: it has gone."""
        try:
            status = os.stat(self.store.path / KIND / name / "current")  # noqa: PTH116  (half the time of Path.stat)
        except OSError:
            return 0, 0, 0
        return status.st_mtime_ns, status.st_ino, status.st_size


def check_class_names(names: Collection[str], known: Collection[str] = ()) -> None:
    """Raise StoreError unless classes can be called so, beside each other and those that are there."""
    spellings = {name.casefold(): name for name in known}
    for name in names:
        folded = check_name(name).casefold()
        if folded == UNKNOWN:
            raise StoreError(f"expected another name than {name!r}, which is the answer for a picture of no class")
        if (other := spellings.setdefault(folded, name)) != name:
            raise StoreError(f"expected a name unlike {other!r} in more than case, received {name!r}")
