"""Co-training submodels (arXiv 2212.04884): two random parts of one network teach each other, and the labels both.

A batch goes through the network twice at once; stochastic depth, drawn for each half, makes two submodels of it.
Shapes: B batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

Kind = Literal["ce", "bce"]


@dataclass(frozen=True)
class CosubSettings:
    """Co-training.

    Attributes:
        use: whether each batch is seen by two submodels.
        label_share: lambda, how much a submodel learns of the labels; the rest it learns of the other one. 1: of the
            labels alone, which tells what the second view alone is worth.
    """

    use: bool = False
    label_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.label_share <= 1:
            raise ValueError(f"label_share must be in 0..1, got {self.label_share}")

    @property
    def views(self) -> int:
        return 2 if self.use else 1


def label_loss(logits_BK: Tensor, targets_BK: Tensor, kind: Kind) -> Tensor:
    """Of soft targets: "ce", cross-entropy of softmax, a mean over the batch; "bce", of sigmoids, over classes too."""
    if kind == "bce":
        return binary_cross_entropy_with_logits(logits_BK, targets_BK)
    return cross_entropy(logits_BK, targets_BK)


def soft_answer(logits_BK: Tensor, kind: Kind) -> Tensor:
    """What a submodel teaches; no gradient flows into it."""
    return (logits_BK.sigmoid() if kind == "bce" else logits_BK.softmax(1)).detach()


def cosub_loss(logits_2BK: Tensor, targets_BK: Tensor, kind: Kind, label_share: float = 0.5) -> dict[str, Tensor]:
    """ "loss", and its parts "labels" and "other": both submodels learn from the labels and from each other.

    With z1 and z2 the two halves, s what `soft_answer` gives, and CE the loss of `kind`:
    1/2 [l CE(z1, t) + (1 - l) CE(z1, s(z2)) + l CE(z2, t) + (1 - l) CE(z2, s(z1))], which for l = 1/2 are the four
    terms with 1/4 of the authors' code.

    Args:
        logits_2BK: of the batch twice, one after the other.
    """
    first_BK, second_BK = logits_2BK.chunk(2)
    labels = (label_loss(first_BK, targets_BK, kind) + label_loss(second_BK, targets_BK, kind)) / 2
    other = (
        label_loss(first_BK, soft_answer(second_BK, kind), kind)
        + label_loss(second_BK, soft_answer(first_BK, kind), kind)
    ) / 2
    return {"loss": label_share * labels + (1 - label_share) * other, "labels": labels, "other": other}


def twice(x_B: Tensor) -> Tensor:
    """The batch, and the batch again."""
    return torch.cat([x_B, x_B])
