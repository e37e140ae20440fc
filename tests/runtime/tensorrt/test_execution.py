"""How the buffers of an execution context grow; `tests/gpu` runs engines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.runtime.tensorrt.execution import capacity

pytestmark = pytest.mark.device_side


@given(current=st.sampled_from([0, 256, 4096, 1 << 20]), needed=st.integers(1, 1 << 33))
def test_buffers_grow_to_powers_of_two_and_never_shrink(current: int, needed: int) -> None:
    size = capacity(current, needed)
    assert size >= max(current, needed)
    assert size == current or (size & (size - 1) == 0 and size < 2 * max(needed, 256))
    assert capacity(size, needed) == size
