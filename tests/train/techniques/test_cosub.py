"""Co-training submodels and stochastic depth: the four terms, who teaches whom, and that the mean is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from edgekit.core.errors import SettingsError
from edgekit.train.data.picture_loading import PictureBatch
from edgekit.train.layers.backbones.backbone import Backbone
from edgekit.train.layers.backbones.opening import open_backbone
from edgekit.train.layers.classifier.model import PictureClassifier
from edgekit.train.techniques.classification import Classification, ClassificationSettings
from edgekit.train.techniques.cosub import CosubSettings, Kind, cosub_loss, soft_answer
from edgekit.train.techniques.drop_path import DropPathSettings, lay_on

VIT = '{"model_type": "plain-vit", "width": 12, "depth": 3, "num_heads": 2, "patch": 16, "scale": 1.0}'


def nothing(folder: Path) -> None: ...


def classification(**settings: object) -> Classification:
    torch.manual_seed(0)
    module = PictureClassifier(open_backbone("tiny"), 4)
    return Classification(module, ClassificationSettings(**settings), nothing)  # type: ignore[arg-type]


def batch(size: int = 8) -> PictureBatch:
    torch.manual_seed(1)
    return PictureBatch(torch.randn(size, 3, 32, 32), torch.arange(size) % 4, ("x",) * size, 0, 0)


@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_the_loss_has_the_four_terms_of_the_authors_code(kind: Kind) -> None:
    torch.manual_seed(0)
    z1, z2, t = torch.randn(5, 4), torch.randn(5, 4), torch.eye(4)[[0, 1, 2, 3, 0]]
    loss = {"ce": cross_entropy, "bce": binary_cross_entropy_with_logits}[kind]
    s1, s2 = (z.sigmoid() if kind == "bce" else z.softmax(1) for z in (z1, z2))
    values = cosub_loss(torch.cat([z1, z2]), t, kind)
    expected = (loss(z1, t) + loss(z2, t) + loss(z1, s2) + loss(z2, s1)) / 4
    torch.testing.assert_close(values["loss"], expected)
    labels_alone = cosub_loss(torch.cat([z1, z2]), t, kind, label_share=1.0)["loss"]
    torch.testing.assert_close(labels_alone, (loss(z1, t) + loss(z2, t)) / 2)


@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_no_gradient_flows_into_the_side_that_teaches(kind: Kind) -> None:
    torch.manual_seed(0)
    z1, z2 = (torch.randn(5, 4, requires_grad=True) for _ in range(2))
    loss = {"ce": cross_entropy, "bce": binary_cross_entropy_with_logits}[kind]
    loss(z1, soft_answer(z2, kind)).backward()
    assert z2.grad is None
    # so of the whole loss each half's gradient is its own pupil's alone
    z1.grad = None
    cosub_loss(torch.cat([z1, z2]), torch.eye(4)[[0, 1, 2, 3, 0]], kind, label_share=0.0)["loss"].backward()
    fixed = z2.detach().sigmoid() if kind == "bce" else z2.detach().softmax(1)
    alone = z1.detach().clone().requires_grad_()
    (loss(alone, fixed) / 2).backward()
    assert alone.grad is not None
    torch.testing.assert_close(z1.grad, alone.grad)
    # and where a submodel answers as the labels say, it teaches what they do
    sure = (200 * torch.eye(4)[[0, 1, 2, 3, 0]] - 100).requires_grad_()
    cosub_loss(torch.cat([sure, sure]), torch.eye(4)[[0, 1, 2, 3, 0]], kind, label_share=0.0)["loss"].backward()
    assert sure.grad is not None
    assert float(sure.grad.abs().max()) < 1e-6


def test_without_dropping_both_submodels_are_one() -> None:
    model = classification().train()
    # cosub's settings refuse a rate of 0; the views are what they would be
    lay_on(model.module.backbone, DropPathSettings(0.0), views=2)
    x = batch().pixels_BCHW
    z1, z2 = model.module(torch.cat([x, x]))[1].chunk(2)
    torch.testing.assert_close(z1, z2)
    values = cosub_loss(torch.cat([z1, z1]), z1.softmax(1).detach(), "ce")
    gradient = torch.autograd.grad(values["other"], z1)[0]
    assert float(gradient.abs().max()) < 1e-6
    with pytest.raises(ValueError, match=r"drop_path\.rate above 0"):
        ClassificationSettings(cosub=CosubSettings(use=True))


@pytest.mark.parametrize("sub_batch", [False, True])
def test_halves_get_masks_of_their_own(sub_batch: bool) -> None:
    model = classification(cosub=CosubSettings(use=True), drop_path=DropPathSettings(0.5, sub_batch)).train()
    inputs = model.inputs(batch(32), 0)
    assert len(inputs["pixels"]) == 64
    z1, z2 = model.module(inputs["pixels"])[1].chunk(2)
    assert (z1 - z2).abs().amax(1).gt(1e-4).float().mean() > 0.5
    backbone = model.module.backbone
    for branch in backbone.branches:  # of each half as many are kept, not of both together
        (hook,) = backbone.get_submodule(branch.path)._forward_pre_hooks.values()
        kept = hook.__self__._drawn(64, torch.device("cpu"))
        assert int((kept < 32).sum()) == len(kept) / 2 == 16
    model.eval()
    z1, z2 = model.module(inputs["pixels"])[1].chunk(2)
    torch.testing.assert_close(z1, z2)


class Sum(Backbone):
    """x + branch(x), of which stochastic depth knows the branch, or the whole."""

    def __init__(self, *, whole: bool) -> None:
        super().__init__()
        from edgekit.train.layers.backbones.backbone import Branch

        self.block, self.whole = Plus(whole), whole
        self.channels, self.strides, self.last = {"x": 3}, {"x": 1}, "x"
        self.branches = (Branch("block" if whole else "block.branch", adds=whole),)

    def forward(self, pixels_BCHW: Tensor) -> dict[str, Tensor]:
        return {"x": self.block(pixels_BCHW)}


class Plus(nn.Module):
    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.branch, self.whole = Double(), whole

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.branch(x)
        return out


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("sub_batch", [False, True])
def test_the_mean_is_that_of_the_whole_network(sub_batch: bool, whole: bool) -> None:
    torch.manual_seed(0)
    backbone = Sum(whole=whole).train()
    lay_on(backbone, DropPathSettings(0.4, sub_batch), views=2)
    x = torch.ones(20, 3, 1, 1)
    found = torch.stack([backbone(x)["x"] for _ in range(800)])
    # 1 where the branch is dropped, 1 + 2 / 0.6 where it is kept
    values = sorted({round(float(v), 4) for v in found.unique()})
    assert values == pytest.approx([1.0, 1 + 2 / 0.6], abs=1e-4)
    torch.testing.assert_close(found.mean(0), torch.full_like(x, 3.0), atol=0.25, rtol=0)
    torch.testing.assert_close(found.mean(), torch.tensor(3.0), atol=0.05, rtol=0)
    kept = (found > 2).float().mean((2, 3, 4))
    if sub_batch:  # of each half exactly the same share
        assert (kept[:, :10].sum(1) == 6).all()
        assert (kept[:, 10:].sum(1) == 6).all()
        assert (kept[:, :10] != kept[:, 10:]).any()
    backbone.eval()
    torch.testing.assert_close(backbone(x)["x"], torch.full_like(x, 3.0))


@pytest.mark.parametrize("name", ["tiny", VIT])
def test_a_sub_batch_is_what_the_branch_is_computed_for(name: str) -> None:
    torch.manual_seed(0)
    backbone = open_backbone(name, size=(32, 32)).train()
    seen: list[int] = []
    for branch in backbone.branches:
        module = backbone.get_submodule(branch.path)
        kind = next(each for each in module.modules() if isinstance(each, (nn.Conv2d, nn.LayerNorm)))
        kind.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    handles, laid = lay_on(backbone, DropPathSettings(0.25, sub_batch=True))
    x = torch.randn(8, 3, 32, 32)
    out = backbone.embed(backbone(x))
    assert seen == [6] * len(laid)
    assert len(laid) == len(backbone.branches)
    out.sum().backward()
    for handle in handles:
        handle.remove()
    seen.clear()
    backbone(x)
    assert seen == [8] * len(laid)


def test_a_backbone_without_branches_cannot_drop_any() -> None:
    backbone = open_backbone("tiny")
    backbone.branches = ()
    with pytest.raises(SettingsError, match="residual branches"):
        lay_on(backbone, DropPathSettings(0.1))


def test_what_is_validated_is_the_whole_network() -> None:
    model = classification(cosub=CosubSettings(use=True), drop_path=DropPathSettings(0.5)).eval()
    with torch.no_grad():
        scores = model.validate([batch(6), batch(2)])
        logits = torch.cat([model.module(each.pixels_BCHW)[1] for each in (batch(6), batch(2))])
    labels = torch.cat([batch(6).labels_B, batch(2).labels_B])
    assert scores["top1"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
    assert scores["error"] == pytest.approx(1 - scores["top1"])
    assert scores["loss"] == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-5)
    assert model.rate_share("module.backbone.stem.0.weight") == 1
