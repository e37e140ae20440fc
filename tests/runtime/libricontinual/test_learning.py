"""What the arms' loop is given: validation in an order of its own, and a count of what is too long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.runtime.adapt.gradient import open_gradient
from edgekit.runtime.adapt.settings import AdaptSettings
from edgekit.runtime.builtin import builtin_bundle
from edgekit.runtime.corpus import Corpus, Utterance
from edgekit.runtime.libricontinual import learning
from edgekit.runtime.libricontinual.arms import SpeakerData
from edgekit.runtime.samples import sample_clips, transcripts

pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

SETTINGS = AdaptSettings(steps=1, time_masks=0, freq_masks=0)


def corpus(num: int, duration_s: float = 2.0) -> Corpus:
    clip = sample_clips()[0]
    return Corpus(
        tuple(Utterance(f"{index:02}", clip, duration_s, transcripts()[clip.name], "a") for index in range(num))
    )


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(builtin_bundle())


def test_validation_is_in_a_random_order(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its first seconds a starting point is chosen, and by their ids these would be one chapter's."""
    orders = []
    real = learning.adapt

    def looked(gradient: Any, data: Any, *given: Any) -> Any:
        orders.append([example.id for example in data.held_back])
        return real(gradient, data, *given)

    monkeypatch.setattr(learning, "adapt", looked)
    data, gradient = SpeakerData("a", "1s", corpus(1), corpus(8), seed=0), open_gradient(bundle, num_threads=1)
    for seed in (0, 0, 1):
        learning.learn(gradient, bundle, replace(data, seed=seed), SETTINGS)
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) != orders[0]


def test_what_is_too_long_is_counted(bundle: Bundle) -> None:
    train = Corpus((*corpus(2).utterances, replace(corpus(1).utterances[0], id="long", duration_s=31.0)))
    validation = Corpus(
        (*corpus(1).utterances, *(replace(u, id=f"long {u.id}", duration_s=99.0) for u in train.utterances))
    )
    gradient = open_gradient(bundle, num_threads=1)
    learned = learning.learn(gradient, bundle, SpeakerData("a", "1s", train, validation, 0), SETTINGS)
    assert learned.details["num_left_out"] == 1 + 3
    assert (learned.adapted.num_utterances, learned.adapted.num_held_back) == (2, 1)
