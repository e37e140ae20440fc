"""Word errors as jiwer counts them, the loss as torch computes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edgekit.runtime.adapt.budget import Budget
from edgekit.runtime.adapt.examples import AdaptationData
from edgekit.runtime.adapt.held_back import evaluate, word_errors
from edgekit.runtime.adapt.labels import Labels


def test_word_errors_as_jiwer() -> None:
    jiwer = pytest.importorskip("jiwer", reason="is the reference")
    rng = np.random.default_rng(0)
    for _ in range(200):
        reference, answer = (rng.choice(list("abcd"), rng.integers(low, 12)).tolist() for low in (1, 0))
        counted = jiwer.process_words(" ".join(reference), " ".join(answer))
        assert word_errors(reference, answer) == counted.substitutions + counted.deletions + counted.insertions
    assert word_errors([], ["a", "b"]) == 2


def test_the_score_is_over_all_labels_and_words(
    linear: Callable[..., object], spoken: Callable[..., AdaptationData], labels: Labels
) -> None:
    torch = pytest.importorskip("torch", reason="is the reference")
    jiwer = pytest.importorskip("jiwer", reason="is the reference")
    model, examples = linear(), spoken(6, 1).training
    theta, nats, answers = np.zeros(model.size, np.float32), 0.0, []
    for example in examples:
        log_probs = model.forward(example.features(), theta)
        answers.append(labels.answer(log_probs))
        sizes = torch.tensor([len(log_probs)]), torch.tensor([len(example.labels)])
        targets = torch.tensor([example.labels])
        nats += torch.nn.functional.ctc_loss(torch.tensor(log_probs)[:, None], targets, *sizes, reduction="sum").item()
    budget = Budget()
    score = evaluate(model, theta, examples, labels, budget)
    assert score.loss == pytest.approx(nats / sum(len(example.labels) for example in examples), rel=1e-5)
    assert score.wer == jiwer.wer([example.text for example in examples], answers) > 0
    assert budget.look_s(1.0) > 0


def test_a_text_that_does_not_fit_does_not_count(
    linear: Callable[..., object], spoken: Callable[..., AdaptationData], labels: Labels
) -> None:
    model, (example, *_) = linear(), spoken(6, 1).training
    theta = np.zeros(model.size, np.float32)
    long = replace(example, labels=example.labels * 9)
    alone, both, none = (
        evaluate(model, theta, each, labels, Budget()) for each in ([example], [example, long], [long])
    )
    assert alone.loss == both.loss < math.inf
    assert none.loss == math.inf


def test_what_is_no_number_is_the_worst(
    linear: Callable[..., object], spoken: Callable[..., AdaptationData], labels: Labels
) -> None:
    model, examples = linear(), spoken(6, 1).training
    score = evaluate(model, np.full(model.size, np.nan, np.float32), examples, labels, Budget())
    assert (score.loss, score.wer) == (math.inf, 1.0)
