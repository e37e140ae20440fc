"""The loss and its gradient are those of torch in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.runtime.adapt.ctc import ctc_loss, frames_needed

torch = pytest.importorskip("torch", reason="is the reference")


def of_torch(logits_TV: np.ndarray, labels: list[int], blank: int) -> tuple[float, np.ndarray]:
    """Loss and gradient by the logits, in float64, through torch."""
    logits = torch.tensor(logits_TV, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([labels], dtype=torch.int64).reshape(1, -1)
    sizes = (torch.tensor([len(logits_TV)]), torch.tensor([len(labels)]))
    loss = torch.nn.functional.ctc_loss(
        logits.log_softmax(-1)[:, None], targets, *sizes, blank=blank, reduction="sum", zero_infinity=False
    )
    if math.isfinite(loss.item()):
        loss.backward()
    return loss.item(), np.zeros(logits_TV.shape) if logits.grad is None else logits.grad.numpy()


def ours(logits_TV: np.ndarray, labels: list[int], blank: int) -> tuple[float, np.ndarray]:
    top = logits_TV.max(1, keepdims=True)
    log_probs = logits_TV - top - np.log(np.exp(logits_TV - top).sum(1, keepdims=True))
    loss, gradient = ctc_loss(log_probs, labels, blank)
    return loss, gradient - np.exp(log_probs) * gradient.sum(1, keepdims=True)


def check(logits_TV: np.ndarray, labels: list[int], blank: int, atol: float = 1e-10) -> None:
    expected_loss, expected = of_torch(logits_TV, labels, blank)
    loss, gradient = ours(logits_TV, labels, blank)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("seed", range(60))
def test_as_torch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_frames, num_labels = int(rng.integers(1, 80)), int(rng.integers(2, 40))
    blank = int(rng.integers(num_labels))
    others = [label for label in range(num_labels) if label != blank]
    # few different labels: many repeats; targets that do not fit are among them
    labels = rng.choice(others[: int(rng.integers(1, 4))], int(rng.integers(0, num_frames // 2 + 2))).tolist()
    check(rng.normal(0, rng.choice([0.1, 1, 10]), (num_frames, num_labels)), labels, blank)


@pytest.mark.parametrize(("num_frames", "num_labels"), [(500, 100), (1500, 150), (1500, 700)])
def test_long_utterances(num_frames: int, num_labels: int) -> None:
    rng = np.random.default_rng(0)
    check(rng.normal(0, 3, (num_frames, 32)), rng.integers(1, 32, num_labels).tolist(), 0, atol=1e-9)


def test_peaky_logits() -> None:
    """Frames that are sure, and sure of something else than the target: what probabilities would lose."""
    rng = np.random.default_rng(1)
    logits = np.zeros((300, 8))
    logits[np.arange(300), rng.integers(0, 8, 300)] = 60
    check(logits, rng.integers(1, 8, 40).tolist(), 0)


@pytest.mark.parametrize("num_frames", [1, 2, 9])
def test_nothing_is_said(num_frames: int) -> None:
    check(np.random.default_rng(0).normal(size=(num_frames, 4)), [], 2)


@pytest.mark.parametrize("labels", [[1, 1], [1, 2, 3], [1, 1, 2]])
def test_a_target_that_does_not_fit(labels: list[int]) -> None:
    log_probs = np.log(np.full((2, 4), 0.25))
    loss, gradient = ctc_loss(log_probs, labels, 0)
    assert loss == of_torch(log_probs, labels, 0)[0] == math.inf
    assert not gradient.any()


def test_a_target_that_just_fits() -> None:
    assert frames_needed([1, 1, 2, 2, 3]) == 7
    assert frames_needed([]) == 0
    check(np.random.default_rng(0).normal(size=(7, 4)), [1, 1, 2, 2, 3], 0)


def test_a_frame_that_rules_a_label_out() -> None:
    log_probs = np.log(np.full((3, 3), 1 / 3))
    log_probs[:, 1] = -np.inf
    assert ctc_loss(log_probs, [1], 0)[0] == math.inf
    loss, gradient = ctc_loss(log_probs, [2], 0)
    assert loss == pytest.approx(-math.log(6 / 27))  # 2 at one, two or three frames in a row: 3 + 2 + 1 ways
    assert gradient.sum(1) == pytest.approx(-1)


def test_no_frames() -> None:
    assert ctc_loss(np.empty((0, 3)), [], 0)[0] == 0
    assert ctc_loss(np.empty((0, 3)), [1], 0)[0] == math.inf


@pytest.mark.parametrize("labels", [[3], [-1], [0]])
def test_what_is_no_label(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        ctc_loss(np.zeros((5, 3)), labels, 0)
