"""DisConformer on the CPU: ONNX Runtime and OpenVINO beside torch and sherpa-onnx; streams; memory.

    python benchmarks/conformer.py --audio RECORDINGS [--parts offline streaming memory] [--out FILE.json] [--resume]
        [--quick]

Variant s with random weights, so speed only, from waveforms in memory to texts, features and greedy decoding included.
`offline`: recordings of 1 to 30 s, one or eight in a call, 1 and 2 threads; sherpa-onnx runs the same model by the
bundle's files for it. `streaming`: compute per chunk, delay, and how many streams one core holds. `memory`: resident
size over 2,000 requests of mixed length. Each subject has a process of its own and takes turns with the others. The
result is written after each cell; `--resume` measures those that are missing. `--quick` only shows that all of it runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from conformer import measure
from conformer.goals import goals_of
from conformer.plan import PARTS, QUICK, Plan
from conformer.process import Contender, Missing, Process
from conformer.speech import SAMPLE_RATE, join
from conformer.tables import report
from shared.record import load, record, write_result

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.export.build import Request, build
from edgekit.export.export import ExportRequest, export
from edgekit.runtime.backends.openvino import precisions
from edgekit.runtime.chunks import Chunks
from edgekit.runtime.features import open_features

HERE = Path(__file__).parent
PACKAGES = ("edgekit", "numpy", "onnxruntime", "openvino", "torch")
PEERS = ("sherpa-onnx",)
KEPT = ("plan", "speech", "versions", "device")
"""What must be the same where a run goes on."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, nargs="+", default=[], help="recordings, or folders of them")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, help="the result, default results/conformer[-quick].json beside this")
    parser.add_argument("--resume", action="store_true", help="go on with the result that is there")
    parser.add_argument("--quick", action="store_true", help="a tiny model and few rounds: does it run?")
    parser.add_argument("--variant", help="of disconformer")
    parser.add_argument("--lengths", type=int, nargs="+", help="seconds of whole recordings")
    parser.add_argument("--batches", type=int, nargs="+", help="recordings in one call")
    parser.add_argument("--threads", type=int, nargs="+", help="thread counts, one after the other")
    parser.add_argument("--rounds", type=int, help="of each length")
    parser.add_argument("--num-requests", type=int, help="of mixed length, for memory")
    parser.add_argument("--no-compile", dest="compiled", action="store_false", default=None, help="no torch.compile")
    given = parser.parse_args()
    changes = {name: getattr(given, name, None) for name in (field.name for field in fields(Plan))}
    plan = replace(
        QUICK if given.quick else Plan(),
        **{name: tuple(v) if isinstance(v, list) else v for name, v in changes.items() if v is not None},
    )
    out = given.out or HERE / "results" / f"conformer{'-quick' if given.quick else ''}.json"
    speech = join(given.audio)
    result = begun(plan, given.audio, speech)
    if given.resume and out.exists():
        result = resumed(out, result)
    with tempfile.TemporaryDirectory(prefix="edgekit-benchmark-") as folder:
        np.save(Path(folder) / "speech.npy", speech)
        bench = Bench(plan, make_bundle(Path(folder), plan), Path(folder) / "speech.npy", result, out)
        for part in given.parts:
            getattr(bench, part)()
    print(report(result))
    say(f"written to {out}")


def begun(plan: Plan, audio: Sequence[Path], speech: np.ndarray) -> dict[str, Any]:
    """A result of which nothing is measured."""
    names = ", ".join(path.name for path in audio) or "edgekit's sample clips, which are synthesised"
    return {
        **record("conformer", [*PACKAGES, *(peer for peer in PEERS if find_spec(peer.replace("-", "_")))]),
        "plan": plan.to_json(),
        "speech": f"{names}; {len(speech) / SAMPLE_RATE:.0f} s",
        "left_out": {},
        "offline": [],
        "streams": [],
        "most_streams": [],
        "memory": [],
        "goals": [],
    }


def resumed(out: Path, new: dict[str, Any]) -> dict[str, Any]:
    """The result that is there.

    Raises:
        SystemExit: it is of other settings, another machine or other versions.
    """
    old: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    now = json.loads(json.dumps(new))
    differing = [key for key in KEPT if old.get(key) != now[key]]
    if differing:
        raise SystemExit(
            f"{out} has another {' and another '.join(differing)}: leave out --resume, or give another --out"
        )
    return {**old, "resumed": [*old.get("resumed", []), new["date"]], "left_out": {}}


def make_bundle(folder: Path, plan: Plan) -> Bundle:
    """Exported now, with all formats that are compared."""
    say(f"exporting disconformer {plan.variant}, random weights")
    path = folder / "bundle"
    export(ExportRequest("disconformer", variant=plan.variant, settings=plan.sizes, seed=0), path)
    for format in ("openvino", "sherpa"):
        build(path, Request(format))
    return open_bundle(path)


class Bench:
    """The parts, each of which adds to the result the cells that it lacks.

    Args:
        speech: a file of samples.
        out: where the result is written after each cell.
    """

    def __init__(self, plan: Plan, bundle: Bundle, speech: Path, result: dict[str, Any], out: Path) -> None:
        self._plan, self._bundle, self._speech, self._result, self._out = plan, bundle, speech, result, out
        self._hinted = [precision for precision in ("fp32", "bf16") if precision in precisions()]
        result["num_parameters"] = bundle.manifest.config["num_parameters"]

    def offline(self) -> None:
        """Whole recordings."""
        contenders = [*self._ours(), Contender("torch")]
        contenders += [Contender("torch.compile")] if self._plan.compiled else []
        for threads in self._plan.threads:
            places = [
                {"num_threads": threads, "audio_s": audio_s, "batch": batch}
                for batch in self._plan.batches
                for audio_s in self._plan.lengths
            ]
            missing = list(self._missing("offline", places))
            with self._open([*contenders, Contender("sherpa-onnx")] if missing else [], threads) as processes:
                for place in missing:
                    start = time.perf_counter()
                    cell = measure.offline(processes, self._plan, place["audio_s"], place["batch"])
                    self._keep("offline", {**place, **cell})
                    medians = {name: np.median(taken["wall_ms"]) for name, taken in cell["samples"].items()}
                    shown = ", ".join(f"{name} {median:.1f}" for name, median in medians.items())
                    say(f"{threads} threads, {place['batch']} x {place['audio_s']} s, ms: {shown}; {_since(start)}")

    def streaming(self) -> None:
        """Streams: first one after the other, then side by side."""
        chunks, features = Chunks(self._bundle.graph("stream").signature), self._bundle.manifest.features
        step_s = open_features(features).samples_per_step / features["sample_rate"]
        look_ahead_s = round((chunks.num_steps - chunks.hop) * step_s, 3)
        by_file = self._bundle.artifact("stream", "sherpa", "fp32").details["chunk_s"]
        for chunk_s in self._plan.chunks:
            contenders = self._ours() + ([Contender("sherpa-onnx")] if chunk_s == by_file else [])
            missing = list(self._missing("streams", [{"chunk_s": chunk_s}]))
            places = [{"chunk_s": chunk_s, "run": contender.name} for contender in contenders]
            side_by_side = list(self._missing("most_streams", places))
            with self._open(contenders if missing or side_by_side else [], 1) as processes:
                for _ in missing:
                    start = time.perf_counter()
                    cell = measure.streams(processes, self._plan, chunk_s)
                    self._keep("streams", {"look_ahead_s": look_ahead_s, **cell})
                    say(f"streams, chunks of {chunk_s:g} s; {_since(start)}")
                for process in processes:
                    if {"chunk_s": chunk_s, "run": process.contender.name} in side_by_side:
                        start = time.perf_counter()
                        cell = measure.most_streams(process, self._plan, chunk_s)
                        self._keep("most_streams", cell)
                        say(f"{cell['run']} holds {cell['num_streams']} of {chunk_s:g} s; {_since(start)}")

    def memory(self) -> None:
        """Many requests, one subject after the other."""
        contenders = [Contender("onnxruntime"), Contender("openvino"), Contender("sherpa-onnx")]
        for contender in contenders:
            for _ in self._missing("memory", [{"run": contender.name}]):
                start = time.perf_counter()
                with self._open([contender], max(self._plan.threads)) as processes:
                    for process in processes:
                        self._keep("memory", measure.memory(process, self._plan))
                say(f"memory of {contender.name}; {_since(start)}")

    def _ours(self) -> list[Contender]:
        return [Contender("onnxruntime"), *(Contender("openvino", precision) for precision in self._hinted)]

    def _missing(self, part: str, places: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The places that have no cell yet."""
        done = self._result[part]
        return (place for place in places if not any(place.items() <= cell.items() for cell in done))

    def _keep(self, part: str, cell: dict[str, Any]) -> None:
        self._result[part].append(cell)
        self._result |= {"goals": goals_of(self._result), "load_after": load()}
        write_result(self._out, self._result)

    @contextmanager
    def _open(self, contenders: Sequence[Contender], threads: int) -> Iterator[list[Process]]:
        """Those that are not left out."""
        with ExitStack() as stack:
            processes = []
            for contender in contenders:
                try:
                    processes.append(Process(contender, threads, self._bundle.path, self._speech))
                    stack.callback(processes[-1].close)
                except Missing as missing:
                    self._result["left_out"][contender.name] = str(missing)
            yield processes


def _since(start: float) -> str:
    return f"{time.perf_counter() - start:.0f} s"


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
