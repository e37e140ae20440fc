"""Averages of weights: what they are, that the module gets its own back, and that they come back from a state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgekit.core.errors import SettingsError
from edgekit.core.settings import apply_settings
from edgekit.train.average import Average, MeanOfLast, MovingAverage, open_average
from edgekit.train.loop import LoopSettings


class Three(nn.Module):
    """A weight that learns, one that does not, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.learns = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.frozen = nn.Parameter(torch.tensor([5.0]), requires_grad=False)
        self.register_buffer("seen", torch.tensor([7.0]))

    def become(self, *values: float) -> None:
        with torch.no_grad():
            self.learns.copy_(torch.tensor(values))


def inside(average: Average, module: Three) -> Tensor:
    with average.in_place():
        return module.learns.detach().clone()


def test_a_moving_average_forgets_by_its_decay() -> None:
    module = Three()
    average = MovingAverage(module, 0.75)
    module.become(3.0, 6.0)
    average.after_step()
    average.before_validation()
    torch.testing.assert_close(inside(average, module), torch.tensor([1.5, 3.0]))
    assert module.learns.tolist() == [3.0, 6.0]
    assert average.state().keys() == {"learns"}


def test_a_mean_is_of_the_last_validations() -> None:
    module = Three()
    average = MeanOfLast(module, 2)
    seen = []
    for value in (1.0, 3.0, 8.0):
        module.become(100.0, 100.0)
        average.after_step()
        module.become(value, -value)
        average.before_validation()
        seen.append(inside(average, module).tolist())
        assert module.learns.tolist() == [value, -value]
    assert seen == [[1.0, -1.0], [2.0, -2.0], [5.5, -5.5]]
    assert average.state().keys() == {"0/learns", "1/learns"}


@pytest.mark.parametrize(("ema", "last"), [(0.9, 0), (0.0, 3), (0.0, 0)])
def test_it_goes_on_from_its_state(ema: float, last: int) -> None:
    """At every point, as if there had been no interruption."""
    for cut in range(6):
        module, other = Three(), Three()
        average = open_average(module, ema=ema, last=last)
        for step in range(6):
            if step == cut:
                state = {name: tensor.clone() for name, tensor in average.state().items()}
                average = open_average(other, ema=ema, last=last)
                average.restore(state)
                module = other
            module.become(step * 1.1, step**2)
            average.after_step()
            average.before_validation()
        uncut = Three()
        expected = open_average(uncut, ema=ema, last=last)
        for step in range(6):
            uncut.become(step * 1.1, step**2)
            expected.after_step()
            expected.before_validation()
        assert torch.equal(inside(average, module), inside(expected, uncut))


def test_the_module_gets_its_own_back_from_a_failed_validation() -> None:
    module = Three()
    average = MovingAverage(module, 0.5)
    module.become(9.0, 9.0)
    with pytest.raises(ArithmeticError), average.in_place():
        raise ArithmeticError
    assert module.learns.tolist() == [9.0, 9.0]


def test_one_average_at_a_time() -> None:
    assert type(open_average(Three(), ema=0.0, last=0)) is Average
    with pytest.raises(SettingsError, match="takes the place of ema, which must be 0 then; got 3 and 0"):
        apply_settings(LoopSettings(ema=0.9), ["average_last=3"])
    with pytest.raises(SettingsError, match="must not be negative"):
        apply_settings(LoopSettings(), ["average_last=-1"])
    assert apply_settings(LoopSettings(ema=0.9), ["average_last=3", "ema=0"]).average_last == 3
