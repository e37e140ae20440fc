"""What may be done to embeddings before episodes: power transform, length 1, the mean of base classes taken away.

In that order, each by choice; the released code of CSCA does none of them. The mean is that of other classes, so that
no episode's own pictures, labelled or not, change how a query is answered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgekit.core.errors import DataError
from edgekit.runtime.classes.scoring import unit
from edgekit.runtime.few_shot.features import Features

_OFFSET = 1e-6


@dataclass(frozen=True)
class Preprocessing:
    """Which steps there are.

    Attributes:
        power: the square root of each value, none of which may be below 0.
        l2: vectors of length 1.
        base: embeddings of base classes float32 `[m, C]`, whose mean is taken away; None: nothing is.
    """

    power: bool = False
    l2: bool = False
    base: np.ndarray | None = None

    def apply(self, features: Features) -> Features:
        """Features with the steps done to their embeddings.

        Raises:
            DataError: a value below 0 for the power transform, or base embeddings of another width.
        """
        values = self._scaled(features.embeddings)
        if self.base is not None:
            if self.base.shape[1] != values.shape[1]:
                raise DataError(f"expected base embeddings of {values.shape[1]} values, received {self.base.shape[1]}")
            values = values - self._scaled(self.base).mean(0)
            values = unit(values) if self.l2 else values
        return replace(features, embeddings=values)

    def _scaled(self, embeddings: np.ndarray) -> np.ndarray:
        if self.power:
            if embeddings.min() < 0:
                least = embeddings.min()
                raise DataError(f"expected embeddings of at least 0 for the power transform, received {least:g}")
            embeddings = np.sqrt(embeddings + np.float32(_OFFSET))
        return unit(embeddings) if self.l2 else embeddings
