"""The short latency table of a bundle: features and inference together, on every backend that can run here.

Of speech by the length of a recording, of pictures by how many are asked of together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.devices.measure import measure_latency
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.samples import sample_clips
from edgekit.runtime.samples.pictures import sample_pictures
from edgekit.runtime.session import CheckedSession, has_backend, open_artifact
from edgekit.runtime.tasks.pictures import PictureGraph
from edgekit.runtime.tasks.speech import SpeechGraph

Asked = tuple[dict[str, int], Callable[[], object]]
"""What a row says of it, and the call."""

AUDIO_S = (1, 5, 10)


def measure_bundle(bundle: Bundle) -> list[dict[str, Any]]:
    """A row per verified artifact of the inference graph and length of audio or number of pictures (our samples)."""
    ask = _pictures if bundle.manifest.features.get("kind") == "image" else _recordings
    rows = []
    for artifact in bundle.graph().artifacts:
        if artifact.parity is None or not has_backend(artifact.format):
            continue
        # by artifact and not by backend: TensorRT's runs two formats
        session = open_artifact(bundle, "infer", artifact, SessionOptions(precision=artifact.precision))
        for asked, call in ask(bundle, session):
            latency = measure_latency(call)
            row = {
                "backend": session.backend,
                "precision": session.precision,
                "device": session.device,
                **asked,
                "num_samples": len(latency.samples_ms),
                "p50_ms": latency.p50_ms,
                # of so few runs no p99 can be told
                "max_ms": max(latency.samples_ms),
            }
            if "audio_s" in asked:
                row["rtf"] = latency.p50_ms / 1e3 / asked["audio_s"]
            rows.append(row)
        session.close()
    return rows


def _recordings(bundle: Bundle, session: CheckedSession) -> Iterator[Asked]:
    """The sample clips, repeated to each length."""
    graph = SpeechGraph(bundle, session)
    rate = graph.features.sample_rate
    speech = np.concatenate([load_audio(clip, rate) for clip in sample_clips()])
    for audio_s in AUDIO_S:
        yield {"audio_s": audio_s}, partial(graph.run, np.resize(speech, audio_s * rate))


def _pictures(bundle: Bundle, session: CheckedSession) -> Iterator[Asked]:
    """A drawn picture of 500 x 375, already decoded, once and as many times as go together."""
    graph = PictureGraph(bundle, session)
    for batch in sorted({1, graph.most_together}):
        yield {"batch": batch}, partial(graph.run, sample_pictures()[:1] * batch)
