"""Tasks over the machines of a Ray cluster; those of a machine that is lost are done again on another.

Every machine needs edgekit, and recordings, lists and bundles at the same paths; results come back to where it began.
"""

from __future__ import annotations

import importlib
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from edgekit.core.errors import UnavailableError
from edgekit.runtime.libricontinual.processes import Finished
from edgekit.runtime.libricontinual.tasks import Failure, Job, measure

# how often a task may lose its machine
_NUM_RETRIES = 5
# jobs that were handed over: enough to keep every processor busy, and not all, since each holds its lists
_NUM_WAITING, _WAITING_SHARE = 16, 2
_KNOCK_S = 10.0


def run_on_cluster(jobs: Sequence[Job], *, address: str, num_threads: int) -> Iterator[Finished]:
    """Yield each job with its result or failure, as they finish; what still runs is ended with the iterator.

    Args:
        address: of the cluster's head, "host:6379", or "auto" for the one this machine belongs to.
        num_threads: processors that a task occupies.

    Raises:
        UnavailableError: Ray is not installed, or no cluster is there.
    """
    ray = load_ray()
    ours = not ray.is_initialized()
    if ours:
        try:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except (OSError, RuntimeError, ValueError) as error:
            raise UnavailableError(
                f"expected a Ray cluster at {address}: {str(error).strip().splitlines()[0]}",
                hint="start one: ray start --head --port 6379, and on the others ray start --address HEAD:6379",
            ) from error
    # a process for each task: its peak of memory is its own
    remote = ray.remote(num_cpus=num_threads, max_retries=_NUM_RETRIES, max_calls=1)(measure)
    running: dict[Any, Job] = {}
    try:
        left = deque(jobs)
        while left or running:
            while left and len(running) < max(_NUM_WAITING, _WAITING_SHARE * ray.cluster_resources().get("CPU", 0)):
                job = left.popleft()
                running[remote.remote(job, num_threads)] = job
            done, _ = ray.wait(list(running), num_returns=1)
            job = running.pop(done[0])
            try:
                found = ray.get(done[0])
            except ray.exceptions.RayTaskError:
                raise  # a fault of ours, or of an arm
            except ray.exceptions.RayError as error:
                found = Failure(f"{job.task}: {str(error).strip().splitlines()[0]}", "look at `ray status`")
            yield job, found
    finally:
        for each in running:
            ray.cancel(each, force=True)
        if ours:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nobody answers: Ray itself waits for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def load_ray() -> Any:
    """The module.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UnavailableError(
            f"expected the package ray to run on a cluster, it cannot be imported ({error})",
            hint='pip install "edgekit[ray]"',
        ) from error
