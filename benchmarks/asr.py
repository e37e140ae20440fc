"""Speech recognisers on the same recordings: edgekit's bundles beside Whisper, Vosk and pocketsphinx.

    python benchmarks/asr.py BUNDLE... --data LibriSpeech/test-clean [--digits RECORDINGS] [--limit 400]
        [--lm FILE.arpa] [--peers-python PATH] [--faster-whisper FOLDER] [--threads 1] [--out FILE.json]

Word error rate with its 95 % interval, real-time factor, peak memory and size on disk, from 16-bit samples in memory to
text. Each recogniser has a process of its own and one thread; blocks of recordings go to one after the other, so that
whatever else the machine does meets all alike. `--data` is what `read_corpus` reads, `--digits` the free spoken digits
(8 kHz), of which the official test is taken. Peers live in the environment of `--peers-python`, with num2words; one
that is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from asr.contender import Contender, Missing, Process
from asr.recognisers import INSTALL
from asr.recordings import list_digits, pcm, spread
from asr.tables import report
from asr.texts import RULES, by_rule
from shared.record import describe, load, record, write_result

from edgekit.core.errors import AudioError
from edgekit.runtime.corpus import Utterance, read_corpus
from edgekit.runtime.word_errors import Answer, count_word_errors, load_jiwer

PACKAGES = ("edgekit", "numpy", "jiwer")
BEAMS = {"beam 5": 5, "greedy": 1}
"""Of the Whispers, by name."""
PAUSE_S = 0.1
"""Between two contenders: threads look for work for some 50 ms after a call."""

Answers = dict[str, dict[str, list[Any]]]
"""By contender `text`, `wall_s` and `cpu_s`, one per utterance."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="*", metavar="BUNDLE", help="greedy, and with --lm by beam search")
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="corpora with transcripts")
    parser.add_argument("--digits", type=Path, help="the folder of the free spoken digits")
    parser.add_argument("--limit", type=int, help="at most so many recordings of each, spread evenly over speakers")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of recordings")
    parser.add_argument("--block", type=int, default=5, help="recordings that a contender takes in a turn")
    parser.add_argument("--threads", type=int, default=1, help="of each contender")
    parser.add_argument("--backends", nargs="+", default=["onnxruntime"], help="onnxruntime, openvino: of the bundles")
    parser.add_argument("--lm", help="a language model for the bundles, in ARPA format")
    parser.add_argument("--lm-weight", type=float)
    parser.add_argument("--beam", type=int, help="with --lm")
    parser.add_argument("--allow-random-weights", action="store_true", help="only shows that it runs")
    parser.add_argument("--peers", nargs="*", choices=INSTALL, default=list(INSTALL), help="default: all")
    parser.add_argument("--peers-python", default=sys.executable, help="the Python of the peers' environment")
    parser.add_argument("--faster-whisper", type=Path, metavar="FOLDER", help="a Whisper in CTranslate2's form")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "asr.json")
    given = parser.parse_args()
    if not given.data and given.digits is None:
        parser.error("expected --data or --digits")
    if any(len({path.name for path in paths}) < len(paths) for paths in (given.bundles, given.data)):
        parser.error("expected bundles and data with names of their own")
    if given.lm is None and (given.beam, given.lm_weight) != (None, None):
        parser.error("expected --lm with --beam or --lm-weight")

    load_jiwer()
    result = record("asr", PACKAGES)
    result |= {
        "threads": given.threads,
        "block": given.block,
        "limit": given.limit,
        "seed": given.seed,
        "rules": RULES,
        "left_out": {},
        "sets": [],
    }
    found = contenders(given)
    if "faster-whisper" in given.peers and given.faster_whisper is None:
        result["left_out"]["faster-whisper"] = "no model given: --faster-whisper FOLDER"
    with tempfile.TemporaryDirectory(prefix="edgekit-benchmark-") as folder:
        sets = {path.name: path for path in given.data}
        if given.digits is not None:
            sets["free spoken digits, official test"] = Path(folder) / "digits.jsonl"
            list_digits(given.digits, Path(folder) / "digits.jsonl")
        for name, path in sets.items():
            corpus = read_corpus(path)
            chosen = spread(corpus.with_text().utterances, given.limit, given.seed)
            say(f"{name}: {len(chosen)} of {len(corpus.utterances)} recordings")
            measured = measure(found, chosen, given, Path(folder), result["left_out"])
            result["sets"].append({"name": name, **measured})
            result["load_after"] = load()
            write_result(given.out, result)
    print(describe(result), report(result), sep="\n\n")
    say(f"written to {given.out}")


def contenders(given: argparse.Namespace) -> list[Contender]:
    """All that were asked for, in the order of their turns."""
    found = []
    for path, backend in product(given.bundles, given.backends):
        common = {
            "kind": "bundle",
            "path": str(path),
            "backend": backend,
            "threads": given.threads,
            "allow_random_weights": given.allow_random_weights,
        }
        found.append(Contender(f"{path.name}, {backend}, greedy", sys.executable, common))
        if given.lm is not None:
            searched = {**common, "lm": given.lm, "beam": given.beam, "lm_weight": given.lm_weight}
            found.append(Contender(f"{path.name}, {backend}, beam + LM", sys.executable, searched))
    kinds: dict[str, dict[str, dict[str, Any]]] = {
        "whisper": {f"Whisper tiny.en, {name}": {"beam": beam} for name, beam in BEAMS.items()},
        "faster-whisper": {
            f"faster-whisper {given.faster_whisper.name}, int8, {name}": {
                "folder": str(given.faster_whisper),
                "beam": beam,
            }
            for name, beam in BEAMS.items()
        }
        if given.faster_whisper
        else {},
        "vosk": {"Vosk small English": {}},
        "pocketsphinx": {"pocketsphinx English, trigrams": {}},
    }
    for kind in given.peers:
        for name, settings in kinds[kind].items():
            spec = {"kind": kind, "threads": given.threads, **settings}
            found.append(Contender(name, given.peers_python, spec))
    return found


def measure(
    found: Sequence[Contender],
    chosen: Sequence[Utterance],
    given: argparse.Namespace,
    folder: Path,
    left_out: dict[str, str],
) -> dict[str, Any]:
    """One set: all contenders, each in a new process.

    Args:
        folder: for samples on their way.
        left_out: by kind, why; those that are not installed are added.
    """
    references = by_rule(given.peers_python, [utterance.text or "" for utterance in chosen])
    load_before = load()
    with ExitStack() as stack:
        processes = []
        for contender in found:
            if contender.spec["kind"] in left_out:
                continue
            say(f"opening {contender.name}")
            try:
                processes.append(Process(contender, given.threads))
                stack.callback(processes[-1].close)
            except Missing as missing:
                left_out[contender.spec["kind"]] = str(missing)
        if not processes:
            raise SystemExit("expected a bundle or an installed peer, there is none")
        answers, heard, skipped = take_turns(processes, chosen, given.block, folder)
        facts = {process.name: facts_of(process) for process in processes}
    kept = [chosen[index] for index in heard]
    said = {rule: [texts[index] for index in heard] for rule, texts in references.items()}
    answered = by_rule(given.peers_python, [text for given_by in answers.values() for text in given_by["text"]])
    shares = {name: slice(turn * len(kept), (turn + 1) * len(kept)) for turn, name in enumerate(answers)}
    return {
        "load_before": load_before,
        "load_after": load(),
        "skipped": skipped,
        "rows": [
            {
                "recogniser": name,
                **facts[name],
                **errors_of(kept, said, {rule: texts[share] for rule, texts in answered.items()}),
                "speed": speed_of(kept, answers[name]),
            }
            for name, share in shares.items()
        ],
        "utterances": [
            {"id": u.id, "speaker": u.speaker, "audio_s": round(u.duration_s, 3), "text": u.text} for u in kept
        ],
        "answers": answers,
    }


def take_turns(
    processes: Sequence[Process], chosen: Sequence[Utterance], block: int, folder: Path
) -> tuple[Answers, list[int], dict[str, str]]:
    """Every contender on every block of recordings, one after the other; the first recording once more before.

    Returns:
        What they answered; the indices in `chosen` of the recordings that could be read; and why the others could not.
    """
    answers: Answers = {process.name: {"text": [], "wall_s": [], "cpu_s": []} for process in processes}
    heard: list[int] = []
    skipped: dict[str, str] = {}
    start = time.monotonic()
    for first in range(0, len(chosen), block):
        files = []
        for index in range(first, min(first + block, len(chosen))):
            file = folder / f"{index}.pcm"
            try:
                file.write_bytes(pcm(chosen[index]))
            except AudioError as error:
                skipped[chosen[index].id] = error.message
            else:
                files.append(file)
                heard.append(index)
        for process in processes if files else ():
            time.sleep(PAUSE_S)
            if len(heard) == len(files):  # a first run allocates
                process.answer(files[0])
            for file in files:
                for kind, value in process.answer(file).items():
                    answers[process.name][kind].append(value)
        for file in files:
            file.unlink()
        done = min(first + block, len(chosen))
        left_s = (time.monotonic() - start) * (len(chosen) - done) / done
        say(f"{done} of {len(chosen)}, {left_s / 60:.0f} min left")
    if not heard:
        raise SystemExit(f"expected a recording that can be read, received none of {len(chosen)}")
    return answers, heard, skipped


def facts_of(process: Process) -> dict[str, Any]:
    """What was opened, its memory until now and its size."""
    return {
        "versions": process.opened["versions"],
        "settings": process.opened["settings"],
        "disk_mib": round(process.opened["num_bytes"] / 2**20, 2),
        "load_s": round(process.load_s, 2),
        "memory": {"loaded_mib": process.loaded_mib, "peak_mib": process.peak_mib()},
    }


def errors_of(
    utterances: Sequence[Utterance], said: dict[str, list[str]], answered: dict[str, list[str]]
) -> dict[str, Any]:
    """Word errors, from references and answers by rule."""

    def count(rule: str, normalised: bool) -> dict[str, Any]:
        pairs = zip(utterances, said[rule], answered[rule])
        answers = [Answer(u.id, reference, hypothesis, u.speaker) for u, reference, hypothesis in pairs]
        return count_word_errors(answers, normalised=normalised, num_worst=0).to_json()

    return {
        "errors": count("spelled", normalised=True),
        "errors_whisper_rule": count("whisper", normalised=False) if "whisper" in said else None,
    }


def speed_of(utterances: Sequence[Utterance], answers: dict[str, list[Any]]) -> dict[str, float]:
    """Seconds together, and real-time factors: over all, and the percentiles over recordings."""
    audio_s = np.array([utterance.duration_s for utterance in utterances])
    wall_s = np.array(answers["wall_s"])
    p50, p95 = np.percentile(wall_s / audio_s, [50, 95])
    return {
        "audio_s": round(float(audio_s.sum()), 3),
        "compute_s": round(float(wall_s.sum()), 3),
        "cpu_s": round(float(np.sum(answers["cpu_s"])), 3),
        "rtf": round(float(wall_s.sum() / audio_s.sum()), 5),
        "rtf_p50": round(float(p50), 5),
        "rtf_p95": round(float(p95), 5),
    }


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
