"""Which pictures are trained on and how they are read: settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgekit.train.data.picture_augment import AugmentSettings
from edgekit.train.data.settings import default_workers


@dataclass(frozen=True)
class PictureDataSettings:
    """Which pictures are trained on and how they are read.

    Attributes:
        train: path of a set (`read_pictures`); where its layout names parts, its training part is taken.
        validation: path of another of the same classes; empty: the test part where `train` names one, else some
            pictures of each class are held out.
        validation_share: what is held out of each class, at least one picture.
        per_class: so many pictures of each class, drawn at random; none: all.
        batch_size: pictures of a micro-batch, those that are drawn beside others not counted.
        workers: processes that read, per training process; 0: it reads itself, while nothing is computed.
        seed: of the order, what is held out, and augmentation.
    """

    train: str = ""
    validation: str = ""
    validation_share: float = 0.1
    per_class: int | None = None
    batch_size: int = 64
    workers: int = field(default_factory=default_workers)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.validation_share < 1:
            raise ValueError(f"expected validation_share between 0 and 1, received {self.validation_share}")
        if self.per_class is not None and self.per_class < 1:
            raise ValueError(f"expected per_class of 1 or more, received {self.per_class}")
        if self.batch_size < 1 or self.workers < 0 or self.seed < 0:
            raise ValueError(
                f"expected batch_size of 1 or more, workers and seed of 0 or more, received {self.batch_size}, "
                f"{self.workers} and {self.seed}"
            )
