"""Requests padded to the grid, answers cut back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.signature import Derived, Dim, Signature, TensorSpec
from edgekit.runtime.padding import NUM_LENGTHS, cut_back, grid_size, pad_to_grid

pytestmark = pytest.mark.device_side

BATCH = Dim("batch", ((1, 1, 16),))
TIME = Dim("time", ((1, 100, 200), (201, 400, 500), (501, 800, 1000), (1001, 2000, 3000)))


@given(st.integers(1, 3000))
def test_a_size_grows_to_the_grid_and_never_out_of_its_bucket(size: int) -> None:
    padded = grid_size(TIME, size)
    assert size <= padded < size + 50
    assert next(b for b in TIME.buckets if b[0] <= size <= b[2]) == next(
        b for b in TIME.buckets if b[0] <= padded <= b[2]
    )


def test_there_are_few_sizes() -> None:
    assert len({grid_size(TIME, size) for size in range(1, 3001)}) <= NUM_LENGTHS + len(TIME.buckets)


def test_multiples_are_kept() -> None:
    dim = Dim("time", ((8, 80, 808),), multiple_of=8)
    assert all(grid_size(dim, size) % 8 == 0 for size in range(8, 809, 8))
    assert grid_size(dim, 808) == 808


def test_only_counted_axes_are_padded_and_answers_are_cut_back() -> None:
    frames = Derived("time", minus=1, over=2, plus=1)
    signature = Signature(
        (TensorSpec("x", "float32", (BATCH, TIME, 3)), TensorSpec("n", "int64", (BATCH,), lengths_of=TIME)),
        (TensorSpec("y", "float32", (BATCH, frames, 2)), TensorSpec("m", "int64", (BATCH,), lengths_of=frames)),
    )
    inputs = {"x": np.ones((2, 33, 3), np.float32), "n": np.array([33, 20])}
    padded, sizes = pad_to_grid(signature, inputs)
    assert sizes == {"batch": 2, "time": 33}
    assert padded["x"].shape == (2, 50, 3)
    assert (padded["x"][:, :33] == 1).all()
    assert not padded["x"][:, 33:].any()
    assert np.array_equal(padded["n"], inputs["n"])
    answer = {"y": np.arange(100, dtype=np.float32).reshape(2, 25, 2), "m": np.array([17, 10])}
    cut = cut_back(signature, answer, sizes)
    assert np.array_equal(cut["y"], answer["y"][:, :17])
    assert np.array_equal(cut["m"], answer["m"])
