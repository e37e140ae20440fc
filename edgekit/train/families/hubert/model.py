"""HuBERT with a head, with random weights or those of a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from edgekit.core.errors import CheckpointError
from edgekit.train.checkpoint import open_checkpoint
from edgekit.train.families.hubert.config import VARIANTS, Config
from edgekit.train.family import LoadedModel
from edgekit.train.layers.hubert.config import SAMPLE_RATE
from edgekit.train.layers.hubert.encoder import HubertEncoder
from edgekit.train.layers.hubert.head import WithHead, chosen_head, loaded_model
from edgekit.train.layers.hubert.weights import has_head, load_weights


def build(config: Config, head: str | None) -> WithHead:
    """The module, with weights as torch makes them."""
    return WithHead(HubertEncoder(config), config.hidden_size, config.vocab_size if head == "ctc" else None)


def random_model(config: Config, head: str, seed: int) -> LoadedModel:
    """A HuBERT whose shapes and latency are real and whose answers are not."""
    torch.manual_seed(seed)
    module = build(config, head).init_weights()
    return loaded_model(module, config, head, weights={"source": "random", "seed": seed})


def load_model(checkpoint: Path | str, variant: str | None, head: str | None) -> tuple[str, LoadedModel]:
    """Any `HubertModel` or `HubertForCTC` of `transformers`, from a folder or the hub.

    Raises:
        CheckpointError: not a HuBERT, or its tensors do not fit.
    """
    found = open_checkpoint(checkpoint)
    found.require_family("hubert")
    config = Config.from_transformers(found.config)
    preprocessor = found.json("preprocessor_config.json") or {}
    config = replace(config, normalise=bool(preprocessor.get("do_normalize", config.normalise)))
    if preprocessor.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
        raise CheckpointError(
            f"expected a model of {SAMPLE_RATE} Hz, {found.source} is one of {preprocessor['sampling_rate']}"
        )
    known = [name for name, sizes in VARIANTS.items() if sizes.computed() == config.computed()]
    if variant is not None and variant not in known:
        raise CheckpointError(
            f"expected the sizes of {variant}, {found.source} has those of {known[0] if known else 'no variant'}",
            hint="leave --variant out",
        )
    tensors = found.tensors()
    head = chosen_head(head, has_head(tensors), found.source)
    module = build(config, head)
    load_weights(module, tensors, found.source)
    loaded = loaded_model(module, config, head, weights=found.provenance(), checkpoint=found)
    return known[0] if known else "custom", loaded
