"""`edgekit transcribe`: recordings to text with word times."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.options import (
    AllowFallback,
    Backend,
    Beam,
    Device,
    Hotwords,
    HotwordsWeight,
    Json,
    Lm,
    LmWeight,
    OptionalBundlePath,
    Precision,
    Speaker,
    StoreRoot,
    Threads,
    WordBonus,
)
from edgekit.cli.output import log, print_json

if TYPE_CHECKING:
    from edgekit.core.errors import EdgekitError
    from edgekit.runtime.tasks.speech_recognition import SpeechRecognition, Transcript


def transcribe(
    bundle: OptionalBundlePath = None,
    audio: Annotated[list[Path] | None, typer.Argument(metavar="AUDIO", help="Recordings.")] = None,
    backend: Backend = None,
    device: Device = None,
    precision: Precision = "fp32",
    threads: Threads = None,
    allow_fallback: AllowFallback = False,
    speaker: Speaker = None,
    store: StoreRoot = None,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Recordings that are computed together.")] = 1,
    beam: Beam = None,
    hotwords: Hotwords = None,
    hotwords_weight: HotwordsWeight = None,
    lm: Lm = None,
    lm_weight: LmWeight = None,
    word_bonus: WordBonus = None,
    allow_random_weights: Annotated[
        bool, typer.Option("--allow-random-weights", help="Answer although the words mean nothing.")
    ] = False,
    json: Json = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help='One JSON line per recording: {"audio", "text", ...}.')
    ] = False,
    srt: Annotated[bool, typer.Option("--srt", help="SubRip subtitles (one recording).")] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Show the text while it comes; AUDIO may be `-`, see below.")
    ] = False,
    microphone: Annotated[bool, typer.Option("--microphone", help="Listen and --stream, until Ctrl-C.")] = False,
    chunk: Annotated[float | None, typer.Option(metavar="S", help="Seconds per chunk; default: the bundle's.")] = None,
    silence: Annotated[float, typer.Option(metavar="S", help="Seconds of silence that end an utterance.")] = 0.8,
) -> None:
    """Write down what recordings say.

    With --stream, AUDIO `-` is 16-bit mono sound of 16 kHz from standard input: `arecord -q -f S16_LE -r 16000 |
    edgekit transcribe --stream -`. A line is printed for each utterance; in a terminal, or with --jsonl, also what is
    known before its end.
    """
    import json as jsonlib

    from edgekit.core.errors import EdgekitError, UsageError
    from edgekit.runtime.decode.decoding import read_decoding
    from edgekit.runtime.streaming import Endpoint
    from edgekit.runtime.subtitles import to_srt
    from edgekit.runtime.tasks import load
    from edgekit.runtime.tasks.speech_recognition import SpeechRecognition, require_trained

    live = stream or microphone
    bundle, audio = _told_apart(bundle, audio or [], needed=not microphone)
    if microphone and audio:
        raise UsageError(f"expected --microphone or recordings, received both: {audio[0]}")
    if live and (json or srt):
        raise UsageError("expected --jsonl or plain text with --stream, received --json or --srt")
    if live and batch > 1:
        raise UsageError("expected --batch with whole recordings, received --stream", hint="leave --batch out")
    if store is not None and speaker is None:
        raise UsageError("expected --speaker with --store", hint="--speaker NAME")
    if not live and (chunk is not None or Path("-") in audio):
        raise UsageError("expected --stream with --chunk or with sound from standard input", hint="add --stream")
    if json + jsonl + srt > 1:
        raise UsageError("expected one of --json, --jsonl and --srt, received several")
    if srt and len(audio) > 1:
        raise UsageError(f"expected one recording with --srt, received {len(audio)}")
    recogniser = load(
        bundle,
        backend=backend,
        device=device,
        precision=precision,
        num_threads=threads,
        allow_fallback=allow_fallback,
        store=store,
    )
    if not isinstance(recogniser, SpeechRecognition):
        raise UsageError(f"expected a bundle for speech-recognition, {bundle} is for {recogniser.bundle.manifest.task}")
    require_trained(recogniser.bundle, allow_random_weights)
    decoding = read_decoding(
        beam=beam,
        hotwords=hotwords,
        hotwords_weight=hotwords_weight,
        lm=lm,
        lm_weight=lm_weight,
        word_bonus=word_bonus,
    )
    if decoding is not None:
        recogniser.search(decoding)  # what does not fit is said before the first recording
    if speaker is not None:
        recogniser.speakers.find(speaker)  # likewise
    options = {"speaker": speaker, "decoding": decoding, "allow_random_weights": allow_random_weights}
    if live:
        from edgekit.cli.live import transcribe_live

        transcribe_live(recogniser, audio, options | {"endpoint": Endpoint(silence), "chunk_s": chunk}, jsonl)
        return
    records, failed = [], 0
    for path, transcript in _answers(recogniser, audio, batch, options):
        if isinstance(transcript, EdgekitError):
            if len(audio) == 1:
                raise transcript
            # the other recordings are still wanted
            log(f"error: {transcript.message}")
            failed += 1
            continue
        record = {"audio": str(path), **transcript.to_json()}
        if jsonl:
            typer.echo(jsonlib.dumps(record, ensure_ascii=False))
        elif srt:
            typer.echo(to_srt(transcript.words), nl=False)
        elif not json:
            prefix = f"{path}: " if len(audio) > 1 else ""
            typer.echo(f"{prefix}{transcript.text}")
            took = f"{transcript.audio_s:.2f} s of audio in {transcript.compute_s:.3f} s, RTF {transcript.rtf:.4f}"
            known = "" if transcript.speaker is None else f", {transcript.speaker}"
            log(f"  {took}, {recogniser.session}{known}")
        records.append(record)
    if json:
        print_json({"session": str(recogniser.session), "transcripts": records})
    if failed:
        raise typer.Exit(1)


def _answers(
    recogniser: SpeechRecognition, audio: Sequence[Path], batch: int, options: dict[str, Any]
) -> Iterator[tuple[Path, Transcript | EdgekitError]]:
    """Each recording's answer, or why it has none, in order."""
    from edgekit.core.errors import EdgekitError

    speaker, others = options["speaker"], {name: value for name, value in options.items() if name != "speaker"}
    for start in range(0, len(audio), batch):
        group = audio[start : start + batch]
        if len(group) > 1:
            try:
                found = recogniser.transcribe_batch([(path, speaker) for path in group], **others)
            except EdgekitError:
                pass  # which of them cannot be answered shows when each is alone
            else:
                yield from zip(group, found)
                continue
        for path in group:
            try:
                yield path, recogniser.transcribe(path, **options)
            except EdgekitError as error:
                yield path, error


def _told_apart(first: Path | None, others: list[Path], *, needed: bool) -> tuple[Path, list[Path]]:
    """The bundle and the recordings. A folder is a bundle, as no recording is one; else the built-in model answers."""
    from edgekit.core.errors import BundleError, UsageError
    from edgekit.runtime.builtin import builtin_bundle

    # os.path and not Path, whose questions raise where a name is too long or a folder is closed to this user
    named = first is not None and os.path.isdir(first)  # noqa: PTH112
    if needed and (first is None or (named and not others)):
        after = f" after the bundle {first}" if named else ""
        raise UsageError(f"expected recordings{after}, received none", hint="edgekit transcribe [BUNDLE] AUDIO...")
    if first is None:
        return builtin_bundle(), []
    if named:
        return first, others
    if others and not os.path.exists(first):  # noqa: PTH110
        # a bundle's name with a slip in it: another model must not answer in its place
        raise BundleError(
            f"expected a bundle's folder or a recording, {first} is neither", hint="look at the first path"
        )
    return builtin_bundle(), [first, *others]
