"""Arms that tune a checkpoint: what they begin with, what they learn, and what they leave as it is."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.core.bundle import open_bundle
from edgekit.runtime.adapt.settings import AdaptSettings
from edgekit.runtime.builtin import builtin_bundle
from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.libricontinual.arms import AsItIs, SpeakerData
from edgekit.runtime.libricontinual.learning import Learned, learn
from edgekit.runtime.samples import sample_clips
from edgekit.train.families.disconformer.config import Config
from edgekit.train.libricontinual import arms
from edgekit.train.libricontinual.arms import Full, Lora, Matched, Tuned
from edgekit.train.libricontinual.beginning import load_beginning
from edgekit.train.libricontinual.gradient import ModuleGradient
from edgekit.train.libricontinual.units import feed_forward_units

SETTINGS = AdaptSettings(steps=10, evaluate_steps=5, learning_rate=1e-2)
ARMS = (Full, Lora, Matched)


@pytest.fixture(params=ARMS, ids=lambda arm: arm.kind)
def arm(request: pytest.FixtureRequest, bundle: Path, checkpoint: str) -> Tuned:
    made: type[Tuned] = request.param
    if made is Lora:
        pytest.importorskip("peft", reason='LoRA is peft\'s: pip install "edgekit[lora]"')
    return made(made.kind, bundle, checkpoint, SETTINGS)


def test_what_is_learned_changes_the_answers_and_costs_something(arm: Tuned, data: SpeakerData) -> None:
    assert arm.tuned_parameters > 0
    arm = pickle.loads(pickle.dumps(arm))
    before, after = arm.run(None, num_threads=1), arm.run(data, num_threads=1)
    assert before.cost is None
    assert after.cost is not None
    assert after.cost.cpu_seconds > 0
    first, last = after.details["validation_loss"]
    assert last < 0.9 * first
    assert 0 < after.details["best_step"] <= after.details["steps"] <= 10
    clips = sample_clips()
    assert [after.transcribe(clip) for clip in clips] != [before.transcribe(clip) for clip in clips]
    again = pickle.loads(pickle.dumps(arm)).run(data, num_threads=1)
    assert again.details == after.details, "the same seed learns the same"


def test_what_is_no_better_is_not_kept(arm: Tuned, data: SpeakerData, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_vain(*given: Any) -> Learned:
        learned = learn(*given)
        return replace(learned, adapted=replace(learned.adapted, after=learned.adapted.before))

    monkeypatch.setattr(arms, "learn", in_vain)
    after, before = arm.run(data, num_threads=1), arm.run(None, num_threads=1)
    assert after.details["steps"] == 10
    assert [after.transcribe(clip) for clip in sample_clips()] == [before.transcribe(clip) for clip in sample_clips()]


def test_the_rate_with_the_lowest_validation_loss_is_kept(bundle: Path, checkpoint: str, data: SpeakerData) -> None:
    arm = Full("full", bundle, checkpoint, SETTINGS, (1e-6, 3e-3, 1e-5))
    details = arm.run(data, num_threads=1).details
    tried = dict(details["rates"])
    assert list(tried) == [1e-6, 3e-3, 1e-5] == arm.settings["rates"]
    assert details["validation_loss"][1] == tried[3e-3] < tried[1e-5] < tried[1e-6]
    alone = replace(arm, rates=(), learning=replace(SETTINGS, learning_rate=3e-3)).run(data, num_threads=1)
    assert alone.details["validation_loss"] == details["validation_loss"], "each begins anew"


def test_arms_of_one_checkpoint_begin_with_the_same(bundle: Path, checkpoint: str, config: Config) -> None:
    full, matched = Full("full", bundle, checkpoint), Matched("matched", bundle, checkpoint)
    assert full.start == matched.start
    assert full.start != Full("full", builtin_bundle()).start
    assert full.settings != matched.settings
    assert full.settings["tuned"] == "full"
    assert full.settings["learning_rate"] == AdaptSettings().learning_rate
    assert matched.settings["units"] == round(config.augment_parameters() / 65)
    assert matched.tuned_parameters == 65 * matched.settings["units"]
    assert full.tuned_parameters == config.core_parameters() + (config.width + 1) * config.vocab_size


def test_of_the_built_in_weights() -> None:
    full, matched = Full("full", builtin_bundle()), Matched("matched", builtin_bundle())
    assert full.start == matched.start
    assert (full.tuned_parameters, matched.tuned_parameters) == (1_616_480, 336_592)


def test_before_adaptation_it_says_what_the_bundle_says(tmp_path: Path) -> None:
    """Also of a recording that is answered in windows."""
    torch_answers = Full("full", builtin_bundle()).run(None, num_threads=1)
    graph_answers = AsItIs("none", builtin_bundle()).run(None, num_threads=1)
    texts = [torch_answers.transcribe(clip) for clip in sample_clips()]
    assert texts == [graph_answers.transcribe(clip) for clip in sample_clips()]
    assert all(texts)
    soundfile = pytest.importorskip("soundfile", reason="writes a recording")
    wave = np.concatenate([load_audio(clip, 16_000) for clip in sample_clips() * 3])
    assert len(wave) > 25 * 16_000
    soundfile.write(tmp_path / "long.wav", wave, 16_000)
    long = torch_answers.transcribe(tmp_path / "long.wav")
    assert long == graph_answers.transcribe(tmp_path / "long.wav")
    assert len(long) > 2 * sum(map(len, texts))


def test_learning_leaves_what_is_frozen_bit_for_bit(bundle: Path, checkpoint: str, data: SpeakerData) -> None:
    opened = open_bundle(bundle)
    module = load_beginning("matched", opened, checkpoint).module
    before, choice = copy.deepcopy(module.state_dict()), feed_forward_units(module, 20 * 65, 0)
    gradient = ModuleGradient(module, choice)
    adapted = learn(gradient, opened, data, SETTINGS).adapted
    assert adapted.improved
    gradient.use(adapted.theta_P)
    chosen = {values.parameter: values for values in choice.values}
    for name, now in module.state_dict().items():
        same = now == before[name]
        if name in chosen:
            assert not same[chosen[name].where].all()
            same[chosen[name].where] = True
        assert torch.all(same), name
