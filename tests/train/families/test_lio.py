"""LIO's heads and losses against the paper's formulas, and that nothing of them is left in what is deployed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgekit.core.errors import CheckpointError, SettingsError
from edgekit.runtime.explain import geometry
from edgekit.train.data.picture_loading import PictureBatch
from edgekit.train.families.lio.config import VARIANTS
from edgekit.train.families.lio.heads import Heads, StageHeads, polar_labels
from edgekit.train.families.lio.losses import extent_loss, extent_targets, shared_extent, structure_losses
from edgekit.train.families.lio.model import build, heads_of, load_model
from edgekit.train.families.lio.objective import Lio, LioSettings
from edgekit.train.families.lio.recipe import Training
from edgekit.train.layers.backbones.opening import open_backbone
from edgekit.train.layers.classifier.checkpoint import save_classifier
from edgekit.train.techniques.classification import ClassificationSettings
from edgekit.train.techniques.cosub import CosubSettings
from edgekit.train.techniques.drop_path import DropPathSettings
from edgekit.train.techniques.mixing import MixingSettings

TINY = replace(VARIANTS["tiny"], num_classes=3)


def lio(stages: tuple[str, ...] = ("stage3",), **settings: Any) -> Lio:
    torch.manual_seed(0)
    config = replace(TINY, stages=stages)
    module = build(config, "classes")

    def nothing(folder: Path) -> None: ...

    learning = settings.pop("learning", ClassificationSettings())
    return Lio(module, heads_of(module, config), learning, LioSettings(**settings), config.image, nothing)


def groups(count: int = 2, members: int = 4) -> PictureBatch:
    torch.manual_seed(1)
    labels_B = torch.arange(count).repeat_interleave(members)
    pixels_BCHW = torch.randn(count * members, 3, 32, 32)
    return PictureBatch(pixels_BCHW, labels_B, ("a",) * len(labels_B), 0, 0, members)


def test_heads_have_the_papers_number_of_parameters() -> None:
    for channels, expected in ((2048, 2_104_323), (1024, 527_875), (512, 132_867)):
        with torch.device("meta"):
            heads = StageHeads(channels, 2)
        assert sum(parameter.numel() for parameter in heads.parameters()) == expected


def test_heads_are_those_of_the_authors_code() -> None:
    """Cell by cell in NumPy, from a map with negative values, whose 2 x 2 means are the grid."""
    torch.manual_seed(0)
    heads, map_BChw = StageHeads(6, 2), torch.randn(2, 6, 6, 8)
    with torch.no_grad():
        seen = heads(map_BChw)
    f_BCL = map_BChw.numpy().reshape(2, 6, 3, 2, 4, 2).mean((3, 5)).reshape(2, 6, 12)
    np.testing.assert_allclose(seen.features_BCL.numpy(), f_BCL, atol=1e-6)
    assert seen.grid == (3, 4)
    own = {name: parameter.detach().numpy() for name, parameter in heads.named_parameters()}
    extents = []
    for b in range(2):
        x_CL = np.maximum(f_BCL[b], 0)
        extent_L = own["extent.weight"].reshape(6) @ x_CL + own["extent.bias"]
        extents.append(extent_L)
        h_SL = np.maximum(own["structure.weight"].reshape(3, 6) @ x_CL + own["structure.bias"][:, None], 0)
        r0 = int(extent_L.argmax())
        assert int(seen.reference_B[b]) == r0
        np.testing.assert_allclose(seen.extent_BL[b].numpy(), extent_L, atol=1e-5)
        for cell in range(12):
            pair = own["polar.weight"] @ np.concatenate([h_SL[:, r0], h_SL[:, cell]]) + own["polar.bias"]
            found = [float(seen.distance_BL[b, cell]), float(seen.angle_BL[b, cell])]
            assert found == pytest.approx(np.maximum(pair, 0).tolist(), abs=1e-5)
    assert np.min(extents) < 0  # or an activation of the extent would not be seen
    assert (seen.angle_BL == 0).any() or (seen.distance_BL == 0).any()  # nor that of the polar layer


def test_extents_targets_are_of_float32_in_mixed_precision() -> None:
    """Sums of products of 512 channels as large as 20 do not fit fp16."""
    torch.manual_seed(0)
    f_BCL = 20 * torch.randn(4, 512, 6)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(extent_targets(f_BCL, 2), extent_targets(f_BCL.double(), 2).float())
        assert torch.isfinite(extent_targets(f_BCL.half(), 2)).all()


def test_what_begins_at_random_learns_at_its_own_rate() -> None:
    model = lio(learning=ClassificationSettings(head_rate=10.0))
    shares = {name: model.rate_share(name) for name, _ in model.named_parameters()}
    assert {name.split(".")[0] + "." + name.split(".")[1]: share for name, share in shares.items()} == {
        "module.backbone": 1.0,
        "module.head": 10.0,
        "heads.stage3": 10.0,
    }


def test_extent_of_a_picture_with_itself_is_at_least_its_own_power() -> None:
    torch.manual_seed(0)
    f_BCL = torch.randn(3, 5, 7)
    own_BL = f_BCL.square().sum(1) / 5
    assert (shared_extent(f_BCL, f_BCL) >= own_BL - 1e-6).all()
    # by loops: eq. 2 and 3, each member of a group in turn with the others of that group and of no other
    targets = extent_targets(torch.cat([f_BCL, 10 * torch.randn(3, 5, 7)]), members=3)
    for one in range(3):
        for cell in range(7):
            best = [max(float(f_BCL[one, :, cell] @ f_BCL[o, :, c]) for c in range(7)) for o in range(3) if o != one]
            assert float(targets[one, cell]) == pytest.approx(sum(best) / 2 / 5, rel=1e-5)


def test_targets_grow_with_the_square_of_features_but_for_unit_ones() -> None:
    torch.manual_seed(0)
    f_BCL = torch.randn(4, 5, 7)
    torch.testing.assert_close(extent_targets(3 * f_BCL, 2), 9 * extent_targets(f_BCL, 2))
    unit_BL = extent_targets(f_BCL, 2, unit=True)
    torch.testing.assert_close(extent_targets(3 * f_BCL, 2, unit=True), unit_BL, atol=1e-4, rtol=1e-4)
    scaled_BCL = f_BCL / f_BCL.square().mean((1, 2), keepdim=True).sqrt()
    torch.testing.assert_close(extent_targets(scaled_BCL, 2), unit_BL, atol=1e-4, rtol=1e-4)


def test_polar_labels_are_equation_5_and_those_that_are_drawn() -> None:
    distance_BL, angle_BL = polar_labels(torch.tensor([0, 11]), (3, 4))
    for item, place in enumerate((0, 11)):
        x, y = divmod(place, 4)
        for cell in range(12):
            i, j = divmod(cell, 4)
            assert float(distance_BL[item, cell]) == pytest.approx(math.hypot(x - i, y - j) / (math.sqrt(2) * 4))
            assert float(angle_BL[item, cell]) == pytest.approx((math.atan2(y - j, x - i) + math.pi) / (2 * math.pi))
        for ours, drawn in zip((distance_BL[item], angle_BL[item]), geometry((x, y), (3, 4))):
            np.testing.assert_allclose(ours.view(3, 4).numpy(), drawn, atol=1e-6)
    assert 0 <= float(distance_BL.min()) <= float(distance_BL.max()) <= 1


def test_right_predictions_cost_nothing_and_one_rotation_is_not_seen() -> None:
    torch.manual_seed(0)
    extent_BL = torch.rand(2, 25)
    reference_B = extent_BL.argmax(1)
    distance_BL, angle_BL = polar_labels(reference_B, (5, 5))
    for value in structure_losses(distance_BL, angle_BL, extent_BL, reference_B, (5, 5)):
        assert float(value) == pytest.approx(0, abs=1.1e-3)  # the root of what stands inside it
    guess_BL = angle_BL + 0.2 * torch.rand(2, 25)
    _, before = structure_losses(distance_BL, guess_BL, extent_BL, reference_B, (5, 5))
    _, turned = structure_losses(distance_BL, guess_BL + 0.3, extent_BL, reference_B, (5, 5))
    assert float(turned) == pytest.approx(float(before), rel=1e-4)
    assert float(before) > 0.01
    # the reference cell, whose angle means nothing
    other_BL = guess_BL.scatter_add(1, reference_B[:, None], torch.full((2, 1), 0.4))
    _, same = structure_losses(distance_BL, other_BL, extent_BL, reference_B, (5, 5))
    assert float(same) == pytest.approx(float(before), rel=1e-6)


def test_structure_is_weighted_as_in_equations_7_and_8() -> None:
    torch.manual_seed(3)
    # angles' heads have no upper bound
    extent_BL, distance_BL, angle_BL = torch.randn(2, 9), torch.rand(2, 9), 2 * torch.rand(2, 9)
    reference_B = extent_BL.argmax(1)
    l_dis, l_ang = structure_losses(distance_BL, angle_BL, extent_BL, reference_B, (3, 3))
    expected = np.zeros((2, 2))
    gamma, theta = (x.numpy() for x in polar_labels(reference_B, (3, 3)))
    for b in range(2):
        m = np.maximum(extent_BL[b].numpy(), 0).astype(np.float64)
        expected[b, 0] = np.sqrt((m * (distance_BL[b].numpy() - gamma[b]) ** 2).sum() / (m.sum() + 1e-6) + 1e-6)
        m[int(reference_B[b])] = 0
        d = angle_BL[b].numpy() - theta[b]
        d = d + (d < 0)
        mean = (m * d).sum() / (m.sum() + 1e-6)
        expected[b, 1] = np.sqrt((m * (d - mean) ** 2).sum() / (m.sum() + 1e-6) + 1e-6)
    assert [float(l_dis), float(l_ang)] == pytest.approx(expected.mean(0).tolist(), rel=1e-5)


def test_nothing_is_seen_where_no_cell_is_of_the_object() -> None:
    extent_BL = -torch.rand(2, 9)
    distance_BL, angle_BL = torch.rand(2, 9, requires_grad=True), torch.rand(2, 9, requires_grad=True)
    losses = structure_losses(distance_BL, angle_BL, extent_BL, extent_BL.argmax(1), (3, 3))
    sum(losses).backward()  # type: ignore[union-attr]
    assert all(torch.isfinite(loss) for loss in losses)
    for guess in (distance_BL, angle_BL):
        assert guess.grad is not None
        assert (guess.grad == 0).all()


def test_gradients_reach_the_backbone_through_the_heads_but_not_through_targets_or_weights() -> None:
    torch.manual_seed(0)
    f_BCL = torch.randn(4, 6, 9, requires_grad=True)
    extent_BL = torch.randn(4, 9, requires_grad=True)
    extent_loss(extent_BL, f_BCL, 4).backward()
    assert f_BCL.grad is None
    assert extent_BL.grad is not None
    extent_BL.grad = None
    distance_BL = torch.rand(4, 9, requires_grad=True)
    structure_losses(distance_BL, torch.rand(4, 9), extent_BL, extent_BL.argmax(1), (3, 3))[0].backward()
    assert extent_BL.grad is None
    assert distance_BL.grad is not None
    model = lio()
    values = model(**model.inputs(groups(), 0))
    for part in ("extent", "distance", "angle"):
        model.zero_grad()
        values[part].backward(retain_graph=True)
        stem = model.module.backbone.get_parameter("stem.0.weight").grad
        assert stem is not None
        assert float(stem.abs().sum()) > 0, part


def test_the_loss_is_equation_10_over_all_stages() -> None:
    model = lio(("stage2", "stage3"), extent_weight=0.3, structure_weight=0.2).eval()
    batch = groups()
    with torch.no_grad():
        values = model(**model.inputs(batch, 0))
        maps = model.module.backbone(batch.pixels_BCHW)
    sums = {"extent": 0.0, "structure": 0.0}
    for stage, heads in model.heads.requires_grad_(False).items():
        seen = heads(maps[stage])
        sums["extent"] += float(extent_loss(seen.extent_BL, maps[stage].flatten(2), batch.members))
        found = structure_losses(seen.distance_BL, seen.angle_BL, seen.extent_BL, seen.reference_B, seen.grid)
        sums["structure"] += float(sum(found))
    with torch.no_grad():
        classes = torch.nn.functional.cross_entropy(model.module.answers(maps)[1], batch.labels_B)
    assert float(values["classes"]) == pytest.approx(float(classes), rel=1e-5)
    expected = float(classes) + 0.3 * sums["extent"] + 0.2 * sums["structure"]
    assert float(values["loss"]) == pytest.approx(expected, rel=1e-5)


def test_it_learns_with_submodels_too() -> None:
    learning = ClassificationSettings(cosub=CosubSettings(use=True), drop_path=DropPathSettings(0.5, sub_batch=True))
    model = lio(learning=learning).train()
    values = model(**model.inputs(groups(), 0))
    assert values.keys() >= {"loss", "classes", "labels", "other", "extent"} - {"classes"}
    values["loss"].backward()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    module = build(TINY, "classes").eval()
    heads = heads_of(module, TINY)
    names = ("ant", "bee", "cat")
    save_classifier(tmp_path / "best", module, TINY, family="lio", variant="tiny", tokens=names, aside=heads)
    return tmp_path / "best"


def test_logits_are_the_same_with_every_parameter_of_the_heads_deleted(checkpoint: Path) -> None:
    pixels = torch.randn(3, 3, 32, 32)
    name, whole = load_model(checkpoint, None, None)
    tensors = load_file(checkpoint / "model.safetensors")
    kept = {key: tensor for key, tensor in tensors.items() if not key.startswith("aside.")}
    assert len(tensors) - len(kept) == len(Heads(open_backbone("tiny"), ("stage3",), 1).state_dict())
    save_file(kept, checkpoint / "model.safetensors", metadata={"format": "pt"})
    _, bare = load_model(checkpoint, None, None)
    assert name == "tiny"
    assert bare.tokens == ("ant", "bee", "cat")
    with torch.no_grad():
        for one, other in zip(whole.module(pixels), bare.module(pixels)):
            assert torch.equal(one, other)
    with pytest.raises(CheckpointError, match="heads to explain with"):
        load_model(checkpoint, None, None, ("explain=true",))


def test_the_deployed_graph_has_the_bare_backbones_operators(checkpoint: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="looks into what was exported")
    pytest.importorskip("onnxscript", reason="torch exports with it")
    from edgekit.export.onnx import export_onnx
    from edgekit.train.families.classifier.config import VARIANTS as PLAIN
    from edgekit.train.families.classifier.model import random_model

    _, ours = load_model(checkpoint, None, None, ("explain=true",))
    plain = random_model(replace(PLAIN["tiny"], num_classes=3), "classes", 0)
    counted = []
    for index, model in enumerate((ours, plain)):
        export_onnx(model.module, model.config.graphs("classes")["infer"], tmp_path / f"{index}.onnx")
        graph = onnx.load(tmp_path / f"{index}.onnx").graph
        sizes = sorted(tuple(each.dims) for each in graph.initializer)
        counted.append(([node.op_type for node in graph.node], sizes))
    assert counted[0] == counted[1]
    assert ours.graph("explain") is not ours.module


def test_what_does_not_fit_is_told(checkpoint: Path) -> None:
    with pytest.raises(SettingsError, match=r"stage1, stage2, stage3 .* received stage9"):
        Heads(open_backbone("tiny"), ("stage9",), 1)
    with pytest.raises(ValueError, match="different names"):
        replace(TINY, stages=())
    learning = ClassificationSettings(mixing=MixingSettings(mixup=0.8))
    with pytest.raises(ValueError, match="share no extent"):
        Training("tiny", TINY, learning=learning)
    config = json.loads((checkpoint / "config.json").read_text())
    config["edgekit"]["config"]["pool"] = 0
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="pool must be at least 1"):
        load_model(checkpoint, None, None)
