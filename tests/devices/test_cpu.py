"""Processors as the kernels of several machines describe them in /proc/cpuinfo."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from edgekit.devices.cpu import Cpu, read_cpu

pytestmark = pytest.mark.device_side

# what L4T 36 tells of each core of an Orin Nano: the model name says nothing
ORIN = """processor\t: {0}
model name\t: ARMv8 Processor rev 1 (v8l)
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp uscat ilrcpc flagm paca pacg
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd42
CPU revision\t: 1
"""  # noqa: E501
CORE = "processor : {}\nFeatures : {}\nCPU implementer : 0x41\nCPU part : {}\n"
XEON = """processor\t: {}
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8480C
physical id\t: {}
core id\t\t: {}
flags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8 avx512_fp16
"""


def told(root: Path, blocks: list[str]) -> Cpu:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text("\n".join(blocks))
    return read_cpu(root)


def test_a_jetson_orin(tmp_path: Path) -> None:
    cpu = told(tmp_path, [ORIN.format(number) for number in range(6)])
    assert cpu == Cpu("Cortex-A78AE", 6, 6, ("NEON", "NEON fp16", "NEON dot product"))


def test_what_only_some_cores_have_is_not_told(tmp_path: Path) -> None:
    small = [CORE.format(number, "fp asimd asimdhp asimddp", "0xd05") for number in range(4)]
    large = [CORE.format(number, "fp asimd asimdhp asimddp i8mm sve", "0xd0b") for number in range(4, 8)]
    cpu = told(tmp_path, [*small, *large])
    assert cpu == Cpu("4 x Cortex-A55 + 4 x Cortex-A76", 8, 8, ("NEON", "NEON fp16", "NEON dot product"))


def test_threads_of_a_core_and_sockets_are_told_apart(tmp_path: Path) -> None:
    # two sockets with two cores of two threads each: the cores' numbers begin anew
    threads = [XEON.format(number, number % 4 // 2, number % 2) for number in range(8)]
    cpu = told(tmp_path, threads)
    assert (cpu.num_cores, cpu.num_threads) == (4, 8)
    assert cpu.name == "Intel(R) Xeon(R) Platinum 8480C"
    assert cpu.instruction_sets == ("AVX2", "AVX-512", "VNNI", "bf16", "fp16", "AMX")


def test_a_part_that_nobody_knows_is_named_by_the_kernel(tmp_path: Path) -> None:
    block = "processor : 0\nmodel name : Somebody's core\nCPU implementer : 0x99\nCPU part : 0x001\nFeatures : asimd\n"
    assert told(tmp_path, [block]).name == "Somebody's core"


@pytest.mark.parametrize("text", ["", "\n\n", "processor", "Hardware : BCM2711\n", "\0\xff: :\n\n::"])
def test_what_says_nothing_is_unknown(tmp_path: Path, text: str) -> None:
    assert told(tmp_path, [text]) == Cpu(None, None, None, ())
    assert read_cpu(tmp_path / "nowhere") == Cpu(None, None, None, ())


@pytest.mark.skipif(not os.path.exists("/proc/cpuinfo"), reason="Linux only")  # noqa: PTH110
def test_this_machine() -> None:
    cpu = read_cpu()
    if platform.machine() in ("x86_64", "aarch64"):
        assert cpu.num_threads == os.cpu_count()
        assert cpu.num_cores is not None
        assert 1 <= cpu.num_cores <= (os.cpu_count() or 1)
