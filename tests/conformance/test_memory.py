"""Memory does not grow with audio of many lengths (ONNX Runtime's memory pattern once did that), nor with pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import psutil
import pytest

from edgekit.core.bundle import Bundle
from edgekit.export.pictures import takes_pictures
from edgekit.runtime.session import open_session
from edgekit.runtime.tasks.pictures import PictureGraph
from edgekit.runtime.tasks.speech import SpeechGraph

NUM_REQUESTS = 300


def _asking(bundle: Bundle, backend: str) -> Callable[[float], object]:
    """A request by its size, a share of the largest."""
    session, random = open_session(bundle, backend=backend), np.random.default_rng(1)
    if takes_pictures(bundle.manifest.features):
        pictures = PictureGraph(bundle, session)
        picture = random.integers(0, 256, (300, 400, 3), np.uint8)
        most = pictures.most_together
        return lambda share: pictures.run([picture[: max(1, int(300 * share))]] * max(1, int(most * share)))
    speech = SpeechGraph(bundle, session)
    noise = random.uniform(-0.5, 0.5, 8 * 16000).astype(np.float32)
    return lambda share: speech.run(noise[: int(share * len(noise))])


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_memory_is_flat_over_many_lengths(small_bundle: Bundle, backend: str) -> None:
    ask = _asking(small_bundle, backend)
    ask(1.0)  # the longest first: what it needs is known then
    random = np.random.default_rng(0)
    process = psutil.Process()
    resident = np.empty(NUM_REQUESTS)
    for request in range(NUM_REQUESTS):
        ask(random.uniform(1 / 16, 1))
        resident[request] = process.memory_info().rss
    tenth = NUM_REQUESTS // 10
    growth = np.median(resident[-tenth:]) - np.median(resident[tenth : 2 * tenth])
    assert growth < 0.03 * np.median(resident), f"{growth / 2**20:.1f} MiB more after {NUM_REQUESTS} requests"
