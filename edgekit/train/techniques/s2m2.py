"""S2M2 (arXiv 1907.12087): features for few-shot learning, from mixed feature maps and from turned pictures.

As its public code does it, arXiv 2209.01332's backbone: two losses of one batch, stepped together. Nothing of what
answers here is deployed: the backbone's embedding is. Shapes: B batch, C channels of the embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from edgekit.core.errors import SettingsError
from edgekit.train.data.picture_loading import PictureBatch
from edgekit.train.layers.classifier.model import PictureClassifier
from edgekit.train.objective import Objective

NUM_TURNS = 4


@dataclass(frozen=True)
class S2M2Settings:
    """S2M2.

    Attributes:
        alpha: of the beta distribution from which each batch's share of the mixture is drawn; 0: nothing is mixed, as
            in the first 200 epochs of the authors' run on CUB.
        turned_share: of the batch, what is shown in all four quarter turns.
        scale: what cosines are multiplied by before softmax.
    """

    alpha: float = 2.0
    turned_share: float = 0.25
    scale: float = 10.0

    def __post_init__(self) -> None:
        if self.alpha < 0 or not 0 < self.turned_share <= 1 or not self.scale > 0:
            raise ValueError("alpha must not be negative, turned_share in 0..1 and scale positive")


class CosineHead(nn.Module):
    """`[B, C]` -> `[B, K]`: scaled cosines with one direction per class."""

    def __init__(self, width: int, num_classes: int, scale: float) -> None:
        super().__init__()
        self.weight_KC = nn.Parameter(torch.randn(num_classes, width) / width**0.5)
        self.scale = scale

    def forward(self, embedding_BC: Tensor) -> Tensor:
        return self.scale * normalize(embedding_BC, dim=1) @ normalize(self.weight_KC, dim=1).T


class S2M2(Objective):
    """A backbone that learns features.

    Args:
        save: writes the checkpoint.

    Raises:
        SettingsError: the backbone has no stages after which maps could be mixed.
    """

    monitor: ClassVar[str] = "error"

    def __init__(
        self, module: PictureClassifier, num_classes: int, settings: S2M2Settings, save: Callable[[Path], None]
    ) -> None:
        super().__init__()
        stages = getattr(module.backbone, "stages", None)
        if not isinstance(stages, nn.ModuleList):
            raise SettingsError(
                "expected a backbone of stages, whose maps can be mixed, received another",
                hint="--variant wrn-28-10",
            )
        self.module, self.settings = module, settings
        width = module.backbone.channels[module.backbone.last]
        self.classes, self.turns = CosineHead(width, num_classes, settings.scale), nn.Linear(width, NUM_TURNS)
        self._save = save
        self._mixed: tuple[int, float, Tensor] | None = None
        for index, stage in enumerate(stages):
            stage.register_forward_hook(self._after(index + 1))

    def inputs(self, batch: PictureBatch, step: int) -> dict[str, Any]:
        size, settings = len(batch.labels_B), self.settings
        layer = int(torch.randint(len(self._stages()) + 1, ()))
        share = float(torch.distributions.Beta(settings.alpha, settings.alpha).sample()) if settings.alpha else 1.0
        order_B = torch.randperm(size).to(batch.labels_B.device)
        count = max(1, round(size * settings.turned_share))
        return {
            "pixels": batch.pixels_BCHW,
            "labels": batch.labels_B,
            "mixture": (layer, share, order_B),
            "turned": torch.randperm(size)[:count].to(batch.labels_B.device),
        }

    def forward(self, **inputs: Any) -> dict[str, Tensor]:
        pixels_BCHW, labels_B = inputs["pixels"], inputs["labels"]
        turned_T = inputs["turned"]
        quarters = [torch.rot90(pixels_BCHW[turned_T], turn, (2, 3)) for turn in range(NUM_TURNS)]
        embedding_BC = self._embed(torch.cat(quarters))
        turns_B = torch.arange(NUM_TURNS, device=labels_B.device).repeat_interleave(len(turned_T))
        turns = cross_entropy(self.turns(embedding_BC).float(), turns_B)
        seen = cross_entropy(self.classes(embedding_BC).float(), labels_B[turned_T].repeat(NUM_TURNS))
        values = {"turns": turns, "turned_classes": seen}
        loss = (turns + seen) / 2
        if self.settings.alpha:
            layer, share, order_B = inputs["mixture"]
            logits_BK = self._mixture(pixels_BCHW, layer, share, order_B).float()
            mixed = share * cross_entropy(logits_BK, labels_B)
            values["mixed"] = mixed + (1 - share) * cross_entropy(logits_BK, labels_B[order_B])
            loss = loss + values["mixed"]
        return {"loss": loss, **values}

    def validate(self, batches: Iterable[PictureBatch]) -> dict[str, float]:
        """ "error" and "top1" on other pictures of the classes that are learned, by the cosines."""
        wrong = count = 0
        for batch in batches:
            logits_BK = self.classes(self._embed(batch.pixels_BCHW))
            wrong += int((logits_BK.argmax(1) != batch.labels_B).sum())
            count += len(batch.ids)
        return {"error": wrong / count, "top1": 1 - wrong / count}

    def save(self, folder: Path) -> None:
        self._save(folder)

    def _stages(self) -> nn.ModuleList:
        stages: Any = self.module.backbone.stages
        return stages  # type: ignore[no-any-return]

    def _embed(self, pixels_BCHW: Tensor) -> Tensor:
        return self.module.backbone.embed(self.module.backbone(pixels_BCHW))

    def _mixture(self, pixels_BCHW: Tensor, layer: int, share: float, order_B: Tensor) -> Tensor:
        """Logits of a batch mixed with another order of itself: layer 0, its pixels; n, the map after stage n."""
        if layer == 0:
            pixels_BCHW = share * pixels_BCHW + (1 - share) * pixels_BCHW[order_B]
        self._mixed = (layer, share, order_B)
        try:
            logits_BK: Tensor = self.classes(self._embed(pixels_BCHW))
        finally:
            self._mixed = None
        return logits_BK

    def _after(self, layer: int) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
        def hook(stage: nn.Module, args: Any, out: Tensor) -> Tensor | None:
            if self._mixed is None or self._mixed[0] != layer:
                return None
            _, share, order_B = self._mixed
            return share * out + (1 - share) * out[order_B]

        return hook
