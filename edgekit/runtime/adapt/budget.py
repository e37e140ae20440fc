"""How long learning may take, and what will still fit."""

from __future__ import annotations

import math
import time

# times vary: other programs run, and an utterance twice as long takes a little more than twice as long
_MARGIN = 1.3
# what comes after the last look: the state is swept and the speaker written
_RESERVE_S, _RESERVE_SHARE = 2.0, 0.1
# forward and backward against forward alone, before it was measured
_LEARN_TO_LOOK = 4.0


class Budget:
    """Wall time, and the pace of this model on this machine.

    Args:
        seconds: in all; None: without end.
        began: when it began, as `time.monotonic` tells it; None: now.

    Raises:
        ValueError: no positive number.
    """

    def __init__(self, seconds: float | None = None, *, began: float | None = None) -> None:
        if seconds is not None and not 0 < seconds < math.inf:
            raise ValueError(f"expected a budget above 0 s, received {seconds}")
        self.seconds = seconds
        self._began = time.monotonic() if began is None else began
        self._looked, self._learned = [0.0, 0.0], [0.0, 0.0]

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    @property
    def left_s(self) -> float:
        """Until the result must be there, but for what writing it takes; `inf` without a budget."""
        if self.seconds is None:
            return math.inf
        return self.seconds - min(_RESERVE_S, _RESERVE_SHARE * self.seconds) - self.elapsed_s

    def looked(self, seconds: float, speech_s: float) -> None:
        """Note that an answer to so much speech took so long."""
        self._looked[0] += seconds
        self._looked[1] += speech_s

    def learned(self, seconds: float, speech_s: float) -> None:
        """Note that a gradient of so much speech took so long."""
        self._learned[0] += seconds
        self._learned[1] += speech_s

    def look_s(self, speech_s: float) -> float:
        """What an answer to so much speech will take at most; 0 before the first."""
        return _MARGIN * speech_s * self._looked[0] / self._looked[1] if self._looked[1] else 0.0

    def learn_s(self, speech_s: float) -> float:
        """What a gradient of so much speech will take at most."""
        if not self._learned[1]:
            return _LEARN_TO_LOOK * self.look_s(speech_s)
        return _MARGIN * speech_s * self._learned[0] / self._learned[1]
