"""Feed-forward units that are drawn: as many values as an augment net, in every block, by seed."""

from __future__ import annotations

import pytest
from torch import nn

from edgekit.core.errors import UsageError
from edgekit.train.families.disconformer.config import VARIANTS, Config
from edgekit.train.families.disconformer.model import DisConformer, build
from edgekit.train.libricontinual.choice import Choice
from edgekit.train.libricontinual.units import feed_forward_units

PER_UNIT = 32 + 1 + 32


@pytest.fixture(scope="module")
def core(config: Config) -> DisConformer:
    return build(config, "ctc").deploy()


def of_blocks(choice: Choice) -> dict[str, int]:
    """How many units each block has."""
    found: dict[str, int] = {}
    for values in choice.values:
        if values.parameter.endswith("expand.bias"):
            block = values.parameter.split(".groups.")[0]
            found[block] = found.get(block, 0) + len(values.units or ())
    return found


@pytest.mark.parametrize("num_values", [PER_UNIT, 4 * PER_UNIT + 32, 4 * PER_UNIT + 33, 17 * PER_UNIT, 128 * PER_UNIT])
def test_the_nearest_number_of_units(core: nn.Module, num_values: int) -> None:
    choice = feed_forward_units(core, num_values, seed=0)
    assert abs(choice.size(core) - num_values) <= PER_UNIT // 2
    assert choice.size(core) == PER_UNIT * choice.settings["units"]
    counts = of_blocks(choice)
    assert sum(counts.values()) == choice.settings["units"]
    assert max(counts.values()) - min([*counts.values(), *([0] if len(counts) < 2 else [])]) <= 1


def test_as_many_as_the_augment_net_of_t() -> None:
    module = build(VARIANTS["t"], "ctc").deploy()
    choice = feed_forward_units(module, VARIANTS["t"].augment_parameters(), seed=0)
    assert (VARIANTS["t"].augment_parameters(), choice.size(module)) == (336_528, 336_592)
    assert choice.settings == {"units": 1744}
    assert sorted(of_blocks(choice).values()) == [290, 290, 291, 291, 291, 291]


def test_a_unit_is_a_row_its_bias_and_a_column(core: nn.Module) -> None:
    choice = feed_forward_units(core, 30 * PER_UNIT, seed=4)
    assert len(choice.values) == 3 * 4
    for first in range(0, 12, 3):
        row, bias, column = choice.values[first : first + 3]
        assert row.units == bias.units == column.units
        assert row.units is not None
        assert len(set(row.units)) == len(row.units)
        name = row.parameter.removesuffix("expand.weight")
        assert (bias.parameter, column.parameter) == (f"{name}expand.bias", f"{name}contract.weight")
        assert (row.axis, bias.axis, column.axis) == (0, 0, 1)


def test_the_seed_draws(core: nn.Module) -> None:
    first, again, other = (feed_forward_units(core, 30 * PER_UNIT, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.values != other.values
    assert first.size(core) == other.size(core)


@pytest.mark.parametrize("num_values", [0, 129 * PER_UNIT])
def test_more_than_there_are_or_none(core: nn.Module, num_values: int) -> None:
    with pytest.raises(UsageError, match="expected 1 to 128 feed-forward units of 65 values") as raised:
        feed_forward_units(core, num_values, seed=0)
    assert "matched" in (raised.value.hint or "")
