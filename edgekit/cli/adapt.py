"""`edgekit adapt`: a recogniser learns a speaker on this machine, and keeps what it learned if it is better."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.learning import learning
from edgekit.cli.options import Beam, Hotwords, HotwordsWeight, Json, Lm, LmWeight, StoreRoot, Threads, WordBonus
from edgekit.cli.output import log, print_json, table

if TYPE_CHECKING:
    from edgekit.runtime.adapt.adaptation import Outcome, Resume

_NUM_SKIPPED = 10
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
_MIB = {"KiB": 2**-10, "MiB": 1, "GiB": 2**10, "MB": 1e6 / 2**20, "GB": 1e9 / 2**20, "M": 1, "G": 2**10}
_QUANTITY = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[A-Za-z]*)")


def adapt(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[BUNDLE] DATA...",
            help="Corrected lines of `edgekit transcribe --jsonl`, a folder with transcripts, or recordings alone; "
            "before them the folder that `edgekit export --adapt` wrote, default: the built-in model.",
        ),
    ] = None,
    speaker: Annotated[str | None, typer.Option(metavar="NAME", help="Who speaks; a name of your choice.")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Be done in this time, as 60s or 5m; default: no limit.")
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Stay within it, as 300MiB; utterances that do not fit are left out."),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--fresh",
            help="Insist on going on with what was stopped, or drop it; default: go on if settings and data are the "
            "same.",
            show_default=False,
        ),
    ] = None,
    store: StoreRoot = None,
    threads: Threads = None,
    beam: Beam = None,
    hotwords: Hotwords = None,
    hotwords_weight: HotwordsWeight = None,
    lm: Lm = None,
    lm_weight: LmWeight = None,
    word_bonus: WordBonus = None,
    set: Annotated[list[str] | None, typer.Option(help="FIELD=VALUE, as learning_rate=3e-4; see --show.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the settings, and do nothing.")] = False,
    allow_random_weights: Annotated[
        bool, typer.Option("--allow-random-weights", help="Learn although the words mean nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Learn a speaker from recordings, without sending them anywhere.

    A part of the speech is held back. If what was learned answers it better than the model did before, it is installed
    (`edgekit transcribe --speaker NAME`); else nothing is, and the exit code is 1. Recordings without texts are learned
    from the model's own words where it is sure of them; --beam, --hotwords and --lm help it there.
    """
    began = time.monotonic()  # what is imported below takes time, too
    from edgekit.core.errors import UsageError
    from edgekit.core.settings import apply_settings
    from edgekit.runtime.adapt.settings import AdaptSettings

    settings = apply_settings(AdaptSettings(), set or [])
    if show:
        for name, value in vars(settings).items():
            typer.echo(f"{name}={value}")
        return
    bundle, paths = _told_apart(data or [])
    if speaker is None:
        raise UsageError("expected a name for who speaks, received none", hint="--speaker NAME")
    from edgekit.runtime.adapt.adaptation import adapt_speaker
    from edgekit.runtime.decode.decoding import read_decoding

    how: dict[bool | None, Resume] = {None: "same", True: "must", False: "never"}
    try:
        with learning() as (report, say):
            outcome = adapt_speaker(
                bundle,
                speaker,
                paths,
                settings=settings,
                store=store,
                budget_s=None if budget is None else _quantity("--budget", budget, _SECONDS, "s", "60s or 5m"),
                max_memory_mib=None
                if max_memory is None
                else _quantity("--max-memory", max_memory, _MIB, "MiB", "300MiB"),
                began=began,
                num_threads=threads,
                decoding=read_decoding(
                    beam=beam,
                    hotwords=hotwords,
                    hotwords_weight=hotwords_weight,
                    lm=lm,
                    lm_weight=lm_weight,
                    word_bonus=word_bonus,
                ),
                resume=how[resume],
                allow_random_weights=allow_random_weights,
                report=report,
                say=say,
            )
    except KeyboardInterrupt:
        log("stopped; to go on, give the same command again")
        raise SystemExit(130) from None
    _tell(outcome, bundle, store, json)
    if outcome.record is None:
        raise typer.Exit(1)


def _told_apart(paths: list[Path]) -> tuple[Path, list[Path]]:
    """The bundle and the data. A folder with a manifest is a bundle, any other is data for the built-in model."""
    from edgekit.core.bundle import MANIFEST
    from edgekit.core.errors import UsageError
    from edgekit.runtime.builtin import builtin_bundle

    named = bool(paths) and (paths[0] / MANIFEST).is_file()
    bundle, data = (paths[0], paths[1:]) if named else (builtin_bundle(), paths)
    if not data:
        after = f" after the bundle {bundle}" if named else ""
        raise UsageError(
            f"expected recordings{after}, received none", hint="edgekit adapt [BUNDLE] DATA... --speaker NAME"
        )
    return bundle, data


def _quantity(option: str, text: str, units: Mapping[str, float], default: str, example: str) -> float:
    """A number with a unit, as a multiple of `units`; without one it is `default`.

    Raises:
        UsageError: something else.
    """
    from edgekit.core.errors import UsageError

    known = {unit.casefold(): size for unit, size in units.items()}
    found = _QUANTITY.fullmatch(text.strip())
    unit = (found["unit"] or default).casefold() if found else ""
    if found is None or unit not in known or not float(found["number"]):
        raise UsageError(f"expected {option} as {example}, received {text!r}", hint=f"units: {', '.join(units)}")
    return float(found["number"]) * known[unit]


def _tell(outcome: Outcome, bundle: Path, store: Path | None, json: bool) -> None:
    """The figures, what was left out, and what comes next."""
    import shlex

    data, adapted = outcome.data, outcome.adapted
    for each in data.skipped[:_NUM_SKIPPED]:
        log(f"left out {each.path}: {each.reason}")
    if len(data.skipped) > _NUM_SKIPPED:
        log(f"left out {len(data.skipped) - _NUM_SKIPPED} more; --json names them all")
    if adapted.num_too_long:
        log(f"left out {adapted.num_too_long} utterances that do not fit into the memory allowed")
    if len(data.speakers) > 1:
        log(f"warning: the data name {len(data.speakers)} speakers, and all of them were taken for {outcome.speaker}")
    if json:
        print_json(outcome.to_json())
    else:
        table(("", "before", "after"), _rows(outcome), right=(1, 2))
        typer.echo(_described(outcome))
    if outcome.record is None:
        log("nothing was installed: on what was held back, the model alone is as good")
        log("hint:  more speech, corrected texts, or a lower --set learning_rate")
        return
    version = outcome.record.card.version
    where = [] if store is None else ["--store", str(store)]
    command = shlex.join(["edgekit", "transcribe", str(bundle), "AUDIO", "--speaker", outcome.speaker, *where])
    say = log if json else typer.echo
    say(f"installed {outcome.speaker}, version {version}; next: {command}")


def _rows(outcome: Outcome) -> list[tuple[str, str, str]]:
    before, after = outcome.adapted.before, outcome.adapted.after
    return [
        ("held-back loss, nats per label", f"{before.loss:.4f}", f"{after.loss:.4f}"),
        ("held-back word error rate", f"{100 * before.wer:.2f} %", f"{100 * after.wer:.2f} %"),
    ]


def _described(outcome: Outcome) -> str:
    adapted, sources = outcome.adapted, outcome.data.sources
    texts = {"corrected": "corrected texts", "transcripts": "transcripts", "pseudo": "the model's own words"}
    from_ = " and ".join(texts[source] for source in sources)
    learned = f"{adapted.num_utterances} utterances, {adapted.speech_s:.0f} s, with {from_}"
    judged = f"{adapted.num_held_back} held back, {adapted.held_back_s:.0f} s"
    took = f"{adapted.steps} updates (the best: {adapted.best_step}) in {adapted.seconds:.1f} s"
    note = "\nthe word error rates are against the model's own words" if "pseudo" in sources else ""
    return f"{learned}; {judged}\n{took}, {adapted.peak_mib:.0f} MiB at most; ended by: {adapted.stopped}{note}"
