"""Serves one learner: `python -m adapting.worker SPEC`, with JSON lines over standard input and output.

`SPEC` has the arguments of `open_learner` and `speech`, an `.npz` with `features/I` and `labels/I`. Each line in is a
list of utterances' indices, for one update; the line out has its loss, its CPU and wall seconds, and the most memory
that the process has had.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

from adapting.learners import open_learner


def main() -> None:
    spec = json.loads(sys.argv[1])
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no reply
    with np.load(spec["speech"], allow_pickle=False) as arrays:
        count = sum(name.startswith("features/") for name in arrays.files)
        speech = [(arrays[f"features/{i}"], arrays[f"labels/{i}"].tolist()) for i in range(count)]
    begun = time.perf_counter()
    try:
        learner = open_learner(spec["kind"], spec["checkpoint"], Path(spec["bundle"]), spec["threads"])
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=replies, flush=True)
        return
    opened = {"num_tuned": learner.num_tuned, "open_s": round(time.perf_counter() - begun, 3)}
    print(json.dumps(opened | {"peak_mib": _peak_mib()}), file=replies, flush=True)
    for line in sys.stdin:
        utterances = [speech[index] for index in json.loads(line)]
        cpu, wall = time.process_time(), time.perf_counter()
        loss = learner.step(utterances)
        reply = {
            "loss": loss,
            "cpu_s": time.process_time() - cpu,
            "wall_s": time.perf_counter() - wall,
            "peak_mib": _peak_mib(),
        }
        print(json.dumps(reply), file=replies, flush=True)


def _peak_mib() -> float:
    """Linux counts KiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    main()
