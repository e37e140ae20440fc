"""What is measured: the settings of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgekit.train.families.disconformer import FAMILY

PARTS = ("offline", "streaming", "memory")
MIN_ROUNDS = 9


@dataclass(frozen=True)
class Plan:
    """All settings but the parts, so that a run that was broken off can go on with others.

    Attributes:
        variant: of disconformer.
        sizes: settings of its model, for trials.
        lengths: seconds of whole recordings.
        batches: recordings that go through the graph together.
        threads: of every session; features and decoding have one.
        rounds: of each length; None: so many as make two minutes of sound, 9 to 40.
        compiled: whether torch.compile takes part.
        chunks: seconds of the streams' chunks.
        stream_rounds, stream_s: streams of each subject, and seconds of each.
        turns_s: seconds for which streams side by side go on.
        most_streams: tried side by side.
        num_requests: of mixed length, for memory.
        range_s: the shortest and the longest of them.
    """

    variant: str = "s"
    sizes: tuple[str, ...] = ()
    lengths: tuple[int, ...] = (1, 5, 10, 20, 30)
    batches: tuple[int, ...] = (1, 8)
    threads: tuple[int, ...] = (1, 2)
    rounds: int | None = None
    compiled: bool = True
    chunks: tuple[float, ...] = (0.32, 0.64)
    stream_rounds: int = 12
    stream_s: float = 40.0
    turns_s: float = 20.0
    most_streams: int = 256
    num_requests: int = 2000
    range_s: tuple[float, float] = (0.5, 30.0)

    def num_rounds(self, audio_s: int, batch: int) -> int:
        """For one cell."""
        return self.rounds or max(MIN_ROUNDS, min(40, round(120 / audio_s / batch**0.5)))

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


QUICK = Plan(
    variant="t",
    sizes=FAMILY.small,
    lengths=(1, 21),
    batches=(1, 2),
    threads=(1,),
    rounds=6,
    compiled=False,
    stream_rounds=6,
    stream_s=8.0,
    turns_s=5.0,
    most_streams=16,
    num_requests=60,
    range_s=(0.5, 3.0),
)
"""Shows that all of it runs, windows of what is longer than 20 s among it; its figures mean nothing."""
