"""The memory of this process, and the longest utterance whose gradient fits into what a person allows.

Measured, DisConformer t of 1.6 M values on ONNX Runtime with utterances of up to 20 s: 284 MiB without a limit; of
limits of 180, 200 and 240 MiB 168, 192 and 226 were taken, with 25, 45 and 64 of 70 utterances; once loaded, 128.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from edgekit.core.errors import EdgekitError
from edgekit.runtime.benchmark_asr import peak_memory_mib

_MARGIN = 1.1
# of the limit: after hundreds of utterances of all lengths, freed memory lies in pieces (0.3 % were seen)
_SHARE = 0.95
_PERIOD_S = 0.001


def longest_within(
    limit_mib: float, durations_s: Sequence[float], run: Callable[[int], object], *, reserved_mib: float = 0.0
) -> float:
    """The longest of these utterances whose gradient is sure to fit, by trying ever longer ones.

    What an utterance takes beyond the loaded model grows at most with the square of its length (attention), so that one
    that was measured bounds a longer one. The shortest is tried in any case.

    Args:
        limit_mib: of the whole process, resident, at any time.
        durations_s: of the utterances, not in order.
        run: computes the gradient of the utterance at an index.
        reserved_mib: what will be taken besides.

    Returns:
        Seconds; 0 where not even the shortest fits.

    Raises:
        EdgekitError: the process has been larger than the limit before.
    """
    check_loaded(limit_mib)
    room_mib = _SHARE * limit_mib - reserved_mib
    order = sorted(range(len(durations_s)), key=lambda index: durations_s[index])
    # before the first run, since what it frees may stay with the process: the second would seem to take nothing
    base_mib = resident_mib()
    tried, place = 0.0, 0
    while True:
        peak_mib = peak_during(lambda: run(order[place]))  # noqa: B023  (it is called at once)
        if peak_mib > room_mib:
            return tried
        tried = durations_s[order[place]]
        grown_mib = max(peak_mib - base_mib, 1.0) * _MARGIN
        fitting = [
            later
            for later in range(place + 1, len(order))
            if base_mib + grown_mib * (durations_s[order[later]] / tried) ** 2 <= room_mib
        ]
        if not fitting or durations_s[order[fitting[-1]]] == tried:
            return tried
        place = fitting[-1]


def check_loaded(limit_mib: float) -> None:
    """Raise `EdgekitError` where the process has been larger than the limit before it learns anything."""
    loaded_mib = peak_memory_mib()
    if loaded_mib > limit_mib:
        raise EdgekitError(
            f"expected to stay within {limit_mib:.0f} MiB, the loaded model alone has taken {loaded_mib:.0f} MiB",
            hint=f"--max-memory {1.3 * loaded_mib:.0f}MiB or more, or a smaller variant of the model",
        )


def resident_mib() -> float:
    """What this process holds now; where the system does not tell, the most that it has held."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return peak_memory_mib()
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_during(run: Callable[[], object]) -> float:
    """The most memory while `run` runs, in MiB.

    The system's own mark only tells of what goes beyond all that was before, loading included; below it, the size is
    looked at each millisecond.
    """
    before_mib, done, seen = peak_memory_mib(), threading.Event(), [resident_mib()]

    def watch() -> None:
        while not done.wait(_PERIOD_S):
            seen.append(max(seen.pop(), resident_mib()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    after_mib = peak_memory_mib()
    return after_mib if after_mib > before_mib else seen[0]
