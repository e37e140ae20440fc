"""What a process holds, and has held at most."""

from __future__ import annotations

import mmap
import sys

import pytest

from edgekit.devices.memory import gpu_memory_mib, peak_memory_mib, resident_memory_mib

pytestmark = pytest.mark.device_side


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_is_held_and_freed_shows_in_both() -> None:
    before = resident_memory_mib()
    assert before is not None
    held = mmap.mmap(-1, 64 << 20)  # which the system takes back at once when it is closed
    held.write(b"x" * (64 << 20))
    during = resident_memory_mib()
    assert during is not None
    assert during - before > 50
    assert peak_memory_mib() >= during - 1
    held.close()
    after = resident_memory_mib()
    assert after is not None
    assert after < during - 50


def test_a_gpu_that_nobody_tells_of_has_a_reason() -> None:
    found, why = gpu_memory_mib()
    assert (found is None) == (why is not None)
