"""The steps of learning a speaker: what fits, where it begins, one update, one look at what is held back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgekit.core.errors import EdgekitError, UsageError
from edgekit.runtime.adapt.adamw import AdamW, clip_norm, rate_at
from edgekit.runtime.adapt.budget import Budget
from edgekit.runtime.adapt.ctc import ctc_loss
from edgekit.runtime.adapt.differentiable import Gradient
from edgekit.runtime.adapt.examples import AdaptationData, Example
from edgekit.runtime.adapt.held_back import Score, evaluate
from edgekit.runtime.adapt.labels import Labels
from edgekit.runtime.adapt.memory import check_loaded, longest_within
from edgekit.runtime.adapt.settings import AdaptSettings
from edgekit.runtime.adapt.spec_augment import spec_augment
from edgekit.runtime.adapt.state import State

Stopped = Literal["steps", "epochs", "patience", "budget", "diverged"]

# shares of the time that is left: one look at what is held back, and the choice of a starting point
_LOOK_SHARE, _CHOICE_SHARE = 0.15, 0.1
# of speech held back, enough to tell starting points apart
_CHOICE_S = 30.0
# weights, moments, the best weights, those looked at, the sum of gradients and one gradient: vectors of float32[P]
_NUM_VECTORS = 7


@dataclass(frozen=True)
class Progress:
    """How far it is.

    Attributes:
        stage: "reading": recordings are read, and labelled where they have no text; "memory": what fits into it is
            measured; "start": the core and the starting points are looked at.
        step, num_steps: updates done, and the most there will be; while reading, recordings.
        loss: of training, nats per label; None before the first update.
        held_back: the last look.
        left_s: until the end, at most; None: not known.
    """

    stage: Literal["reading", "memory", "start", "learning"]
    step: int = 0
    num_steps: int = 0
    loss: float | None = None
    held_back: Score | None = None
    left_s: float | None = None


class Learner:
    """The steps of learning, on a `State`.

    Attributes:
        training, held_back: the examples that fit into the memory and time allowed.
    """

    def __init__(
        self,
        gradient: Gradient,
        data: AdaptationData,
        settings: AdaptSettings,
        labels: Labels,
        budget: Budget,
        report: Callable[[Progress], None],
    ) -> None:
        self._gradient, self._data, self._settings, self._labels = gradient, data, settings, labels
        self.budget, self._report = budget, report

    def begin(self, max_memory_mib: float | None) -> State:
        """The state before the first update: what fits is known, the core was looked at, a starting point chosen."""
        longest_s = math.inf if max_memory_mib is None else self._longest_s(max_memory_mib)
        training, held_back = self._fitting(longest_s)
        if not training or not held_back:
            fitting, all_ = len(training) + len(held_back), len(self._data.training) + len(self._data.held_back)
            if max_memory_mib is None:
                raise EdgekitError(
                    "expected utterances to learn and others to hold back, "
                    f"received {len(training)} and {len(held_back)}"
                )
            raise EdgekitError(
                f"expected memory for two utterances or more, {fitting} of {all_} fit into {max_memory_mib:.0f} MiB",
                hint="give a larger --max-memory, or shorter utterances",
            )
        self._report(Progress("start"))
        size = self._gradient.size
        zeros_P = np.zeros(size, np.float32)
        if self.budget.seconds is not None:
            held_back = self._affordable(held_back, zeros_P)
        core = self._evaluate(zeros_P, held_back)
        start = self._start(held_back)
        theta_P = self._first(start)
        best = core if start is None else self._evaluate(theta_P, held_back)
        return State(
            theta_P=theta_P,
            first_P=np.zeros(size, np.float32),
            second_P=np.zeros(size, np.float32),
            best_P=theta_P.copy(),
            rng=np.random.default_rng(self._settings.seed),
            core=core,
            start=start,
            best=best,
            num_held_back=len(held_back),
            longest_s=longest_s,
            history=[{"step": 0, "held_back_loss": best.loss, "held_back_wer": best.wer}],
        )

    def take(self, state: State) -> None:
        """Go on with a state."""
        self._state = state
        self.training, held_back = self._fitting(state.longest_s)
        self.held_back = held_back[: state.num_held_back]
        self._held_back_s = sum(example.duration_s for example in self.held_back)
        speech_s = sum(example.duration_s for example in self.training)
        per_epoch = max(1, math.ceil(speech_s / self._settings.batch_s))
        self._num_steps = min(self._settings.steps, self._settings.epochs * per_epoch)
        self._optimizer = AdamW(state.first_P, state.second_P, self._settings.weight_decay)
        self._sum_P = np.zeros(self._gradient.size, np.float32)
        if self.budget.seconds is not None and not self.budget.look_s(1.0):
            self._evaluate(state.theta_P, self.held_back[:1])  # the pace of another process is not known here
        self._tell()

    def over(self) -> Stopped | None:
        """Why it has ended, if it has."""
        if self._state.step >= self._settings.steps:
            return "steps"
        if self._state.epoch >= self._settings.epochs:
            return "epochs"
        return "patience" if self._state.num_stale >= self._settings.patience else None

    def update(self) -> Stopped | None:
        """Add up the gradients of one batch and make one update, if there is time for it and for a last look."""
        state, settings = self._state, self._settings
        self._sum_P[:] = 0
        nats, num_labels, speech_s = 0.0, 0, 0.0
        while speech_s < settings.batch_s:
            if state.position == len(state.order):
                if speech_s:
                    break  # what follows would be learned twice in one update
                state.order, state.position = state.rng.permutation(len(self.training)), 0
            example = self.training[state.order[state.position]]
            if self.budget.learn_s(example.duration_s) + self.budget.look_s(self._held_back_s) > self.budget.left_s:
                return "budget"
            loss, gradient_P = self._learn(example)
            state.position += 1
            speech_s += example.duration_s
            if math.isinf(loss):
                continue  # its text does not fit into its frames: it teaches nothing
            if not (math.isfinite(loss) and np.isfinite(gradient_P).all()):
                return "diverged"
            self._sum_P += gradient_P
            nats += loss
            num_labels += len(example.labels)
        if num_labels:
            self._sum_P /= np.float32(num_labels)
            clip_norm(self._sum_P, settings.clip_norm)
            peak, warmup = settings.learning_rate, settings.warmup_steps
            rate = rate_at(state.step, self._num_steps, peak=peak, warmup_steps=warmup, schedule=settings.schedule)
            self._optimizer.update(state.theta_P, self._sum_P, rate, state.step + 1)
            mean = nats / num_labels
            state.loss = mean if state.loss is None else 0.9 * state.loss + 0.1 * mean
        state.step += 1
        state.learned_s += speech_s
        state.epoch += state.position == len(state.order)
        self._tell()
        return None

    def look(self) -> None:
        """Evaluate weights on the way from the start to the present ones, and keep them if they are the best so far."""
        state = self._state
        kept_P = self._first(state.start)
        kept_P += np.float32(self._settings.interpolation) * (state.theta_P - kept_P)
        score = self._evaluate(kept_P, self.held_back)
        look = {"step": state.step, "held_back_loss": score.loss, "held_back_wer": score.wer}
        state.history.append(look if state.loss is None else {**look, "loss": state.loss})
        state.num_stale += 1
        if score.loss < state.best.loss:
            state.best, state.best_step, state.num_stale = score, state.step, 0
            state.best_P[:] = kept_P
        self._tell()

    def _first(self, start: int | None) -> np.ndarray:
        """float32 [P], a copy: the weights before the first update."""
        if start is None:
            return np.zeros(self._gradient.size, np.float32)
        return np.array(self._gradient.starts[start], np.float32)

    def _learn(self, example: Example) -> tuple[float, np.ndarray]:
        began, settings = time.monotonic(), self._settings
        features_FM = example.features()
        if features_FM.ndim == 2:
            features_FM = spec_augment(
                features_FM,
                self._state.rng,
                time_masks=settings.time_masks,
                time_width=settings.time_width,
                freq_masks=settings.freq_masks,
                freq_width=settings.freq_width,
            )
        loss, gradient_P = self._gradient_of(features_FM, example, self._state.theta_P)
        self.budget.learned(time.monotonic() - began, example.duration_s)
        return loss, gradient_P

    def _gradient_of(self, features_FM: np.ndarray, example: Example, theta_P: np.ndarray) -> tuple[float, np.ndarray]:
        log_probs_TV = self._gradient.forward(features_FM, theta_P)
        loss, d_log_probs_TV = ctc_loss(log_probs_TV, example.labels, self._labels.blank)
        return loss, self._gradient.backward(d_log_probs_TV.astype(np.float32))

    def _evaluate(self, theta_P: np.ndarray, examples: tuple[Example, ...]) -> Score:
        return evaluate(self._gradient, theta_P, examples, self._labels, self.budget)

    def _fitting(self, longest_s: float) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
        data = self._data
        training, held_back = (
            tuple(example for example in part if example.duration_s <= longest_s)
            for part in (data.training, data.held_back)
        )
        return training, held_back

    def _longest_s(self, max_memory_mib: float) -> float:
        check_loaded(max_memory_mib)
        self._report(Progress("memory"))
        examples = (*self._data.training, *self._data.held_back)
        starts = self._gradient.starts
        theta_P = starts[0] if len(starts) else np.zeros(self._gradient.size, np.float32)
        return longest_within(
            max_memory_mib,
            [example.duration_s for example in examples],
            lambda index: self._gradient_of(examples[index].features(), examples[index], theta_P),
            reserved_mib=_NUM_VECTORS * 4 * self._gradient.size / 2**20,
        )

    def _affordable(self, held_back: tuple[Example, ...], theta_P: np.ndarray) -> tuple[Example, ...]:
        """The first of them, at least one, at which a look takes no more than its share of the time left."""
        # the first run allocates: only the second tells the pace
        evaluate(self._gradient, theta_P, held_back[:1], self._labels, Budget())
        self._evaluate(theta_P, held_back[:1])
        count, speech_s = 1, held_back[0].duration_s
        for example in held_back[1:]:
            speech_s += example.duration_s
            if self.budget.look_s(speech_s) > _LOOK_SHARE * self.budget.left_s:
                break
            count += 1
        return held_back[:count]

    def _start(self, held_back: tuple[Example, ...]) -> int | None:
        """The place of the starting point; None: zeros."""
        wanted, starts = self._settings.start, self._gradient.starts
        if isinstance(wanted, int):
            if wanted >= len(starts):
                raise UsageError(f"expected a start below {len(starts)}, received {wanted}")
            return wanted
        if not len(starts):
            return None
        if wanted == "zeros":
            raise UsageError(
                f"expected one of {len(starts)} trained starting points, received zeros: gradients vanish there",
                hint="--set start=best",
            )
        few, speech_s = 1, held_back[0].duration_s
        while few < len(held_back) and speech_s + held_back[few].duration_s <= _CHOICE_S:
            speech_s += held_back[few].duration_s
            few += 1
        best, lowest, began = 0, math.inf, self.budget.elapsed_s
        for place, start_P in enumerate(starts if len(starts) > 1 else ()):
            if place and self.budget.elapsed_s - began > _CHOICE_SHARE * self.budget.left_s:
                break
            loss = self._evaluate(start_P, held_back[:few]).loss
            if loss < lowest:
                best, lowest = place, loss
        return best

    def _tell(self) -> None:
        state, left_s = self._state, self.budget.left_s
        last = state.history[-1]
        if state.step:
            num_left = self._num_steps - state.step
            per_step_s = self.budget.learn_s(state.learned_s / state.step)
            per_look_s = self.budget.look_s(self._held_back_s) / self._settings.evaluate_steps
            left_s = min(left_s, num_left * (per_step_s + per_look_s))
        held_back = Score(last["held_back_loss"], last["held_back_wer"])
        told_s = max(0.0, left_s) if math.isfinite(left_s) else None
        self._report(Progress("learning", state.step, self._num_steps, state.loss, held_back, told_s))
