"""Write a benchmark: the lists of each speaker, and the manifest that tells what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import edgekit
from edgekit.core.errors import UsageError
from edgekit.core.files import explained, staging, sync_folder, write_atomic
from edgekit.runtime.corpus import Corpus, write_jsonl
from edgekit.runtime.libricontinual.books import Gender, Recording
from edgekit.runtime.libricontinual.divide import Division
from edgekit.runtime.libricontinual.manifest import MANIFEST, NAME, SCHEMA, TRAIN, lists_sha256, to_bytes
from edgekit.runtime.libricontinual.plan import Plan
from edgekit.runtime.libricontinual.sources import Sources, list_sha256


def write(out: Path, sources: Sources, plan: Plan, divisions: Mapping[str, Division]) -> None:
    """Write the folder `out`, all of it or nothing.

    Raises:
        UsageError: `out` holds something else.
        EdgekitError: it cannot be written.
    """
    data = _manifest(sources, plan, divisions)
    _check_out(out, data)
    _write(out, data, divisions)


def _manifest(sources: Sources, plan: Plan, divisions: Mapping[str, Division]) -> dict[str, Any]:
    speakers = {name: _speaker(name, division, sources.genders.get(name)) for name, division in divisions.items()}
    return {
        "schema": SCHEMA,
        "name": NAME,
        "note": "after arXiv 2212.01393, whose list of speakers is not public; sizes between its ends are inferred",
        "edgekit": edgekit.__version__,
        "sha256": lists_sha256(speakers),
        "seed": plan.seed,
        "asked": {
            "speakers": plan.speakers if isinstance(plan.speakers, int) else sorted(plan.speakers),
            "splits": [str(size) for size in plan.sizes.splits],
            "validation": str(plan.sizes.validation),
            "test": str(plan.sizes.test),
            "divide": plan.way,
            "gender_balanced": plan.balances(sources.genders),
            "excluded": sorted(plan.excluded & sources.speakers.keys()),
        },
        "corpora": [
            {key: getattr(source, key) for key in ("sha256", "num_recordings", "num_speakers", "seconds", "books")}
            for source in sources.corpora
        ],
        "speakers": speakers,
    }


def _speaker(name: str, division: Division, gender: Gender | None) -> dict[str, Any]:
    return {
        "gender": gender,
        # what train shares none of with validation and test; null: nothing but recordings is told apart
        "disjoint": division.disjoint,
        "validation_and_test_disjoint": division.disjoint is not None and division.all_disjoint,
        "splits": {str(size): _list(f"{name}/{TRAIN}-{size}.jsonl", part) for size, part in division.splits.items()},
        "validation": _list(f"{name}/validation.jsonl", division.validation),
        "test": _list(f"{name}/test.jsonl", division.test),
    }


def _list(file: str, recordings: Sequence[Recording]) -> dict[str, Any]:
    return {
        "file": file,
        "num_recordings": len(recordings),
        "seconds": sum(recording.ms for recording in recordings) / 1000,
        "sha256": list_sha256((r.id, r.utterance.duration_s, r.utterance.text) for r in recordings),
    }


def _check_out(out: Path, data: Mapping[str, Any]) -> None:
    """Raise UsageError if something else would be lost."""
    with explained(out):
        if not out.is_dir() and (out.exists() or out.is_symlink()):
            raise UsageError(f"expected a folder for --out, received {out}")
        if not out.is_dir() or not any(out.iterdir()):
            return
        manifest = out / MANIFEST
        if not manifest.is_file() or manifest.read_bytes() != to_bytes(data):
            raise UsageError(
                f"expected a new folder for --out, {out} holds "
                + ("another benchmark" if manifest.is_file() else "something else"),
                hint="choose another --out, or remove that folder",
            )


def _write(out: Path, data: Mapping[str, Any], divisions: Mapping[str, Division]) -> None:
    """All of it in a folder beside, then renamed: a kill leaves no half of a benchmark."""
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with staging(out.parent) as folder, explained(out):
        made = folder / out.name
        for name, division in divisions.items():
            lists = {f"{TRAIN}-{size}": part for size, part in division.splits.items()}
            for file, recordings in {**lists, "validation": division.validation, "test": division.test}.items():
                ordered = sorted(recordings, key=lambda recording: recording.id)
                # the speaker is told by some corpora's layout alone, so it is written down
                corpus = Corpus(tuple(replace(r.utterance, speaker=r.speaker) for r in ordered))
                write_jsonl(made / name / f"{file}.jsonl", corpus)
        write_atomic(made / MANIFEST, to_bytes(data))
        if out.is_dir() and any(out.iterdir()):  # this very benchmark; its corpora may lie elsewhere by now
            out.rename(folder / "before")
        made.replace(out)
        sync_folder(out.parent)
