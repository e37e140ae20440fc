"""What is made of a few embeddings, and what it leaves alone."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from edgekit.core.errors import SignatureError
from edgekit.runtime.classes.csca import CscaSettings
from edgekit.runtime.classes.enrolment import EnrolledClass, enrol
from edgekit.runtime.classes.library import ClassLibrary
from edgekit.runtime.classes.scoring import FoldedClasses
from edgekit.runtime.few_shot.controls import episode_weights

pytestmark = pytest.mark.device_side

CHANNELS = 64
RANDOM = np.random.default_rng(0)
CENTRES = np.maximum(RANDOM.normal(size=(12, CHANNELS)), 0) + 0.2


def pictures(index: int, num: int, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng((index, seed)).normal(size=(num, CHANNELS))
    return np.maximum(CENTRES[index] + 0.5 * noise, 0).astype(np.float32)


def group(indices: range, num: int = 5) -> dict[str, np.ndarray]:
    return {f"c{index}": pictures(index, num) for index in indices}


def test_classes_that_come_together_are_fitted_together() -> None:
    """As an episode's are; what is kept is float32 and of the size of two vectors, however many pictures there were."""
    made = enrol(group(range(5)))
    shots = np.stack([pictures(index, 5) for index in range(5)])
    weights = np.stack([each.weights for each in made.classes])
    np.testing.assert_allclose(weights, episode_weights(shots), atol=1e-4)
    assert (weights != 1).any()
    assert [each.num_pictures for each in made.classes] == [5] * 5
    arrays = [getattr(made.classes[0], field.name) for field in fields(EnrolledClass)]
    assert [array.shape for array in arrays if isinstance(array, np.ndarray)] == [(CHANNELS,), (CHANNELS,)]
    assert made.num_left_out == 25
    assert made.before is not None
    assert made.after is not None
    assert 0.6 < made.before <= made.after <= 1


def test_one_picture_keeps_weights_of_1() -> None:
    made = enrol(group(range(4), num=1))
    assert all((each.weights == 1).all() and each.own_score is None for each in made.classes)
    assert all(each.threshold is not None for each in made.classes)
    assert (made.before, made.after, made.num_left_out) == (None, None, 0)
    mixed = enrol({**group(range(3), num=1), "more": pictures(5, 4)})
    assert [(each.weights == 1).all() for each in mixed.classes] == [True, True, True, False]


def test_a_class_alone() -> None:
    (made,) = enrol({"a": pictures(0, 5)}).classes
    # with nothing to be told from
    assert (made.weights == 1).all()
    assert made.threshold is not None
    (single,) = enrol({"a": pictures(0, 1)}).classes
    assert single.threshold is None
    np.testing.assert_array_equal(single.prototype, pictures(0, 1)[0])


@pytest.mark.parametrize("num_known", [1, 5])
def test_a_class_that_comes_later_is_told_from_the_others(num_known: int) -> None:
    """And is not favoured: pictures of the others are answered as well as before."""
    first = enrol(group(range(10)), settings=CscaSettings())
    later = enrol({"late": pictures(11, num_known)}, first.classes)
    (late,) = later.classes
    assert (late.weights != 1).any() == (num_known > 1)
    everyone = [*first.classes, late]
    folded = FoldedClasses(np.stack([e.prototype for e in everyone]), np.stack([e.weights for e in everyone]))
    answers = [folded.scores(pictures(index, 40, seed=2)).argmax(1) for index in [*range(10), 11]]
    right = [np.mean(answer == way) for way, answer in enumerate(answers)]
    assert right[-1] > 0.7
    assert np.mean([answer == 10 for answer in answers[:-1]]) < 0.05


def test_known_classes_are_not_changed() -> None:
    first = enrol(group(range(5))).classes
    kept = [(each.prototype.copy(), each.weights.copy()) for each in first]
    enrol(group(range(5, 8)), first)
    for each, (prototype, weights) in zip(first, kept):
        assert (each.prototype == prototype).all()
        assert (each.weights == weights).all()


def test_of_many_known_classes_the_nearest_count() -> None:
    """What is far changes nothing that is told, and only weights that matter little."""
    random = np.random.default_rng(3)
    far = np.maximum(random.normal(size=(300, CHANNELS)), 0).astype(np.float32)
    library = ClassLibrary(
        [EnrolledClass(f"k{i}", p, np.ones_like(p), 5, 0.8, 0.5) for i, p in enumerate(far)], CHANNELS
    )
    new = group(range(3))
    nearest = library.nearest(np.concatenate(list(new.values())))
    assert len(nearest) == 64
    answers = library.answer(np.concatenate(list(new.values())), top=1)
    assert {answer.ranked[0][0] for answer in answers} <= {each.name for each in nearest}
    near, everyone = enrol(new, nearest), enrol(new, library.classes)
    assert (near.before, near.after, near.num_left_out) == (everyone.before, everyone.after, everyone.num_left_out)
    for some, those in zip(near.classes, everyone.classes):
        assert some.threshold == pytest.approx(those.threshold, abs=0.01)
        assert np.corrcoef(some.weights, those.weights)[0, 1] > 0.8
    queries = np.concatenate([pictures(index, 40, seed=2) for index in range(3)])
    told = [[a.name for a in ClassLibrary(made.classes, CHANNELS).answer(queries)] for made in (near, everyone)]
    assert np.mean([one == other for one, other in zip(*told)]) > 0.98


def test_again_gives_the_same_and_a_name_takes_its_own_place() -> None:
    first = enrol(group(range(5))).classes
    again = enrol(group(range(5))).classes
    assert all((a.weights == b.weights).all() and a.threshold == b.threshold for a, b in zip(first, again))
    without = enrol({"c0": pictures(0, 5)}, first[1:]).classes[0]
    instead = enrol({"c0": pictures(0, 5)}, first).classes[0]
    assert (without.weights == instead.weights).all()


def test_the_same_embedding_twice_counts_once() -> None:
    twice = np.concatenate([pictures(0, 3), pictures(0, 3)[1:]])
    once = enrol({"a": pictures(0, 3), "b": pictures(1, 3)})
    again = enrol({"a": twice, "b": pictures(1, 3)})
    assert again.classes[0].num_pictures == 3
    assert (again.classes[0].weights == once.classes[0].weights).all()
    assert again.classes[0].threshold == once.classes[0].threshold
    (alone,) = enrol({"a": np.repeat(pictures(0, 1), 4, axis=0)}).classes
    assert (alone.num_pictures, alone.threshold) == (1, None)


def test_more_than_are_fitted_together() -> None:
    with pytest.raises(SignatureError, match="at most 4096 embeddings together, received 4097"):
        enrol({"a": np.ones((4000, 2), np.float32), "b": np.ones((97, 2), np.float32)})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.ones((0, 4), np.float32), "expected embeddings"),
        (np.ones(4, np.float32), "expected embeddings"),
        (np.ones((2, 4), np.int64), "expected embeddings"),
        (np.full((2, 4), np.nan, np.float32), "expected finite"),
        (np.zeros((2, 4), np.float32), "none all zeros"),
        (np.array([[1.0, 2], [-1, -2]], np.float32), "whose mean is zero"),
    ],
)
def test_embeddings_that_do_not_fit(wrong: np.ndarray, message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        enrol({"a": wrong})
    with pytest.raises(SignatureError, match="all of one width"):
        enrol({"a": np.ones((2, 5), np.float32), "b": np.ones((2, 4), np.float32)})
    assert enrol({}).classes == ()
