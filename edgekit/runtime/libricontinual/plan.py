"""What is asked of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.runtime.libricontinual.books import Gender
from edgekit.runtime.libricontinual.divide import Way
from edgekit.runtime.libricontinual.sizes import PAPER, Sizes
from edgekit.runtime.libricontinual.speakers import Wanted

PAPER_SPEAKERS = 118


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    Attributes:
        speakers: how many, or which.
        excluded: speakers that take no part, as those that a model was trained on.
        balanced: as many women as men, where genders are known and speakers are counted and not named.
    """

    sizes: Sizes = PAPER
    speakers: Wanted = PAPER_SPEAKERS
    excluded: frozenset[str] = frozenset()
    seed: int = 0
    balanced: bool = True
    way: Way = "books"

    @property
    def num_speakers(self) -> int:
        return self.speakers if isinstance(self.speakers, int) else len(self.speakers)

    def balances(self, genders: Mapping[str, Gender]) -> bool:
        """Whether women and men are counted: not where nobody's gender is known, nor where speakers are named."""
        return self.balanced and bool(genders) and isinstance(self.speakers, int)
