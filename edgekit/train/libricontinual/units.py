"""A random slice of the feed-forward units of all blocks: tuning as many values of a plain Conformer as an augment net.

INFERRED by us: all that the abstract of Diwan et al. 2023 (arXiv 2212.01393) tells of its baseline is that it is
"trainable-parameter-matched". Which of a Conformer's values these are is not said.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from edgekit.core.errors import UsageError
from edgekit.train.layers.conformer.groups import FeedForwardGroup
from edgekit.train.libricontinual.choice import Choice, Values


def feed_forward_units(module: nn.Module, num_values: int, seed: int) -> Choice:
    """Draw hidden units of the feed-forward modules, as many in one block as in another, or one more.

    A unit is a row of the first matrix, its bias, and a column of the second matrix; the output bias is no unit's.
    Units of a block's two modules are drawn together, without replacement.

    Args:
        module: a deployed DisConformer, whose blocks have one group.
        num_values: how many there are to be; the nearest number of whole units is taken, at most half a unit away.
        seed: of the drawing; the number does not depend on it.

    Returns:
        The values, with the setting `units`, their number over all blocks.

    Raises:
        UsageError: the blocks have fewer units, or not one is to be drawn.
    """
    blocks: dict[str, list[tuple[str, FeedForwardGroup]]] = {}
    for name, each in module.named_modules():
        if isinstance(each, FeedForwardGroup):
            blocks.setdefault(name.partition(".groups.")[0], []).append((name, each))
    groups = [group for block in blocks.values() for _, group in block]
    per_unit = groups[0].expand.in_features + 1 + groups[0].contract.out_features
    num_units, most = round(num_values / per_unit), sum(group.expand.out_features for group in groups)
    if not 0 < num_units <= most:
        raise UsageError(
            f"expected 1 to {most} feed-forward units of {per_unit} values to tune, "
            f"received {num_units} ({num_values:,} values, as an augment net has)",
            hint="leave the arm matched out",
        )
    rng = np.random.default_rng(seed)
    each_block, more = divmod(num_units, len(blocks))
    values: list[Values] = []
    for index, block in enumerate(blocks.values()):
        owners = [(name, unit) for name, group in block for unit in range(group.expand.out_features)]
        drawn = rng.choice(len(owners), each_block + (index < more), replace=False)
        chosen = sorted(owners[place] for place in drawn)
        for name, _ in block:
            units = tuple(unit for owner, unit in chosen if owner == name)
            if units:
                values += [
                    Values(f"{name}.expand.weight", 0, units),
                    Values(f"{name}.expand.bias", 0, units),
                    Values(f"{name}.contract.weight", 1, units),
                ]
    return Choice(tuple(values), {"units": num_units})
