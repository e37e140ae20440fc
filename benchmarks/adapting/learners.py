"""What learns a speaker: edgekit's gradient graphs with NumPy, and torch, which tunes as much, all, or by LoRA.

All of them sum the CTC losses of a few utterances, each by itself, and then make one update by AdamW without decay.
Dropout and SpecAugment are off. Of a process only one is opened, so that what it imports counts for it alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

RATE = 1e-3
BETAS, EPS = (0.9, 0.999), 1e-8

Utterance = tuple[np.ndarray, list[int]]


class Learner(Protocol):
    """Attributes: num_tuned, the values that are learned."""

    num_tuned: int

    def step(self, utterances: list[Utterance]) -> float:
        """One update; the sum of the losses before it, in nats."""


class OnGraphs:
    """edgekit's own: no torch in this process."""

    def __init__(self, bundle: Path, threads: int) -> None:
        from edgekit.core.bundle import open_bundle
        from edgekit.runtime.adapt.adamw import AdamW
        from edgekit.runtime.adapt.gradient import open_gradient

        opened = open_bundle(bundle)
        self._blank = int(opened.manifest.output["blank"])
        self._gradient = open_gradient(opened, num_threads=threads)
        self._theta_P = self._gradient.starts[0].copy()
        self.num_tuned = self._gradient.size
        first_P, second_P = np.zeros((2, self.num_tuned), np.float32)
        self._optimiser, self._steps = AdamW(first_P, second_P, 0.0), 0

    def step(self, utterances: list[Utterance]) -> float:
        from edgekit.runtime.adapt.ctc import ctc_loss

        total, summed_P = 0.0, np.zeros(self.num_tuned, np.float32)
        for features_FM, labels in utterances:
            loss, d_TV = ctc_loss(self._gradient.forward(features_FM, self._theta_P), labels, self._blank)
            summed_P += self._gradient.backward(d_TV)
            total += loss
        self._steps += 1
        self._optimiser.update(self._theta_P, summed_P, RATE, self._steps)
        return total


class OnTorch:
    """torch, eager.

    Args:
        how: "augment": the same augment net, as the family's own modules beside the core's (an input, as edgekit's
            graphs have it, costs torch more); "full": all weights of the core; "lora": peft's LoRA of about as many
            values as the augment net has, in every linear layer of the core's blocks.
    """

    def __init__(self, checkpoint: str | None, bundle: Path, threads: int, how: str) -> None:
        import torch

        from edgekit.core.bundle import open_bundle
        from edgekit.train.checkpoint import open_checkpoint
        from edgekit.train.families.disconformer.model import build, described, fill
        from edgekit.train.family import find_family

        torch.set_num_threads(threads)
        builtin = find_family("disconformer").builtin
        assert builtin is not None
        found = open_checkpoint(checkpoint or builtin.folder)
        _, config, _ = described(found)
        module = build(config, "ctc")
        fill(module, found.tensors(), found.source)
        self._torch, self._module = torch, module.eval().requires_grad_(False)
        manifest = open_bundle(bundle).manifest
        assert manifest.adaptation is not None
        self._blank = int(manifest.output["blank"])
        if how == "augment":
            module.active = (0,)
            tuned = [p for block in module.encoder.blocks for p in block.groups[1].parameters()]
        else:
            module.deploy()  # without the augment nets, which these do not have
            tuned = list(module.parameters()) if how == "full" else self._with_lora(manifest.adaptation.layout.size)
        for parameter in tuned:
            parameter.requires_grad_(True)
        self.num_tuned = sum(parameter.numel() for parameter in tuned)
        self._optimiser = torch.optim.AdamW(tuned, lr=RATE, betas=BETAS, eps=EPS, weight_decay=0.0)

    def _with_lora(self, size: int) -> list[Any]:
        from peft import LoraConfig, inject_adapter_in_model

        nn = self._torch.nn
        linear = [
            (name, module)
            for name, module in self._module.named_modules()
            if isinstance(module, nn.Linear) and ".blocks." in name
        ]
        per_rank = sum(module.in_features + module.out_features for _, module in linear)
        config = LoraConfig(r=max(1, round(size / per_rank)), target_modules=[name for name, _ in linear])
        inject_adapter_in_model(config, self._module)
        return [parameter for name, parameter in self._module.named_parameters() if "lora_" in name]

    def step(self, utterances: list[Utterance]) -> float:
        torch = self._torch
        self._optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for features_FM, labels in utterances:
            x = torch.from_numpy(features_FM)[None]
            log_probs_TV = self._module(x, torch.tensor([x.shape[1]]))[0][0]
            loss = torch.nn.functional.ctc_loss(
                log_probs_TV,
                torch.tensor(labels),
                torch.tensor(len(log_probs_TV)),
                torch.tensor(len(labels)),
                blank=self._blank,
                reduction="sum",
            )
            loss.backward()
            total += float(loss.detach())
        self._optimiser.step()
        return total


KINDS = ("edgekit", "torch", "torch, all weights", "torch, LoRA")


def open_learner(kind: str, checkpoint: str | None, bundle: Path, threads: int) -> Learner:
    """One of `KINDS`.

    Raises:
        ImportError: what it needs is not installed.
    """
    if kind == "edgekit":
        return OnGraphs(bundle, threads)
    how = {"torch": "augment", "torch, all weights": "full", "torch, LoRA": "lora"}[kind]
    return OnTorch(checkpoint, bundle, threads, how)
