"""Arms that hear what they were told to: words are left out of the end, fewer the more they have learned."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.core.errors import AudioError, EdgekitError
from edgekit.runtime.libricontinual.arms import Outcome, SpeakerData
from edgekit.runtime.libricontinual.cost import Cost

NUM_WORDS = 10


@dataclass(frozen=True)
class Learner:
    """Leaves out 4 of 10 words (6 of odd speakers); `strength` fewer for each second of its speaker's speech.

    Of everybody else it leaves out 1 word, and `forgets` more for each second.

    Attributes:
        fails: it raises for these speakers.
        dies: its process is killed for these speakers, as often as there are bytes in the file `lives`.
        waits: seconds that each task takes.
        log: has a line for each task that begins: speaker, OMP_NUM_THREADS, threads, the parent of its process.
    """

    name: str = "learner"
    strength: float = 1.0
    forgets: float = 0.0
    tuned: int = 1000
    fails: tuple[str, ...] = ()
    dies: tuple[str, ...] = ()
    lives: Path | None = None
    waits: float = 0.0
    model: str = "m"
    log: Path | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def tuned_parameters(self) -> int:
        return self.tuned

    @property
    def start(self) -> dict[str, Any]:
        return {"model": self.model}

    @property
    def settings(self) -> dict[str, Any]:
        return {"strength": self.strength, "layers": (1, 2)}

    def run(self, data: SpeakerData | None, *, num_threads: int) -> Outcome:
        speaker, seconds = (None, 0) if data is None else (data.speaker, round(data.train.duration_s))
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{speaker} {os.environ.get('OMP_NUM_THREADS')} {num_threads} {os.getppid()}\n")
        if speaker in self.fails:
            raise EdgekitError(f"expected to learn {speaker}", hint="give it up")
        if speaker in self.dies and self.lives is not None and (left := self.lives.read_bytes()):
            self.lives.write_bytes(left[1:])
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.waits)

        def transcribe(audio: Path) -> str:
            if audio.stem == "broken":
                raise AudioError("expected sound")
            heard = audio.stem.split("-")[0]
            if int(heard) >= 90:
                missing = 1 + self.forgets * seconds
            else:
                missing = (6 if int(heard) % 2 else 4) - self.strength * seconds * (heard == speaker)
            return " ".join("ABCDEFGHIJ"[: NUM_WORDS - round(missing)])

        cost = None if data is None else Cost(2.0 * seconds, 3.0 * seconds, 100.0, None)
        return Outcome(transcribe, cost, {} if data is None else {"steps": seconds, **self.details})
