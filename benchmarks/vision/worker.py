"""Measures every subject of one model at one number of threads: one process, subjects in turns over photographs.

Started by `vision.py` as `python -m vision.worker PLAN`. The result is one line of JSON on standard output.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.runtime.backends.openvino import precisions
from vision.models import Model
from vision.subjects import Subject, of_bundle, of_peer_onnxruntime, of_peer_openvino, of_torch

MAX_DIFFERENCE = 1e-3
"""Of logits, as a share of their largest, between fp32 exports of the same weights."""
PAUSE_S = 0.1
"""Between two calls: threads of ONNX Runtime, OpenMP and BLAS look for work for some 50 ms after one."""
MAX_PIXEL_DIFFERENCE = 1e-5
"""Of normalised pixels: all contenders decode, turn, resize and crop alike."""
WARM_UPS = 3


@dataclass(frozen=True)
class Plan:
    """What one process measures: its model, threads, photographs, rounds, and those of the trial of settings."""

    model: Model
    num_threads: int
    photographs: tuple[str, ...]
    num_rounds: int
    num_trial_rounds: int


def take_turns(
    subjects: Sequence[Subject], pictures: Sequence[bytes], num_rounds: int
) -> list[list[tuple[float, float]]]:
    """Each subject once a round, on the round's picture, in an order drawn anew: `(wall_ms, cpu_ms)` by subject."""
    for subject in subjects:
        for index in range(WARM_UPS):
            subject.answer(pictures[index % len(pictures)])
    times: list[list[tuple[float, float]]] = [[] for _ in subjects]
    order = np.random.default_rng(0)
    gc.collect()
    gc.disable()
    try:
        for turn in range(num_rounds):
            for index in order.permutation(len(subjects)):
                time.sleep(PAUSE_S)
                times[index].append(subjects[index].time(pictures[turn % len(pictures)]))
    finally:
        gc.enable()
    return times


def fastest(
    open_subject: Callable[..., Subject], settings: Sequence[dict[str, Any]], plan: Plan, pictures: Sequence[bytes]
) -> tuple[Subject, list[dict[str, Any]]]:
    """A peer at the fastest of its settings, and what each of them took."""
    candidates = [open_subject(plan.model, plan.num_threads, **each) for each in settings]
    times = take_turns(candidates, pictures, plan.num_trial_rounds)
    medians = [float(np.median([wall for wall, _ in taken])) for taken in times]
    trials = [{**each, "p50_ms": round(median, 3)} for each, median in zip(settings, medians)]
    return candidates[int(np.argmin(medians))], trials


def differences(subjects: Sequence[Subject], pictures: Sequence[bytes]) -> dict[str, dict[str, float]]:
    """Of each subject beside torch eager: pixels and logits, the largest absolute difference; logits relative, too.

    Raises:
        SystemExit: a subject has other pixels, or one in fp32 other logits: something else would be timed.
    """
    eager = next(subject for subject in subjects if subject.name == "torch eager fp32")
    found: dict[str, dict[str, float]] = {}
    for subject in subjects:
        pixels = logits = relative = 0.0
        for content in pictures:
            theirs, ours = eager.features(content), subject.features(content)
            expected, received = eager.logits(theirs), subject.logits(ours)
            pixels = max(pixels, float(np.abs(theirs - ours).max()))
            logits = max(logits, float(np.abs(expected - received).max()))
            relative = max(relative, float(np.abs(expected - received).max() / np.abs(expected).max()))
        found[subject.name] = {"pixels": pixels, "logits": logits, "logits_relative": relative}
        if not pixels <= MAX_PIXEL_DIFFERENCE:
            raise SystemExit(f"{subject.name} has pixels that differ from transformers' by {pixels:.1e}")
        if "fp32" in subject.name and not relative <= MAX_DIFFERENCE:
            raise SystemExit(f"{subject.name} differs from torch by {relative:.1e} of its logits: not the same model")
    return found


def features_ms(subject: Subject, pictures: Sequence[bytes]) -> float:
    """The median time of pixels alone, over the photographs."""
    times = []
    for content in pictures:
        start = time.perf_counter_ns()
        subject.features(content)
        times.append((time.perf_counter_ns() - start) / 1e6)
    return round(float(np.median(times)), 3)


def measure(plan: Plan) -> dict[str, Any]:
    """All samples of one cell."""
    pictures = [Path(path).read_bytes() for path in plan.photographs]
    hinted = [precision for precision in ("fp32", "bf16") if precision in precisions()]
    runtime_settings = [dict(zip(("memory_pattern", "spinning"), each)) for each in product((True, False), repeat=2)]
    orders = [{"channels_last": each} for each in (False, True)]
    peer, peer_trials = fastest(of_peer_onnxruntime, runtime_settings, plan, pictures)
    eager, eager_trials = fastest(of_torch, orders, plan, pictures)
    subjects = [of_bundle(plan.model, "onnxruntime", "fp32", plan.num_threads), peer]
    for precision in hinted:
        subjects.append(of_bundle(plan.model, "openvino", precision, plan.num_threads))
        subjects.append(of_peer_openvino(plan.model, plan.num_threads, precision))
    subjects.append(eager)
    compile_trials, not_measured = [], {}
    try:
        compiled, compile_trials = fastest(partial(of_torch, compiled=True), orders, plan, pictures)
        subjects.append(compiled)
    except RuntimeError as error:  # no compiler, or one that refuses: the others are still wanted
        not_measured["torch compiled fp32"] = " ".join(str(error).split())[:300]
    held = differences(subjects, pictures[:4])
    _say(f"{plan.model.name}, {plan.num_threads} threads: {plan.num_rounds} rounds of {len(subjects)} subjects")
    times = take_turns(subjects, pictures, plan.num_rounds)
    return {
        "model": plan.model.name,
        "num_threads": plan.num_threads,
        "num_rounds": plan.num_rounds,
        "trials": {peer.name: peer_trials, "torch eager": eager_trials, "torch compiled": compile_trials},
        "not_measured": not_measured,
        "max_abs_difference_to_torch": held,
        "features_p50_ms": {subject.name: features_ms(subject, pictures) for subject in subjects},
        "samples": {
            subject.name: {
                "wall_ms": [round(wall, 4) for wall, _ in taken],
                "cpu_ms": [round(cpu, 4) for _, cpu in taken],
            }
            for subject, taken in zip(subjects, times)
        },
    }


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(measure(Plan(**{**given, "model": Model(**given["model"])}))), flush=True)


if __name__ == "__main__":
    main()
