"""The longest utterance is found by trying, and the limit is kept while that is done."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from edgekit.core.errors import EdgekitError
from edgekit.runtime.adapt.memory import check_loaded, peak_during, resident_mib
from edgekit.runtime.benchmark_asr import peak_memory_mib

pytestmark = pytest.mark.device_side

DURATIONS_S = [9.0, 3.0, 1.0, 14.0, 2.0, 6.0, 11.0, 4.5, 13.0]


def found(allowed_mib: float, mib_per_s: float) -> tuple[float, float, list[float]]:
    """In a process of its own: the longest, what the limit was exceeded by (MiB), and what was tried."""
    code = f"""if True:
        import numpy as np
        from edgekit.runtime.adapt.memory import longest_within
        from edgekit.runtime.benchmark_asr import peak_memory_mib
        durations, tried = {DURATIONS_S}, []
        def run(index):
            tried.append(durations[index])
            np.ones(round(durations[index] * {mib_per_s} * 2**17))
        limit = peak_memory_mib() + {allowed_mib}
        longest = longest_within(limit, durations, run)
        print([float(longest), peak_memory_mib() - limit, tried])
    """
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    longest, over_mib, tried = json.loads(ran.stdout)
    return longest, over_mib, tried


@pytest.mark.parametrize(("allowed_mib", "lowest", "highest"), [(100, 6, 9), (180, 9, 14), (400, 14, 14)])
def test_the_longest_that_fits(allowed_mib: float, lowest: float, highest: float) -> None:
    longest, over_mib, tried = found(allowed_mib, 10)
    assert lowest <= longest <= highest
    assert over_mib <= 0
    assert tried == sorted(tried)
    assert (tried[0], tried[-1]) == (1.0, longest)


def test_nothing_fits() -> None:
    longest, _, tried = found(20, 100)
    assert (longest, tried) == (0, [1.0])


def test_below_what_loading_took_it_is_measured_too() -> None:
    """The system's own mark tells nothing of it, as it only rises."""
    loaded = np.ones(300 << 17)
    del loaded
    before, base = peak_memory_mib(), resident_mib()
    if before - base < 200:
        pytest.skip("this system keeps what was freed")

    def hold() -> None:
        held = np.ones(100 << 17)
        time.sleep(0.02)
        del held

    seen = peak_during(hold)
    assert peak_memory_mib() == before
    assert 90 < seen - base < 130


def test_a_model_that_is_too_large_already() -> None:
    with pytest.raises(EdgekitError, match="the loaded model alone has taken") as error:
        check_loaded(1.0)
    assert "--max-memory" in (error.value.hint or "")
    check_loaded(1e6)
