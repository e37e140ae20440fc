"""Measures every subject at one number of threads: one process, all sessions open, all subjects in turns.

Started by `hubert_student.py` as `python -m student.worker PLAN`, so that the number of threads is in the environment
before NumPy and torch load. Results go to standard output, one JSON object per line; progress to standard error.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.runtime.backends.openvino import precisions
from student.subjects import Answer, Float32, Subject, of_bundle, of_peer_onnxruntime, of_peer_openvino, of_torch
from student.turns import speech, take_turns

MAX_DIFFERENCE = 1e-3
"""Of log-probabilities, between fp32 exports of one checkpoint."""


@dataclass(frozen=True)
class Plan:
    """What one process measures.

    Attributes:
        num_threads: of every session; features and decoding have one.
        checkpoint: of HuBERT Base.
        bundles: edgekit's, by the subject's model.
        peer: its ONNX files, by the optimisation that made them.
        rounds: by seconds of audio.
        trial: seconds of audio and rounds with which the peer's fastest settings are found.
    """

    num_threads: int
    checkpoint: str
    bundles: dict[str, str]
    peer: dict[str, str]
    rounds: dict[int, int]
    trial: tuple[int, int]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        values = json.loads(text)
        rounds = {int(audio_s): num_rounds for audio_s, num_rounds in values.pop("rounds").items()}
        return cls(**values, rounds=rounds)


def fastest_peer(plan: Plan) -> tuple[Subject, dict[str, Any]]:
    """The peer on ONNX Runtime at the fastest of its files and settings, and every trial's times with the choice."""
    settings = list(product(plan.peer, (True, False), (True, False)))
    candidates = [
        of_peer_onnxruntime(Path(plan.peer[level]), plan.num_threads, memory_pattern=memory_pattern, spinning=spinning)
        for level, memory_pattern, spinning in settings
    ]
    audio_s, num_rounds = plan.trial
    answers = take_turns(candidates, speech(audio_s), num_rounds)
    times_ms = [[round(answer.wall_ms, 3) for answer in given] for given in answers]
    trials = [
        {
            "optimisation": level,
            "memory_pattern": memory_pattern,
            "spinning": spinning,
            "p50_ms": float(np.median(taken)),
        }
        for (level, memory_pattern, spinning), taken in zip(settings, times_ms)
    ]
    best = int(np.argmin([np.median(taken) for taken in times_ms]))
    return candidates[best], {"audio_s": audio_s, "chosen": trials[best], "trials": trials, "wall_ms": times_ms}


def open_subjects(plan: Plan, hinted: Sequence[str]) -> tuple[list[Subject], dict[str, Any]]:
    """All of them, and how the peer's settings were chosen.

    Args:
        hinted: the precisions in which OpenVINO runs.
    """
    peer, trials = fastest_peer(plan)
    pairs = [("onnxruntime", "fp32"), *(("openvino", precision) for precision in hinted)]
    subjects = [peer]
    subjects += [of_peer_openvino(Path(plan.peer["none"]), precision, plan.num_threads) for precision in hinted]
    subjects += [
        of_bundle(model, Path(path), backend, precision, plan.num_threads)
        for (model, path), (backend, precision) in product(plan.bundles.items(), pairs)
    ]
    subjects.append(of_torch("edgekit-base", "hubert", Path(plan.checkpoint), plan.num_threads))
    subjects.append(of_torch("fbank", "hubert-student", None, plan.num_threads))
    return subjects, trials


def differences(subjects: Sequence[Subject], wave: Float32) -> dict[str, float]:
    """Largest absolute difference of log-probabilities to the torch module of the same weights, by subject.

    Raises:
        SystemExit: an fp32 export of HuBERT Base answers otherwise: it would be another model that is timed.
    """
    torch_base = next(subject for subject in subjects if (subject.model, subject.backend) == ("edgekit-base", "torch"))
    expected = _log_softmax(torch_base.scores(wave))
    found = {}
    for subject in subjects:
        if subject.model in ("optimum-base", "edgekit-base"):
            found[subject.name] = float(np.abs(_log_softmax(subject.scores(wave)) - expected).max())
            if subject.precision == "fp32" and not found[subject.name] <= MAX_DIFFERENCE:
                raise SystemExit(f"{subject.name} differs from torch by {found[subject.name]:.1e}: not the same model")
    return found


def _log_softmax(scores: Float32) -> Float32:
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_probs: Float32 = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probs


def _samples(answers: Sequence[Answer]) -> dict[str, Any]:
    """Every round's times in ms, by kind, and the number of tokens."""
    kinds = ("wall_ms", "cpu_ms", "features_ms", "decoding_ms")
    times = {kind: [round(getattr(answer, kind), 4) for answer in answers] for kind in kinds}
    return {**times, "num_tokens": answers[0].num_tokens}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    plan = Plan.from_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    hinted = [precision for precision in ("fp32", "bf16") if precision in precisions()]
    _say(f"{plan.num_threads} threads: opening sessions, finding the peer's best settings")
    subjects, trials = open_subjects(plan, hinted)
    setup = {
        "num_threads": plan.num_threads,
        "peer_settings": trials,
        "openvino_precisions": hinted,
        "max_abs_difference_to_torch": differences(subjects, speech(min(plan.rounds))),
    }
    print(json.dumps({"setup": setup}), flush=True)
    for audio_s, num_rounds in plan.rounds.items():
        start = time.perf_counter()
        answers = take_turns(subjects, speech(audio_s), num_rounds)
        samples = {subject.name: _samples(given) for subject, given in zip(subjects, answers)}
        cell = {"num_threads": plan.num_threads, "audio_s": audio_s, "num_rounds": num_rounds, "samples": samples}
        print(json.dumps({"cell": cell}), flush=True)
        peer, fbank = (
            np.median(samples[f"{model} onnxruntime fp32"]["wall_ms"]) for model in ("optimum-base", "fbank")
        )
        _say(
            f"{plan.num_threads} threads, {audio_s} s of audio: {num_rounds} rounds of {len(subjects)} subjects in "
            f"{time.perf_counter() - start:.0f} s; on ONNX Runtime optimum's Base {peer:.1f} ms, fbank {fbank:.1f} ms"
        )


if __name__ == "__main__":
    main()
