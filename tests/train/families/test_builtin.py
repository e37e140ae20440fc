"""The weights that ship: how small they are, whose they are, whom they have heard, and that the bundle is theirs."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.bundle import open_bundle
from edgekit.core.files import sha256_of
from edgekit.runtime.builtin import builtin_bundle
from edgekit.train.family import Builtin, find_family

FAMILY = "disconformer"
MAX_BYTES = 10_000_000


@pytest.fixture(scope="module")
def builtin() -> Builtin:
    found = find_family(FAMILY).builtin
    assert found is not None
    return found


@pytest.fixture(scope="module")
def training(builtin: Builtin) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((builtin.folder / "training.json").read_text(encoding="utf-8"))
    return data


@pytest.mark.device_side
def test_the_checkpoint_is_small_and_whole(builtin: Builtin) -> None:
    files = {path.name: path.stat().st_size for path in builtin.folder.iterdir()}
    assert files.keys() == {"LICENSE", "config.json", "model.safetensors", "training.json"}
    assert sum(files.values()) <= MAX_BYTES
    assert builtin.variant in find_family(FAMILY).variants


@pytest.mark.device_side
def test_the_licence_travels_with_the_weights(builtin: Builtin) -> None:
    text = (builtin.folder / "LICENSE").read_text(encoding="utf-8")
    assert "https://creativecommons.org/licenses/by-sa/4.0/legalcode" in text
    assert (builtin_bundle().parent / "LICENSE").read_text(encoding="utf-8") == text


@pytest.mark.device_side
def test_what_they_learned_from_is_told(builtin: Builtin, training: dict[str, Any]) -> None:
    text = (builtin.folder / "LICENSE").read_text(encoding="utf-8")
    assert training["data"]
    for learned in training["data"]:
        assert learned["licence"] in text
        assert len(set(learned["speakers"])) == len(learned["speakers"]) > 0
    for name in ("commands", "budget", "versions", "results"):
        assert training[name], name
    date.fromisoformat(training["date"])
    assert training["weights"] == {
        "family": FAMILY,
        "variant": builtin.variant,
        "licence": builtin.licence,
        "sha256": {"model.safetensors": sha256_of(builtin.folder / "model.safetensors")},
    }


@pytest.mark.device_side
def test_nobody_was_heard_who_tests_or_adapts(training: dict[str, Any], shared_data: Path) -> None:
    folder = shared_data / "librispeech"
    if not (folder / "splits.json").is_file():
        pytest.skip(f"no splits.json in {folder}")
    splits = json.loads((folder / "splits.json").read_text(encoding="utf-8"))
    kept = {speaker for split in ("test", "personal") for speaker in splits[split]["speakers"]}
    rows = [row.split("|") for row in (folder / "SPEAKERS.TXT").read_text(encoding="utf-8").splitlines()]
    kept |= {row[0].strip() for row in rows if len(row) > 2 and row[2].strip() == "test-clean"}
    assert len(kept) == 40
    heard = {speaker for learned in training["data"] for speaker in learned["speakers"]}
    assert not heard & kept
    # LJSpeech is one woman, whom its layout gives no name
    sets = [learned["set"].casefold().replace(" ", "") for learned in training["data"]]
    assert not [name for name in sets if "ljspeech" in name or "test-clean" in name]
    assert not heard & {"LJ", "LJSpeech", "Linda Johnson"}


def test_every_reading_gives_the_same_fp32(builtin: Builtin) -> None:
    torch = pytest.importorskip("torch", reason="reads the checkpoint")
    from edgekit.core.settings import settings_from_dict
    from edgekit.train.checkpoint import open_checkpoint
    from edgekit.train.families.disconformer.config import Config
    from edgekit.train.families.disconformer.model import build, fill

    found = open_checkpoint(builtin.folder)
    assert found.edgekit is not None
    tensors = found.tensors()
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float16}
    module = build(settings_from_dict(Config, found.edgekit["config"]), "ctc")
    fill(module, tensors, "built-in")
    state = module.state_dict()
    assert state.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(state[name], tensor.to(state[name].dtype)), name


def test_the_bundle_is_what_an_export_of_them_makes(builtin: Builtin) -> None:
    """Held to the torch module itself: tracing its gradient anew takes minutes."""
    pytest.importorskip("torch", reason="computes the module's own answers")
    pytest.importorskip("onnxruntime", reason="executes what was exported")
    from edgekit.export.adaptation import check_gradient
    from edgekit.export.export import make_reference
    from edgekit.runtime.adapt.gradient import open_gradient
    from edgekit.runtime.chunks import whole
    from edgekit.runtime.samples import sample_clips
    from edgekit.runtime.session import open_session

    family, shipped = find_family(FAMILY), open_bundle(builtin_bundle())
    variant, model = family.model.load_model(builtin.folder, builtin.variant, None, family.adapted)
    manifest = shipped.manifest
    assert (manifest.family, manifest.variant, manifest.task) == (FAMILY, variant, family.heads[model.head])
    assert manifest.features == model.features
    assert manifest.output == model.output
    assert {name: graph.signature for name, graph in manifest.graphs.items()} == model.config.graphs(model.head)
    sha256 = {"model.safetensors": sha256_of(builtin.folder / "model.safetensors")}
    assert manifest.provenance["weights"] == {"source": "built-in", "licence": builtin.licence, "sha256": sha256}
    assert shipped.asset("tokens").read_text(encoding="utf-8").split("\n")[:-1] == list(model.tokens)
    for graph in manifest.graphs:
        reference = make_reference(model, graph, sample_clips(), "synthesised")
        session = whole(open_session(shipped, graph, backend="onnxruntime"))
        for item, expected in zip(reference.inputs, reference.outputs):
            answer = session.run(item)
            for name, array in expected.items():
                np.testing.assert_allclose(answer[name], array, rtol=1e-3, atol=1e-3)
    assert manifest.adaptation is not None
    assert model.tunable is not None
    assert manifest.adaptation.layout == model.tunable.layout
    checked = check_gradient(shipped, model, shipped.graph().signature)
    assert checked["max_relative_error"] <= checked["atol"]
    gradient = open_gradient(shipped)
    np.testing.assert_array_equal(gradient.starts, model.tunable.starts)
