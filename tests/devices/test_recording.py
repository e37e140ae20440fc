"""A recorder beside a run: joules, a counter that begins anew, sensors that fail, and what it costs."""

from __future__ import annotations

import errno
import json
import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.core.errors import UsageError
from edgekit.devices.recording import Recorder, Recording, Sample, measure_idle, net_energy_j
from edgekit.devices.sensors import Sensors, find_sensors
from edgekit.devices.sensors.sensor import Clock, Energy, Power, Temperature, Throttling
from edgekit.devices.sensors.total import Total

pytestmark = pytest.mark.device_side

CHIP, ZONE = "sys/class/hwmon/hwmon1", "sys/class/thermal/thermal_zone0"


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A board of 5000 mV x 1600 mA = 8 W."""
    files = {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": "5000", "curr1_input": "1600"}
    for name, text in files.items():
        write(tmp_path / CHIP / name, text)
    write(tmp_path / ZONE / "type", "cpu-thermal")
    write(tmp_path / ZONE / "temp", "50000")
    write(tmp_path / ZONE / "trip_point_0_type", "passive")
    write(tmp_path / ZONE / "trip_point_0_temp", "85000")
    write(tmp_path / "sys/class/thermal/cooling_device0/type", "cpufreq-cpu0")
    write(tmp_path / "sys/class/thermal/cooling_device0/cur_state", "0")
    write(tmp_path / "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "2000000")
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


def by_hand(sensors: Sensors) -> Recorder:
    """A recorder that samples only when asked for its recording: nothing depends on the machine's speed."""
    return Recorder(sensors, interval_s=3600)


def sensors(
    *,
    power: Sequence[Power] = (),
    energy: Sequence[Energy] = (),
    temperature: Sequence[Temperature] = (),
    throttling: Sequence[Throttling] = (),
    parts: tuple[str, ...] = (),
) -> Sensors:
    total = Total(" + ".join(parts), parts) if parts else None
    clocks: tuple[Clock, ...] = ()
    return Sensors(tuple(power), tuple(energy), tuple(temperature), clocks, tuple(throttling), total, {}, ())


def timeless(recording: Recording) -> list[str]:
    """Its warnings, whenever it was."""
    return [re.sub(r"\d+\.\d s", "T", warning) for warning in recording.warnings]


class Script:
    """A sensor's readings, one after the other; the last is repeated."""

    def __init__(self, *values: float | Exception) -> None:
        self.values = list(values)

    def __call__(self) -> float:
        value = self.values.pop(0) if len(self.values) > 1 else self.values[0]
        if isinstance(value, Exception):
            raise value
        return value


def test_joules_of_a_constant_power(board: Path) -> None:
    with Recorder(find_sensors(board), interval_s=0.01) as recorder:
        start_s = time.perf_counter()
        time.sleep(0.2)
        stop_s = time.perf_counter()
    recording = recorder.recording
    assert recording.total == "VDD_IN"
    assert recording.energy_j(start_s, stop_s) == pytest.approx(8 * (stop_s - start_s))
    assert recording.mean_power_mw(start_s, stop_s) == pytest.approx(8000)
    assert len(recording.samples) > 3, "it went on in the background"
    assert recording.warnings == ()
    sample = recording.samples[0]
    assert (sample.power_mw, sample.temperature_c) == ({"VDD_IN": 8000}, {"cpu-thermal": 50})
    assert (sample.clock_mhz, sample.throttled) == ({"cpu0": 2000}, False)


def curve(parts: tuple[str, ...], value: Callable[[str, float], float]) -> Recording:
    samples = [
        Sample(100 + 0.1 * index, {name: value(name, 0.1 * index) for name in parts}, {}, {}, None)
        for index in range(101)
    ]
    return Recording(tuple(samples), " + ".join(parts), {}, (), parts)


def test_joules_of_a_curve_are_its_integral() -> None:
    """Two rails side by side: 3 W rising by 0.2 W/s, and a swinging one, which the rule meets to 1e-3."""

    def mw(name: str, time_s: float) -> float:
        return 3000 + 200 * time_s if name == "ramp" else 2000 * (1 + math.sin(time_s))

    recording = curve(("ramp", "swing"), mw)
    exact_j = 3 * 8 + 0.1 * (9**2 - 1**2) + 2 * (8 + math.cos(1) - math.cos(9))
    assert recording.energy_j(101, 109) == pytest.approx(exact_j, rel=1e-3)
    assert recording.mean_power_mw(101, 109) == pytest.approx(exact_j / 8 * 1e3, rel=1e-3)
    assert net_energy_j(recording, 101, 109, 1500) == pytest.approx(exact_j - 12, rel=1e-3)
    assert net_energy_j(recording, 101, 109, None) is None
    assert recording.energy_j(101, 101) == 0
    assert recording.mean_power_mw(101, 101) is None


def test_times_outside_are_refused() -> None:
    recording = curve(("ramp",), lambda name, time_s: 1.0)
    for start_s, stop_s in ((99.9, 105), (105, 110.5), (106, 105)):
        with pytest.raises(UsageError, match=r"expected two times inside the recording, 100.000 s to 110.000 s"):
            recording.energy_j(start_s, stop_s)
    with pytest.raises(UsageError):
        Recording((), None, {}, ()).energy_j(0, 1)


def test_a_counter_that_begins_anew() -> None:
    counter = Energy("package-0", "energy_uj", Script(262.0, 262.1, 0.3, 0.6), wraps_at_j=262.2)
    with by_hand(sensors(energy=[counter], parts=("package-0",))) as recorder:
        first = recorder.recording.samples[-1].t_s
        between = recorder.recording.samples[-1].t_s
    samples = recorder.recording.samples
    assert [round(sample.energy_j["package-0"], 9) for sample in samples] == [0, 0.1, 0.5, 0.8]
    assert recorder.recording.energy_j(first, between) == pytest.approx(0.4)
    assert recorder.recording.energy_j(samples[0].t_s, samples[-1].t_s) == pytest.approx(0.8)


def test_a_counters_power_is_its_mean_between_samples() -> None:
    counter = Energy("package-0", "energy_uj", Script(10.0, 11.0), wraps_at_j=262.0)
    with by_hand(sensors(energy=[counter], parts=("package-0",))) as recorder:
        time.sleep(0.05)
    first, last = recorder.recording.samples
    assert first.power_mw == {}, "one reading is no power"
    assert last.power_mw["package-0"] == pytest.approx(1e3 / (last.t_s - first.t_s))


def test_the_counter_is_preferred_to_power() -> None:
    """NVML's power lags a second behind; its counter does not."""
    gpu = sensors(
        power=[Power("gpu 0", "NVML", lambda: 1e6)],
        energy=[Energy("gpu 0", "NVML", Script(5.0, 7.0))],
        parts=("gpu 0",),
    )
    with by_hand(gpu) as recorder:
        pass
    first, last = recorder.recording.samples
    assert recorder.recording.energy_j(first.t_s, last.t_s) == 2
    assert last.power_mw == {"gpu 0": 1e6}


def test_a_counter_that_starts_again_without_a_range_is_lost() -> None:
    counter = Energy("gpu 0", "NVML", Script(5.0, 6.0, 0.5))
    with by_hand(sensors(energy=[counter], parts=("gpu 0",))) as recorder:
        middle = recorder.recording
    recording = recorder.recording
    start_s, stop_s = recording.samples[0].t_s, recording.samples[-1].t_s
    assert middle.energy_j(start_s, middle.samples[-1].t_s) == 1
    assert recording.energy_j(start_s, stop_s) is None
    assert "the energy sensor gpu 0 disappeared at T: the counter began anew" in timeless(recording)[0]
    assert recording.not_measured["power"].startswith("gpu 0 disappeared at ")


def test_a_file_that_disappears(board: Path) -> None:
    with by_hand(find_sensors(board)) as recorder:
        start_s = time.perf_counter()
        time.sleep(0.12)
        until_s = recorder.recording.samples[-1].t_s
        (board / CHIP / "curr1_input").unlink()
        after_s = recorder.recording.samples[-1].t_s
        write(board / CHIP / "curr1_input", "1")  # what comes back may be another device
    recording = recorder.recording
    assert recording.energy_j(start_s, until_s) == pytest.approx(8 * (until_s - start_s))
    assert recording.energy_j(start_s, after_s) is None
    assert recording.mean_power_mw(start_s, after_s) is None
    assert recording.energy_j(after_s, recording.samples[-1].t_s) is None
    assert timeless(recording) == ["the power sensor VDD_IN disappeared at T: No such file or directory"]
    told_s = float(re.search(r"VDD_IN disappeared at (\d+\.\d) s: No such file", recording.not_measured["power"])[1])
    assert told_s == pytest.approx(after_s - recording.samples[0].t_s, abs=0.06)
    assert recording.samples[-1].temperature_c == {"cpu-thermal": 50}, "the others go on"


def test_a_device_that_disappears() -> None:
    gone = OSError(errno.ENODEV, "No such device")
    rails = [Power("A", "a", Script(1000.0, 1000.0, gone, 1000.0)), Power("B", "b", lambda: 500.0)]
    with by_hand(sensors(power=rails, parts=("A", "B"))) as recorder:
        until_s = recorder.recording.samples[-1].t_s
        assert recorder.recording.samples[-1].power_mw == {"B": 500}
    recording = recorder.recording
    first_s, last_s = recording.samples[0].t_s, recording.samples[-1].t_s
    assert recording.energy_j(first_s, until_s) == pytest.approx(1.5 * (until_s - first_s))
    assert recording.energy_j(first_s, last_s) is None, "one part of a sum is not the sum"
    assert recording.samples[-1].power_mw == {"B": 500}, "it is not read again"


def test_a_reading_that_fails_once_is_bridged() -> None:
    """Junk, or an error of the bus: the next reading counts again."""
    rail = Power("A", "a", Script(1000.0, OSError(errno.EIO, "Input/output error"), ValueError("junk"), 1000.0))
    with by_hand(sensors(power=[rail], parts=("A",))) as recorder:
        recorder.recording  # noqa: B018
        recorder.recording  # noqa: B018
    recording = recorder.recording
    first_s, last_s = recording.samples[0].t_s, recording.samples[-1].t_s
    assert recording.energy_j(first_s, last_s) == pytest.approx(last_s - first_s)
    assert timeless(recording) == [
        "the power sensor A could not be read in 2 of 4 samples, first at T: Input/output error"
    ]
    assert "power" not in recording.not_measured


def test_power_that_was_not_read_for_long_is_not_guessed() -> None:
    samples = [Sample(at_s, {"A": 1000.0}, {}, {}, None) for at_s in (0.0, 0.1, 3.0, 3.1)]
    recording = Recording(tuple(samples), "A", {}, (), ("A",))
    assert recording.energy_j(0, 3.1) is None
    assert recording.energy_j(3.0, 3.1) == pytest.approx(0.1)


def test_nothing_is_no_energy() -> None:
    """A rail that tells 0, and a counter that moves in steps, asked for less than one."""
    stuck = sensors(power=[Power("VDD_IN", "hwmon", lambda: 0.0)], parts=("VDD_IN",))
    with by_hand(stuck) as recorder:
        pass
    recording = recorder.recording
    first_s, last_s = recording.samples[0].t_s, recording.samples[-1].t_s
    assert (recording.energy_j(first_s, last_s), recording.mean_power_mw(first_s, last_s)) == (None, None)
    assert recording.not_measured["power"] == "VDD_IN told nothing but 0"
    counter = sensors(energy=[Energy("gpu 0", "NVML", Script(5.0, 5.0, 7.0))], parts=("gpu 0",))
    with by_hand(counter) as recorder:
        middle_s = recorder.recording.samples[-1].t_s
    recording = recorder.recording
    first_s, last_s = recording.samples[0].t_s, recording.samples[-1].t_s
    assert recording.energy_j(first_s, middle_s) is None
    assert recording.energy_j(first_s, last_s) == 2
    assert "power" not in recording.not_measured


def test_a_part_that_wakes_up_in_the_run(board: Path) -> None:
    """The zone of a Jetson's GPU tells -256 C until the GPU has work (jetson_stats issue 350)."""
    gpu, off = "sys/class/thermal/thermal_zone1", "sys/class/thermal/thermal_zone2"
    for zone, name in ((gpu, "gpu-thermal"), (off, "cv0-thermal")):
        write(board / zone / "type", name)
        write(board / zone / "temp", "-256000")
    with by_hand(find_sensors(board)) as recorder:
        write(board / gpu / "temp", "61000")
    first, last = recorder.recording.samples
    assert (first.temperature_c, last.temperature_c) == ({"cpu-thermal": 50}, {"cpu-thermal": 50, "gpu-thermal": 61})
    assert recorder.recording.warnings == ()


def test_what_may_have_spoilt_a_run(board: Path) -> None:
    with by_hand(find_sensors(board)) as recorder:
        write(board / ZONE / "temp", "86500")
        write(board / "sys/class/thermal/cooling_device0/cur_state", "3")
        write(board / "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "1200000")
    assert timeless(recorder.recording) == [
        "throttled: cpufreq-cpu0, in 1 of 2 samples, from T to T",
        "clocks changed by more than 5%: cpu0 (1200 to 2000 MHz)",
        "hot: cpu-thermal reached 86.5 C; the machine acts against it from 85 C on",
    ]
    assert [sample.throttled for sample in recorder.recording.samples] == [False, True]


def test_a_clock_that_hardly_moves_is_no_warning(board: Path) -> None:
    with by_hand(find_sensors(board)) as recorder:
        write(board / "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "1910000")
    assert recorder.recording.warnings == ()


def test_events_that_are_counted() -> None:
    """Those from before are not this run's; the first sample alone knows nothing."""
    counter = Throttling("oc1", "oc1_event_cnt", Script(15.0, 15.0, 17.0, 17.0), counts=True)
    with by_hand(sensors(throttling=[counter])) as recorder:
        recorder.recording  # noqa: B018
        recorder.recording  # noqa: B018
    assert [sample.throttled for sample in recorder.recording.samples] == [None, False, True, False]


def test_nothing_is_measured_on_a_machine_with_nothing(tmp_path: Path) -> None:
    with Recorder(find_sensors(tmp_path), interval_s=0.01) as recorder:
        start_s = time.perf_counter()
        stop_s = time.perf_counter()
    recording = recorder.recording
    assert recording.total is None
    assert recording.energy_j(start_s, stop_s) is None
    assert recording.mean_power_mw(start_s, stop_s) is None
    assert set(recording.not_measured) == {"power", "temperature", "clocks", "throttling"}
    assert recording.samples[0].throttled is None
    assert measure_idle(0.01, find_sensors(tmp_path), interval_s=0.01) is None


def test_idle_power(board: Path) -> None:
    assert measure_idle(0.05, find_sensors(board), interval_s=0.01) == pytest.approx(8000)
    for seconds in (0, -1, math.nan):
        with pytest.raises(UsageError, match="expected more than 0 s"):
            measure_idle(seconds)


def test_plain_data(board: Path) -> None:
    with by_hand(find_sensors(board)) as recorder:
        (board / CHIP / "in1_input").write_text("junk\n")
    told = recorder.recording.to_json()
    assert told == json.loads(json.dumps(told))
    assert told["total"] == "VDD_IN"
    assert told["power_mw"] == {"VDD_IN": [8000, None]}, "null, and not 0"
    assert told["t_s"][0] == 0
    assert told["temperature_c"] == {"cpu-thermal": [50, 50]}
    assert told["throttled"] == [False, False]
    assert len(told["warnings"]) == 1
    json.dumps(Recording((), None, {"power": "why"}, ()).to_json())


def test_a_run_that_fails_stops_its_recorder(board: Path) -> None:
    before = threading.active_count()
    with pytest.raises(KeyError), Recorder(find_sensors(board), interval_s=0.01) as recorder:
        raise KeyError("the run")
    assert threading.active_count() == before
    assert len(recorder.recording.samples) >= 2


def test_a_recorder_can_be_used_again(board: Path) -> None:
    recorder = by_hand(find_sensors(board))
    assert recorder.recording.samples == ()
    for _ in range(2):
        with recorder:
            pass
        assert len(recorder.recording.samples) == 2


def test_what_is_not_part_of_the_total_is_told() -> None:
    total = Total("gpu 0 (NVML power)", ("gpu 0",), ("the processor: no RAPL in /sys/class/powercap",))
    found = replace(sensors(power=[Power("gpu 0", "NVML", lambda: 5e4)]), total=total)
    with by_hand(found) as recorder:
        pass
    assert recorder.recording.warnings == ("not part of the total: the processor: no RAPL in /sys/class/powercap",)


def test_an_interval_that_is_none() -> None:
    with pytest.raises(UsageError, match="expected an interval above 0 s; received 0 s"):
        Recorder(interval_s=0)


def test_a_sample_takes_little_of_the_processor(board: Path) -> None:
    """Far above what it takes, far below what would disturb a run: 10 of these in a second are 5 % of a core."""
    found = find_sensors(board)
    with by_hand(found) as recorder:
        before_s = time.process_time()
        for _ in range(50):
            recorder._take()
        each_s = (time.process_time() - before_s) / 50
    assert each_s < 0.005
