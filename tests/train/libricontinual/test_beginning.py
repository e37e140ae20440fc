"""Which checkpoint an arm begins with, and what is said of those that it cannot begin with."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.core.bundle import open_bundle
from edgekit.core.errors import BackendError, CheckpointError, EdgekitError, SettingsError, UsageError
from edgekit.runtime.builtin import builtin_bundle
from edgekit.train.families.disconformer.config import Config
from edgekit.train.families.disconformer.model import DisConformer, build, save_model
from edgekit.train.libricontinual.beginning import augment_size, identity_of, load_beginning
from edgekit.train.tokens import LETTERS

Changed = Callable[..., Path]


def test_the_bundles_own_or_a_named_one(config: Config, checkpoint: str, bundle: Path) -> None:
    builtin, opened = open_bundle(builtin_bundle()), open_bundle(bundle)
    own, named = load_beginning("full", builtin, None), load_beginning("full", opened, checkpoint)
    assert own.weights["sha256"] == builtin.manifest.provenance["weights"]["sha256"]
    assert named.config == config
    assert identity_of(own) != identity_of(named)
    assert json.loads(json.dumps(identity_of(named))) == identity_of(named)
    assert augment_size(own, builtin) == builtin.manifest.adaptation.layout.size == 336_528
    assert augment_size(named, opened) == config.augment_parameters()


def test_augment_nets_of_the_bundle_are_merged(checkpoint: str, changed_bundle: Changed) -> None:
    manifest = open_bundle(builtin_bundle()).manifest
    opened = open_bundle(changed_bundle(config={**manifest.config, "active": [1]}))
    model = load_beginning("full", opened, checkpoint)
    assert model.config.active == (1,)
    assert identity_of(model)["config"]["active"] == [1]
    with pytest.raises(SettingsError, match="active must name different augment nets"):
        load_beginning("full", open_bundle(changed_bundle(config={**manifest.config, "active": [9]})), checkpoint)


def test_a_bundle_that_cannot_say_where_its_checkpoint_is(changed_bundle: Changed) -> None:
    for weights, hint in (
        ({"source": "random", "seed": 0}, "--arms lora=CHECKPOINT"),
        ({"source": "checkpoint", "name": "runs/t/best", "sha256": {}}, "--arms lora=runs/t/best"),
    ):
        opened = open_bundle(changed_bundle(provenance={"weights": weights}))
        with pytest.raises(UsageError, match=f"the arm lora, .* has {weights['source']} weights") as raised:
            load_beginning("lora", opened, None)
        assert hint in (raised.value.hint or "")


def test_built_in_weights_of_another_edgekit(changed_bundle: Changed) -> None:
    weights = {"source": "built-in", "sha256": {"model.safetensors": "0" * 64}}
    with pytest.raises(CheckpointError, match="these are of another edgekit") as raised:
        load_beginning("full", open_bundle(changed_bundle(provenance={"weights": weights})), None)
    assert "export it again" in (raised.value.hint or "")


def test_a_bundle_of_another_family(toy_bundle: Path, changed_bundle: Changed, checkpoint: str) -> None:
    embedding = changed_bundle(task="speech-embedding", output={"kind": "embedding", "frame_s": 0.04})
    for path, told in ((toy_bundle, "toy for speech-recognition"), (embedding, "disconformer for speech-embedding")):
        with pytest.raises(UsageError, match=told) as raised:
            load_beginning("matched", open_bundle(path), checkpoint)
        assert "edgekit export disconformer" in (raised.value.hint or "")


def test_checkpoints_that_cannot_be(bundle: Path, config: Config, whole: DisConformer, tmp_path: Path) -> None:
    save_model(tmp_path / "headless", build(config, None), config, "t", LETTERS)
    save_model(tmp_path / "labels", whole, config, "t", [*LETTERS[:-2], LETTERS[-1], LETTERS[-2]])
    (tmp_path / "hubert").mkdir()
    (tmp_path / "hubert" / "config.json").write_text(json.dumps({"edgekit": {"family": "hubert"}}))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}))
    for name, told in (
        ("headless", "expected a CTC head"),
        ("labels", f"expected the labels of {re.escape(str(bundle))} for the arm full"),
        ("hubert", "expected a checkpoint of disconformer, .* is one of hubert"),
        ("foreign", "expected a checkpoint of disconformer"),
        ("absent", "expected a checkpoint's folder or a model of the Hugging Face hub"),
    ):
        with pytest.raises(EdgekitError, match=told) as raised:
            load_beginning("full", open_bundle(bundle), str(tmp_path / name))
        assert isinstance(raised.value, CheckpointError)
        assert "--head" not in (raised.value.hint or "--head")


def test_without_torch(checkpoint: str, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "edgekit.train.families.disconformer.model")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendError, match="expected the package torch") as raised:
        load_beginning("full", open_bundle(bundle), checkpoint)
    assert "pip install" in (raised.value.hint or "")


def test_a_plain_conformer_is_one_without_augment_nets(bundle: Path, config: Config, tmp_path: Path) -> None:
    plain = replace(config, num_augments=0)
    save_model(tmp_path / "plain", build(plain, "ctc"), plain, "t", LETTERS)
    model = load_beginning("matched", open_bundle(bundle), str(tmp_path / "plain"))
    assert augment_size(model, open_bundle(bundle)) == config.augment_parameters()
