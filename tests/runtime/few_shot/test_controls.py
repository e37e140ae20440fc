"""What each answer gives on noise, on signal, and beside independent references."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from edgekit.runtime.classes.csca import CscaSettings
from edgekit.runtime.classes.scoring import unit
from edgekit.runtime.few_shot import controls
from edgekit.runtime.few_shot.benchmark import benchmark_few_shot
from edgekit.runtime.few_shot.episodes import EpisodeSettings
from edgekit.runtime.few_shot.features import Features

pytestmark = pytest.mark.device_side

Episodes = tuple[np.ndarray, np.ndarray]


def episodes(num: int = 3, shots: int = 4, channels: int = 24) -> Episodes:
    random = np.random.default_rng(0)
    centres = random.normal(size=(num, 5, 1, channels))
    labelled = centres + 2 * random.normal(size=(num, 5, shots, channels))
    queries = np.repeat(centres, 6, axis=2).reshape(num, 30, channels) + 2 * random.normal(size=(num, 30, channels))
    return labelled.astype(np.float32), queries.astype(np.float32)


@pytest.mark.parametrize("shots", [1, 5])
def test_noise_gives_chance(shots: int) -> None:
    """Over 2,000 episodes, in every way of answering: the released code answers it with about 100 %."""
    random = np.random.default_rng(1)
    noise = np.maximum(random.normal(size=(2000, 32)), 0)
    settings = EpisodeSettings(ways=5, shots=shots, queries=15, episodes=2000)
    found = benchmark_few_shot(Features.of(noise, np.repeat(np.arange(20), 100)), settings)
    assert len(found.arms) == 5
    for arm in found.arms:
        assert arm.accuracy.mean == pytest.approx(0.2, abs=0.01), arm.name
        assert arm.accuracy.half_width is not None
        assert arm.accuracy.half_width < 0.005


def test_the_leak_would_be_seen() -> None:
    """Scored as the released code does, with the weights of each query's own class, noise is "recognised": what the
    test above would not let pass."""
    random = np.random.default_rng(2)
    labelled, queries = random.random((40, 5, 5, 640)), random.random((40, 75, 640))
    truth = np.repeat(np.arange(5), 15)
    weights = controls.episode_weights(labelled, CscaSettings(rate=0.1, steps=15, pull=0.0))
    leaky = unit(unit(queries) * weights[:, truth]) @ unit(weights * unit(labelled.mean(2))).swapaxes(1, 2)
    assert (leaky.argmax(-1) == truth).mean() > 0.9
    fair = controls.csca(labelled, queries, CscaSettings(rate=0.1, steps=15, pull=0.0))
    assert (fair.argmax(-1) == truth).mean() == pytest.approx(0.2, abs=0.05)


def test_prototype_is_the_nearest_mean_by_the_cosine() -> None:
    labelled, queries = episodes()
    for index, (shots, asked) in enumerate(zip(labelled, queries)):
        means = shots.mean(1)
        cosines = [[x @ p / np.linalg.norm(x) / np.linalg.norm(p) for p in means] for x in asked]
        np.testing.assert_allclose(controls.prototype(labelled, queries)[index], cosines, atol=1e-5)


def test_csca_without_steps_or_of_one_picture_is_the_prototype() -> None:
    labelled, queries = episodes()
    plain = controls.prototype(labelled, queries)
    assert (controls.csca(labelled, queries, CscaSettings(steps=0)) == plain).all()
    assert (controls.csca(labelled, queries) != plain).any()
    one = labelled[:, :, :1]
    assert (controls.csca(one, queries) == controls.prototype(one, queries)).all()


@pytest.mark.parametrize("answer", [controls.csca, controls.prototype, controls.logistic])
def test_the_order_of_channels_means_nothing(answer: controls.Answer) -> None:
    labelled, queries = episodes()
    order = np.random.default_rng(3).permutation(labelled.shape[-1])
    moved = answer(labelled[..., order], queries[..., order])
    np.testing.assert_allclose(moved, answer(labelled, queries), atol=2e-3)
    assert (moved.argmax(-1) == answer(labelled, queries).argmax(-1)).mean() > 0.98


@pytest.mark.parametrize("answer", [controls.csca, controls.prototype, controls.random_weights, controls.logistic])
def test_each_query_is_answered_alone_and_without_its_label(answer: controls.Answer) -> None:
    labelled, queries = episodes()
    together = answer(labelled, queries)
    alone = np.concatenate([answer(labelled, queries[:, index : index + 1]) for index in range(30)], axis=1)
    np.testing.assert_allclose(alone, together, atol=1e-5)
    assert list(inspect.signature(answer).parameters)[:2] == ["shots", "queries"]


def test_random_weights_belong_to_the_episode() -> None:
    """Others in each, and the same whichever are answered beside it."""
    labelled, queries = episodes()
    together = controls.random_weights(labelled, queries)
    np.testing.assert_allclose(controls.random_weights(labelled[1:2], queries[1:2]), together[1:2], atol=1e-6)
    # pictures that all but equal those of the first
    near = controls.random_weights(labelled[:1] * (1 + np.float32(1e-6)), queries[:1])
    assert np.abs(near - together[:1]).max() > 0.01


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="the reference is scikit-learn")
    labelled, queries = episodes()
    scores = controls.logistic(labelled, queries)
    for index in range(len(labelled)):
        rows = unit(labelled[index].reshape(20, -1)).astype(np.float64)
        fitted = linear_model.LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=10_000)
        fitted.fit(rows, np.repeat(np.arange(5), 4))
        expected = fitted.decision_function(unit(queries[index]).astype(np.float64))
        np.testing.assert_allclose(scores[index], expected, atol=1e-3)
