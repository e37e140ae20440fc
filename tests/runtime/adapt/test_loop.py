"""Learning a speaker with a model whose gradients are known: better, in time, in memory, and the same after a kill."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import EdgekitError, UsageError
from edgekit.runtime.adapt.budget import Budget
from edgekit.runtime.adapt.ctc import ctc_loss
from edgekit.runtime.adapt.examples import AdaptationData
from edgekit.runtime.adapt.held_back import evaluate
from edgekit.runtime.adapt.labels import Labels
from edgekit.runtime.adapt.learner import Progress
from edgekit.runtime.adapt.loop import Adapted, adapt
from edgekit.runtime.adapt.memory import resident_mib
from edgekit.runtime.adapt.settings import AdaptSettings
from edgekit.runtime.adapt.state import State, load_state, save_state
from edgekit.runtime.benchmark_asr import peak_memory_mib

pytestmark = pytest.mark.device_side

Spoken = Callable[..., AdaptationData]
Model = Callable[..., Any]
# masks as wide as those of speech would hide half of so few bins; half-way to a speaker who only permutes the letters
# lies a model that knows neither, so all of what was learned is kept
SETTINGS = AdaptSettings(
    learning_rate=0.02,
    batch_s=10,
    time_width=3,
    freq_masks=1,
    freq_width=1,
    steps=40,
    evaluate_steps=4,
    epochs=99,
    interpolation=1.0,
)


class Killed(BaseException):
    """What ends a process."""


def test_a_speaker_is_learned(linear: Model, spoken: Spoken, labels: Labels) -> None:
    data, told = spoken(), list[Progress]()
    found = adapt(linear(), data, SETTINGS, labels, report=told.append)
    zeros = np.zeros(48, np.float32)
    assert found.improved
    assert found.before == evaluate(linear(), zeros, data.held_back, labels, Budget())
    assert found.after == evaluate(linear(), found.theta_P, data.held_back, labels, Budget())
    assert found.after.loss < 0.5 * found.before.loss
    assert found.after.wer < 0.7 * found.before.wer
    assert (found.stopped, found.steps, found.num_utterances, found.num_held_back) == ("steps", 40, 15, 5)
    assert found.speech_s == pytest.approx(sum(example.duration_s for example in data.training))
    assert found.seconds > 0
    assert found.peak_mib > 10
    assert [look["step"] for look in found.history] == list(range(0, 41, 4))
    best = min(found.history, key=lambda look: look["held_back_loss"])
    assert (found.best_step, found.after.loss) == (best["step"], best["held_back_loss"])
    assert [each.stage for each in told[:2]] == ["start", "learning"]
    assert [each.step for each in told if each.stage == "learning"][-1] == 40
    assert all(each.num_steps == 40 for each in told[1:])
    assert told[-1].held_back is not None
    assert told[-1].left_s == 0


def test_the_seed_alone_decides(linear: Model, spoken: Spoken, labels: Labels) -> None:
    first, again = (adapt(linear(), spoken(), SETTINGS, labels) for _ in range(2))
    assert first.theta_P.tobytes() == again.theta_P.tobytes()
    assert first.history == again.history
    other = adapt(linear(), spoken(), replace(SETTINGS, seed=1), labels)
    assert first.theta_P.tobytes() != other.theta_P.tobytes()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.33, 0.62, 0.98])
def test_a_killed_run_goes_on_bit_for_bit(
    linear: Model, spoken: Spoken, labels: Labels, tmp_path: Path, share: float
) -> None:
    file, of = tmp_path / "state.npz", {"data": "the same"}

    def keep(state: State) -> None:
        save_state(file, state, of)

    def begin(model: Any) -> Adapted:
        begun = load_state(file, of, 48)
        return adapt(model, spoken(), SETTINGS, labels, begun=begun, save=keep, save_every_s=0)

    model = linear()
    whole = adapt(model, spoken(), SETTINGS, labels)
    killed_at, calls = 1 + int(share * model.num_forward), 0

    def die(features: np.ndarray) -> None:
        nonlocal calls
        calls += 1
        if calls == killed_at:
            raise Killed

    with pytest.raises(Killed):
        begin(linear(before=die))
    resumed = linear()
    found = begin(resumed)
    assert found.theta_P.tobytes() == whole.theta_P.tobytes()
    assert (found.history, found.before, found.after, found.best_step) == (
        whole.history,
        whole.before,
        whole.after,
        whole.best_step,
    )
    if share > 0.2:  # not from the beginning, but for the update and the look that were cut short
        assert resumed.num_forward <= model.num_forward - killed_at + 15


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process of its own")
def test_sigkill_at_any_moment(linear: Model, spoken: Spoken, labels: Labels, tmp_path: Path) -> None:
    file, of = tmp_path / "state.npz", dict[str, str]()

    def run() -> Adapted:
        begun = load_state(file, of, 48)
        save = lambda state: save_state(file, state, of)  # noqa: E731
        slow = linear(before=lambda features: time.sleep(4e-3))
        return adapt(slow, spoken(), SETTINGS, labels, begun=begun, save=save, save_every_s=0)

    whole = adapt(linear(), spoken(), SETTINGS, labels)
    kills = 0
    for delay_s in np.random.default_rng(0).uniform(0.02, 0.4, 5):
        if child := os.fork():
            until_s = time.monotonic() + 30  # a busy machine takes its time before there is a state at all
            while not file.exists() and time.monotonic() < until_s:
                time.sleep(1e-3)
            time.sleep(delay_s)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            kills += os.WIFSIGNALED(status)
        else:
            run()
            os._exit(0)
    assert kills
    assert file.exists()
    assert run().theta_P.tobytes() == whole.theta_P.tobytes()


def test_gradients_are_those_of_the_whole_batch(linear: Model, spoken: Spoken, labels: Labels) -> None:
    """One update of all utterances one by one is one by the mean over their labels together."""
    data = spoken(8, 2)
    settings = replace(SETTINGS, steps=2, evaluate_steps=1, batch_s=1e6, time_masks=0, freq_masks=0, clip_norm=1e9)
    first_moments = dict[int, np.ndarray]()

    def keep(state: State) -> None:
        first_moments[state.step] = state.first_P.copy()

    adapt(linear(), data, replace(settings, start=1), labels, save=keep)
    model, total, num_labels = linear(), np.zeros(48), 0
    for example in data.training:
        _, d = ctc_loss(model.forward(example.features(), model.starts[1]), example.labels, 0)
        total += model.backward(d.astype(np.float32))
        num_labels += len(example.labels)
    np.testing.assert_allclose(first_moments[1], 0.1 * total / num_labels, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("interpolation", [0.25, 1.0])
def test_what_is_kept_lies_between_start_and_end(
    linear: Model, spoken: Spoken, labels: Labels, interpolation: float
) -> None:
    learned, states = dict[int, np.ndarray](), list[State]()

    def keep(state: State) -> None:
        learned[state.step] = state.theta_P.copy()
        states.append(state)

    settings = replace(SETTINGS, start=1, interpolation=interpolation)
    found = adapt(linear(), spoken(), settings, labels, save=keep)
    learned[states[-1].step] = states[-1].theta_P  # after the last update nothing is saved any more
    assert found.best_step in learned
    start_P = linear().starts[1]
    expected_P = (1 - interpolation) * start_P + interpolation * learned[found.best_step]
    assert not np.allclose(expected_P, start_P, atol=1e-3)
    np.testing.assert_allclose(found.theta_P, expected_P, rtol=1e-5, atol=1e-6)


def test_it_stops_when_it_gets_no_better(linear: Model, spoken: Spoken, labels: Labels) -> None:
    settings = replace(SETTINGS, steps=10_000, patience=2, learning_rate=0.2)
    found = adapt(linear(), spoken(), settings, labels)
    assert found.stopped == "patience"
    assert found.steps == found.best_step + 2 * 4
    assert found.after.loss == min(look["held_back_loss"] for look in found.history)


def test_it_stops_after_its_passes(linear: Model, spoken: Spoken, labels: Labels) -> None:
    found = adapt(linear(), spoken(), replace(SETTINGS, epochs=2, batch_s=1e6), labels)
    assert (found.stopped, found.steps, found.epochs) == ("epochs", 2, 2)
    assert found.history[-1]["step"] == 2


def test_nothing_is_better_than_the_core(linear: Model, spoken: Spoken, labels: Labels) -> None:
    """Of a speaker whom the core was made for, and with a rate that destroys."""
    found = adapt(linear(0), spoken(change=0), replace(SETTINGS, learning_rate=30, weight_decay=0), labels)
    assert not found.improved
    assert found.after == found.before
    assert (found.stopped, found.best_step) == ("patience", 0)


def test_a_loss_that_is_no_number_ends_it(linear: Model, spoken: Spoken, labels: Labels) -> None:
    model = linear()
    backward = model.backward

    def broken(d: np.ndarray) -> np.ndarray:
        gradient: np.ndarray = backward(d)
        return gradient if model.num_backward < 100 else gradient * np.float32(np.nan)

    model.backward = broken
    found = adapt(model, spoken(), SETTINGS, labels)
    assert found.stopped == "diverged"
    assert np.isfinite(found.theta_P).all()
    assert found.improved


# Where it begins.


def test_the_best_starting_point_is_taken(linear: Model, spoken: Spoken, labels: Labels) -> None:
    data, model = spoken(), linear(4)
    good = adapt(linear(), data, SETTINGS, labels).theta_P
    model.starts[2] = good
    found = adapt(model, data, replace(SETTINGS, steps=1), labels)
    assert found.start == 2
    assert found.history[0]["held_back_loss"] == pytest.approx(
        evaluate(linear(), good, data.held_back, labels, Budget()).loss
    )
    assert adapt(model, data, replace(SETTINGS, steps=1, start=3), labels).start == 3


def test_what_is_no_starting_point(linear: Model, spoken: Spoken, labels: Labels) -> None:
    with pytest.raises(UsageError, match="gradients vanish there"):
        adapt(linear(), spoken(), replace(SETTINGS, start="zeros"), labels)
    with pytest.raises(UsageError, match="expected a start below 2, received 2"):
        adapt(linear(), spoken(), replace(SETTINGS, start=2), labels)


@pytest.mark.parametrize("start", ["best", "zeros"])
def test_without_starting_points_it_begins_at_the_core(
    linear: Model, spoken: Spoken, labels: Labels, start: Any
) -> None:
    found = adapt(linear(0), spoken(), replace(SETTINGS, start=start), labels)
    assert found.start is None
    assert found.history[0]["held_back_loss"] == found.before.loss
    assert found.improved


def test_a_starting_point_without_a_gradient_stays(linear: Model, spoken: Spoken, labels: Labels) -> None:
    model = linear(0)
    model.backward = lambda d: np.zeros(48, np.float32)
    found = adapt(model, spoken(), SETTINGS, labels)
    assert not found.theta_P.any()
    assert (found.stopped, found.improved) == ("patience", False)


# Time.


@pytest.mark.parametrize("budget_s", [0.7, 2.0])
def test_it_ends_in_time(linear: Model, spoken: Spoken, labels: Labels, budget_s: float) -> None:
    """On a machine that takes 1 ms per frame, on which one look takes half of the first budget."""
    model = linear(before=lambda features: time.sleep(1e-3 * len(features)))
    data = spoken(30, 10)
    began = time.monotonic()
    found = adapt(model, data, replace(SETTINGS, steps=10_000, epochs=10_000), labels, budget=Budget(budget_s))
    assert time.monotonic() - began <= budget_s
    assert found.stopped == "budget"
    assert 1 <= found.num_held_back < 10
    assert found.steps >= (1 if budget_s > 1 else 0)
    assert found.history[-1]["step"] == found.steps  # it was looked at in the end
    assert found.improved or not found.steps


def test_with_time_enough_all_is_looked_at(linear: Model, spoken: Spoken, labels: Labels) -> None:
    with_end = adapt(linear(), spoken(), SETTINGS, labels, budget=Budget(100))
    without = adapt(linear(), spoken(), SETTINGS, labels)
    assert with_end.num_held_back == 5
    assert with_end.theta_P.tobytes() == without.theta_P.tobytes()


# Memory.


def test_what_does_not_fit_is_left_out(linear: Model, spoken: Spoken, labels: Labels) -> None:
    """A model that takes 2 MiB for each of the 30 to 200 frames of an utterance."""
    data = spoken(20, 5, words=(1, 2, 4, 8))

    def hold(features: np.ndarray) -> None:
        held = np.ones((len(features) * 2) << 17)
        time.sleep(0.003)
        del held

    longest = max(len(example.features()) for example in (*data.training, *data.held_back))
    # as large as this process has been: whatever tests ran before, what is left of the limit is the same, half of what
    # the longest takes; a twentieth of the limit is not used at all
    freed = np.ones(max(0, int(peak_memory_mib() - resident_mib())) << 17)
    limit_mib = (peak_memory_mib() + longest) / 0.95
    found = adapt(linear(before=hold), data, replace(SETTINGS, steps=3), labels, max_memory_mib=limit_mib)
    assert peak_memory_mib() <= limit_mib
    assert found.num_too_long > 0
    assert found.num_utterances + found.num_held_back + found.num_too_long == 20
    assert found.num_utterances > 0
    assert found.peak_mib <= limit_mib
    del freed


def test_memory_for_nothing(linear: Model, spoken: Spoken, labels: Labels) -> None:
    with pytest.raises(EdgekitError, match="the loaded model alone"):
        adapt(linear(), spoken(), SETTINGS, labels, max_memory_mib=1)
    limit_mib, held = peak_memory_mib() + 20, list[np.ndarray]()
    model = linear(before=lambda features: held.append(np.ones(int(limit_mib - resident_mib() + 20) << 17)))
    with pytest.raises(EdgekitError, match="0 of 20 fit into"):
        adapt(model, spoken(), SETTINGS, labels, max_memory_mib=limit_mib)


def test_nothing_to_learn_or_to_hold_back(linear: Model, spoken: Spoken, labels: Labels) -> None:
    with pytest.raises(EdgekitError, match="expected utterances to learn and others to hold back, received 0 and 0"):
        adapt(linear, AdaptationData((), ()), AdaptSettings(), labels)
