"""Learning a speaker: AdamW on the augment weights, one utterance at a time, judged by what is held back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgekit.runtime.adapt.budget import Budget
from edgekit.runtime.adapt.differentiable import Gradient
from edgekit.runtime.adapt.examples import AdaptationData
from edgekit.runtime.adapt.held_back import Score
from edgekit.runtime.adapt.labels import Labels
from edgekit.runtime.adapt.learner import Learner, Progress, Stopped
from edgekit.runtime.adapt.settings import AdaptSettings
from edgekit.runtime.adapt.state import State
from edgekit.runtime.benchmark_asr import peak_memory_mib


@dataclass(frozen=True)
class Adapted:
    """What was learned.

    Attributes:
        theta_P: float32 [P], the weights with the lowest held-back loss of those looked at.
        before, after: held-back scores of the core alone, and of `theta_P`.
        start: the place of the starting point; None: zeros.
        steps, best_step: updates made, and those after which `theta_P` was reached.
        epochs: passes over the speech, rounded down.
        stopped: by the settings' `steps` or `epochs`, their `patience`, the budget, or since the loss was no number.
        num_utterances, speech_s: of what was learned.
        num_held_back, held_back_s: of what was looked at.
        num_too_long: utterances that did not fit into the memory allowed.
        seconds: wall time, of all processes that worked on it.
        peak_mib: the most memory of this process.
        history: per look its step, training loss, held-back loss and WER.
    """

    theta_P: np.ndarray
    before: Score
    after: Score
    start: int | None
    steps: int
    best_step: int
    epochs: int
    stopped: Stopped
    num_utterances: int
    speech_s: float
    num_held_back: int
    held_back_s: float
    num_too_long: int
    seconds: float
    peak_mib: float
    history: tuple[dict[str, float], ...]

    @property
    def improved(self) -> bool:
        """Whether `theta_P` is worth installing: its loss is lower than the core's."""
        return self.after.loss < self.before.loss


def adapt(
    gradient: Gradient,
    data: AdaptationData,
    settings: AdaptSettings,
    labels: Labels,
    *,
    budget: Budget | None = None,
    max_memory_mib: float | None = None,
    begun: State | None = None,
    save: Callable[[State], None] | None = None,
    save_every_s: float = 30.0,
    report: Callable[[Progress], None] | None = None,
) -> Adapted:
    """Learn the augment weights of one speaker.

    Utterances go through the model one at a time, since memory grows with what is in it at once; their gradients are
    added up until an update. Without a budget the result depends on the settings and the data alone, and a run that
    goes on with a state gives the same bits as one that was never stopped.

    Args:
        gradient: the model.
        data: at least one example to learn and one held back.
        budget: when it must be done; looks at what is held back are then made smaller, too. None: as long as it takes.
        max_memory_mib: of this process, resident. Utterances that would not fit are left out.
        begun: what to go on with; it is changed.
        save: keeps the state; called before the first update, after each look, and else every `save_every_s` seconds.
        report: called after each step.

    Raises:
        UsageError: a starting point that the model does not have.
        EdgekitError: memory for not even two utterances.
    """
    learner = Learner(gradient, data, settings, labels, budget or Budget(), report or (lambda progress: None))
    state = learner.begin(max_memory_mib) if begun is None else begun
    learner.take(state)
    spent_s, saved = state.spent_s, time.monotonic()

    def keep() -> None:
        nonlocal saved
        state.spent_s = spent_s + learner.budget.elapsed_s
        saved = time.monotonic()
        if save is not None:
            save(state)

    if begun is None:
        keep()
    stopped = learner.over()
    while stopped is None:
        stopped = learner.update()
        if stopped is None:
            at_look = state.step % settings.evaluate_steps == 0
            if at_look:
                learner.look()
            stopped = learner.over()
            if stopped is None and (at_look or time.monotonic() - saved >= save_every_s):
                keep()
    if stopped != "diverged" and state.history[-1]["step"] != state.step:
        learner.look()
    held_back = learner.held_back
    return Adapted(
        theta_P=state.best_P,
        before=state.core,
        after=state.best,
        start=state.start,
        steps=state.step,
        best_step=state.best_step,
        epochs=state.epoch,
        stopped=stopped,
        num_utterances=len(learner.training),
        speech_s=sum(example.duration_s for example in learner.training),
        num_held_back=len(held_back),
        held_back_s=sum(example.duration_s for example in held_back),
        num_too_long=sum(e.duration_s > state.longest_s for e in (*data.training, *data.held_back)),
        seconds=spent_s + learner.budget.elapsed_s,
        peak_mib=peak_memory_mib(),
        history=tuple(state.history),
    )
