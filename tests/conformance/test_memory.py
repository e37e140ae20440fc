"""Memory does not grow with audio of many lengths (ONNX Runtime's memory pattern once did that)."""

from __future__ import annotations

import numpy as np
import psutil
import pytest

from edgekit.core.bundle import Bundle
from edgekit.runtime.session import open_session
from edgekit.runtime.tasks.speech import SpeechGraph

NUM_REQUESTS = 300


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_memory_is_flat_over_many_lengths(small_bundle: Bundle, backend: str) -> None:
    graph = SpeechGraph(small_bundle, open_session(small_bundle, backend=backend))
    random = np.random.default_rng(0)
    noise = random.uniform(-0.5, 0.5, 8 * 16000).astype(np.float32)
    graph.run(noise)  # the longest first: what it needs is known then
    process = psutil.Process()
    resident = np.empty(NUM_REQUESTS)
    for request in range(NUM_REQUESTS):
        graph.run(noise[: random.integers(8000, len(noise))])
        resident[request] = process.memory_info().rss
    tenth = NUM_REQUESTS // 10
    growth = np.median(resident[-tenth:]) - np.median(resident[tenth : 2 * tenth])
    assert growth < 0.03 * np.median(resident), f"{growth / 2**20:.1f} MiB more after {NUM_REQUESTS} requests"
