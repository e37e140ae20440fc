"""The processor: its name, its cores, and those of its instruction sets that matter for inference."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

INSTRUCTION_SETS = (
    ("avx2", "AVX2"),
    ("avx_vnni", "AVX-VNNI"),
    ("avx512f", "AVX-512"),
    ("avx512_vnni", "VNNI"),
    ("avx512_bf16", "bf16"),
    ("avx512_fp16", "fp16"),
    ("amx_tile", "AMX"),
    ("asimd", "NEON"),
    ("asimdhp", "NEON fp16"),
    ("asimddp", "NEON dot product"),
    ("i8mm", "i8mm"),
    ("bf16", "bf16"),
    ("sve", "SVE"),
    ("sve2", "SVE2"),
    ("sme", "SME"),
)
"""The kernel's word (arch/x86/include/asm/cpufeatures.h; Documentation/arch/arm64/elf_hwcaps.rst), and ours."""

_ARM_CORES = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD83): "Neoverse-V3AE",
    (0x4E, 0x003): "Denver 2",
    (0x4E, 0x004): "Carmel",
}
"""By implementer and part, as `lscpu` names them (util-linux, sys-utils/lscpu-arm.c)."""


@dataclass(frozen=True)
class Cpu:
    """The processors that the system has switched on.

    Attributes:
        name: "AMD EPYC 9654 96-Core Processor", "4 x Cortex-A55 + 4 x Cortex-A76"; None where it does not tell.
        num_cores: cores; None where it does not tell.
        num_threads: hardware threads, of which a core may have several.
        instruction_sets: those that every core has.
    """

    name: str | None
    num_cores: int | None
    num_threads: int | None
    instruction_sets: tuple[str, ...]


def read_cpu(root: Path = Path("/")) -> Cpu:
    """Read /proc/cpuinfo below `root`; everything is unknown where there is none."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Cpu(None, None, None, ())
    blocks = [_pairs(block) for block in text.split("\n\n")]
    threads = [block for block in blocks if block.get("processor", "").isdigit()]
    flags = [set((block.get("flags") or block.get("Features") or "").split()) for block in threads]
    common = set.intersection(*flags) if flags else set()
    x86 = [(block["physical id"], block["core id"]) for block in threads if {"physical id", "core id"} <= set(block)]
    return Cpu(
        _name(threads),
        (len(set(x86)) if len(x86) == len(threads) else len(threads)) or None,
        len(threads) or None,
        tuple(dict.fromkeys(name for flag, name in INSTRUCTION_SETS if flag in common)),
    )


def _name(threads: list[dict[str, str]]) -> str | None:
    """Arm's kernels tell numbers, and L4T's beside them a "model name" that says nothing."""
    cores = [_arm_core(block) for block in threads]
    known = [core for core in cores if core is not None]
    if known and len(known) == len(cores):
        kinds = Counter(known)
        return known[0] if len(kinds) == 1 else " + ".join(f"{number} x {core}" for core, number in kinds.items())
    return next((block["model name"] for block in threads if block.get("model name")), None)


def _arm_core(block: dict[str, str]) -> str | None:
    try:
        return _ARM_CORES.get((int(block["CPU implementer"], 16), int(block["CPU part"], 16)))
    except (KeyError, ValueError):
        return None


def _pairs(block: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
