"""Profiles of edgekit's bundles and of ONNX models made by others, by the public commands alone, and pages of them.

    python benchmarks/profiles.py --work DIR [--others DIR] [--out DIR]

Each result is one command of `edgekit profile`, printed as it starts; one that is there already is kept. `--others`
holds the wheels of silero-vad, speechmos and piper-tts, unpacked: `pip download --no-deps` gets them.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BUNDLES = ("hubert-student", "disconformer")
BACKENDS = {
    "onnxruntime-fp32": ("--backend", "onnxruntime", "--precision", "fp32"),
    "openvino-fp32": ("--backend", "openvino", "--precision", "fp32"),
    "openvino-bf16": ("--backend", "openvino", "--precision", "bf16"),
}
OTHERS = {
    "silero-vad": (
        "silero_vad/data/silero_vad.onnx",
        ("--input", "input=1x576", "--input", "state=2x1x128", "--value", "sr=16000"),
    ),
    "dnsmos": ("speechmos/dnsmos_models/sig_bak_ovr.onnx", ()),
    "plcmos": ("speechmos/plcmos_models/plcmos_v2.onnx", ("--dim", "frames=500")),
    "tashkeel": ("piper/tashkeel/model.onnx", ("--dim", "seq=100", "--value", "input_lengths=100")),
}


@dataclass(frozen=True)
class Profile:
    """One call of `edgekit profile`: the name of its result, its model, and the options that are its own."""

    name: str
    model: Path
    options: tuple[str, ...]


def of_bundle(name: str, bundle: Path) -> list[Profile]:
    """One thread: each backend at 5 s with layers and cold starts, then lengths; two threads: batches, scenarios."""
    found = [
        Profile(f"{name}-{backend}", bundle, (*options, "--threads", "1", "--length", "5s"))
        for backend, options in BACKENDS.items()
    ]
    sweep = ("--sweep", "--length", "1s,5s,10s,20s", "--threads", "1")
    found.append(Profile(f"{name}-lengths-fp32", bundle, ("--backend", "onnxruntime,openvino", *sweep)))
    found.append(Profile(f"{name}-lengths-bf16", bundle, (*BACKENDS["openvino-bf16"], *sweep)))
    batches = ("--sweep", "--backend", "onnxruntime,openvino", "--batch", "1,4,16", "--length", "5s", "--threads", "2")
    found.append(Profile(f"{name}-batches", bundle, batches))
    asked = ("--scenario", "all", "--qps", "2", "--latency-bound", "500", "--backend", "onnxruntime")
    asked += ("--length", "5s", "--threads", "2")
    found.append(Profile(f"{name}-scenarios", bundle, asked))
    return found


def of_others(folder: Path) -> list[Profile]:
    """On both backends, one thread, with layers and cold starts."""
    options = ("--sweep", "--backend", "onnxruntime,openvino", "--threads", "1", "--layers", "--cold-starts", "5")
    return [Profile(name, folder / path, (*options, *own)) for name, (path, own) in OTHERS.items()]


def edgekit(words: Sequence[str | Path], failed: str = "") -> None:
    """Run a command; raises SystemExit where it fails, unless `failed` says what that leaves behind."""
    command = ["edgekit", *map(str, words)]
    print(shlex.join(command), flush=True)
    ended = subprocess.run([sys.executable, "-m", *command], check=False)
    if ended.returncode:
        if not failed:
            raise SystemExit(ended.returncode)
        print(failed, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="for the bundles")
    parser.add_argument("--others", type=Path, help="where the wheels of other models are unpacked")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/profiles")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of a point, at most")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)

    profiles = []
    for name in BUNDLES:
        bundle = given.work / name
        if not bundle.exists():
            edgekit(("export", name, "--openvino", "--no-latency", "--out", bundle))
        profiles += of_bundle(name, bundle)
    if given.others is not None:
        profiles += of_others(given.others)
    for each in profiles:
        result = given.out / f"{each.name}.json"
        if not result.exists():
            length = ("--duration", f"{given.duration:g}", "--out", result)
            edgekit(("profile", each.model, *each.options, *length), "some points failed; the result says why")
    for page in (*BUNDLES, "others"):
        names = [
            each.name for each in profiles if each.name.startswith(page) or (page == "others" and each.name in OTHERS)
        ]
        if results := [given.out / f"{name}.json" for name in names if (given.out / f"{name}.json").exists()]:
            edgekit(("report", *results, "--out", given.out / f"{page}.html"))
    for name in BUNDLES:
        one, *others = (given.out / f"{name}-{backend}.json" for backend in BACKENDS)
        for other in others:
            edgekit(("compare", one, other, "--anyway"))


if __name__ == "__main__":
    main()
