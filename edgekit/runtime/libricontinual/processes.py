"""Tasks side by side on this machine: a process for each, so that its peak of memory and its crash are its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from edgekit.runtime.libricontinual.tasks import Failure, Job, measure

Finished = tuple[Job, "dict[str, Any] | Failure"]

# a process that was killed, for want of memory as a rule, has one more try
_NUM_TRIES = 2
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class _Running:
    job: Job
    process: SpawnProcess
    num_tries: int


def run_in_processes(jobs: Sequence[Job], *, num_workers: int, num_threads: int) -> Iterator[Finished]:
    """Yield each job with its result or failure, as they finish; what still runs is ended with the iterator.

    Args:
        num_workers: processes at a time.
        num_threads: of each.
    """
    left = deque((job, 1) for job in jobs)
    running: dict[Connection, _Running] = {}
    try:
        while left or running:
            while left and len(running) < num_workers:
                job, num_tries = left.popleft()
                receiver, process = _start(job, num_threads)
                running[receiver] = _Running(job, process, num_tries)
            ready = wait(list(running))
            for receiver in [receiver for receiver in running if receiver in ready]:
                ended = running[receiver]
                try:
                    found = receiver.recv()
                except EOFError:
                    found = None
                ended.process.join()
                del running[receiver]
                receiver.close()
                if found is not None:
                    yield ended.job, found
                elif ended.num_tries < _NUM_TRIES:
                    left.appendleft((ended.job, ended.num_tries + 1))
                else:
                    yield ended.job, _lost(ended)
    finally:
        for each in running.values():
            each.process.terminate()
        for receiver, each in running.items():
            each.process.join()
            receiver.close()


def _start(job: Job, num_threads: int) -> tuple[Connection, SpawnProcess]:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # not forked: what the parent holds would count as the child's memory, and threads do not survive it
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(sender, job, num_threads), daemon=True)
    with _environment(dict.fromkeys(_THREAD_LIMITS, str(num_threads))):
        process.start()
    sender.close()
    return receiver, process


def _child(sender: Connection, job: Job, num_threads: int) -> None:
    # Ctrl-C reaches all; the parent ends this one
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sender.send(measure(job, num_threads))
    sender.close()


def _lost(ended: _Running) -> Failure:
    code = ended.process.exitcode or 0
    how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
    hint = "out of memory? give it more, or fewer --workers" if code == -signal.SIGKILL else None
    return Failure(f"{ended.job.task}: its process {how}, {ended.num_tries} times", hint)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Libraries read how many threads they may have when they are imported, before any call could tell them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
