"""Make trained weights the built-in ones: the checkpoint that ships, in fp16, and the bundle that is exported from it.

    python tools/builtin.py CHECKPOINT --training training.json

For maintainers, from the repository, when there are new weights. Both are made and checked beside what is there, by
`edgekit export` itself, and only then renamed into place: what fails before changes nothing. Then run the tests and
commit both.

training.json says where the weights come from; more fields may stand in it:

    {
      "date": "2026-11-22",
      "data": [{"set": "LibriSpeech train-clean-5", "licence": "CC BY 4.0", "speakers": ["19", "118"]}],
      "commands": ["edgekit train disconformer --data train-clean-5 --out runs/t"],
      "budget": {"hours": 4, "machine": "2 CPUs"},
      "versions": {"edgekit": "0.1.0", "torch": "2.13.0"},
      "results": {"LibriSpeech test-clean": {"wer": 0.25}}
    }

`weights` (family, variant, licence, SHA-256) is added.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import edgekit
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import CheckpointError, DataError, EdgekitError, ExportError
from edgekit.core.files import sha256_of, staging, write_atomic
from edgekit.export.export import ExportRequest, export
from edgekit.runtime.builtin import builtin_bundle
from edgekit.runtime.samples import sample_clips, transcripts
from edgekit.train.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from edgekit.train.family import Builtin, Family, families, find_family

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = {"weights": 10_000_000, "bundle": 32_000_000}
"""What the checkpoint may take, and the bundle, which has the core in fp32 once per graph and once for gradients, and
all augment nets: a wheel stays small."""

LICENCE = "LICENSE"
REQUIRED = {"date": str, "data": list, "commands": list, "budget": dict, "versions": dict, "results": dict}


def make(checkpoint: Path, training: Path, bundle_place: Path, work: Path) -> Bundle:
    """Make both in `work`, a folder on the same disk, and put them into place.

    Args:
        checkpoint: what a run of `edgekit train` left in `best`; its family says where the weights' place is.
        bundle_place: the bundle's folder.

    Raises:
        EdgekitError: something does not fit; nothing was changed.
    """
    source = open_checkpoint(checkpoint)
    family, builtin = _family_of(source)
    described = read_training(training, (builtin.folder / LICENCE).read_text(encoding="utf-8"))
    weights, bundle = work / "weights", work / "bundle"
    save_checkpoint(weights, source.config, in_half(source.tensors()))
    shutil.copyfile(builtin.folder / LICENCE, weights / LICENCE)
    described["weights"] = {
        "family": family.name,
        "variant": builtin.variant,
        "licence": builtin.licence,
        "sha256": {path.name: sha256_of(path) for path in open_checkpoint(weights).weight_files()},
    }
    write_atomic(weights / "training.json", json.dumps(described, indent=1, ensure_ascii=False).encode() + b"\n")
    export_from(weights, family, builtin, bundle)
    for folder in (weights, bundle):
        size = sum(path.stat().st_size for path in folder.iterdir())
        if size > MAX_BYTES[folder.name]:
            raise ExportError(f"expected at most {MAX_BYTES[folder.name]:,} bytes of {folder.name}, received {size:,}")
        say(f"{folder.name}: {size:,} bytes")
    hear(bundle)
    put({weights: builtin.folder, bundle: bundle_place}, work)
    return open_bundle(bundle_place)


def _family_of(source: Checkpoint) -> tuple[Family, Builtin]:
    """Which family's built-in weights a checkpoint can become."""
    own = source.edgekit or {}
    family = find_family(str(own.get("family")))
    if family.builtin is None or family.builtin.variant != own.get("variant"):
        wanted = "none" if family.builtin is None else f"those of variant {family.builtin.variant}"
        raise CheckpointError(
            f"expected weights that {family.name} has built in ({wanted}), {source.source} is {own.get('variant')}"
        )
    return family, family.builtin


def read_training(path: Path, licence: str) -> dict[str, Any]:
    """training.json, with what must be in it; `licence` is the text that has to name every licence of the data.

    Raises:
        DataError: it cannot be read, or something is missing.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for name, kind in REQUIRED.items():
            if not data.get(name) or not isinstance(data[name], kind):
                raise ValueError(f"expected {name} as a {kind.__name__}, received {data.get(name)!r}")
        date.fromisoformat(data["date"])
        for learned in data["data"]:
            speakers = learned["speakers"]
            if not speakers or not all(isinstance(speaker, str) for speaker in speakers):
                raise ValueError(f"{learned['set']}: expected every speaker's id as text, received {speakers!r}")
            if learned["licence"] not in licence:
                raise ValueError(f"{learned['set']}: {LICENCE} does not name its licence, {learned['licence']}")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"expected what the weights learned from in {path}, received {type(error).__name__}: {error}",
            hint="python tools/builtin.py --help shows an example",
        ) from error
    return data


def in_half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in fp16, which every later reading turns back into the same fp32.

    Raises:
        CheckpointError: a value is no number, or lies outside fp16.
    """
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    for name, tensor in halves.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"expected numbers that fp16 can hold, {name} has others")
    return halves


def export_from(weights: Path, family: Family, builtin: Builtin, out: Path) -> None:
    """`edgekit export` of weights that are not yet in place."""
    families()[family.name] = replace(family, builtin=replace(builtin, folder=weights))
    try:
        made = export(ExportRequest(family.name, variant=builtin.variant, adapt=bool(family.adapted)), out, report=say)
    finally:
        families()[family.name] = family
    expected = family.variants[builtin.variant].num_parameters()
    if made.manifest.config["num_parameters"] != expected:
        raise CheckpointError(
            f"expected the {expected:,} parameters of variant {builtin.variant}, "
            f"received {made.manifest.config['num_parameters']:,}"
        )
    for graph in made.manifest.graphs.values():
        if graph.artifacts[0].parity is None:
            raise ExportError(f"expected an ONNX that was executed here, received {graph.artifacts[0].reason}")
    (out / ".lock").unlink(missing_ok=True)


def hear(bundle: Path) -> None:
    """Tell what the sample clips are to the bundle: a person sees at once whether it has learned."""
    recogniser = edgekit.load(bundle)
    for clip in sample_clips():
        say(f"{clip.name}: {transcripts()[clip.name]}\n  heard: {recogniser.transcribe(clip).text}")


def put(moves: Mapping[Path, Path], work: Path) -> None:
    """Rename each new folder into its place, all of them or none; what was there is left in `work`.

    Only a kill between two renames leaves a part; git has the rest.
    """
    with ExitStack() as undo:
        for new, place in moves.items():
            if place.exists():
                old = work / f"old-{new.name}"
                place.rename(old)
                undo.callback(old.rename, place)
            new.rename(place)
            undo.callback(place.rename, new)
        undo.pop_all()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a folder that `edgekit train` wrote: best")
    parser.add_argument("--training", type=Path, required=True, metavar="FILE", help="what the weights learned from")
    arguments = parser.parse_args()
    try:
        if not builtin_bundle().resolve().is_relative_to(ROOT):
            raise DataError(
                f"expected the edgekit of {ROOT}, this Python has {Path(edgekit.__file__).parent}",
                hint=f"pip install -e {ROOT}",
            )
        with staging(ROOT) as work:
            made = make(arguments.checkpoint, arguments.training, builtin_bundle(), work)
    except EdgekitError as error:
        hint = f"\nhint:  {error.hint}" if error.hint else ""
        raise SystemExit(f"error: {error.message}{hint}") from error
    print(f"{made.path} is what edgekit answers with now; run the tests and commit it with its checkpoint")


if __name__ == "__main__":
    main()
