"""Serves one subject: `python -m conformer.worker SPEC`, with JSON lines over standard input and output.

`SPEC` has the arguments of `open_subject` and `speech`, a file of samples. First it says that it is open, or what is
missing; then each line in, a request with its name under "do", is answered by a line.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from conformer.speech import SAMPLE_RATE, Float32, piece, pieces
from conformer.subjects import Subject, open_subject

WARM_CHUNKS = 3
"""Of a stream, not counted: the first completes nothing, and the next ones allocate."""


class Requests:
    """What a worker can be asked for."""

    def __init__(self, subject: Subject, speech: Float32) -> None:
        self._subject, self._speech = subject, speech

    def answer(self, audio_s: float, batch: int, turn: int) -> dict[str, Any]:
        """Recordings of one length, in one call; texts as a hash."""
        answer = self._subject.answer(pieces(self._speech, audio_s, batch, turn)).to_json()
        texts = json.dumps(answer.pop("texts"))
        return {**answer, "texts": sha256(texts.encode()).hexdigest()[:16]}

    def stream(self, chunk_s: float, audio_s: float, turn: int) -> dict[str, Any]:
        """One stream, a chunk at a time: milliseconds of each, features and text included."""
        live = self._subject.live(chunk_s)
        times = []
        for block in self._blocks(chunk_s, audio_s, turn * audio_s):
            start = time.perf_counter()
            live.accept(block)
            times.append(round(1e3 * (time.perf_counter() - start), 4))
        return {"chunk_ms": times[WARM_CHUNKS:]}

    def turns(self, chunk_s: float, audio_s: float, num_streams: int) -> dict[str, Any]:
        """Streams in turns, their chunks complete one after the other, evenly over the time of one.

        Time passes as it is measured, but where nothing is to be done: then the next chunk is there at once.

        Returns:
            Per chunk the milliseconds from when it was complete until its text was there.
        """
        lives = [self._subject.live(chunk_s) for _ in range(num_streams)]
        speeches = [self._blocks(chunk_s, audio_s, 7.0 * index) for index in range(num_streams)]
        clock, late = 0.0, []
        for number, blocks in enumerate(zip(*speeches)):
            for index, (live, block) in enumerate(zip(lives, blocks)):
                due = (number + index / num_streams) * chunk_s
                start = time.perf_counter()
                live.accept(block)
                took = time.perf_counter() - start
                if number >= WARM_CHUNKS:
                    clock = max(clock, due) + took
                    late.append(round(1e3 * (clock - due), 3))
        return {"late_ms": late}

    def memory(self, num_requests: int, seed: int, range_s: tuple[float, float]) -> dict[str, Any]:
        """Recordings of mixed length, one after the other: seconds of each, and MiB resident after it."""
        lengths = np.random.default_rng(seed).uniform(*range_s, num_requests).round(2)
        resident = []
        begun = time.monotonic()
        for index, audio_s in enumerate(lengths.tolist()):
            self._subject.answer([piece(self._speech, 3.0 * index, audio_s)])
            resident.append(_resident_mib())
            if (index + 1) % 250 == 0:
                print(f"{index + 1} requests, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
        return {"audio_s": lengths.tolist(), "resident_mib": resident}

    def _blocks(self, chunk_s: float, audio_s: float, start_s: float) -> list[Float32]:
        size = round(chunk_s * SAMPLE_RATE)
        speech = piece(self._speech, start_s, audio_s)
        return [speech[start : start + size] for start in range(0, len(speech) - size + 1, size)]


def _resident_mib() -> float:
    """Of this process; Linux only."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 3)


def main() -> None:
    spec = json.loads(sys.argv[1])
    speech = np.load(spec.pop("speech"))
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no reply

    def reply(content: dict[str, Any]) -> None:
        print(json.dumps(content), file=replies, flush=True)

    try:
        requests = Requests(open_subject(**spec), speech)
    except ImportError as error:
        reply({"missing": str(error)})
        return
    reply({"opened": spec})
    for line in sys.stdin:
        asked = json.loads(line)
        name = asked.pop("do")
        do: Callable[..., dict[str, Any]] = getattr(requests, name)
        gc.collect()
        if name != "memory":  # what is collected belongs to it
            gc.disable()
        try:
            reply(do(**asked))
        finally:
            gc.enable()


if __name__ == "__main__":
    main()
