"""Two results against each other: what is compared with what, what is refused, and what the ratios say."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgekit.core.errors import EdgekitError, UsageError
from edgekit.runtime.profile.compare import Comparison, Pair, compare
from edgekit.runtime.profile.figures import Figure
from edgekit.runtime.profile.reading import read_measured

pytestmark = pytest.mark.device_side
Points = list[dict[str, Any]]


@pytest.fixture
def compared(made: ModuleType, tmp_path: Path) -> Any:
    """`compared([point, ...], [point, ...])`: what two results with these points say; `b` changes the second."""

    def run(a: Points, b: Points, *, anyway: bool = False, **changes: Any) -> Comparison:
        paths = made.write(tmp_path / "a.json", *a), made.write(tmp_path / "b.json", *b, **changes)
        return compare(*map(read_measured, paths), anyway=anyway)

    return run


def figures(pair: Pair) -> dict[str, Figure]:
    return {figure.name: figure for figure in pair.figures}


def test_a_slower_run_is_slower_in_every_latency(compared: Any, made: ModuleType) -> None:
    run = made.latencies()
    (pair,) = compared([made.point(run)], [made.point(1.2 * run)]).pairs
    found = figures(pair)
    for name, verdict in (("p50", "B is slower"), ("p90", "B is slower"), ("p99", "no difference measured")):
        figure = found[name]  # of 500 queries five are slower than p99
        assert (figure.ratio.value, figure.verdict) == (pytest.approx(1.2, abs=1e-5), verdict)
        assert figure.ratio.low is not None
        assert 0.5 < figure.ratio.low < 1.2 < (figure.ratio.high or 0) < 2.4
    assert found["throughput"].ratio.value == pytest.approx(1 / 1.2)
    assert found["throughput"].verdict == "B is slower"
    assert [figure.name for figure in pair.slower_by_more_than(0.05)] == ["p50", "p90"]
    assert pair.slower_by_more_than(0.25) == []
    (faster,) = compared([made.point(1.2 * run)], [made.point(run)]).pairs
    assert figures(faster)["p50"].verdict == "B is faster"
    assert faster.slower_by_more_than(0.0) == []


def test_the_same_again_is_no_difference(compared: Any, made: ModuleType) -> None:
    (pair,) = compared([made.point()], [made.point()]).pairs
    told = {name: figure.verdict for name, figure in figures(pair).items()}
    assert told == {
        "p50": "no difference measured",
        "p90": "no difference measured",
        "p99": "no difference measured",
        "throughput": "no difference measured",
        "peak memory": "no interval: one value of each run",
        "energy of an item": "not measured: no sensor of power",
        "cold start": "not measured: not asked for (--cold-starts)",
    }
    assert (pair.name, pair.differs, pair.warnings) == ("", (), ())
    for seed in range(5):  # noise alone
        (pair,) = compared([made.point(made.latencies(seed=seed))], [made.point(made.latencies(seed=seed + 50))]).pairs
        assert pair.slower_by_more_than(0.05) == []


def test_memory_energy_and_cold_start(compared: Any, made: ModuleType) -> None:
    a = made.point(energy=made.energy(0.2), cold_start=made.cold_start(0.5, 0.51, 0.52, 0.53))
    b = made.point(energy=made.energy(0.3), cold_start=made.cold_start(1.0, 1.01, 1.02, 1.03))
    b["memory"]["peak_mib"] = 150.0
    found = figures(compared([a], [b]).pairs[0])
    assert (found["energy of an item"].ratio.value, found["peak memory"].ratio.value) == (pytest.approx(1.5), 1.5)
    assert found["energy of an item"].ratio.holds_one is None
    cold = found["cold start"]
    assert (cold.a, cold.b, cold.verdict) == (pytest.approx(0.515), pytest.approx(1.015), "B is slower")
    b["memory"]["measured"] = "after the warm-up"
    memory = figures(compared([a], [b]).pairs[0])["peak memory"]
    assert (memory.ratio.value, memory.verdict) == (None, "read after the scenario in A, after the warm-up in B")


def test_offline_is_compared_by_its_throughput(compared: Any, made: ModuleType) -> None:
    run, asked = made.latencies().cumsum(), {"scenario": "offline", "batch": 4}
    (pair,) = compared([made.point(run, asked=asked)], [made.point(1.2 * run, asked=asked)]).pairs
    assert "p50" not in figures(pair)
    (slower,) = pair.slower_by_more_than(0.05)
    assert slower.name == "throughput"
    assert slower.ratio.high is not None
    assert 1 / 1.25 < (slower.ratio.low or 0) < 1 / 1.2 < slower.ratio.high < 1 / 1.15


def test_a_servers_throughput_is_no_figure(compared: Any, made: ModuleType) -> None:
    points = [made.point(asked={"scenario": "server"})]
    assert figures(compared(points, points).pairs[0])["throughput"].verdict == "no interval: the load was given"


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ({"asked": {"batch": 1}}, {"asked": {"batch": 8}}, "batch: 1 in A, 8 in B"),
        ({"asked": {"length": "1s"}}, {"asked": {"length": "3s"}}, "length: 1 s in A, 3 s in B"),
        (
            {"asked": {"scenario": "server"}, "load": {"qps": 5.0}},
            {"asked": {"scenario": "server"}, "load": {"qps": 6.0}},
            "queries per second: 5 in A, 6 in B",
        ),
        ({}, {"asked": {"scenario": "multi-stream"}}, "scenario: single-stream in A, multi-stream in B"),
        ({}, {"inputs": []}, "inputs: x float32 [1x300x80], normal, seed 0 in A,  in B"),
    ],
)
def test_what_is_not_the_same_is_refused(
    compared: Any, made: ModuleType, a: dict[str, Any], b: dict[str, Any], told: str
) -> None:
    points = [made.point(**a)], [made.point(**b)]
    with pytest.raises(UsageError) as caught:
        compared(*points)
    assert told in caught.value.message
    assert caught.value.hint == "--anyway compares them"
    (pair,) = compared(*points, anyway=True).pairs
    assert told in pair.not_same


def test_another_machine_is_refused_and_another_kernel_is_what_is_compared(compared: Any, made: ModuleType) -> None:
    points = [made.point()], [made.point()]
    with pytest.raises(UsageError, match="received cpu: A CPU in A, Another in B; num_cpus: 4 in A, 8 in B"):
        compared(*points, machine={"cpu": "Another", "num_cpus": 8})
    (pair,) = compared(*points, machine={"system": "Linux 6.2"}, versions={"numpy": "2.1.0"}).pairs
    assert pair.differs == ("system: Linux 6.1 in A, Linux 6.2 in B", "numpy: 2.0.0 in A, 2.1.0 in B")


def test_a_jetsons_power_mode_and_clocks_are_part_of_the_machine(compared: Any, made: ModuleType) -> None:
    clock = {"name": "cpu 0-3", "kind": "cpu", "governor": "schedutil", "min_mhz": 100.0, "highest_mhz": None}
    points, quiet = [made.point()], {"power_mode": "15W", "clocks": [clock | {"max_mhz": 1500.0}]}
    told = re.escape(
        "power mode: none in A, 15W in B; clocks: not told in A, cpu 0-3 100 to 1500 MHz by schedutil in B"
    )
    with pytest.raises(UsageError, match=told):
        compared(points, points, machine=quiet)


def test_another_graph_of_the_same_bundle_is_told(compared: Any, made: ModuleType) -> None:
    (pair,) = compared([made.point()], [made.point()], model={"graph": "stream"}).pairs
    assert pair.differs == ("graph: infer in A, stream in B",)


def test_what_ran_may_differ(compared: Any, made: ModuleType) -> None:
    a, b = made.point(asked={"backend": "onnxruntime"}), made.point(asked={"backend": "openvino", "precision": "bf16"})
    (pair,) = compared([a], [b], model={"sha256": "cd" * 32, "family": "other"}).pairs
    assert pair.differs == (
        "model: toy tiny, models/small in A, other tiny, models/small in B",
        "backend: onnxruntime in A, openvino in B",
        "precision: fp32 in A, bf16 in B",
        "computed in: fp32 in A, bf16 in B",
    )


def test_sweeps_are_matched_by_what_varies_in_one_of_them(compared: Any, made: ModuleType) -> None:
    def point(backend: str, batch: int, by: float = 1.0) -> dict[str, Any]:
        return dict(made.point(by * made.latencies(ms=10 * batch), asked={"backend": backend, "batch": batch}))

    found = compared(
        [point("onnxruntime", 1), point("onnxruntime", 2), point("onnxruntime", 4), point("onnxruntime", 8)],
        [
            point("openvino", 16),
            point("openvino", 2, 0.5),
            point("openvino", 1, 1.5),
            made.refused("it crashed", backend="openvino", batch=4),
        ],
    )
    assert [(pair.name, round(figures(pair)["p50"].ratio.value or 0, 4)) for pair in found.pairs] == [
        ("batch 1", 1.5),
        ("batch 2", 0.5),
    ]
    assert found.only_a == ("scenario single-stream, backend onnxruntime, threads 1, batch 8",)
    assert found.only_b == ("scenario single-stream, backend openvino, threads 1, batch 16",)
    assert found.failed_b == ("scenario single-stream, backend openvino, threads 1, batch 4: refused: it crashed",)


def test_a_default_is_what_it_came_to(compared: Any, made: ModuleType) -> None:
    """A names what B leaves to its default."""
    named = made.point(asked={"backend": "onnxruntime", "precision": "fp32", "batch": 1})
    other = made.point(asked={"backend": "openvino", "precision": "fp32", "batch": 1})
    found = compared([other, named], [made.point()])
    assert [pair.name for pair in found.pairs] == ["backend onnxruntime"]


def test_nothing_to_compare_is_said(compared: Any, made: ModuleType) -> None:
    with pytest.raises(EdgekitError, match=r"expected a point that was measured in .*b\.json, received none"):
        compared([made.point()], [made.refused()])
    one, two, four, eight = (made.point(asked={"batch": batch}) for batch in (1, 2, 4, 8))
    with pytest.raises(
        UsageError, match=r"the same batch as .*a\.json, received none: A's first is batch 1, B's batch 4"
    ):
        compared([one, two], [four, eight])
    with pytest.raises(EdgekitError, match=r"expected points that differ in what is asked of them in .*a\.json"):
        compared([one, two, two], [one])


def test_what_may_have_spoilt_one_of_both_is_told(compared: Any, made: ModuleType) -> None:
    warned = made.point(warnings=["throttled: a trip", "successive latencies correlate by 0.50: too narrow"])
    busy = made.point(load_before=[6.0, 1.0, 1.0])
    (pair,) = compared([warned], [busy]).pairs
    assert pair.warnings == (
        "A: throttled: a trip",
        "B: the machine was busy before it began: a load above 5 on 4 processors",
    )
    assert "scenario" not in pair.differs
