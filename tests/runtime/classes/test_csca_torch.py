"""Loss and gradient held to torch's own cosine similarity, cross entropy and autograd."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.runtime.classes.csca import CscaSettings, Problem, fit_weights, leave_one_out, loss_and_gradient

torch = pytest.importorskip("torch")

WAYS, SHOTS, CHANNELS, STAYING = 5, 4, 40, 2


def drawn(seed: int) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    shots, staying = random.random((WAYS, SHOTS, CHANNELS)), random.random((STAYING, CHANNELS))
    examples = np.concatenate([shots.reshape(-1, CHANNELS), staying])
    labels = np.r_[np.repeat(np.arange(WAYS), SHOTS), WAYS + np.arange(STAYING)]
    return shots, examples, labels, random.random((len(examples), STAYING))


def torch_loss(shots: np.ndarray, examples: np.ndarray, labels: np.ndarray, fixed: np.ndarray, w, pull: float):  # type: ignore[no-untyped-def]
    cosine = torch.nn.functional.cosine_similarity
    x, y, s = (torch.from_numpy(array) for array in (examples, labels, shots))
    rows = []
    for index in range(len(x)):
        row = []
        for way in range(WAYS):
            left = [k for k in range(SHOTS) if way * SHOTS + k != index]
            row.append(cosine(w[way] * x[index], w[way] * s[way, left].mean(0), dim=0))
        rows.append(torch.stack(row))
    scores = torch.cat([torch.stack(rows), torch.from_numpy(fixed)], dim=1)
    return torch.nn.functional.cross_entropy(20 * scores, y) + pull * ((w - 1) ** 2).mean()


@pytest.mark.parametrize("seed", [0, 1])
def test_loss_and_gradient(seed: int) -> None:
    shots, examples, labels, fixed = drawn(seed)
    problem = Problem(examples, labels, leave_one_out(shots).reshape(-1, CHANNELS), shots.mean(1), fixed)
    w = torch.from_numpy(np.random.default_rng(seed).uniform(0.3, 1.7, (WAYS, CHANNELS))).requires_grad_()
    loss = torch_loss(shots, examples, labels, fixed, w, 0.1)
    loss.backward()
    found, gradient = loss_and_gradient(problem, w.detach().numpy(), CscaSettings(pull=0.1))
    np.testing.assert_allclose(found, loss.item(), rtol=1e-10)
    np.testing.assert_allclose(gradient, w.grad.numpy(), atol=1e-10)


def test_the_whole_fit() -> None:
    """With torch's Adam in the place of ours."""
    shots, examples, labels, fixed = drawn(3)
    w = torch.ones(WAYS, CHANNELS, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([w], lr=0.005)
    for _ in range(30):
        adam.zero_grad()
        torch_loss(shots, examples, labels, fixed, w, 0.01).backward()
        adam.step()
        w.data.clamp_(min=0.05)
    problem = Problem(examples, labels, leave_one_out(shots).reshape(-1, CHANNELS), shots.mean(1), fixed)
    # our Adam's constants are float32's
    np.testing.assert_allclose(fit_weights(problem), w.detach().numpy(), atol=2e-5)
