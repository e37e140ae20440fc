"""`edgekit benchmark`: how well, how fast and in how much memory a bundle does its task on data with known answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.few_shot import few_shot
from edgekit.cli.libricontinual import libricontinual
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
from edgekit.cli.output import log, print_json, progress_bar, table

if TYPE_CHECKING:
    from edgekit.runtime.benchmark_asr import AsrBenchmark

benchmark = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
benchmark.command("libricontinual")(libricontinual)
benchmark.command("few-shot")(few_shot)

_NUM_SKIPPED, _NUM_WORST = 10, 5


@benchmark.callback()
def _root() -> None:
    """Measure a bundle on data with known answers."""


@benchmark.command("asr")
def asr(
    bundle: OptionalBundlePath = None,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Recordings with transcripts: a folder as of LibriSpeech, LJSpeech or Common Voice, or a .jsonl file.",
        ),
    ] = None,
    backend: Backend = None,
    device: Device = None,
    precision: Precision = "fp32",
    threads: Threads = None,
    allow_fallback: AllowFallback = False,
    beam: Beam = None,
    hotwords: Hotwords = None,
    hotwords_weight: HotwordsWeight = None,
    lm: Lm = None,
    lm_weight: LmWeight = None,
    word_bonus: WordBonus = None,
    speaker: Speaker = None,
    store: StoreRoot = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many recordings, spread evenly over the data.")
    ] = None,
    normalise: Annotated[
        bool,
        typer.Option(
            "--normalise/--no-normalise",
            help="Compare in upper case and without punctuation, or the words as they stand.",
        ),
    ] = True,
    allow_random_weights: Annotated[
        bool, typer.Option("--allow-random-weights", help="Measure although the error rate means nothing.")
    ] = False,
    show_worst: Annotated[
        bool, typer.Option("--show-worst", help="Also print the worst 5 answers, aligned word by word.")
    ] = False,
    json: Json = False,
    out: Annotated[Path | None, typer.Option(help="Also write the result to this JSON file.")] = None,
) -> None:
    """Word error rate with its 95 % interval, real-time factor and memory of a speech recogniser."""
    import json as jsonlib
    import shlex
    import sys

    from edgekit.core.errors import UsageError
    from edgekit.core.files import write_atomic
    from edgekit.runtime.benchmark_asr import benchmark_asr
    from edgekit.runtime.builtin import builtin_bundle
    from edgekit.runtime.decode.decoding import read_decoding
    from edgekit.runtime.word_errors import aligned

    if data is None:
        bundle, data = None, bundle  # the one path that was given
    if data is None:
        raise UsageError("expected recordings with transcripts, received none", hint="edgekit benchmark asr DATA")
    bundle = bundle or builtin_bundle()
    if out is not None and out.is_dir():
        raise UsageError(f"expected a file for --out, received the folder {out}")
    decoding = read_decoding(
        beam=beam,
        hotwords=hotwords,
        hotwords_weight=hotwords_weight,
        lm=lm,
        lm_weight=lm_weight,
        word_bonus=word_bonus,
    )
    with progress_bar() as report:
        result = benchmark_asr(
            bundle,
            data,
            backend=backend,
            device=device,
            precision=precision,
            num_threads=threads,
            allow_fallback=allow_fallback,
            allow_random_weights=allow_random_weights,
            limit=limit,
            normalised=normalise,
            decoding=decoding,
            speaker=speaker,
            store=store,
            command=shlex.join(["edgekit", *sys.argv[1:]]),
            report=report,
        )
    if result.context["bundle"]["weights"]["source"] == "random":
        log("warning: random weights: speed and memory are real, the error rates are not")
    for recording in result.skipped[:_NUM_SKIPPED]:
        log(f"skipped {recording.path}: {recording.reason}")
    if len(result.skipped) > _NUM_SKIPPED:
        log(f"skipped {len(result.skipped) - _NUM_SKIPPED} more; --json and --out name them all")
    if out is not None:
        # bytes of a file's name that are no text stand as JSON's own escape
        text = jsonlib.dumps(result.to_json(), indent=2, ensure_ascii=False) + "\n"
        write_atomic(out, text.encode("utf-8", "backslashreplace"))
        log(f"written to {out}")
    if json:
        print_json(result.to_json())
        return
    table(("", f"{bundle} on {data}"), _rows(result))
    for answer in result.errors.worst[: _NUM_WORST if show_worst else 0]:
        typer.echo(f"{answer.id}, errors: {answer.num_errors}")
        typer.echo(aligned(answer.reference, answer.hypothesis) + "\n")


def _rows(result: AsrBenchmark) -> list[tuple[str, str]]:
    """The figures for a person."""
    errors, session = result.errors, result.context["session"]
    drawn = {"speakers": errors.num_speakers, "utterances": errors.num_utterances}[errors.resampled]

    def interval(ends: tuple[float, float] | None) -> str:
        if ends is None:
            return "no interval of one recording"
        return f"95 %: {100 * ends[0]:.2f} to {100 * ends[1]:.2f} %, over {drawn} {errors.resampled}"

    kinds = f"{errors.substitutions} S, {errors.deletions} D, {errors.insertions} I"
    machine = result.context["machine"]
    where = machine["gpu"] or machine["jetson"] or machine["cpu"]
    threads = "" if session["num_threads"] is None else f", threads: {session['num_threads']}"
    return [
        ("word error rate", f"{100 * errors.wer:.2f} %  ({interval(errors.interval)})"),
        ("word errors", f"{kinds} of {errors.num_words} words"),
        ("character error rate", f"{100 * errors.cer:.2f} %  ({interval(errors.cer_interval)})"),
        ("real-time factor", f"{result.rtf:.4f}  (p50 {result.rtf_p50:.4f}, p95 {result.rtf_p95:.4f})"),
        ("time", f"{result.compute_s:.1f} s for {result.audio_s:.1f} s of audio"),
        ("memory", f"{result.peak_mib:.0f} MiB at most, {result.loaded_mib:.0f} MiB once loaded"),
        ("recordings", f"{errors.num_utterances} scored, {len(result.skipped)} skipped"),
        ("run on", f"{session['backend']} {session['precision']} on {session['device']}{threads}, {where}"),
    ]
