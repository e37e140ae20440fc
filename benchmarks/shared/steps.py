"""A long experiment as steps, each one command of `edgekit`: done once, gone on with after a kill, its time kept."""

from __future__ import annotations

import fnmatch
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.core.files import write_atomic
from edgekit.runtime.corpus import Corpus, read_corpus


@dataclass(frozen=True)
class Step:
    """One command, and where its result lies.

    Attributes:
        run: it is a training run, which can go on.
        prints: its standard output is the result.
    """

    name: str
    command: tuple[str, ...]
    result: Path
    run: Path | None = None
    prints: bool = False


def train(
    name: str, family: str, recipe: str, data: Path, work: Path, settings: Sequence[str], variant: str | None = None
) -> Step:
    """A training run into `work / name`."""
    command = ["train", family, "--recipe", recipe, "--data", str(data), "--out", str(work / name)]
    for setting in settings:
        command += ["--set", setting]
    command += [] if variant is None else ["--variant", variant]
    return Step(name, tuple(command), work / name / "done.json", work / name)


def score(name: str, family: str, run: Path, test: Path, work: Path, limit: int, *settings: str) -> list[Step]:
    """Export a run's best checkpoint with some settings, and count the errors of the first recordings of `test`."""
    bundle, result = work / "bundles" / name, work / "scores" / f"{name}.json"
    export = ["export", family, str(run / "best"), "--no-latency", "--out", str(bundle)]
    for setting in settings:
        export += ["--set", setting]
    count = ("benchmark", "asr", str(bundle), str(test), "--limit", str(limit), "--out", str(result))
    return [Step(f"export-{name}", tuple(export), bundle / "manifest.json"), Step(f"score-{name}", count, result)]


def do(steps: Sequence[Step], work: Path, patterns: Sequence[str]) -> None:
    """Run those steps, or go on with them, whose name one of the patterns (`*-1h-*`) fits."""
    for step in steps:
        if any(fnmatch.fnmatch(step.name, pattern) for pattern in patterns):
            _do(step, work)


def _do(step: Step, work: Path) -> None:
    """Its wall time is kept, also of tries that were interrupted."""
    spent = work / "times" / f"{step.name}.json"
    if step.result.exists():
        return
    resume = ("--resume",) if step.run is not None and (step.run / "settings.json").exists() else ()
    command = [sys.executable, "-m", "edgekit", *step.command, *resume]
    say(f"edgekit {shlex.join((*step.command, *resume))}")
    step.result.parent.mkdir(parents=True, exist_ok=True)
    spent.parent.mkdir(exist_ok=True)
    before_s = json.loads(spent.read_text()) if spent.exists() else 0.0
    start = time.monotonic()
    try:
        with (work / "log.txt").open("a") as file:
            done = subprocess.run(command, stdout=subprocess.PIPE if step.prints else file, stderr=file, check=False)
    finally:
        spent.write_text(json.dumps(round(before_s + time.monotonic() - start, 1)))
    if done.returncode:
        raise SystemExit(f"{step.name} ended with {done.returncode}: see {work / 'log.txt'}")
    if step.run is not None:
        step.result.write_text("{}")
    elif step.prints:
        write_atomic(step.result, done.stdout)


def collect(work: Path, steps: Sequence[Step]) -> dict[str, Any]:
    """Of every step that is done its command and wall time, and of every recogniser its score, without texts."""
    done = {}
    for step in steps:
        spent = work / "times" / f"{step.name}.json"
        if step.result.exists() and spent.exists():
            # where the files lie says nothing elsewhere
            command = shlex.join(step.command).replace(f"{work}/", "")
            done[step.name] = {"command": command, "wall_s": json.loads(spent.read_text())}
            if step.name.startswith("score-"):
                score = json.loads(step.result.read_text(encoding="utf-8"))
                kept = {key: score[key] for key in ("date", "versions", "load_before", "session", "speed", "errors")}
                kept["errors"] = {key: value for key, value in score["errors"].items() if key != "worst"}
                done[step.name]["score"] = kept
    return done


def read_parts(data: Path, pieces: Path) -> dict[str, Corpus]:
    """The parts of a corpus by speakers, and the pieces of those who are learned from.

    Args:
        data: has LibriSpeech's layout and a `splits.json`: {"train": {"subset", "speakers"}, "validation", "test"}.
        pieces: JSON lines of short parts of the recordings.
    """
    splits = json.loads((data / "splits.json").read_text(encoding="utf-8"))
    parts = {}
    for name in ("train", "validation", "test"):
        whole = read_corpus(data / splits[name]["subset"])
        speakers = set(splits[name]["speakers"])
        parts[name] = Corpus(tuple(u for u in whole.utterances if u.speaker in speakers))
    learners = set(splits["train"]["speakers"])
    parts["pieces"] = Corpus(tuple(u for u in read_corpus(pieces).utterances if u.speaker in learners))
    return parts


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
