"""Mixup, CutMix, and S2M2's mixed maps and turned pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from edgekit.core.errors import SettingsError
from edgekit.train.data.picture_loading import PictureBatch
from edgekit.train.layers.backbones.opening import open_backbone
from edgekit.train.layers.classifier.model import PictureClassifier
from edgekit.train.techniques.classification import Classification, ClassificationSettings
from edgekit.train.techniques.mixing import MixingSettings, mix, soft_labels
from edgekit.train.techniques.s2m2 import S2M2, S2M2Settings


def test_soft_labels_add_up() -> None:
    targets = soft_labels(torch.tensor([1, 0]), 4, 0.1)
    torch.testing.assert_close(targets, torch.tensor([[0.025, 0.925, 0.025, 0.025], [0.925, 0.025, 0.025, 0.025]]))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_are_mixed_as_the_pictures_are(kind: str) -> None:
    torch.manual_seed(0)
    labels_B = torch.arange(6)
    # a picture's pixels are its number, so that of a mixture the shares can be read off
    pixels = labels_B.float()[:, None, None, None].expand(6, 3, 16, 16).clone()
    for _ in range(20):
        mixed, targets = mix(pixels, soft_labels(labels_B, 6, 0.0), MixingSettings(**{kind: 1.0}))
        torch.testing.assert_close(targets.sum(1), torch.ones(6))
        torch.testing.assert_close(mixed.mean((1, 2, 3)), targets @ labels_B.float(), atol=1e-4, rtol=1e-4)
    assert torch.equal(pixels[:, 0, 0, 0], labels_B.float())
    same, targets = mix(pixels, soft_labels(labels_B, 6, 0.0), MixingSettings())
    assert same is pixels
    assert torch.equal(targets, torch.eye(6))
    with pytest.raises(ValueError, match="negative"):
        MixingSettings(mixup=-1)


def nothing(folder: Path) -> None: ...


def s2m2(backbone: str = "tiny-wide", **settings: Any) -> S2M2:
    torch.manual_seed(0)
    return S2M2(PictureClassifier(open_backbone(backbone), None), 3, S2M2Settings(**settings), nothing)


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_maps_are_mixed_after_the_drawn_stage(layer: int) -> None:
    model = s2m2().eval()
    x, order = torch.randn(4, 3, 16, 16), torch.tensor([1, 0, 3, 2])
    with torch.no_grad():
        found = model._mixture(x, layer, 0.3, order)
        backbone = model.module.backbone
        h = x
        if layer == 0:
            h = 0.3 * h + 0.7 * h[order]
        h = backbone.get_submodule("stem")(h)
        for number in (1, 2, 3):
            h = backbone.get_submodule(f"stages.{number - 1}")(h)
            if number == layer:
                # the hook of the model has nothing to mix now
                h = 0.3 * h + 0.7 * h[order]
        expected = model.classes(backbone.get_submodule("norm")(h).mean((2, 3)))
        torch.testing.assert_close(found, expected)
        whole = model._mixture(x, layer, 1.0, order)
        torch.testing.assert_close(whole, model.classes(backbone.embed(backbone(x))))


def test_s2m2_learns_turns_and_classes() -> None:
    model = s2m2(turned_share=0.5)
    batch = PictureBatch(torch.randn(8, 3, 16, 16), torch.arange(8) % 3, ("x",) * 8, 0, 0)
    inputs = model.inputs(batch, 0)
    assert len(inputs["turned"]) == 4
    values = model(**inputs)
    expected = values["mixed"] + (values["turns"] + values["turned_classes"]) / 2
    torch.testing.assert_close(values["loss"], expected)
    values["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    first = s2m2(alpha=0)
    assert "mixed" not in first(**first.inputs(batch, 0))
    with torch.no_grad():
        scores = model.eval().validate([batch])
    assert scores["error"] == pytest.approx(1 - scores["top1"])
    assert float(model.module(batch.pixels_BCHW)[0].detach().min()) >= 0  # features as few-shot classes take them
    vit = '{"model_type": "plain-vit", "width": 12, "depth": 1, "num_heads": 2, "patch": 16}'
    with pytest.raises(SettingsError, match="stages"):
        s2m2(vit)


def test_turned_pictures_keep_their_classes_and_mixtures_their_shares() -> None:
    """Each loss picture by picture, with other numbers drawn than those that would fit by chance."""
    model = s2m2().eval()
    torch.manual_seed(2)
    pixels, labels = torch.randn(6, 3, 16, 16), torch.tensor([0, 1, 2, 2, 0, 1])
    turned, order = torch.tensor([4, 1, 3]), torch.tensor([2, 0, 1, 5, 3, 4])
    with torch.no_grad():
        values = model(pixels=pixels, labels=labels, mixture=(0, 0.3, order), turned=turned)
        turns, classes, mixed = [], [], []
        for place in turned.tolist():
            for turn in range(4):
                # a quarter turn: rows read from the last column on
                picture = pixels[place]
                for _ in range(turn):
                    picture = picture.transpose(1, 2).flip(1)
                embedding = model.module(picture[None])[0]
                turns.append(cross_entropy(model.turns(embedding), torch.tensor([turn])))
                classes.append(cross_entropy(model.classes(embedding), labels[place : place + 1]))
        for place, other in enumerate(order.tolist()):
            logits = model.classes(model.module((0.3 * pixels[place] + 0.7 * pixels[other])[None])[0]).log_softmax(1)
            mixed.append(-(0.3 * logits[0, labels[place]] + 0.7 * logits[0, labels[other]]))
    for name, parts in (("turns", turns), ("turned_classes", classes), ("mixed", mixed)):
        torch.testing.assert_close(values[name], torch.stack(parts).mean(), msg=name)


def test_mixtures_are_drawn_from_beta_2_2_after_any_stage() -> None:
    model = s2m2()
    batch = PictureBatch(torch.zeros(4, 3, 16, 16), torch.zeros(4, dtype=torch.int64), ("x",) * 4, 0, 0)
    layers, shares, _ = zip(*(model.inputs(batch, 0)["mixture"] for _ in range(1000)))
    assert set(layers) == {0, 1, 2, 3}
    found = torch.tensor(shares)
    assert float(found.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(found.var()) == pytest.approx(1 / 20, abs=0.01)


def test_labels_of_bce_are_0_or_1_also_after_mixing() -> None:
    settings = ClassificationSettings(loss="bce", mixing=MixingSettings(mixup=1.0))
    model = Classification(PictureClassifier(open_backbone("tiny"), 6), settings, nothing)
    torch.manual_seed(0)
    batch = PictureBatch(torch.randn(6, 3, 16, 16), torch.arange(6), ("x",) * 6, 0, 0)
    targets = model.inputs(batch, 0)["targets"]
    assert set(targets.unique().tolist()) == {0.0, 1.0}
    assert (targets.diagonal() == 1).all()
    assert float(targets.sum(1).max()) == 2
