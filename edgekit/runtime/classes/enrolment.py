"""Enrolling: from a few embeddings of each new class to what is kept of it; classes that are known stay as they are.

Kept are the mean, the channel weights and two scores, and no picture. New classes that come together are fitted
together, against each other and against the known ones, of which the mean stands for the pictures that are gone. A
class of one picture keeps weights of 1, the best that was measured of what lets classes come and go (README.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.core.errors import SignatureError
from edgekit.runtime.classes.csca import CscaSettings, Problem, fit_weights, leave_one_out
from edgekit.runtime.classes.scoring import class_scores
from edgekit.runtime.classes.unknown import choose_threshold

MOST_PICTURES = 4096
"""Of all classes that come together; of 1,280 channels fitting them takes about 310 MiB, and some seconds."""


@dataclass(frozen=True)
class EnrolledClass:
    """What is kept of a class.

    Attributes:
        prototype: the mean embedding, float32 [C].
        weights: of the channels, float32 [C].
        num_pictures: that it was enrolled from.
        own_score: what its pictures score at it when they are left out, on average; None: there was one alone.
        threshold: the least score of a picture that is of it (`choose_threshold`); None: nothing told it.
    """

    name: str
    prototype: np.ndarray
    weights: np.ndarray
    num_pictures: int
    own_score: float | None
    threshold: float | None


@dataclass(frozen=True)
class Enrolment:
    """New classes, and how well the pictures they were made of are told apart each left out of its mean.

    Attributes:
        before, after: the share of pictures whose own class scored highest among all, with weights of 1 and with those
            that were fitted; None: there is no class of several pictures, or no second class. The fitted weights saw
            the picture that is left out, so that `after` is flattering.
        num_left_out: pictures that these are of.
    """

    classes: tuple[EnrolledClass, ...]
    before: float | None
    after: float | None
    num_left_out: int


def enrol(
    pictures: Mapping[str, np.ndarray], known: Sequence[EnrolledClass] = (), settings: CscaSettings | None = None
) -> Enrolment:
    """Make classes of embeddings.

    An embedding that a class has twice counts once: left out of the mean, it would be told by its like.

    Args:
        pictures: by the new class's name its embeddings, float32 `[k, C]`, k of at least 1.
        known: the classes that are there, which are not changed; a new one takes the place of one of its name.

    Raises:
        SignatureError: no embeddings, more than `MOST_PICTURES`, of different widths, not finite, or all zeros.
    """
    _check(pictures, known)
    pictures = {name: _distinct(x_kC) for name, x_kC in pictures.items()}
    several = [name for name, x_kC in pictures.items() if len(x_kC) > 1]
    single = [name for name, x_kC in pictures.items() if len(x_kC) == 1]
    fixed = [each for each in known if each.name not in pictures]
    if not pictures:
        return Enrolment((), None, None, 0)
    x_MC = np.concatenate([pictures[name] for name in (*several, *single)]).astype(np.float32)
    labels_M = np.repeat(np.arange(len(pictures)), [len(pictures[name]) for name in (*several, *single)])
    means = [pictures[name].astype(np.float32).mean(0) for name in (*several, *single)]
    prototypes_NC = np.stack([*means, *(each.prototype for each in fixed)])
    weights_NC = np.stack([*(np.ones_like(mean) for mean in means), *(each.weights for each in fixed)])
    left_out_C = [leave_one_out(pictures[name].astype(np.float32)) for name in several]
    own_MC = np.concatenate(left_out_C) if several else x_MC[:0]

    plain_MN = _scores_left_out(x_MC, labels_M, own_MC, prototypes_NC, weights_NC)
    if several and len(prototypes_NC) > 1:
        problem = _problem(plain_MN, x_MC, labels_M, own_MC, prototypes_NC, weights_NC, len(several), fixed)
        weights_NC[: len(several)] = fit_weights(problem, settings)
    scores_MN = _scores_left_out(x_MC, labels_M, own_MC, prototypes_NC, weights_NC)

    left_M, is_own_MN = labels_M[: len(own_MC)], labels_M[:, None] == np.arange(len(prototypes_NC))
    own_M = scores_MN[is_own_MN][: len(own_MC)]
    others_M = np.where(is_own_MN, -np.inf, scores_MN).max(-1) if len(prototypes_NC) > 1 else np.empty(0)
    # of all that are enrolled at once: the pictures of one class alone would say too little
    threshold = choose_threshold(own_M, others_M)
    made = {
        name: EnrolledClass(
            name,
            prototypes_NC[index],
            weights_NC[index],
            len(pictures[name]),
            float(own_M[left_M == index].mean()) if name in several else None,
            None if threshold is None else float(np.float32(threshold)),
        )
        for index, name in enumerate((*several, *single))
    }
    told = len(own_MC) > 0 and len(prototypes_NC) > 1
    return Enrolment(
        tuple(made[name] for name in pictures),
        _accuracy(plain_MN, is_own_MN, len(own_MC)) if told else None,
        _accuracy(scores_MN, is_own_MN, len(own_MC)) if told else None,
        len(own_MC),
    )


def _scores_left_out(
    x_MC: np.ndarray, labels_M: np.ndarray, own_MC: np.ndarray, prototypes_NC: np.ndarray, weights_NC: np.ndarray
) -> np.ndarray:
    """The scores `[M, N]` of pictures, at their own class against `own_MC`, the mean without them, of the first M'."""
    scores_MN = class_scores(x_MC, prototypes_NC, weights_NC)
    left_M = labels_M[: len(own_MC)]
    one_by_one = (x_MC[: len(own_MC), None], own_MC[:, None], weights_NC[left_M][:, None])
    scores_MN[np.arange(len(own_MC)), left_M] = class_scores(*one_by_one)[:, 0, 0]
    return scores_MN


def _problem(
    plain_MN: np.ndarray,
    x_MC: np.ndarray,
    labels_M: np.ndarray,
    own_MC: np.ndarray,
    prototypes_NC: np.ndarray,
    weights_NC: np.ndarray,
    num_fitted: int,
    fixed: Sequence[EnrolledClass],
) -> Problem:
    """What the new classes of several pictures are fitted on.

    A class that stays is one example, its mean. What that scores at its own class would be 1, more than a picture gets:
    in its place stands what the class's pictures scored when left out, or, of one picture, what those of others did.
    """
    num_own = len(own_MC)
    stand_in = float(plain_MN[np.arange(num_own), labels_M[:num_own]].mean())
    kept = [None] * (len(prototypes_NC) - num_fitted - len(fixed)) + [each.own_score for each in fixed]
    staying = slice(num_fitted, None)
    at_each_other = class_scores(prototypes_NC[staying], prototypes_NC[staying], weights_NC[staying])
    np.fill_diagonal(at_each_other, [stand_in if score is None else score for score in kept])
    return Problem(
        np.concatenate([x_MC[:num_own], prototypes_NC[staying]]),
        np.concatenate([labels_M[:num_own], np.arange(num_fitted, len(prototypes_NC))]),
        own_MC,
        prototypes_NC[:num_fitted],
        np.concatenate([plain_MN[:num_own, staying], at_each_other]),
    )


def _distinct(x_kC: np.ndarray) -> np.ndarray:
    """Rows that differ, in their order."""
    first = {row.tobytes(): index for index, row in reversed(list(enumerate(x_kC)))}
    return x_kC[sorted(first.values())]


def _accuracy(scores_MN: np.ndarray, is_own_MN: np.ndarray, num_left_out: int) -> float:
    """The share of the first pictures whose own class scored higher than every other."""
    best_other = np.where(is_own_MN, -np.inf, scores_MN).max(-1)
    return float((scores_MN[is_own_MN] > best_other)[:num_left_out].mean())


def _check(pictures: Mapping[str, np.ndarray], known: Sequence[EnrolledClass]) -> None:
    if (num := sum(len(x_kC) for x_kC in pictures.values() if x_kC.ndim)) > MOST_PICTURES:
        hint = "enrol fewer at a time, 20 of a class; of more, edgekit train classifier learns better"
        raise SignatureError(f"expected at most {MOST_PICTURES} embeddings together, received {num}", hint=hint)
    widths = {x_kC.shape[-1] for x_kC in pictures.values() if x_kC.ndim} | {len(each.prototype) for each in known}
    for name, x_kC in pictures.items():
        if x_kC.ndim != 2 or x_kC.dtype.kind != "f" or 0 in x_kC.shape or len(widths) > 1:
            wanted = f"float32[k, {len(known[0].prototype) if known else 'C'}]"
            received = f"{x_kC.dtype}{list(x_kC.shape)}"
            raise SignatureError(f"expected embeddings {wanted} of {name!r}, all of one width, received {received}")
        if not np.isfinite(x_kC).all() or not x_kC.any(axis=1).all():
            raise SignatureError(f"expected finite embeddings of {name!r}, none all zeros, received such")
        if not x_kC.mean(0).any():
            raise SignatureError(f"expected embeddings of {name!r} with a mean, received ones whose mean is zero")
