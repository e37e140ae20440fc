"""Weights per item: as many calls with one item each, and one graph for one set of weights and for many."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from edgekit.core.signature import Derived, Dim, Signature, TensorSpec
from edgekit.export.onnx import export_onnx
from edgekit.train.layers import per_item

BATCH, TIME = Dim("batch", ((1, 1, 16),)), Dim("time", ((4, 20, 50),))
SPEAKERS = Dim("speakers", ((1, 1, 16),))
SHAPES = ((3, 5), (6,), (6, 3), (6,))
SIZE = 15 + 6 + 18 + 6


class Tiny(torch.nn.Module):
    """All operators, one after the other."""

    def forward(self, x: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        weight, bias, taps, scale = per_item.parts(theta, SHAPES)
        h = per_item.matmul(x, torch.cat((weight, weight), 1).transpose(1, 2))
        h = per_item.add(h, bias[:, None])
        mixed = per_item.depthwise(h.transpose(1, 2), taps).transpose(1, 2)
        return per_item.multiply(mixed, scale[:, None])


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> onnxruntime.InferenceSession:
    signature = Signature(
        (
            TensorSpec("x", "float32", (BATCH, TIME, 5)),
            TensorSpec("theta", "float32", (SPEAKERS, SIZE), weights=True),
        ),
        (TensorSpec("y", "float32", (BATCH, Derived("time", 2, 1, 0), 6)),),
    )
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    export_onnx(Tiny(), signature, path)
    return onnxruntime.InferenceSession(str(path))


@pytest.mark.parametrize(("batch", "time"), [(1, 4), (3, 20), (5, 33)])
@pytest.mark.parametrize("shared", [True, False])
def test_an_item_of_a_batch_is_answered_as_alone_in_torch(session, batch: int, time: int, shared: bool) -> None:
    random = np.random.default_rng(batch * time)
    x = random.standard_normal((batch, time, 5)).astype(np.float32)
    theta = random.standard_normal((1 if shared else batch, SIZE)).astype(np.float32)
    (together,) = session.run(None, {"x": x, "theta": theta})
    for item in range(batch):
        own = theta if shared else theta[item : item + 1]
        alone = Tiny()(torch.from_numpy(x[item : item + 1]), torch.from_numpy(own))
        np.testing.assert_allclose(together[item], alone[0].numpy(), atol=2e-5)


def test_parts_are_views_in_order() -> None:
    theta = torch.arange(2 * SIZE, dtype=torch.float32).view(2, SIZE)
    parts = per_item.parts(theta, SHAPES)
    assert [tuple(part.shape) for part in parts] == [(2, *shape) for shape in SHAPES]
    assert torch.equal(torch.cat([part.flatten(1) for part in parts], 1), theta)
