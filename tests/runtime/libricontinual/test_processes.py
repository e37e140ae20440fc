"""Tasks in processes of their own, and over a cluster that loses a machine."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from edgekit.core.errors import UnavailableError
from edgekit.runtime.libricontinual.benchmark import Options, run_benchmark
from edgekit.runtime.libricontinual.manifest import read_benchmark
from edgekit.runtime.libricontinual.processes import run_in_processes
from edgekit.runtime.libricontinual.sizes import Size
from edgekit.runtime.libricontinual.tasks import Entry, Failure, Job, job_of, tasks_of

pytest.importorskip("jiwer", reason="counts the errors: pip install jiwer")

S2 = Size(2)


def adaptations(arm: object, built: Path, speakers: tuple[str, ...]) -> list[Job]:
    """The tasks after the start."""
    entry, benchmark = Entry.of(arm), read_benchmark(built)  # type: ignore[arg-type]
    tasks = tasks_of([entry], speakers, [S2], [0], general=False)
    return [job_of(task, entry, benchmark, None) for task in tasks if task.split is not None]


def test_side_by_side(built: Path, made_up_arms: ModuleType, tmp_path: Path) -> None:
    arm = made_up_arms.Learner(log=tmp_path / "log")
    options = Options(speakers=1, splits=(S2,), num_workers=2, num_threads=3)
    run = run_benchmark(built, [arm], tmp_path / "out", options)
    assert (run.summary.num_done, run.failures) == (2, ())
    assert sorted((tmp_path / "log").read_text().splitlines()) == [f"1 3 3 {os.getpid()}", f"None 3 3 {os.getpid()}"]
    assert "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"] != "3"
    assert run.context["run"] == {"seeds": [0], "num_workers": 2, "num_threads": 3, "ray": False}


def test_a_process_that_is_killed_has_one_more_try(built: Path, made_up_arms: ModuleType, tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    lives.write_bytes(b"x")
    arm = made_up_arms.Learner(dies=("1",), lives=lives)
    ((_, found),) = run_in_processes(adaptations(arm, built, ("1",)), num_workers=1, num_threads=1)
    assert not isinstance(found, Failure)
    assert found["test"]["num_words"] == 20
    lives.write_bytes(b"xx")
    ((_, found),) = run_in_processes(adaptations(arm, built, ("1",)), num_workers=1, num_threads=1)
    assert isinstance(found, Failure)
    assert found.message == "learner, 1, 2s: its process was killed by signal 9, 2 times"
    assert "--workers" in (found.hint or "")


def test_what_runs_ends_with_the_run(built: Path, made_up_arms: ModuleType) -> None:
    """Ctrl-C, a full disk: nobody goes on behind."""
    arm = made_up_arms.Learner(waits=60)
    quick = adaptations(made_up_arms.Learner(), built, ("1",))
    finished = run_in_processes([*quick, *adaptations(arm, built, ("2", "3"))], num_workers=2, num_threads=1)
    next(finished)
    begun = time.monotonic()
    finished.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begun < 20
    assert multiprocessing.active_children() == []


def test_no_cluster_there() -> None:
    pytest.importorskip("ray", reason="a cluster needs the package ray")
    from edgekit.runtime.libricontinual.cluster import run_on_cluster

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for address in (f"127.0.0.1:{port}", "127.0.0.1:99999", "auto"):
        with pytest.raises(UnavailableError, match=f"expected a Ray cluster at {address}") as raised:
            next(run_on_cluster([], address=address, num_threads=1))
        assert "ray start --head" in (raised.value.hint or "")


def test_a_cluster_that_loses_a_machine(
    built: Path, made_up_arms: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines, of which one is killed while it works; all tasks are done all the same."""
    ray = pytest.importorskip("ray", reason="a cluster needs the package ray")
    from ray.cluster_utils import Cluster

    paths = [Path(__file__).parent, Path(__file__).parents[3]]
    # within 16 s: one that is only slow must have time to answer
    quick = {"period_ms": 200, "timeout_ms": 2000, "initial_delay_ms": 2000, "failure_threshold": 8}
    for name, value in {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "RAY_USAGE_STATS_ENABLED": "0",
        **{f"RAY_health_check_{key}": str(number) for key, number in quick.items()},
    }.items():
        monkeypatch.setenv(name, value)
    log, memory = tmp_path / "log", {"object_store_memory": 80 << 20}
    log.touch()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **memory})
    try:
        doomed = cluster.add_node(num_cpus=1, **memory)
        # workers are its children
        parent = str(doomed.all_processes["raylet"][0].process.pid)

        def begun() -> list[list[str]]:
            return [line.split() for line in log.read_text().splitlines()]

        def kill() -> None:
            while all(line[3] != parent for line in begun()):
                time.sleep(0.05)
            cluster.remove_node(doomed, allow_graceful=False)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        options = Options(speakers=2, splits=(S2,), ray=cluster.address)
        run = run_benchmark(built, [made_up_arms.Learner(waits=2, log=log)], tmp_path / "out", options)
        killer.join(5)
        assert not killer.is_alive(), "the machine was killed while it worked"
        assert (run.summary.num_done, run.summary.num_tasks, run.failures) == (4, 4, ())
        assert run.context["run"]["ray"] is True
        assert len(begun()) > 4, "what it had begun was begun again"
        assert run.summary.arms[0].splits[S2].rates == {"1": 0.4, "2": 0.2}
    finally:
        if ray.is_initialized():
            ray.shutdown()
        cluster.shutdown()
