"""The short latency table of a bundle: features and inference together, on every backend that can run here."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.devices.measure import measure_latency
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.samples import sample_clips
from edgekit.runtime.session import has_backend, open_artifact
from edgekit.runtime.tasks.speech import SpeechGraph

AUDIO_S = (1, 5, 10)


def measure_bundle(bundle: Bundle) -> list[dict[str, Any]]:
    """A row per verified artifact of the inference graph and length of audio (the sample clips, repeated)."""
    rows = []
    for artifact in bundle.graph().artifacts:
        if artifact.parity is None or not has_backend(artifact.format):
            continue
        # by artifact and not by backend: TensorRT's runs two formats
        session = open_artifact(bundle, "infer", artifact, SessionOptions(precision=artifact.precision))
        graph = SpeechGraph(bundle, session)
        rate = graph.features.sample_rate
        speech = np.concatenate([load_audio(clip, rate) for clip in sample_clips()])
        for audio_s in AUDIO_S:
            wave = np.resize(speech, audio_s * rate)
            latency = measure_latency(lambda: graph.run(wave))  # noqa: B023  (called before the next turn)
            rows.append(
                {
                    "backend": graph.session.backend,
                    "precision": graph.session.precision,
                    "device": graph.session.device,
                    "audio_s": audio_s,
                    "num_samples": len(latency.samples_ms),
                    "p50_ms": latency.p50_ms,
                    # of so few runs no p99 can be told
                    "max_ms": max(latency.samples_ms),
                    "rtf": latency.p50_ms / 1e3 / audio_s,
                }
            )
        graph.session.close()
    return rows
