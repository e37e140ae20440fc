"""`python -m edgekit.export.sherpa KIND PADDING MODEL TOKENS CLIP...` prints sherpa-onnx's answers: see `hearing`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.export.sherpa.hearing import NOT_INSTALLED
from edgekit.export.sherpa.symbols import FBANK
from edgekit.runtime.features.audio import load_audio


def main(kind: str, padding: str, model: str, tokens: str, *clips: str) -> None:
    try:
        import sherpa_onnx
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_INSTALLED)
    silence = np.zeros(int(padding), np.float32)
    waves = [np.concatenate((load_audio(Path(clip), FBANK.sample_rate), silence)) for clip in clips]
    if kind == "offline":
        results = _offline(sherpa_onnx.OfflineRecognizer.from_zipformer_ctc(model=model, tokens=tokens), waves)
    else:
        results = _online(sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(model=model, tokens=tokens), waves)
    answers = [{name: getattr(result, name) for name in ("text", "tokens", "timestamps")} for result in results]
    print(json.dumps([sherpa_onnx.__version__, answers]))


def _offline(recogniser: Any, waves: Sequence[np.ndarray]) -> list[Any]:
    results = []
    for wave in waves:
        stream = recogniser.create_stream()
        stream.accept_waveform(FBANK.sample_rate, wave)
        recogniser.decode_stream(stream)
        results.append(stream.result)
    return results


def _online(recogniser: Any, waves: Sequence[np.ndarray]) -> list[Any]:
    """All together, so that memory is stacked and parted, and those that go on are fewer and fewer."""
    streams = [recogniser.create_stream() for _ in waves]
    for stream, wave in zip(streams, waves):
        stream.accept_waveform(FBANK.sample_rate, wave)
        stream.input_finished()
    while ready := [stream for stream in streams if recogniser.is_ready(stream)]:
        recogniser.decode_streams(ready)
    return [recogniser.get_result_all(stream) for stream in streams]


if __name__ == "__main__":
    main(*sys.argv[1:])
