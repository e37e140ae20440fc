"""Updates are those of torch."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.runtime.adapt.adamw import AdamW, clip_norm, rate_at

torch = pytest.importorskip("torch", reason="is the reference")


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_fifty_updates_as_torch(weight_decay: float) -> None:
    rng = np.random.default_rng(0)
    theta = rng.normal(size=70_000).astype(np.float32)  # more than one part
    reference = torch.nn.Parameter(torch.tensor(theta))
    optimizer = torch.optim.AdamW([reference], lr=1.0, weight_decay=weight_decay)
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    ours = AdamW(first, second, weight_decay)
    for step in range(50):
        gradient = (rng.normal(size=theta.size) * 10.0 ** rng.integers(-4, 2)).astype(np.float32)
        gradient[:100] = 0  # has no direction, and must get none
        rate = rate_at(step, 50, peak=1e-2, warmup_steps=5, schedule="cosine")
        optimizer.param_groups[0]["lr"] = rate
        reference.grad = torch.tensor(gradient)
        optimizer.step()
        ours.update(theta, gradient, rate, step + 1)
    assert theta.dtype == np.float32
    np.testing.assert_allclose(theta, reference.detach().numpy(), rtol=0, atol=2e-6)
    np.testing.assert_allclose(second, optimizer.state[reference]["exp_avg_sq"].numpy(), rtol=1e-5)


@pytest.mark.parametrize("most", [0.5, 1e9])
def test_a_long_gradient_is_clipped(most: float) -> None:
    gradient = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    reference = torch.nn.Parameter(torch.zeros(1000))
    reference.grad = torch.tensor(gradient)
    expected = torch.nn.utils.clip_grad_norm_([reference], most)
    assert clip_norm(gradient, most) == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, reference.grad.numpy(), rtol=1e-5)


def test_no_gradient_stays_none() -> None:
    assert clip_norm(np.zeros(3, np.float32), 1.0) == 0


def test_the_course_of_the_rate() -> None:
    def rates(schedule: str) -> list[float]:
        return [rate_at(step, 20, peak=2.0, warmup_steps=3, schedule=schedule) for step in range(20)]

    assert rates("constant") == [0.5, 1.0, 1.5, *[2.0] * 17]
    cosine = rates("cosine")
    assert cosine[:4] == [0.5, 1.0, 1.5, 2.0]
    assert cosine[3:] == sorted(cosine[3:], reverse=True)
    assert 0 < cosine[-1] < 0.05
    assert rate_at(0, 1, peak=2.0, warmup_steps=0, schedule="cosine") == 2.0
