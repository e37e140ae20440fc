"""Speakers in a running engine: what another one costs a request, and weights as an input against weights in the graph.

    python benchmarks/speakers.py [--variant s] [--rounds 40] [--work DIR] [--out FILE.json]

Three bundles of the same random weights, which cost as much as trained ones: the core alone, with the first augment net
baked in (`--set active=0`), and with a theta (`--set personal=true`), of which that net and zeros are values. Before
anything is timed, the answers of the graph with a theta are held to those of the two others. Contenders take turns, in
an order drawn anew each round, in one process and one thread; a request is all between a recording in memory and its
words. Ratios are of CPU time, latencies of wall time. `--work` keeps the bundles for the next run.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import gc
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from shared.interval import median_interval
from shared.record import describe, load, record, write_result

import edgekit
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.store import Store
from edgekit.core.theta import INPUT
from edgekit.export.build import Request, build
from edgekit.export.export import ExportRequest, export
from edgekit.runtime.adapt.speaker import install
from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.samples import sample_clips
from edgekit.runtime.speakers import KNOWN_MIB, Speakers
from edgekit.runtime.tasks.speech_recognition import SpeechRecognition

PACKAGES = ("edgekit", "numpy", "onnxruntime", "openvino", "torch")
BACKENDS = ("onnxruntime", "openvino")
SETTINGS = {"core": (), "baked": ("active=0",), "theta": ("personal=true",)}
LENGTHS_S = (1, 3, 10)
SWAP_S = 3
BATCH = 16
WARM_UPS = 2
NOBODY = "nobody"
TOLERANCE = 1e-3
"""Of natural log-probabilities."""

Floats = npt.NDArray[np.float64]
Call = Callable[[], object]
Row = dict[str, Any]


def make_bundles(work: Path, variant: str) -> dict[str, Bundle]:
    """Those that are not there yet are exported and built for OpenVINO."""
    made = {}
    for name, settings in SETTINGS.items():
        path = work / f"{variant}-{name}"
        if not (path / "built").exists():
            say(f"exporting {path.name}")
            build(
                export(ExportRequest("disconformer", None, variant, None, settings, seed=0), path).path,
                Request("openvino"),
            )
            (path / "built").touch()
        made[name] = open_bundle(path)
    return made


def make_speakers(bundle: Bundle, root: Path) -> list[str]:
    """Sixteen speakers: the first augment net, and others like it; and beside them one of zeros."""
    adaptation = bundle.manifest.adaptation
    assert adaptation is not None
    assert adaptation.starts is not None
    start = safetensors.numpy.load_file(bundle.checked(adaptation.starts))[INPUT][0]
    store, random = Store(bundle.manifest.core_hash, root), np.random.default_rng(0)
    names = [f"speaker-{index:02}" for index in range(BATCH)]
    for index, name in enumerate(names):
        noise = (0.01 * bool(index) * random.standard_normal(start.shape)).astype(np.float32)
        install(store, name, start + noise, adaptation.layout.hash, {})
    install(store, NOBODY, np.zeros_like(start), adaptation.layout.hash, {})
    return names


def take_turns(contenders: Mapping[str, Call], num_rounds: int) -> dict[str, dict[str, list[float]]]:
    """Wall and CPU milliseconds of each contender, one per round."""
    for call in contenders.values():
        for _ in range(WARM_UPS):
            call()
    taken: dict[str, dict[str, list[float]]] = {name: {"wall_ms": [], "cpu_ms": []} for name in contenders}
    names, order = list(contenders), np.random.default_rng(0)
    gc.collect()
    gc.disable()
    try:
        for _ in range(num_rounds):
            for index in order.permutation(len(names)):
                wall, cpu = time.perf_counter_ns(), time.process_time_ns()
                contenders[names[index]]()
                times = {"wall_ms": time.perf_counter_ns() - wall, "cpu_ms": time.process_time_ns() - cpu}
                for kind, value in times.items():
                    taken[names[index]][kind].append(round(value / 1e6, 4))
    finally:
        gc.enable()
    return taken


def compare(what: str, taken: Mapping[str, Mapping[str, Sequence[float]]], name: str, to: str, **told: Any) -> Row:
    """One contender against another: latencies, and the ratio of CPU times with its interval."""
    ratio = np.asarray(taken[name]["cpu_ms"]) / np.asarray(taken[to]["cpu_ms"])
    row: Row = {"what": what, **told}
    for key, of in (("wall", name), ("against_wall", to)):
        p50, p99 = np.percentile(taken[of]["wall_ms"], [50, 99])
        row |= {f"{key}_p50_ms": round(float(p50), 3), f"{key}_p99_ms": round(float(p99), 3)}
    return row | {"ratio": median_interval(ratio).to_json()}


def swaps(recogniser: SpeechRecognition, names: list[str], wave: tuple[Any, int], num_rounds: int) -> list[Row]:
    """Another speaker with each request, against the same one again; all are known to the session."""
    for name in names:
        recogniser.speakers.find(name)
    turn = 0

    def ask(step: int) -> Call:
        def call() -> object:
            nonlocal turn
            turn = (turn + step) % len(names)
            return recogniser.transcribe(wave, speaker=names[turn], allow_random_weights=True)

        return call

    taken = take_turns({"same": ask(0), "other": ask(1)}, num_rounds)
    return [compare("another speaker / the same", taken, "other", "same", audio_s=SWAP_S) | {"samples": taken}]


def lookups(bundle: Bundle, root: Path, names: list[str]) -> list[Row]:
    """From a name to an input that is ready, in microseconds of wall time: kept in the session, and from the store."""
    rows = []
    for what, known, num_asked in (
        ("weights ready, kept", Speakers(bundle, root), 2000),
        ("weights ready, read", Speakers(bundle, root, known_mib=0), 100),
    ):
        taken_us = []
        for index in range(num_asked + len(names)):
            before = time.perf_counter_ns()
            known.find(names[index % len(names)])
            taken_us.append((time.perf_counter_ns() - before) / 1e3)
        p50, p99 = np.percentile(taken_us[len(names) :], [50, 99])
        rows.append({"what": what, "p50_us": round(float(p50), 1), "p99_us": round(float(p99), 1), "num": num_asked})
    return rows


def memory(bundle: Bundle, root: Path, names: list[str]) -> Row:
    """What speakers known to a session hold of the allocator, per 1,000, were they all kept."""
    known = Speakers(bundle, root, known_mib=np.inf)
    num_bytes = known.theta(names[0]).nbytes
    tracemalloc.start()
    for name in names[1:]:
        known.find(name)
    gc.collect()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "what": "memory of known speakers",
        "mib_per_1000": round(held / (len(names) - 1) * 1000 / 2**20, 1),
        "values_mib_per_1000": round(num_bytes * 1000 / 2**20, 1),
        "more_while_read_mib": round((peak - held) / 2**20, 1),
        "kept_at_most_mib": KNOWN_MIB,
        "kept_at_most": max(1, KNOWN_MIB * 2**20 // num_bytes),
    }


def graphs(opened: Mapping[str, SpeechRecognition], name: str, speech: Any, num_rounds: int) -> list[Row]:
    """Weights as an input against the same weights in the graph, and zeros against the core, per length."""
    rows = []
    for audio_s in LENGTHS_S:
        wave = np.resize(speech, audio_s * 16000), 16000

        def ask(bundle: str, speaker: str | None = None, wave: tuple[Any, int] = wave) -> Call:
            return lambda: opened[bundle].transcribe(wave, speaker=speaker, allow_random_weights=True)

        contenders = {"core": ask("core"), "zeros": ask("theta", NOBODY)}
        contenders |= {"baked": ask("baked"), "theta": ask("theta", name)}
        taken = take_turns(contenders, num_rounds)
        told = {"audio_s": audio_s, "samples": taken}
        rows.append(compare("input / baked in", taken, "theta", "baked", **told))
        rows.append(compare("zeros / core alone", taken, "zeros", "core", audio_s=audio_s))
    return rows


def batches(recogniser: SpeechRecognition, names: list[str], wave: tuple[Any, int], num_rounds: int) -> list[Row]:
    """Sixteen requests together against one after the other: of as many speakers, and of one."""
    rows = []
    for what, speakers in (("16 speakers", names), ("16 of one speaker", names[:1] * BATCH)):
        requests = [(wave, speaker) for speaker in speakers]
        contenders: dict[str, Call] = {
            "together": lambda: recogniser.transcribe_batch(requests, allow_random_weights=True),  # noqa: B023
            "one by one": lambda: [
                recogniser.transcribe(audio, speaker=speaker, allow_random_weights=True)
                for audio, speaker in requests  # noqa: B023
            ],
        }
        taken = take_turns(contenders, num_rounds)
        told = {"audio_s": SWAP_S, "samples": taken}
        rows.append(compare(f"{what} together / one by one", taken, "together", "one by one", **told))
    return rows


def check(opened: Mapping[str, SpeechRecognition], name: str, wave: Any) -> None:
    """Raise SystemExit unless the graph with a theta answers as the two others."""
    theta = opened["theta"].speakers.find(name).weights
    for bundle, weights in (("core", None), ("baked", theta)):
        expected, found = (
            opened[which]._graph.run(wave, given)[0][0].frames for which, given in ((bundle, None), ("theta", weights))
        )
        if (worst := float(np.abs(found - expected).max())) > TOLERANCE:
            raise SystemExit(f"expected the answer of {bundle} within {TOLERANCE}, received a difference of {worst:g}")


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| | backend | s | p50, p99 (ms) | against, p50, p99 (ms) | CPU ratio (95 %) |",
        "| --- | --- " + "| ---: " * 4 + "|",
    ]
    for row in rows:
        if "ratio" in row:
            cells = [
                row["what"],
                row["backend"],
                str(row["audio_s"]),
                *(f"{row[f'{key}_p50_ms']:.1f}, {row[f'{key}_p99_ms']:.1f}" for key in ("wall", "against_wall")),
                "{median:.3f} ({low:.3f} to {high:.3f})".format(**row["ratio"]),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    told = [
        f"{row.pop('what')}: {', '.join(f'{k} {v}' for k, v in row.items())}"
        for row in map(dict, rows)
        if "ratio" not in row
    ]
    return "\n".join([*lines, "", *told])


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", default="s", help="of disconformer; t for a quick look")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--work", type=Path, help="where the bundles are kept; default: nowhere")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "speakers.json")
    arguments = parser.parse_args()

    result = record("speakers", PACKAGES)
    speech = np.concatenate([load_audio(clip) for clip in sample_clips()])
    wave = np.resize(speech, SWAP_S * 16000), 16000
    with tempfile.TemporaryDirectory(prefix="edgekit-benchmark-") as folder:
        bundles = make_bundles(arguments.work or Path(folder), arguments.variant)
        root = Path(folder) / "store"
        names = make_speakers(bundles["theta"], root)
        rows = [memory(bundles["theta"], root, names), *lookups(bundles["theta"], root, names)]
        for backend in arguments.backends.split(","):
            opened = {
                name: edgekit.load(bundle.path, backend=backend, num_threads=1, store=root)
                for name, bundle in bundles.items()
            }
            check(opened, names[0], wave[0])
            for part in (
                swaps(opened["theta"], names, wave, arguments.rounds),
                graphs(opened, names[0], speech, arguments.rounds),
                batches(opened["theta"], names, wave, arguments.rounds),
            ):
                rows += [{**row, "backend": backend} for row in part]
            say(f"{backend} is done")
    samples = [
        {**{key: row[key] for key in ("what", "backend", "audio_s")}, **row.pop("samples")}
        for row in rows
        if "samples" in row
    ]
    result |= {
        "load_after": load(),
        "variant": arguments.variant,
        "weights": "random",
        "threads": 1,
        "rounds": arguments.rounds,
        "rows": rows,
        "samples": samples,
    }
    write_result(arguments.out, result)
    print(describe(result), table(rows), sep="\n\n")


if __name__ == "__main__":
    main()
