"""`edgekit transcribe --stream`: text while the sound comes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer

from edgekit.cli.output import log
from edgekit.runtime.features.blocks import PIPE_RATE, file_blocks, microphone_blocks, pipe_blocks
from edgekit.runtime.streaming import SpeechStream, Update
from edgekit.runtime.tasks.speech_recognition import SpeechRecognition

_CLEAR = "\r\x1b[2K"


def transcribe_live(recogniser: SpeechRecognition, audio: Sequence[Path], options: dict[str, Any], jsonl: bool) -> None:
    """Print each utterance of recordings, of standard input (`-`), or, where none is given, of the microphone."""
    if not audio:
        with microphone_blocks() as (rate, blocks):
            log(f"listening, {recogniser.session.backend}; Ctrl-C ends")
            _follow(recogniser.stream(rate, **options), blocks, "microphone", jsonl)
        return
    for path in audio:
        if path == Path("-"):
            _follow(recogniser.stream(PIPE_RATE, **options), pipe_blocks(sys.stdin.buffer), "-", jsonl)
            continue
        with file_blocks(path) as (rate, blocks):
            _follow(recogniser.stream(rate, **options), blocks, str(path), jsonl)


def _follow(stream: SpeechStream, blocks: Iterable[np.ndarray], name: str, jsonl: bool) -> None:
    try:
        for block in blocks:
            _show(stream.accept(block), name, jsonl)
    except KeyboardInterrupt:
        pass  # what was said until now is still wanted
    _show(stream.finish(), name, jsonl)
    if stream.compute_s:
        p50, p99 = np.percentile(list(stream.compute_s), [50, 99]) * 1000
        told = f"chunks of {stream.chunk_s * 1000:.0f} ms computed in {p50:.1f} ms (p99 {p99:.1f} ms)"
        log(f"  {told}; a sound waits at most {stream.delay_s * 1000:.0f} ms for its chunk")


def _show(updates: Sequence[Update], name: str, jsonl: bool) -> None:
    for update in updates:
        if jsonl:
            # a reader of this pipe waits for each line
            print(json.dumps({"audio": name, **update.to_json()}, ensure_ascii=False), flush=True)
        elif update.final:
            if sys.stdout.isatty():
                typer.echo(_CLEAR, nl=False)
            print(update.text, flush=True)
        elif sys.stdout.isatty():
            # the end of what does not fit on the line is the newest
            width = max(20, _columns() - 4)
            typer.echo(f"{_CLEAR}... {update.text[-width:]}", nl=False)


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns
