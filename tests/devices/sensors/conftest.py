"""Trees as sysfs shows them on machines of several kinds. Sources: the kernel's documentation (hwmon/ina3221,
hwmon/ina238, power/powercap, thermal/sysfs-api), NVIDIA's Jetson Linux Developer Guide, energymon's JetsonPowerRails,
mainline's tegra234 device trees, the Raspberry Pi kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

HWMON, ZONE, POWERCAP = "sys/class/hwmon/hwmon", "sys/class/thermal/thermal_zone", "sys/class/powercap/intel-rapl"
COOLING, CPUFREQ = "sys/class/thermal/cooling_device", "sys/devices/system/cpu/cpufreq/policy"


def ina3221(number: int, *rails: tuple[str, int, int]) -> dict[str, str]:
    """Channels as (label, mV, mA); then what the driver has besides: shunt voltages and the sums of all channels."""
    chip = f"{HWMON}{number}"
    files = {f"{chip}/name": "ina3221", f"{chip}/curr4_input": "999", f"{chip}/in7_label": "sum of shunt voltages"}
    for channel, (label, volt_mv, current_ma) in enumerate(rails, start=1):
        files |= {
            f"{chip}/in{channel}_label": label,
            f"{chip}/in{channel}_input": str(volt_mv),
            f"{chip}/curr{channel}_input": str(current_ma),
            f"{chip}/curr{channel}_max": "32760",
            f"{chip}/in{channel + 3}_input": "40",
        }
    return files | {f"{chip}/in7_input": "120"}


def iio(address: str, number: int, *rails: tuple[str, int, int, int]) -> dict[str, str]:
    """Channels of the older L4T's driver as (name, mV, mA, mW)."""
    chip = f"sys/bus/i2c/drivers/ina3221x/{address}/iio:device{number}"
    files = {f"{chip}/name": "ina3221x"}
    for channel, (name, volt_mv, current_ma, power_mw) in enumerate(rails):
        files |= {
            f"{chip}/rail_name_{channel}": name,
            f"{chip}/in_voltage{channel}_input": str(volt_mv),
            f"{chip}/in_current{channel}_input": str(current_ma),
            f"{chip}/in_power{channel}_input": str(power_mw),
            f"{chip}/warn_current_limit_{channel}": "32760 ma",
        }
    return files


def zone(number: int, kind: str, temperature_mc: int, **trips: int) -> dict[str, str]:
    files = {f"{ZONE}{number}/type": kind, f"{ZONE}{number}/temp": str(temperature_mc)}
    for index, (what, limit_mc) in enumerate(trips.items()):
        files |= {f"{ZONE}{number}/trip_point_{index}_type": what}
        files |= {f"{ZONE}{number}/trip_point_{index}_temp": str(limit_mc)}
    return files


def cooling(number: int, kind: str, state: int) -> dict[str, str]:
    return {f"{COOLING}{number}/type": kind, f"{COOLING}{number}/cur_state": str(state)}


def rapl(zone: str, name: str, energy_uj: int, range_uj: int = 262_143_328_850) -> dict[str, str]:
    folder = f"{POWERCAP}{zone}"
    return {
        f"{folder}/name": name,
        f"{folder}/energy_uj": str(energy_uj),
        f"{folder}/max_energy_range_uj": str(range_uj),
    }


ORIN_NANO = {
    **ina3221(1, ("VDD_IN", 5032, 1096), ("VDD_CPU_GPU_CV", 5032, 160), ("VDD_SOC", 5024, 296)),
    f"{HWMON}0/name": "pwm_tach",
    f"{HWMON}3/name": "soctherm_oc",
    **{f"{HWMON}3/oc{number}_event_cnt": "0" for number in (1, 2, 3)},
    **zone(0, "cpu-thermal", 48_187, critical=104_500, hot=103_000, active=70_000, passive=99_000),
    **zone(1, "gpu-thermal", 47_500),
    **zone(2, "cv0-thermal", -256_000),
    **zone(8, "tj-thermal", 48_250, critical=104_500, passive=99_000),
    **cooling(0, "pwm-fan", 1),
    **cooling(1, "cpufreq-cpu0", 0),
    **cooling(2, "devfreq-17000000.gpu", 0),
    **cooling(3, "gpu-throttle-alert", 0),
    **cooling(10, "hot-surface-alert", 1),
    f"{CPUFREQ}0/scaling_cur_freq": "1510400",
    f"{CPUFREQ}4/scaling_cur_freq": "729600",
    "sys/class/devfreq/17000000.gpu/cur_freq": "624750000",
    "sys/class/devfreq/15340000.vic/cur_freq": "115200000",
}

LAYOUTS = {
    "orin-nano": ORIN_NANO,
    "orin-nx": ORIN_NANO
    | ina3221(1, ("VDD_IN", 19_400, 500), ("VDD_CPU_GPU_CV", 19_400, 100), ("VDD_SOC", 19_400, 80)),
    "agx-orin": {
        **ina3221(3, ("VDD_GPU_SOC", 19_776, 170), ("VDD_CPU_CV", 20_000, 24), ("VIN_SYS_5V0", 4968, 980)),
        **ina3221(4, ("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 4968, 80), ("NC", 0, 0)),
        "sys/class/devfreq/17000000.ga10b/cur_freq": "1300500000",
    },
    "xavier-nx": {
        **iio(
            "7-0040", 0, ("VDD_IN", 5032, 824, 4146), ("VDD_CPU_GPU_CV", 5032, 72, 362), ("VDD_SOC", 5032, 240, 1207)
        ),
        "sys/class/devfreq/17000000.gv11b/cur_freq": "114750000",
        **cooling(0, "thermal-cpufreq-0", 2),
    },
    "agx-xavier": {
        **iio("1-0040", 0, ("GPU", 19_000, 10, 190), ("CPU", 19_000, 30, 570), ("SOC", 19_000, 40, 760)),
        **iio("1-0041", 1, ("CV", 19_000, 0, 0), ("VDDRQ", 19_000, 5, 95), ("SYS5V", 5000, 300, 1500)),
    },
    "thor": {
        **ina3221(4, ("VDD_GPU", 19_700, 5060), ("VDD_CPU_SOC_MSS", 19_700, 330), ("VIN_SYS_5V0", 5000, 1300)),
        f"{HWMON}5/name": "ina238",
        f"{HWMON}5/in0_input": "3",
        f"{HWMON}5/in1_label": "VIN",
        f"{HWMON}5/in1_input": "19700",
        f"{HWMON}5/curr1_input": "7614",
        f"{HWMON}5/power1_input": "150000000",
        f"{HWMON}5/temp1_input": "41000",
        "sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000",
        "sys/class/devfreq/gpu-nvd-0/cur_freq": "1100000000",
        **cooling(0, "gpu-throttle-alert", 1),
    },
    "pc": {
        **rapl(":0", "package-0", 100_000_000),
        **rapl(":0:0", "core", 60_000_000),
        **rapl(":0:1", "uncore", 1_000_000),
        **rapl(":0:2", "dram", 20_000_000, 65_712_999_613),
        **rapl(":1", "psys", 400_000_000),
        **rapl("-mmio:0", "package-0", 100_000_000),
        **zone(0, "acpitz", 27_800, critical=119_000),
        **zone(1, "acpitz", 29_800),
        **zone(2, "x86_pkg_temp", 51_000, passive=0),
        **{f"{CPUFREQ}{number}/scaling_cur_freq": str(800_000 + number) for number in range(20)},
        **{f"sys/devices/system/cpu/cpu{n}/thermal_throttle/core_throttle_count": "3" for n in range(4)},
        **{f"sys/devices/system/cpu/cpu{n}/thermal_throttle/package_throttle_count": "7" for n in range(4)},
        **{f"sys/devices/system/cpu/cpu{n}/topology/physical_package_id": str(n // 2) for n in range(4)},
        **cooling(0, "Processor", 0),
        **cooling(1, "Processor", 0),
        **cooling(2, "Fan", 1),
    },
    "amd-pc": {
        **rapl(":0", "package-0", 5_000_000, 65_532_610_987),
        **rapl(":0:0", "core", 1_000_000, 65_532_610_987),
        f"{HWMON}2/name": "k10temp",
        f"{HWMON}2/temp1_label": "Tctl",
        f"{HWMON}2/temp1_input": "40375",
    },
    "raspberry-pi": {
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005",
        **zone(0, "cpu-thermal", 61_342, critical=110_000),
        f"{CPUFREQ}0/scaling_cur_freq": "1500000",
    },
    "nothing": {"proc/cpuinfo": "processor : 0"},
}


def link(root: Path, file: Path) -> None:
    """What is below sys/class and sys/bus are links to the devices."""
    depth = {"class": 4, "bus": 6}.get(file.parts[1])
    if depth:
        folder = root / Path(*file.parts[:depth])
        device = root / "sys/devices" / "-".join(file.parts[2:depth])
        if not folder.exists():
            device.mkdir(parents=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.symlink_to(device)


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., Path]:
    """Writes the tree of a machine, with changes (None: no such file), and gives its root."""

    def write(name: str, **changes: str | None) -> Path:
        for path, text in {**LAYOUTS[name], **changes}.items():
            if text is not None:
                link(tmp_path, Path(path))
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / path).write_text(f"{text}\n")
        return tmp_path

    return write
