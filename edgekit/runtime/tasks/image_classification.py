"""Pictures to classes: the bundle's own with probabilities, or those enrolled on the device; and to embeddings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BundleError, StoreError, UsageError
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.features.image import Picture, Pixels
from edgekit.runtime.session import CheckedSession, open_session
from edgekit.runtime.tasks.pictures import MAPS, Answers, PictureGraph, open_explaining

if TYPE_CHECKING:
    from edgekit.runtime.classes.library import Classes, ClassLibrary
    from edgekit.runtime.explain import Explanation


@dataclass(frozen=True)
class Scored:
    """One class: of the bundle's own its probability, 0..1; of those enrolled its score, -1..1."""

    name: str
    probability: float | None = None
    score: float | None = None


@dataclass(frozen=True)
class Classification:
    """What a picture shows.

    Attributes:
        name: the class; None: unknown, none of those enrolled scored enough.
        classes: the likeliest first. Of two that are as likely, the first of the bundle's.
        enrolled: whether these are the classes that were enrolled.
        compute_s: decoding, resizing and inference together; of a picture in a batch, its share.
    """

    name: str | None
    classes: tuple[Scored, ...]
    enrolled: bool
    compute_s: float

    def to_json(self) -> dict[str, Any]:
        """Plain data: `name`, `classes`, each with `name` and `probability` or `score`, `enrolled` and `compute_s`."""
        told = "score" if self.enrolled else "probability"
        classes = [{"name": each.name, told: getattr(each, told)} for each in self.classes]
        return {"name": self.name, "classes": classes, "enrolled": self.enrolled, "compute_s": self.compute_s}


class ImageClassification:
    """A classifier of pictures. Make one with `edgekit.load(bundle)`.

    Attributes:
        classes: the bundle's own, in the order of the logits; none where the model only embeds.
    """

    def __init__(
        self, bundle: Bundle, backend: str | None, options: SessionOptions, store: Path | str | None = None
    ) -> None:
        self.bundle, self._backend, self._options, self._store = bundle, backend, options, store
        self._graph = PictureGraph(bundle, open_session(bundle, backend=backend, options=options))
        self.classes = _names(bundle, self._graph.num_classes) if self._graph.num_classes else []

    @property
    def session(self) -> Any:
        """The open session: its backend, device and precision."""
        return self._graph.session

    @property
    def pixels(self) -> Pixels:
        """How a picture becomes the graph's input."""
        return self._graph.pixels

    @property
    def most_together(self) -> int:
        """How many pictures of a list are computed in one call."""
        return self._graph.most_together

    @cached_property
    def enrolled(self) -> Classes:
        """The classes that the store knows for this bundle's core."""
        from edgekit.runtime.classes.library import Classes  # which most processes never need, nor the store

        return Classes(self.bundle, self._store)

    @overload
    def classify(
        self, picture: Picture, *, top: int = ..., enrolled: bool | None = ..., allow_random_weights: bool = ...
    ) -> Classification: ...

    @overload
    def classify(
        self, picture: list[Picture], *, top: int = ..., enrolled: bool | None = ..., allow_random_weights: bool = ...
    ) -> list[Classification]: ...

    def classify(
        self,
        picture: Picture | list[Picture],
        *,
        top: int = 5,
        enrolled: bool | None = None,
        allow_random_weights: bool = False,
    ) -> Classification | list[Classification]:
        """Say what a picture shows, or each of a list. Threads may share this object.

        Args:
            picture: a file, encoded bytes, uint8 [h, w, 3], or what else `load_picture` takes; or a list of such.
            top: how many classes of each; all, where there are fewer.
            enrolled: answer by the classes that were enrolled (True) or by the bundle's own (False); None: by its own,
                where it has such.
            allow_random_weights: answer with the bundle's own classes although the weights are random.

        Raises:
            PictureError: a picture cannot be read; names the first.
            BundleError, StoreError: there are no classes to answer with; see `require_classes`.
            UsageError: `top` is below 1.
        """
        library = self.require_classes(enrolled, allow_random_weights)
        if top < 1:
            raise UsageError(f"expected to be asked for 1 class or more, received {top}")
        found: list[Classification] = []
        for group, answers in self._answers(picture if isinstance(picture, list) else [picture]):
            seconds = answers.seconds / len(group)
            found += self._own(answers, top, seconds) if library is None else _known(library, answers, top, seconds)
        return found if isinstance(picture, list) else found[0]

    def embed(self, pictures: Sequence[Picture]) -> npt.NDArray[np.float32]:
        """The pooled features of each picture, float32 [n, C], before any classifier.

        Raises:
            PictureError: one cannot be read; names the first.
            UsageError: there are none, or one stands where a list must be.
        """
        if isinstance(pictures, (str, bytes)) or not isinstance(pictures, Sequence) or not pictures:
            raise UsageError("expected a list of one picture or more", hint="embed([picture])")
        return np.concatenate([answers.embedding for _, answers in self._answers(pictures)])

    def explain(self, picture: Picture) -> Explanation:
        """What the heads that learned beside the classifier see of a picture; `runtime/explain.py` draws it.

        Raises:
            PictureError: it cannot be read.
            BundleError: the bundle has no graph that tells it.
            BackendError: NaN or infinity.
        """
        from edgekit.runtime.explain import Explanation

        outputs = self.explaining.run({self.explaining.signature.inputs[0].name: self.pixels(picture)[None]})
        return Explanation(*(outputs[name][0] for name in MAPS))

    @cached_property
    def explaining(self) -> CheckedSession:
        """The session of the graph that explains; raises `BundleError`, with a command, where there is none."""
        return open_explaining(self.bundle, self.session.signature, self._backend, self._options)

    def _answers(self, pictures: Sequence[Picture]) -> Iterator[tuple[Sequence[Picture], Answers]]:
        for start in range(0, len(pictures), self._graph.most_together):
            group = pictures[start : start + self._graph.most_together]
            yield group, self._graph.run(group)

    def _own(self, answers: Answers, top: int, seconds: float) -> Iterator[Classification]:
        assert answers.logits is not None
        for probabilities in softmax(answers.logits):
            order = np.argsort(-probabilities, kind="stable")[:top]
            best = tuple(Scored(self.classes[index], float(probabilities[index])) for index in order)
            yield Classification(best[0].name, best, False, seconds)

    def require_classes(self, enrolled: bool | None = None, allow_random_weights: bool = False) -> ClassLibrary | None:
        """The enrolled classes that answer, or None where the bundle's own do.

        Args:
            enrolled, allow_random_weights: as `classify` takes them.

        Raises:
            BundleError: there are no classes to answer with, or the bundle's own were never learned.
            StoreError: none are enrolled, or one of them was altered.
        """
        path, family = self.bundle.path, self.bundle.manifest.family
        if enrolled or (enrolled is None and not self.classes):
            library, enroll = self.enrolled.library(), f"edgekit enroll {path} --class NAME PICTURES"
            if library.names:
                return library
            if enrolled:
                raise StoreError(f"expected classes in {self.enrolled.store.path}, there are none", hint=enroll)
            raise BundleError(
                f"expected a bundle that knows classes, {path} embeds pictures alone and none are enrolled", hint=enroll
            )
        if not self.classes:
            raise BundleError(
                f"expected a bundle that knows classes, {path} embeds pictures alone",
                hint=f"export it with a head that names classes: edgekit export {family} --help",
            )
        if self.bundle.manifest.weights == "random" and not allow_random_weights:
            raise BundleError(
                f"{path} was exported with random weights: its answers would mean nothing",
                hint="export a checkpoint, or pass --allow-random-weights to see the machinery run",
            )
        return None


def _known(library: ClassLibrary, answers: Answers, top: int, seconds: float) -> Iterator[Classification]:
    """Of one library for all pictures of a call, whatever is enrolled meanwhile."""
    begun = time.perf_counter()
    found = library.answer(answers.embedding, top)
    seconds += (time.perf_counter() - begun) / len(found)
    for each in found:
        yield Classification(each.name, tuple(Scored(name, score=score) for name, score in each.ranked), True, seconds)


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Probabilities [n, K] of logits [n, K], in float64: a thousand small ones still add up to one."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(1, keepdims=True)
    powers = np.exp(shifted)
    probabilities: npt.NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return probabilities


def _names(bundle: Bundle, num_classes: int) -> list[str]:
    """One name per class of the output. Two classes may have one name, as ImageNet's cranes."""
    asset = bundle.asset("tokens")
    try:
        # neither read_text() nor splitlines(): a name may hold what counts as a line's end there
        names = asset.read_bytes().decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(f"expected names of classes in UTF-8, one a line, received {asset}: {error}") from error
    if len(names) != num_classes:
        raise BundleError(
            f"expected {num_classes} names of classes, received {len(names)}",
            hint=f"export it again: edgekit export {bundle.manifest.family}",
        )
    return names


def open_task(
    bundle: Bundle, backend: str | None, options: SessionOptions, store: Path | str | None
) -> ImageClassification:
    return ImageClassification(bundle, backend, options, store)
