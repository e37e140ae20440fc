"""From the start of a process to its answer: `edgekit --help`, `export` with its check, `transcribe` of 5 s of speech.

    python benchmarks/startup.py [--runs 15] [--exports 3] [--out FILE.json]

Each run is a process of its own; the commands take turns, after one run of each that is not counted: files are then
in the system's cache and modules are compiled. `python -c pass` stands beside them as the floor.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.interval import median_interval
from shared.record import describe, load, record, write_result

from edgekit.runtime.samples import sample_clips

PACKAGES = ("edgekit", "typer", "numpy", "onnxruntime", "torch")


def run(command: Sequence[str]) -> dict[str, float]:
    """Wall and CPU milliseconds of a process from its start to its end.

    Raises:
        SystemExit: it failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    wall_ms = (time.perf_counter() - start) * 1e3
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr.strip()}")
    cpu_ms = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3
    return {"wall_ms": round(wall_ms, 2), "cpu_ms": round(cpu_ms, 2)}


def export(bundle: Path) -> list[str]:
    """The default student, exported and checked against torch; its latency is not measured."""
    return [sys.executable, "-m", "edgekit", "export", "hubert-student", "--out", str(bundle), "--no-latency"]


def measure(folder: Path, num_runs: int, num_exports: int) -> dict[str, list[dict[str, float]]]:
    """All runs, by the command as it is shown."""
    bundle, recording = folder / "bundle", sample_clips()[-1]
    transcribe = [sys.executable, "-m", "edgekit", "transcribe", str(bundle), str(recording), "--allow-random-weights"]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "edgekit --help": [sys.executable, "-m", "edgekit", "--help"],
        "edgekit transcribe BUNDLE 5s.flac": transcribe,
    }
    say("warming up: one export, one run of each command")
    run(export(bundle))
    for command in commands.values():
        run(command)
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for index in range(num_runs):
        for name, command in commands.items():
            taken[name].append(run(command))
        say(f"run {index + 1} of {num_runs}: " + ", ".join(f"{runs[-1]['wall_ms']:.0f} ms" for runs in taken.values()))
    taken["edgekit export hubert-student"] = exports = []
    for index in range(num_exports):
        exports.append(run(export(folder / f"bundle-{index}")))
        say(f"export {index + 1} of {num_exports}: {exports[-1]['wall_ms']:.0f} ms")
    return taken


def row_of(command: str, runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Median with its 95 % interval, and the whole spread, in milliseconds."""
    wall_ms = [each["wall_ms"] for each in runs]
    return {
        "command": command,
        "num_runs": len(runs),
        "wall_ms": median_interval(wall_ms).to_json(),
        "wall_min_ms": min(wall_ms),
        "wall_max_ms": max(wall_ms),
        "cpu_p50_ms": median_interval([each["cpu_ms"] for each in runs]).to_json()["median"],
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown."""
    titles = ("command", "runs", "wall median (ms)", "95 %", "min to max", "CPU median (ms)")
    lines = [titles, ("---", *["---:"] * 5)]
    for row in rows:
        wall = row["wall_ms"]
        lines.append(
            (
                f"`{row['command']}`",
                str(row["num_runs"]),
                f"{wall['median']:.0f}",
                f"{wall['low']:.0f} to {wall['high']:.0f}",
                f"{row['wall_min_ms']:.0f} to {row['wall_max_ms']:.0f}",
                f"{row['cpu_p50_ms']:.0f}",
            )
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=15, help="of each short command")
    parser.add_argument("--exports", type=int, default=3, help="of the export")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "startup.json")
    arguments = parser.parse_args()

    result = record("startup", PACKAGES)
    with tempfile.TemporaryDirectory(prefix="edgekit-benchmark-") as folder:
        runs = measure(Path(folder), arguments.runs, arguments.exports)
    result |= {"load_after": load(), "rows": [row_of(name, taken) for name, taken in runs.items()], "runs": runs}
    write_result(arguments.out, result)
    print(describe(result), table(result["rows"]), sep="\n\n")


if __name__ == "__main__":
    main()
