"""Where the threshold lies, and how often it errs."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.runtime.classes.enrolment import enrol
from edgekit.runtime.classes.library import ClassLibrary
from edgekit.runtime.classes.unknown import choose_threshold

pytestmark = pytest.mark.device_side

NONE = np.empty(0)


def test_between_both_by_their_spread() -> None:
    own, others = np.array([0.8, 0.9, 1.0]), np.array([0.2, 0.4, 0.6])
    # spreads of 0.1 and 0.2: a third of the way down from 0.9
    assert choose_threshold(own, others) == pytest.approx(0.9 - 0.5 / 3)
    assert choose_threshold(own[:1], others[:1]) == pytest.approx(0.5)
    # one value has no spread of its own
    assert choose_threshold(own, others[1:2]) == pytest.approx(0.65)


def test_two_pictures_of_one_class_are_one_score() -> None:
    """Each scores the other alike: that has no spread, which must not push the threshold up to it."""
    others = np.array([0.2, 0.4, 0.6])
    assert choose_threshold(np.array([0.9, 0.9 + 1e-7]), others) == pytest.approx(
        choose_threshold(np.array([0.9]), others)
    )
    random = np.random.default_rng(0)
    centres = np.maximum(random.normal(size=(6, 64)), 0) + 0.2
    pictures = np.maximum(centres[:, None] + 0.5 * random.normal(size=(6, 40, 64)), 0).astype(np.float32)
    known = enrol({f"c{index}": pictures[index, :5] for index in range(5)}).classes
    (late,) = enrol({"late": pictures[5, :2]}, known).classes
    answers = ClassLibrary([*known, late], 64).answer(pictures[5, 2:])
    assert np.mean([answer.name == "late" for answer in answers]) > 0.8


def test_with_one_of_the_two() -> None:
    assert choose_threshold(NONE, np.array([0.2, 0.4, 0.6])) == pytest.approx(0.6)
    assert choose_threshold(NONE, np.array([0.0, 1.0])) == 1
    assert choose_threshold(np.array([0.8, 0.9, 1.0]), NONE) == pytest.approx(0.7)
    assert choose_threshold(np.array([0.8, 0.8]), NONE) is None
    assert choose_threshold(NONE, NONE) is None


@pytest.mark.parametrize(
    ("num_pictures", "most_rejected", "most_accepted"), [(1, 0.1, 0.45), (2, 0.1, 0.1), (5, 0.03, 0.03)]
)
def test_how_often_it_errs(num_pictures: int, most_rejected: float, most_accepted: float) -> None:
    """On classes that are told apart well: bounds a little above what is measured, of known and of unknown pictures."""
    random = np.random.default_rng(0)
    rejected, accepted = [], []
    for _ in range(30):
        centres = 0.5 + 0.6 * np.maximum(random.normal(size=(10, 256)), 0)
        pictures = np.maximum(centres[:, None] + 0.6 * random.normal(size=(10, 20, 256)), 0).astype(np.float32)
        made = enrol({f"c{index}": pictures[index, :num_pictures] for index in range(5)})
        library = ClassLibrary(made.classes, 256)
        known, unknown = (library.answer(each[:, 5:].reshape(-1, 256)) for each in (pictures[:5], pictures[5:]))
        rejected += [answer.name is None for answer in known]
        accepted += [answer.name is not None for answer in unknown]
    assert np.mean(rejected) < most_rejected
    assert np.mean(accepted) < most_accepted
