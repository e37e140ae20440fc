"""The gradient is the loss's, and a fit does what it says."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.errors import SettingsError
from edgekit.core.settings import settings_from_dict
from edgekit.runtime.classes.csca import CscaSettings, Problem, fit_weights, leave_one_out, loss_and_gradient
from edgekit.runtime.classes.scoring import class_scores

pytestmark = pytest.mark.device_side


def drawn(*lead: int, dtype: type = np.float64, channels: int = 9, num_fixed: int = 2) -> tuple[Problem, np.ndarray]:
    """Three classes of four examples, and classes that stay, each an example of its own; with weights to look at."""
    random = np.random.default_rng(len(lead))
    shots = random.random((*lead, 3, 4, channels)).astype(dtype)
    rows = (*lead, 12, channels)
    staying = random.random((*lead, num_fixed, channels)).astype(dtype)
    examples = np.concatenate([shots.reshape(rows), staying], axis=-2)
    labels = np.r_[np.repeat(np.arange(3), 4), 3 + np.arange(num_fixed)]
    fixed = class_scores(examples, staying, np.ones_like(staying)) if num_fixed else None
    problem = Problem(examples, labels, leave_one_out(shots).reshape(rows), shots.mean(-2), fixed)
    return problem, random.uniform(0.5, 1.5, (*lead, 3, channels)).astype(dtype)


@pytest.mark.parametrize("num_fixed", [0, 2])
@pytest.mark.parametrize("lead", [(), (2,)])
def test_the_gradient_by_finite_differences(lead: tuple[int, ...], num_fixed: int) -> None:
    problem, weights = drawn(*lead, num_fixed=num_fixed)
    settings = CscaSettings(pull=0.1)
    _, gradient = loss_and_gradient(problem, weights, settings)
    step, expected = 1e-6, np.empty_like(weights)
    for index in np.ndindex(weights.shape):
        ends = []
        for sign in (1, -1):
            moved = weights.copy()
            moved[index] += sign * step
            ends.append(loss_and_gradient(problem, moved, settings)[0].sum())
        expected[index] = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_episodes_do_not_know_of_each_other() -> None:
    problem, weights = drawn(3)
    losses, gradients = loss_and_gradient(problem, weights, CscaSettings())
    for episode in range(3):
        q = problem
        assert q.fixed_scores is not None
        alone = Problem(q.x[episode], q.labels, q.own[episode], q.p[episode], q.fixed_scores[episode])
        loss, gradient = loss_and_gradient(alone, weights[episode], CscaSettings())
        np.testing.assert_allclose(loss, losses[episode])
        np.testing.assert_allclose(gradient, gradients[episode], atol=1e-12)


def test_a_fit_lowers_the_loss_and_is_the_same_each_time() -> None:
    problem, _ = drawn(dtype=np.float32)
    settings = CscaSettings()
    weights = fit_weights(problem, settings)
    start, _ = loss_and_gradient(problem, np.ones_like(weights), settings)
    end, _ = loss_and_gradient(problem, weights, settings)
    assert end < start
    assert weights.dtype == np.float32
    assert (fit_weights(problem, settings) == weights).all()
    assert (fit_weights(problem, CscaSettings(steps=0)) == 1).all()


def test_the_layout_of_memory_means_nothing() -> None:
    problem, _ = drawn(dtype=np.float32)
    expected = fit_weights(problem, CscaSettings())
    problem.p = np.asfortranarray(problem.p)
    np.testing.assert_allclose(fit_weights(problem, CscaSettings()), expected, atol=1e-4)
    assert (expected != 1).any()


def test_weights_stay_above_the_least() -> None:
    problem, _ = drawn(dtype=np.float32)
    weights = fit_weights(problem, CscaSettings(rate=0.5, least=0.2))
    assert weights.min() == np.float32(0.2)


def test_leave_one_out() -> None:
    examples = np.array([[1.0, 0], [3, 0], [5, 6]])
    np.testing.assert_array_equal(leave_one_out(examples), [[4, 3], [3, 3], [2, 0]])


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"rate": 0.0}, {"scale": 0.0}, {"pull": -1.0}, {"least": 0.0}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="expected steps"):
        settings_from_dict(CscaSettings, wrong)
