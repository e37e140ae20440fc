"""What a score is, and that nobody else's presence changes it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from edgekit.runtime.classes.scoring import FoldedClasses, class_scores

pytestmark = pytest.mark.device_side

Problem = tuple[np.ndarray, np.ndarray, np.ndarray]


def drawn(num_queries: int = 40, num_classes: int = 11, channels: int = 67, seed: int = 0) -> Problem:
    random = np.random.default_rng(seed)
    shapes = ((num_queries, channels), (num_classes, channels))
    x, p = (random.normal(size=shape).astype(np.float32) + np.float32(0.3) for shape in shapes)
    return x, p, random.uniform(0.05, 2, p.shape).astype(np.float32)


def as_written(x: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    """cos(w * x, w * p), of each pair by itself, in float64."""
    scores = np.empty((len(x), len(p)))
    for i, query in enumerate(x.astype(np.float64)):
        for j in range(len(p)):
            a, b = w[j] * query, w[j] * p[j].astype(np.float64)
            scores[i, j] = a @ b / np.sqrt((a @ a) * (b @ b))
    return scores


def test_scores_are_cosines_of_weighted_vectors() -> None:
    x, p, w = drawn()
    np.testing.assert_allclose(FoldedClasses(p, w).scores(x), as_written(x, p, w), atol=1e-6)
    np.testing.assert_allclose(class_scores(x, p, w), as_written(x, p, w), atol=1e-6)
    both = np.stack([x, -x]), np.stack([p, p[::-1]]), np.stack([w, w[::-1]])
    np.testing.assert_allclose(class_scores(*both)[1], -as_written(x, p, w)[:, ::-1], atol=1e-6)


def test_weights_of_1_are_nearest_prototype() -> None:
    x, p, w = drawn(num_queries=5000)
    cosines = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (p / np.linalg.norm(p, axis=1, keepdims=True)).T
    for scores in (FoldedClasses(p, np.ones_like(w)).scores(x), class_scores(x, p, np.ones_like(w))):
        np.testing.assert_array_equal(scores.argmax(1), cosines.argmax(1))
        np.testing.assert_allclose(scores, cosines, atol=1e-6)


def test_equal_prototypes_tie_exactly_when_weights_are_1() -> None:
    x, p, _ = drawn()
    scores = FoldedClasses(np.repeat(p, 3, axis=0), np.ones((33, 67), np.float32)).scores(x)
    assert (scores[:, ::3] == scores[:, 1::3]).all()
    assert (scores[:, ::3] == scores[:, 2::3]).all()


def test_the_order_of_channels_means_nothing() -> None:
    x, p, w = drawn()
    order = np.random.default_rng(1).permutation(67)
    moved = FoldedClasses(p[:, order], w[:, order]).scores(x[:, order])
    np.testing.assert_allclose(moved, FoldedClasses(p, w).scores(x), atol=1e-6)


@pytest.mark.parametrize("channels", [3, 67, 640, 1280])
def test_a_score_is_the_same_in_any_company(channels: int) -> None:
    """To the last bit: with classes forgotten, in another order, and with queries asked one by one."""
    x, p, w = drawn(num_queries=7, num_classes=23, channels=channels)
    scores = FoldedClasses(p, w).scores(x)
    for kept in (np.arange(1, 23), np.arange(22), np.array([5]), np.random.default_rng(2).permutation(23)):
        assert (FoldedClasses(p[kept], w[kept]).scores(x) == scores[:, kept]).all()
    assert (np.concatenate([FoldedClasses(p, w).scores(query[None]) for query in x]) == scores).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_size_means_nothing(scale: float) -> None:
    x, p, w = drawn()
    scaled = FoldedClasses(p * np.float32(scale), w).scores(x / np.float32(scale))
    np.testing.assert_allclose(scaled, FoldedClasses(p, w).scores(x), atol=1e-6)


def test_zeros_are_like_nothing() -> None:
    _, p, w = drawn()
    assert (FoldedClasses(p, w).scores(np.zeros((2, 67), np.float32)) == 0).all()
    assert FoldedClasses(p[:0], w[:0]).scores(p).shape == (11, 0)


def test_no_query_can_bring_its_label() -> None:
    """The released code's leak needs to know whose weights to use: there is nowhere to say it."""
    assert list(inspect.signature(class_scores).parameters) == ["queries", "prototypes", "weights"]
    assert list(inspect.signature(FoldedClasses.scores).parameters) == ["self", "queries"]
    # nor can weights be given by the query: they are broadcast with prototypes, whose axis is the classes
    x, p, _ = drawn()
    with pytest.raises(ValueError, match="broadcast"):
        class_scores(x, p, np.ones((40, 67), np.float32))
