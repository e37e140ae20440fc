"""Few-shot classes on the device: enrolling one beside feature extraction, and scoring a thousand, on one core.

    python benchmarks/few_shot.py [--channels 1280] [--rounds 200] [--out FILE.json]

Embeddings are drawn, since how long it takes depends on how many there are and not on what they show. A class is
enrolled from 1, 5 and 20 pictures among 0, 100 and 1,000 that are there: "fit" is what makes the class of embeddings,
"enrol" that with the classes in memory and the commit to the store on this disk (which waits for the disk, several
times), "first" also reads the classes that are there, as a new process does. Scoring is of one query, by its embedding.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from shared.record import describe, load, record, write_result

from edgekit.core.store import Store
from edgekit.runtime.classes.csca import CscaSettings
from edgekit.runtime.classes.enrolment import EnrolledClass, Enrolment, enrol
from edgekit.runtime.classes.file import FILE, KIND, install, read_class
from edgekit.runtime.classes.library import ClassLibrary

PACKAGES = ("edgekit", "numpy", "safetensors")
PICTURES, KNOWN = (1, 5, 20), (0, 100, 1000)
GOALS_MS = {"enrol": 50.0, "score": 1.0}
FEW_ROUNDS = 20
"""Of what waits for the disk."""

Row = dict[str, Any]
Pictures = dict[str, np.ndarray]


def timed(call: Callable[[], object], num_rounds: int) -> Row:
    """Wall milliseconds, and of the processor alone."""
    call()
    wall, cpu = [], []
    gc.collect()
    gc.disable()
    try:
        for _ in range(num_rounds):
            start, used = time.perf_counter_ns(), time.process_time_ns()
            call()
            wall.append((time.perf_counter_ns() - start) / 1e6)
            cpu.append((time.process_time_ns() - used) / 1e6)
    finally:
        gc.enable()
    return {"num_rounds": num_rounds, **_told("wall", wall), **_told("cpu", cpu)}


def _told(name: str, taken_ms: Sequence[float]) -> Row:
    p50, p99 = np.percentile(taken_ms, [50, 99])
    return {f"{name}_p50_ms": round(float(p50), 4), f"{name}_p99_ms": round(float(p99), 4)}


def classes(num: int, channels: int) -> list[EnrolledClass]:
    """As they are kept: unlike each other, with weights that are not 1."""
    random = np.random.default_rng(0)
    return [
        EnrolledClass(
            f"class-{index:04}",
            random.random(channels, np.float32),
            random.uniform(0.85, 1.15, channels).astype(np.float32),
            5,
            0.7,
            0.5,
        )
        for index in range(num)
    ]


def fit(pictures: Pictures, library: ClassLibrary) -> Enrolment:
    """What is made of embeddings, as `Classes.enrol` does."""
    return enrol(pictures, library.nearest(next(iter(pictures.values()))))


def commit(store: Store, pictures: Pictures, library: ClassLibrary) -> None:
    """Enrol among classes that are in memory, and keep it."""
    made = fit(pictures, library)
    install(store, made.classes[0], made, CscaSettings())


def first(store: Store, pictures: Pictures, known: Sequence[EnrolledClass]) -> None:
    """Enrol among classes that are read from the store."""
    records = [store.open(KIND, each.name) for each in known]
    kept = [read_class(record.card, record.read(FILE), len(each.prototype)) for record, each in zip(records, known)]
    commit(store, pictures, ClassLibrary(kept, next(iter(pictures.values())).shape[1]))


def enrolling(known: list[EnrolledClass], channels: int, num_rounds: int) -> list[Row]:
    """Of a class among those, from so many pictures."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="edgekit-benchmark-") as folder:
        library = ClassLibrary(known, channels)
        store = Store("0" * 64, folder)
        for each in known:
            install(store, each, Enrolment((each,), None, None, 0), CscaSettings())
        for num in PICTURES:
            pictures = {"new": np.random.default_rng(num).random((num, channels), np.float32)}

            told = {"num_pictures": num, "num_known": len(known)}
            rows.append({"what": "fit", **told, **timed(partial(fit, pictures, library), num_rounds)})
            rows.append({"what": "enrol", **told, **timed(partial(commit, store, pictures, library), FEW_ROUNDS)})
            say(f"{num} pictures among {len(known)}: {rows[-1]['wall_p50_ms']} ms to enrol, load {load()}")
            if num == PICTURES[1]:
                rows.append({"what": "first", **told, **timed(partial(first, store, pictures, known), FEW_ROUNDS // 2)})
    return rows


def scoring(known: list[EnrolledClass], channels: int, num_rounds: int) -> Row:
    """One query against all classes, with the answer."""
    library = ClassLibrary(known, channels)
    query = np.random.default_rng(1).random((1, channels), np.float32)
    told = {"what": "score", "num_known": len(known)}
    return {**told, **timed(lambda: library.answer(query, 5), num_rounds)}


def verdicts(rows: Sequence[Row]) -> list[Row]:
    """Whether the slowest case of each goal reaches it, by its median."""
    made = []
    for what, goal_ms in GOALS_MS.items():
        slowest = max((row for row in rows if row["what"] == what), key=lambda row: row["wall_p50_ms"])
        wall_ms, cpu_ms = slowest["wall_p50_ms"], slowest["cpu_p50_ms"]
        told = {"slowest_wall_p50_ms": wall_ms, "slowest_cpu_p50_ms": cpu_ms, "reached": wall_ms < goal_ms}
        made.append({"what": what, "goal_ms": goal_ms, **told})
    return made


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    titles = ("what", "pictures", "known", "wall p50 (ms)", "wall p99 (ms)", "CPU p50 (ms)", "CPU p99 (ms)")
    lines = [titles, ("---", *["---:"] * 6)]
    for row in rows:
        times = (f"{row[key]:.3f}" for key in ("wall_p50_ms", "wall_p99_ms", "cpu_p50_ms", "cpu_p99_ms"))
        lines.append((row["what"], str(row.get("num_pictures", "")), str(row["num_known"]), *times))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--channels", type=int, default=1280, help="of an embedding")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "few_shot.json")
    arguments = parser.parse_args()

    result = record("few-shot", PACKAGES)
    rows: list[Row] = []
    for num in KNOWN:
        known = classes(num, arguments.channels)
        rows += enrolling(known, arguments.channels, arguments.rounds)
        if num:
            rows.append(scoring(known, arguments.channels, 5 * arguments.rounds))
    result |= {"load_after": load(), "channels": arguments.channels, "verdicts": verdicts(rows), "rows": rows}
    write_result(arguments.out, result)
    print(describe(result), table(rows), sep="\n\n")


if __name__ == "__main__":
    main()
