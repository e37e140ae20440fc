"""`edgekit demo personalise`: learn a speaker here and now, and see what that changes."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.learning import learning
from edgekit.cli.options import Json, StoreRoot, Threads
from edgekit.cli.output import log, print_json, table

if TYPE_CHECKING:
    from edgekit.runtime.adapt.demonstration import Demonstration

demo = typer.Typer(help="See what edgekit does, on your own recordings.", no_args_is_help=True)
_SHOWN = 3


@demo.callback()
def _root() -> None:
    """Keeps `personalise` a command of its own, also while it is the only one."""


@demo.command()
def personalise(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILES...",
            help="Recordings of one person: JSON lines, a folder with transcripts, or recordings alone.",
        ),
    ] = None,
    mic: Annotated[bool, typer.Option("--mic", help="Read sentences aloud, one after the other.")] = False,
    num: Annotated[int, typer.Option(min=6, max=24, help="Sentences to read aloud.")] = 16,
    keep: Annotated[Path, typer.Option(help="Where --mic keeps what was recorded.")] = Path("my-voice"),
    speaker: Annotated[str, typer.Option(metavar="NAME", help="The name to be kept under.")] = "me",
    bundle: Annotated[
        Path | None, typer.Option(help="What `edgekit export --adapt` wrote; default: the built-in model.")
    ] = None,
    budget: Annotated[int, typer.Option(metavar="SECONDS", help="The most time for the learning.")] = 90,
    store: StoreRoot = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Learn a speaker, and write down what was said before and after, on recordings that were not learned.

    Everything stays on this machine. A quarter of the recordings is only for showing; of the others a part decides when
    to stop. Needs no torch.
    """
    from edgekit.core.errors import UsageError
    from edgekit.runtime.adapt.demonstration import demonstrate
    from edgekit.runtime.builtin import builtin_bundle

    if mic == bool(files):
        raise UsageError("expected recordings or --mic, received " + ("both" if mic else "neither"))
    data = [_record(keep, num)] if mic else files or []
    with learning() as (report, say):
        shown = demonstrate(
            bundle or builtin_bundle(),
            speaker,
            data,
            store=store,
            budget_s=budget,
            num_threads=threads,
            report=report,
            say=say,
        )
    if json:
        print_json(
            {
                **shown.outcome.to_json(),
                "wer_before": shown.wer_before,
                "wer_after": shown.wer_after,
                "demonstration_s": shown.seconds,
                "heard": [{**vars(each), "audio": str(each.audio)} for each in shown.heard],
            }
        )
    else:
        _tell(shown, bundle, store)
    if shown.outcome.record is None:
        raise typer.Exit(1)


def _tell(shown: Demonstration, bundle: Path | None, store: Path | None) -> None:
    """What was said, what was written before and after, and what it took."""
    import shlex

    adapted, record = shown.outcome.adapted, shown.outcome.record
    for each in shown.heard[:_SHOWN]:
        said = "" if each.text is None else f"\n  said    {each.text}"
        typer.echo(f"{each.audio.name}{said}\n  before  {each.before}\n  after   {each.after}")
    rows = [
        (
            f"loss, nats per label ({adapted.num_held_back} recordings that decided when to stop)",
            f"{adapted.before.loss:.3f}",
            f"{adapted.after.loss:.3f}",
        )
    ]
    if shown.wer_before is not None and shown.wer_after is not None:
        name = f"word error rate ({len(shown.heard)} recordings that were only shown)"
        rows.append((name, f"{100 * shown.wer_before:.1f} %", f"{100 * shown.wer_after:.1f} %"))
    table(("", "before", "after"), rows, right=(1, 2))
    if shown.wer_before is None:
        typer.echo("no word error rate: the recordings have no texts")
    learned = f"learned from {adapted.num_utterances} recordings, {adapted.speech_s:.0f} s"
    typer.echo(f"{learned}, in {shown.seconds:.0f} s all in all and {adapted.peak_mib:.0f} MiB at most")
    if record is None:
        typer.echo("nothing was kept: on what was held back, the model alone is as good")
        return
    at = [] if store is None else ["--store", str(store)]
    of = [] if bundle is None else [str(bundle)]
    name = record.card.name
    size = sum(file.num_bytes for file in record.card.files) / 2**20
    typer.echo(f"{name}, version {record.card.version}: {size:.1f} MiB in {record.path}")
    typer.echo(f"use it     {shlex.join(['edgekit', 'transcribe', *of, 'AUDIO', '--speaker', name, *at])}")
    typer.echo(f"forget it  {shlex.join(['edgekit', 'speakers', 'forget', *of, name, *at])}")


def _record(folder: Path, num: int) -> Path:
    """Have sentences read aloud; a file of JSON lines with what was recorded.

    Raises:
        UnavailableError: no microphone.
        UsageError: nobody is there to read.
    """
    import numpy as np
    import soundfile

    from edgekit.core.errors import UsageError
    from edgekit.core.files import explained
    from edgekit.runtime.adapt.prompts import PROMPTS
    from edgekit.runtime.corpus import Corpus, Utterance, write_jsonl
    from edgekit.runtime.features.blocks import microphone_blocks

    if not sys.stdin.isatty():
        raise UsageError("expected a terminal with --mic", hint="or recordings: edgekit demo personalise FILES...")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    said = []
    for index, prompt in enumerate(PROMPTS[:num]):
        log(f"\n{index + 1} of {num}. Press Enter, read aloud, press Enter again:\n\n    {prompt}\n")
        input()
        ended = threading.Event()
        waiting = threading.Thread(target=_wait, args=(ended,), daemon=True)
        with microphone_blocks() as (rate, blocks):
            log("listening ...")
            waiting.start()
            spoken = []
            for block in blocks:
                spoken.append(block)
                if ended.is_set():
                    break
        wave, path = np.concatenate(spoken), folder / f"{index + 1:02}.wav"
        with explained(path):
            soundfile.write(path, wave, rate, subtype="PCM_16")
        said.append(Utterance(path.stem, path, len(wave) / rate, prompt, None))
    file = folder / "recordings.jsonl"
    write_jsonl(file, Corpus(tuple(said)))
    log(f"kept in {folder}; to learn from it again: edgekit adapt {file} --speaker NAME")
    return file


def _wait(ended: threading.Event) -> None:
    """Until Enter is pressed."""
    input()
    ended.set()
