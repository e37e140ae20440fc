"""Words to SubRip subtitles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgekit.runtime.decode.ctc import Word

MAX_CHARACTERS = 42
MAX_DURATION_S = 6.0
MAX_PAUSE_S = 0.8
"""A new subtitle begins where the line is full, lasts too long, or the speaker pauses (the usual broadcast limits)."""


def to_srt(words: Iterable[Word]) -> str:
    """One numbered block per subtitle."""
    blocks = []
    for index, line in enumerate(_lines(words), start=1):
        text = " ".join(word.text for word in line)
        blocks.append(f"{index}\n{_time(line[0].start_s)} --> {_time(line[-1].end_s)}\n{text}\n")
    return "\n".join(blocks)


def _lines(words: Iterable[Word]) -> list[Sequence[Word]]:
    lines: list[list[Word]] = []
    for word in words:
        if lines:
            line = lines[-1]
            characters = sum(len(w.text) + 1 for w in line) + len(word.text)
            fits = characters <= MAX_CHARACTERS and word.end_s - line[0].start_s <= MAX_DURATION_S
            if fits and word.start_s - line[-1].end_s <= MAX_PAUSE_S:
                line.append(word)
                continue
        lines.append([word])
    return list(lines)


def _time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02},{rest % 1000:03}"
