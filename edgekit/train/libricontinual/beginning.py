"""The model that an arm begins with: the core of a checkpoint, which a bundle's features and labels fit."""

from __future__ import annotations

import json
from typing import Any

from edgekit.core.bundle import Bundle
from edgekit.core.errors import CheckpointError, UsageError
from edgekit.core.settings import settings_to_dict
from edgekit.runtime.adapt.labels import read_labels
from edgekit.train.family import LoadedModel, find_family

FAMILY = "disconformer"


def load_beginning(kind: str, bundle: Bundle, checkpoint: str | None) -> LoadedModel:
    """A checkpoint's deployed core, with those augment nets merged into it that the bundle has.

    Args:
        kind: the arm's, as it is spelled, for errors.
        checkpoint: a folder or a hub's name; None: the bundle's own.

    Raises:
        UsageError: the bundle is no speech recogniser of this family, or does not tell where its own checkpoint is.
        CheckpointError: another family, no CTC head, or other features or labels than the bundle's.
        BackendError: torch is not installed.
    """
    manifest, named = bundle.manifest, f"--arms {kind}=CHECKPOINT, which is a {FAMILY} with a head ctc"
    if manifest.family != FAMILY or manifest.output.get("kind") != "ctc":
        raise UsageError(
            f"expected a {FAMILY} with a head ctc for the arm {kind}, "
            f"{bundle.path} is a {manifest.family} for {manifest.task}",
            hint=f"leave {kind} out, or give a bundle of `edgekit export {FAMILY}`",
        )
    source = _own(kind, bundle) if checkpoint is None else checkpoint
    active = json.dumps(manifest.config.get("active", []))
    try:
        _, model = find_family(FAMILY).model.load_model(source, None, "ctc", ("personal=false", f"active={active}"))
    except CheckpointError as error:
        raise CheckpointError(error.message, hint=f"name another: {named}") from error
    labels = read_labels(bundle)
    for what, received, expected in (
        ("features", model.features, manifest.features),
        ("output", model.output, manifest.output),
        ("labels", model.tokens, labels.labels),
    ):
        if _plain(received) != _plain(expected):
            raise CheckpointError(
                f"expected the {what} of {bundle.path} for the arm {kind}, {source} has others",
                hint=f"compare it in a run of its own: edgekit export {FAMILY} {source}",
            )
    if checkpoint is None and model.weights["sha256"] != manifest.provenance["weights"].get("sha256"):
        raise CheckpointError(
            f"expected the built-in weights that {bundle.path} was exported from, these are of another edgekit",
            hint=f"export it again, or name its checkpoint: {named}",
        )
    return model


def identity_of(model: LoadedModel) -> dict[str, Any]:
    """What the model is before adaptation, by its checkpoint's hashes: the same for all arms that begin with it."""
    return {
        "family": FAMILY,
        "config": settings_to_dict(model.config),
        "checkpoint_sha256": model.weights["sha256"],
        "backend": "torch",
    }


def augment_size(model: LoadedModel, bundle: Bundle) -> int:
    """How many values one augment net has: the bundle's theta, or where it takes none, the checkpoint's."""
    adaptation = bundle.manifest.adaptation
    if adaptation is not None:
        return adaptation.layout.size
    config: Any = model.config
    return int(config.augment_parameters())


def _own(kind: str, bundle: Bundle) -> str:
    """The checkpoint that a bundle was exported from."""
    weights, builtin = bundle.manifest.provenance["weights"], find_family(FAMILY).builtin
    if weights["source"] == "built-in" and builtin is not None:
        return str(builtin.folder)
    name = weights.get("name", "CHECKPOINT")
    raise UsageError(
        f"expected a bundle of built-in weights for the arm {kind}, {bundle.path} has {weights['source']} weights: "
        "it does not hold what torch tunes",
        hint=f"name the checkpoint: --arms {kind}={name}",
    )


def _plain(value: Any) -> Any:
    """As a manifest holds it."""
    return json.loads(json.dumps(value))
