"""Weights of `HubertModel` and `HubertForCTC`, old and new names of weight norm, into our modules and back."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from edgekit.core.errors import CheckpointError

_WEIGHT_NORM = {
    ".conv.weight_g": ".conv.parametrizations.weight.original0",
    ".conv.weight_v": ".conv.parametrizations.weight.original1",
}
# the embedding that replaces masked frames: used only while pretraining
_TRAINING_ONLY = ("masked_spec_embed",)


def has_head(tensors: Mapping[str, Tensor]) -> bool:
    return "lm_head.weight" in tensors


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy a checkpoint's tensors into a `WithHead`, all of them, with their shapes held to ours.

    Raises:
        CheckpointError: a tensor is missing, unknown, or of another shape; names the first ones.
    """
    renamed = {}
    for name, tensor in tensors.items():
        if not name.startswith(("hubert.", "lm_head.")):
            name = f"hubert.{name}"
        for old, new in _WEIGHT_NORM.items():
            name = name.replace(old, new)
        if not name.endswith(_TRAINING_ONLY):
            renamed[name] = tensor.float()
    wanted = module.state_dict()
    if "lm_head.weight" not in wanted:
        renamed = {name: tensor for name, tensor in renamed.items() if not name.startswith("lm_head.")}
    missing = sorted(wanted.keys() - renamed.keys())
    surplus = sorted(renamed.keys() - wanted.keys())
    if missing or surplus:
        raise CheckpointError(
            f"the tensors of {source} do not fit the model that its config.json describes: "
            f"missing {missing[:3] or 'none'}, unknown {surplus[:3] or 'none'}"
        )
    for name, tensor in wanted.items():
        if renamed[name].shape != tensor.shape:
            raise CheckpointError(
                f"{source}: expected {name} {list(tensor.shape)}, received {list(renamed[name].shape)}"
            )
    module.load_state_dict(renamed)


def transformers_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A `WithHead`'s tensors by the names of `HubertForCTC`, or of `HubertModel` where there is no head."""
    tensors = module.state_dict()
    if "lm_head.weight" in tensors:
        return tensors
    return {name.removeprefix("hubert."): tensor for name, tensor in tensors.items()}
