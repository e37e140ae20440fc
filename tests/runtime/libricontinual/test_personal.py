"""Arms that serve a speaker by theta: what they start from, what they learn, and what they leave as it is."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BundleError, UsageError
from edgekit.runtime.adapt.gradient import open_gradient
from edgekit.runtime.adapt.settings import AdaptSettings
from edgekit.runtime.builtin import builtin_bundle
from edgekit.runtime.corpus import Corpus, Utterance
from edgekit.runtime.libricontinual.arms import AsItIs, SpeakerData
from edgekit.runtime.libricontinual.personal import Disentangled, Untuned
from edgekit.runtime.samples import sample_clips, transcripts
from edgekit.runtime.tasks import load

SETTINGS = AdaptSettings(steps=12, evaluate_steps=4, learning_rate=1e-2)


@pytest.fixture(scope="module")
def data() -> SpeakerData:
    corpus = Corpus(
        tuple(Utterance(clip.stem, clip, 2.0, transcripts()[clip.name], "clips") for clip in sample_clips())
    )
    return SpeakerData("clips", "10s", corpus, corpus, seed=3)


def test_what_is_learned_changes_the_answers_and_costs_something(adaptable: Bundle, data: SpeakerData) -> None:
    arm = pickle.loads(pickle.dumps(Disentangled("disentangled", adaptable.path, SETTINGS, allow_random_weights=True)))
    assert adaptable.manifest.adaptation is not None
    assert arm.tuned_parameters == adaptable.manifest.adaptation.layout.size
    before, after = arm.run(None, num_threads=1), arm.run(data, num_threads=1)
    assert before.cost is None
    assert after.cost is not None
    assert after.cost.cpu_seconds > 0
    first, last = after.details["validation_loss"]
    assert last < first
    assert 0 < after.details["best_step"] <= after.details["steps"] <= 12
    core = AsItIs("none", adaptable.path, allow_random_weights=True).run(None, num_threads=1)
    clips = sample_clips()
    assert [before.transcribe(clip) for clip in clips] == [core.transcribe(clip) for clip in clips]
    assert [after.transcribe(clip) for clip in clips] != [core.transcribe(clip) for clip in clips]


def test_the_same_seed_learns_the_same(adaptable: Bundle, data: SpeakerData) -> None:
    arm = Disentangled("disentangled", adaptable.path, SETTINGS, allow_random_weights=True)
    losses = [arm.run(data, num_threads=1).details["validation_loss"] for _ in range(2)]
    assert losses[0] == losses[1]


def test_an_untuned_augment_net_answers_as_that_starting_point(adaptable: Bundle) -> None:
    arm = Untuned("untuned", adaptable.path, 1, allow_random_weights=True)
    assert arm.tuned_parameters == 0
    assert arm.start != Disentangled("disentangled", adaptable.path).start
    answer, recogniser = arm.run(None, num_threads=1), load(adaptable.path)
    gradient = open_gradient(adaptable)
    for clip in sample_clips():
        expected = recogniser.transcribe(clip, speaker=gradient.starts[1], allow_random_weights=True).text
        assert answer.transcribe(clip) == expected
    assert answer.cost is None


def test_what_cannot_be_is_explained(adaptable: Bundle, data: SpeakerData) -> None:
    with pytest.raises(UsageError, match=r"an augment net in 0\.\.3, received 4"):
        Untuned("untuned", adaptable.path, 4, allow_random_weights=True).run(None, num_threads=1)
    with pytest.raises(BundleError, match="random weights"):
        Disentangled("disentangled", adaptable.path, SETTINGS).run(data, num_threads=1)


def test_other_augment_nets_of_the_same_core_are_something_else(tmp_path: Path) -> None:
    """What was measured of the old ones is not taken for theirs."""
    manifest = json.loads((builtin_bundle() / "manifest.json").read_text())
    manifest["adaptation"]["starts"]["sha256"] = "0" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert Untuned("untuned", tmp_path).start != Untuned("untuned", builtin_bundle()).start
    ours, theirs = (Disentangled("disentangled", path) for path in (builtin_bundle(), tmp_path))
    assert ours.start == theirs.start, "before adaptation it is the core alone"
    assert ours.settings != theirs.settings
