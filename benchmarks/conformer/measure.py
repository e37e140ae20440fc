"""Ask the subjects, in turns, for what a cell needs. A cell is what is written, and never measured again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from conformer.plan import Plan
from conformer.process import Process

PAUSE_S = 0.1
"""Between two calls: threads look for work for some 50 ms after a call."""
WARM_UPS = 2
RANDOM_SEED = 0

Cell = dict[str, Any]


def offline(processes: Sequence[Process], plan: Plan, audio_s: int, batch: int) -> Cell:
    """Recordings of one length: each subject once a round, all with the same recordings, in an order drawn anew."""
    arguments = {"audio_s": audio_s, "batch": batch}
    samples: dict[str, dict[str, list[Any]]] = {process.contender.name: {} for process in processes}
    for process in processes:
        for _ in range(WARM_UPS):
            process.ask("answer", **arguments, turn=0)
    order = np.random.default_rng(RANDOM_SEED)
    num_rounds = plan.num_rounds(audio_s, batch)
    for turn in range(num_rounds):
        for index in order.permutation(len(processes)):
            time.sleep(PAUSE_S)
            process = processes[index]
            for kind, value in process.ask("answer", **arguments, turn=turn).items():
                samples[process.contender.name].setdefault(kind, []).append(value)
    return {"audio_s": audio_s, "batch": batch, "num_rounds": num_rounds, "samples": samples}


def streams(processes: Sequence[Process], plan: Plan, chunk_s: float) -> Cell:
    """One stream after the other: each subject a stream per round, all of the same sound."""
    chunk_ms: dict[str, list[list[float]]] = {process.contender.name: [] for process in processes}
    order = np.random.default_rng(RANDOM_SEED)
    for turn in range(plan.stream_rounds):
        for index in order.permutation(len(processes)):
            time.sleep(PAUSE_S)
            process = processes[index]
            answer = process.ask("stream", chunk_s=chunk_s, audio_s=plan.stream_s, turn=turn)
            chunk_ms[process.contender.name].append(answer["chunk_ms"])
    return {"chunk_s": chunk_s, "chunk_ms": chunk_ms}


def most_streams(process: Process, plan: Plan, chunk_s: float) -> Cell:
    """How many streams in turns the subject's one thread holds, found by trying: to a sixteenth of their number.

    It holds them where of 100 texts 99 are there within one chunk after their sound was.
    """
    tried: dict[int, dict[str, float]] = {}

    def holds(count: int) -> bool:
        if count not in tried:
            late_ms = process.ask("turns", chunk_s=chunk_s, audio_s=plan.turns_s, num_streams=count)["late_ms"]
            p50, p99 = np.percentile(late_ms, [50, 99])
            tried[count] = {"late_p50_ms": round(float(p50), 3), "late_p99_ms": round(float(p99), 3)}
        return tried[count]["late_p99_ms"] <= 1e3 * chunk_s

    holds(1)
    first = min(plan.most_streams, max(1, int(1e3 * chunk_s / tried[1]["late_p50_ms"])))
    found = largest(holds, first, plan.most_streams)
    return {
        "run": process.contender.name,
        "chunk_s": chunk_s,
        "num_streams": found,
        "at_least": found == plan.most_streams,
        "tried": {str(count): tried[count] for count in sorted(tried)},
    }


def largest(holds: Callable[[int], bool], first: int, most: int) -> int:
    """The largest number up to `most` that holds, to a sixteenth; 0: none does.

    Args:
        first: where to begin.
    """
    low, high, count = 0, most + 1, first
    while high - low > max(1, low // 16):
        low, high = (count, high) if holds(count) else (low, count)
        if high > most:
            count = min(most, low + max(1, low // 4))
        else:
            count = (low + high) // 2 if low else max(1, high * 3 // 4)
    return low


def memory(process: Process, plan: Plan) -> Cell:
    """Recordings of mixed length, one after the other."""
    answer = process.ask("memory", num_requests=plan.num_requests, seed=RANDOM_SEED, range_s=list(plan.range_s))
    return {"run": process.contender.name, **answer}
