"""Backbones of the package transformers, of random weights or of a folder in its layout.

ResNet, RegNet and ConvNeXt are gone through stage by stage: RegNet has no `AutoBackbone`, and ConvNeXt's puts norms on
its maps that no pretrained checkpoint holds. Everything else goes through `AutoBackbone`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.core.errors import CheckpointError, SettingsError, UnavailableError
from edgekit.train.layers.backbones.backbone import Backbone, Branch

STAGED = ("resnet", "regnet", "convnext", "convnextv2")
"""Model types whose encoder is a list of stages."""

# what checkpoints of classifiers hold beside their backbone
_NOT_OURS = ("classifier.", "head.", "pooler.", "lm_head.")
_PROBE = 224


def transformers_backbone(arguments: Mapping[str, Any]) -> Backbone:
    """The backbone of a transformers config, with random weights.

    Args:
        arguments: `model_type` and what differs from that type's defaults.

    Raises:
        UnavailableError: transformers is not installed.
        SettingsError: it knows no such model, or the sizes do not fit.
    """
    transformers = import_transformers()
    given = dict(arguments)
    kind = given.pop("model_type")
    try:
        config = transformers.AutoConfig.for_model(kind, **given)
        if kind in STAGED:
            return Staged(transformers.AutoModel.from_config(config))
        return Mapped(transformers, config)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        message = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SettingsError(
            f"expected sizes of a backbone that transformers can make, received {dict(arguments)}: {message}"
        ) from error


def import_transformers() -> Any:
    """The package.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"expected the package {error.name} for this backbone, it is not installed",
            hint='pip install "edgekit[backbones]"',
        ) from error
    return transformers


class Staged(Backbone):
    """A stem and stages, each of which gives a map: "stage1" ... of strides 4, 8, ...

    ConvNeXt norms its pooled features: they are the map "pooled", `[B, C, 1, 1]`, and its embedding.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        config = model.config
        self.stem: nn.Module = getattr(model, "embedder", None) or model.embeddings
        self.stages: nn.ModuleList = model.encoder.stages
        self.norm: nn.Module | None = getattr(model, "layernorm", None)
        names = [f"stage{index + 1}" for index in range(len(self.stages))]
        first = config.patch_size if self.norm is not None else _first_stride(config)
        self.channels = dict(zip(names, config.hidden_sizes))
        self.strides = {name: first * 2**index for index, name in enumerate(names)}
        self.last = names[-1]
        if self.norm is not None:
            self.last = "pooled"
            self.channels["pooled"] = config.hidden_sizes[-1]
        self.blocks = tuple(
            f"stages.{index}.layers.{place}"
            for index, stage in enumerate(self.stages)
            for place, layer in enumerate(stage.layers)
            if isinstance(getattr(layer, "shortcut", nn.Identity()), nn.Identity)
        )
        whole = self.norm is not None
        self.branches = tuple(Branch(block if whole else f"{block}.layer", adds=whole) for block in self.blocks)

    def forward(self, pixels_BCHW: Tensor) -> dict[str, Tensor]:
        h_BChw, maps = self.stem(pixels_BCHW), {}
        for name, stage in zip(self.channels, self.stages):
            h_BChw = maps[name] = stage(h_BChw)
        if self.norm is not None:
            maps["pooled"] = self.norm(h_BChw.mean((2, 3)))[:, :, None, None]
        return maps

    def load(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Take the weights of a transformers checkpoint, with or without a classifier."""
        renamed = {}
        for name, tensor in tensors.items():
            part = _without_prefix(name)
            for old, new in (
                ("embedder.", "stem."),
                ("embeddings.", "stem."),
                ("encoder.", ""),
                ("layernorm.", "norm."),
            ):
                if part.startswith(old):
                    part = new + part.removeprefix(old)
                    break
            renamed[part] = tensor
        fill(self, renamed, source)


class Mapped(Backbone):
    """Whatever `AutoBackbone` makes, all its stages; of its blocks nothing is known.

    The embedding is the mean over the cells of the last map, which such models norm.
    """

    def __init__(self, transformers: Any, config: Any) -> None:
        super().__init__()
        probe = transformers.AutoBackbone.from_config(config)
        names = [name for name in probe.stage_names if name != "stem"]
        config.out_features = names
        self.model: nn.Module = transformers.AutoBackbone.from_config(config)
        for module in list(self.model.children()):  # a norm of the model that the maps' own take the place of
            if hasattr(module, "layernorm") and hasattr(self.model, "hidden_states_norms"):
                module.layernorm = nn.Identity()
        self._names = tuple(names)
        channels: Any = self.model.channels
        self.channels = dict(zip(names, channels))
        self.last = names[-1]
        with torch.device("meta"), torch.no_grad():
            shadow = transformers.AutoBackbone.from_config(config).eval()
            size = getattr(config, "image_size", None)
            side = size if isinstance(size, int) else _PROBE
            maps = shadow(torch.zeros(1, 3, side, side)).feature_maps
        self.strides = {name: -(-side // each.shape[2]) for name, each in zip(names, maps)}

    def forward(self, pixels_BCHW: Tensor) -> dict[str, Tensor]:
        return dict(zip(self._names, self.model(pixels_BCHW).feature_maps))

    def load(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights of a transformers checkpoint; transformers itself reads them, since it renames some.

        Norms of maps that the checkpoint lacks stay 1 and 0; that of the last map is its model's last norm.
        """
        # not AutoBackbone's: it looks for a folder among a hub's names
        kind: Any = type(self.model)
        norm = f"hidden_states_norms.{self.last}."
        try:
            model, told = kind.from_pretrained(str(folder), config=self.model.config, output_loading_info=True)
        except (RuntimeError, OSError, ValueError) as error:
            raise CheckpointError(f"expected the weights of this backbone, {folder} has others: {error}") from error
        lacking = [name for name in told["missing_keys"] if "hidden_states_norms" not in name]
        if lacking:
            raise CheckpointError(f"expected the weights of this backbone, {folder} lacks {', '.join(lacking[:3])}")
        filled = {name: value for name, value in model.state_dict().items() if name in self.model.state_dict()}
        for name, value in tensors.items():
            if name.startswith("layernorm.") or name.partition(".")[2].startswith("layernorm."):
                filled[norm + name.rpartition(".")[2]] = value
        self.model.load_state_dict(filled)


def fill(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load all of a module's tensors; others that are a classifier's or a norm's are left.

    Raises:
        CheckpointError: one is missing or of another shape, or there is one that nothing is known of.
    """
    own = module.state_dict()
    # older checkpoints do not count batches
    missing = [name for name in own if name not in tensors and not name.endswith("num_batches_tracked")]
    unknown = [name for name in tensors if name not in own and not name.startswith((*_NOT_OURS, "layernorm."))]
    other = [name for name, tensor in tensors.items() if name in own and own[name].shape != tensor.shape]
    if missing or unknown or other:
        said = [
            f"{kind} {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
            for kind, names in (("lacks", missing), ("has also", unknown), ("has in another shape", other))
            if names
        ]
        raise CheckpointError(
            f"expected the weights of this backbone, {source} {'; '.join(said)}",
            hint="choose the sizes that the checkpoint has: --set model.backbone=...",
        )
    module.load_state_dict({name: tensor for name, tensor in tensors.items() if name in own}, strict=False)


def _first_stride(config: Any) -> int:
    """Of the first stage's map: ResNet's stem halves twice, RegNet's once."""
    stem = 4 if config.model_type == "resnet" else 2
    return stem * (2 if config.downsample_in_first_stage else 1)


def _without_prefix(name: str) -> str:
    """A tensor's name inside the model: classifiers call it "resnet.", "convnext.", "swin.", ..."""
    first, _, rest = name.partition(".")
    inner = rest.partition(".")[0]
    known = ("embedder", "embeddings", "encoder", "layernorm", "pooler")
    return rest if first not in known and inner in known else name
