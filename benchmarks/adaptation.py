"""Learning a speaker on the device: edgekit's gradient graphs and NumPy against torch, one utterance at a time.

    python benchmarks/adaptation.py --data SPEAKER_FOLDER --work DIR [--checkpoint CKPT] [--threads 1] [--steps 20]

Each learner has a process of its own; they take turns, update by update, on the same utterances. Of edgekit and torch,
which tune the same augment net, the losses must stay together; CPU time is a ratio per update, with its 95 % interval.
Beside them torch tunes all weights of the core, and as many by peft's LoRA. `--data` is what `read_corpus` reads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from adapting.learners import KINDS
from rich.console import Console
from rich.table import Table
from shared.interval import median_interval
from shared.record import describe, load, record, write_result
from shared.worker import Worker

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.runtime.adapt.labels import read_labels
from edgekit.runtime.corpus import read_corpus
from edgekit.runtime.features import open_features
from edgekit.runtime.features.audio import load_audio

PACKAGES = ("edgekit", "numpy", "onnxruntime", "torch", "peft")
MOST_CPU, MOST_MEMORY, MOST_DISK, LOSS_RTOL = 0.8, 0.5, 0.2, 1e-4
WARM = 2
"""Updates that are not counted: the first ones allocate."""


def start(kind: str, checkpoint: str | None, bundle: Path, speech: Path, threads: int) -> Worker:
    """A learner in a process of its own."""
    files = {"checkpoint": checkpoint, "bundle": str(bundle), "speech": str(speech)}
    spec = {"kind": kind, "threads": threads, **files}
    return Worker(kind, [sys.executable, "-m", "adapting.worker", json.dumps(spec)], threads)


def write_speech(bundle: Bundle, data: Path, path: Path, most: int) -> float:
    """Features and labels of the first recordings with a text; seconds of sound."""
    features, labels = open_features(bundle.manifest.features), read_labels(bundle)
    arrays, seconds = {}, 0.0
    for utterance in [each for each in read_corpus(data).utterances if each.text][:most]:
        assert utterance.text is not None
        wave = load_audio(utterance.audio, features.sample_rate, min_samples=features.min_samples)
        arrays[f"features/{len(arrays) // 2}"] = features(wave)
        arrays[f"labels/{len(arrays) // 2}"] = np.array(labels.encode(utterance.text)[1])
        seconds += len(wave) / features.sample_rate
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return seconds


def installed_mib(names: Iterable[str]) -> float:
    """What packages and all that they need take on the disk."""
    seen: set[str] = set()
    waiting = list(names)
    total = 0
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another system or Python
        total += sum(Path(str(file.locate())).stat().st_size for file in found.files or () if _is_file(file.locate()))
        for wanted in found.requires or ():
            if "extra ==" not in wanted:
                waiting.append("".join(c if c.isalnum() or c in "-_." else " " for c in wanted).split()[0])
    return total / 2**20


def _is_file(path: Any) -> bool:
    return Path(str(path)).is_file()


def measure(processes: list[Worker], steps: int, per_step: int, count: int) -> dict[str, list[dict[str, Any]]]:
    """All updates of all learners, in turns, the order turned around each time."""
    found: dict[str, list[dict[str, Any]]] = {process.name: [] for process in processes}
    for step in range(steps):
        indices = [(step * per_step + offset) % count for offset in range(per_step)]
        for process in processes if step % 2 == 0 else processes[::-1]:
            found[process.name].append(process.ask(indices))
    return found


def summarise(found: dict[str, list[dict[str, Any]]], opened: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Per learner its figures, and of edgekit against torch the ratios and verdicts."""
    summary: dict[str, Any] = {"learners": {}}
    baseline = np.array([each["cpu_s"] for each in found["torch"][WARM:]])
    for kind, steps in found.items():
        cpu = np.array([each["cpu_s"] for each in steps[WARM:]])
        ratio = median_interval(cpu / baseline)
        summary["learners"][kind] = {
            **opened[kind],
            "cpu_s": median_interval(cpu).to_json(),
            "cpu_against_torch": ratio.to_json(),
            "peak_mib": steps[-1]["peak_mib"],
            "losses": [round(each["loss"], 5) for each in steps],
        }
    mine, theirs = (np.array([each["loss"] for each in found[kind]]) for kind in ("edgekit", "torch"))
    cpu = np.array([each["cpu_s"] for each in found["edgekit"][WARM:]]) / baseline
    memory = found["edgekit"][-1]["peak_mib"] / found["torch"][-1]["peak_mib"]
    device, trained = installed_mib(["numpy", "onnxruntime", "safetensors"]), installed_mib(["numpy", "torch"])
    differing = float(np.max(np.abs(mine - theirs) / np.abs(theirs)))
    summary["goals"] = {
        "loss": {"difference": differing, "at_most": LOSS_RTOL, "verdict": _verdict(differing, LOSS_RTOL)},
        "cpu": {
            "ratio": median_interval(cpu).to_json(),
            "at_most": MOST_CPU,
            "verdict": median_interval(cpu).verdict(at_most=MOST_CPU),
        },
        "memory": {"ratio": round(memory, 3), "at_most": MOST_MEMORY, "verdict": _verdict(memory, MOST_MEMORY)},
        "installed": {
            "edgekit_mib": round(device, 1),
            "torch_mib": round(trained, 1),
            "ratio": round(device / trained, 3),
            "at_most": MOST_DISK,
            "verdict": _verdict(device / trained, MOST_DISK),
        },
    }
    return summary


def _verdict(value: float, most: float) -> str:
    return "reached" if value <= most else "not reached"


def print_tables(summary: dict[str, Any]) -> None:
    console = Console(width=140)
    table = Table(
        "learner", "tuned values", "CPU s per update", "against torch", "peak MiB", "opened in s", "last loss"
    )
    for kind, row in summary["learners"].items():
        table.add_row(
            kind,
            f"{row['num_tuned']:,}",
            *(
                f"{row[k]['median']:.3f} ({row[k]['low']:.3f} to {row[k]['high']:.3f})"
                for k in ("cpu_s", "cpu_against_torch")
            ),
            f"{row['peak_mib']:.0f}",
            f"{row['open_s']:.1f}",
            f"{row['losses'][-1]:.3f}",
        )
    console.print(table)
    for name, goal in summary["goals"].items():
        console.print(f"{name}: {goal}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="recordings of a speaker, with their texts")
    parser.add_argument("--work", type=Path, required=True, help="the bundle and the features, kept for the next time")
    parser.add_argument("--checkpoint", help="a disconformer; default: the built-in weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--per-step", type=int, default=4, help="utterances of an update")
    parser.add_argument("--utterances", type=int, default=16)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--out", type=Path, help="the result's JSON file")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    result = record("adaptation", PACKAGES)
    bundle, speech = given.work.resolve() / "bundle", given.work.resolve() / "speech.npz"
    if not (bundle / "manifest.json").exists():
        command = ["export", "disconformer", *([given.checkpoint] if given.checkpoint else []), "--adapt"]
        subprocess.run([sys.executable, "-m", "edgekit", *command, "--no-latency", "--out", str(bundle)], check=True)
    seconds = write_speech(open_bundle(bundle), given.data, speech, given.utterances)
    with np.load(speech) as arrays:
        count = len(arrays.files) // 2
    kinds = list(dict.fromkeys(["edgekit", "torch", *given.kinds]))
    processes = [start(kind, given.checkpoint, bundle, speech, given.threads) for kind in kinds]
    for process in [each for each in processes if "missing" in each.opened]:
        print(f"{process.name}: not installed ({process.opened['missing']})", file=sys.stderr)
        process.close()
        processes.remove(process)
    found = measure(processes, given.steps, given.per_step, count)
    for process in processes:
        process.close()
    summary = summarise(found, {process.name: process.opened for process in processes})
    result |= {"threads": given.threads, "utterances": count, "speech_s": round(seconds, 1), "per_step": given.per_step}
    result |= summary | {"load_after": load()}
    print_tables(summary)
    print(describe(result))
    if given.out is not None:
        write_result(given.out, result)


if __name__ == "__main__":
    main()
