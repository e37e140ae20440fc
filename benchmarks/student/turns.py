"""Subjects in turns over one waveform."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence

import numpy as np

from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.samples import sample_clips
from student.subjects import Answer, Float32, Subject

SAMPLE_RATE = 16_000
PAUSE_S = 0.1
"""Between two calls: the threads of ONNX Runtime, OpenMP and BLAS look for work for some 50 ms after a call, and would
take a processor from the next subject."""
WARM_UPS = 2


def speech(audio_s: int) -> Float32:
    """The sample clips joined, repeated to a length."""
    clips = np.concatenate([load_audio(clip, SAMPLE_RATE) for clip in sample_clips()])
    return np.resize(clips, audio_s * SAMPLE_RATE)


def take_turns(subjects: Sequence[Subject], wave: Float32, num_rounds: int) -> list[list[Answer]]:
    """Each subject once a round, in an order drawn anew for every round: none always follows the same neighbour.

    Returns:
        Per subject its answers, one per round.
    """
    for subject in subjects:
        for _ in range(WARM_UPS):
            subject.answer(wave)
    answers: list[list[Answer]] = [[] for _ in subjects]
    order = np.random.default_rng(0)
    gc.collect()
    gc.disable()
    try:
        for _ in range(num_rounds):
            for index in order.permutation(len(subjects)):
                time.sleep(PAUSE_S)
                answers[index].append(subjects[index].answer(wave))
    finally:
        gc.enable()
    return answers
