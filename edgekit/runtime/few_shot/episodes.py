"""Episodes: N classes, K labelled pictures of each, and queries of the same classes; drawn by the episode's number.

E episodes, N ways, K shots, Q queries of each class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.core.errors import DataError, UsageError
from edgekit.runtime.few_shot.features import Features


@dataclass(frozen=True)
class EpisodeSettings:
    """What an episode is.

    Attributes:
        ways: classes of an episode.
        shots: labelled pictures of each class.
        queries: pictures of each class that are to be told apart, none of them labelled.
        episodes: how many.
        seed: the number of the first; an episode is drawn by its number alone.
    """

    ways: int = 5
    shots: int = 5
    queries: int = 15
    episodes: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.ways < 2 or min(self.shots, self.queries, self.episodes) < 1 or self.seed < 0:
            raise UsageError(
                "expected at least 2 ways and 1 shot, query and episode, and a seed of at least 0; received "
                f"{self.ways}, {self.shots}, {self.queries}, {self.episodes}, {self.seed}"
            )

    def require(self, counts: Sequence[int]) -> None:
        """Raise DataError unless there are enough classes with enough pictures, of each class's number of pictures."""
        needed = self.shots + self.queries
        found = sum(count >= needed for count in counts)
        if found < self.ways:
            raise DataError(
                f"expected {self.ways} classes of at least {needed} pictures ({self.shots} shots and "
                f"{self.queries} queries), received {found} (the largest has {max(counts)})",
                hint="--ways, --shots, --queries",
            )


class Drawing:
    """Draws episodes of some features.

    Raises:
        DataError: too few classes have enough pictures.
    """

    def __init__(self, features: Features, settings: EpisodeSettings) -> None:
        self.settings = settings
        order = np.argsort(features.labels, kind="stable")
        counts = np.bincount(features.labels, minlength=len(features.classes))
        members = np.split(order, np.cumsum(counts)[:-1])
        settings.require(counts.tolist())
        self.members = [indices for indices in members if len(indices) >= settings.shots + settings.queries]
        self.num_left_out = len(members) - len(self.members)

    def draw(self, first: int, num: int, *, shuffled: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Episodes `first` and the next ones: indices of labelled pictures `[E, N, K]` and of queries `[E, N, Q]`.

        Args:
            shuffled: the same pictures with labels that mean nothing, shuffled anew in each episode: chance is then
                what any sound answer gets, exactly so on average.
        """
        ways, shots, queries = self.settings.ways, self.settings.shots, self.settings.queries
        drawn = np.empty((num, ways, shots + queries), np.intp)
        for episode in range(num):
            random = np.random.default_rng(first + episode)
            for way, label in enumerate(random.choice(len(self.members), ways, replace=False)):
                indices = self.members[label]
                drawn[episode, way] = indices[random.choice(len(indices), shots + queries, replace=False)]
            if shuffled:
                drawn[episode] = random.permutation(drawn[episode].reshape(-1)).reshape(ways, -1)
        return drawn[..., :shots], drawn[..., shots:]
