"""What this machine is, against what the system says in another way."""

from __future__ import annotations

import os
import platform

import pytest

from edgekit.devices.probe import probe_machine

pytestmark = pytest.mark.device_side


def test_this_machine() -> None:
    machine = probe_machine()
    assert machine.python == platform.python_version()
    assert 1 <= machine.num_cpus <= (os.cpu_count() or 1)
    assert machine.cpu
    if platform.machine() == "x86_64" and os.path.exists("/proc/cpuinfo"):  # noqa: PTH110
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            assert ("AVX2" in machine.instruction_sets) == (" avx2 " in file.read())


def test_memory_is_that_of_the_system() -> None:
    psutil = pytest.importorskip("psutil", reason="the independent reference")
    assert probe_machine().memory_mib == pytest.approx(psutil.virtual_memory().total / 2**20, rel=0.01)
