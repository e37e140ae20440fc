"""`tools/builtin.py`: both are made or nothing is, and what does not fit is said."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="exports modules of torch")
pytest.importorskip("onnxruntime", reason="executes what was exported")

from edgekit.core.errors import CheckpointError, DataError, EdgekitError, ExportError  # noqa: E402
from edgekit.core.settings import apply_settings  # noqa: E402
from edgekit.train.checkpoint import open_checkpoint  # noqa: E402
from edgekit.train.families.disconformer.model import build, save_model  # noqa: E402
from edgekit.train.family import Builtin, Family, families  # noqa: E402
from edgekit.train.tokens import LETTERS  # noqa: E402

SCRIPT = Path(__file__).parents[2] / "tools" / "builtin.py"
TRAINING = {
    "date": "2026-11-22",
    "data": [{"set": "tones", "licence": "CC0", "speakers": ["anna"]}],
    "commands": ["edgekit train disconformer --data tones"],
    "budget": {"minutes": 1},
    "versions": {"torch": "2.13.0"},
    "results": {"tones": {"wer": 0.5}},
    "note": "kept",
}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("builtin_tool", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """DisConformer made small, whose built-in weights belong into a folder of this test; there are none yet."""
    ours = families()["disconformer"]
    small = {name: apply_settings(config, ours.small) for name, config in ours.variants.items()}
    place = tmp_path / "weights"
    place.mkdir()
    (place / "LICENSE").write_text("CC0")
    # without gradients, whose tracing takes most of an export's time and has tests of its own
    made = replace(ours, variants=small, builtin=Builtin("t", place, "CC0-1.0"), adapted=())
    monkeypatch.setitem(families(), "disconformer", made)
    return made


@pytest.fixture
def checkpoint(family: Family, tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "best", family)


def write_checkpoint(folder: Path, family: Family, variant: str = "t", seed: int = 0, **sizes: Any) -> Path:
    torch.manual_seed(seed)
    config: Any = replace(family.variants[variant], **sizes)  # type: ignore[type-var]
    save_model(folder, build(config, "ctc"), config, variant, LETTERS)
    return folder


@pytest.fixture
def training(tmp_path: Path) -> Path:
    (tmp_path / "training.json").write_text(json.dumps(TRAINING))
    return tmp_path / "training.json"


@pytest.fixture
def places(family: Family, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """The bundle's place, and a folder to work in; what else is there afterwards was left lying about."""
    work = tmp_path / "work"
    work.mkdir()
    yield tmp_path / "bundle", work
    assert families()["disconformer"] is family


def content(*folders: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for folder in folders if folder.exists() for path in folder.iterdir()}


def test_both_are_made_and_made_anew(
    tool: ModuleType, family: Family, checkpoint: Path, training: Path, places: tuple[Path, Path], tmp_path: Path
) -> None:
    bundle, work = places
    assert family.builtin is not None
    made = tool.make(checkpoint, training, bundle, work)
    found = open_checkpoint(family.builtin.folder)
    assert found.config == open_checkpoint(checkpoint).config
    for name, tensor in open_checkpoint(checkpoint).tensors().items():
        assert torch.equal(found.tensors()[name], tensor.half()), name
    described = found.json("training.json")
    assert described is not None
    assert described.items() >= TRAINING.items()
    weights = described["weights"]
    assert (weights["family"], weights["variant"], weights["licence"]) == ("disconformer", "t", "CC0-1.0")
    assert (family.builtin.folder / "LICENSE").read_text() == "CC0"

    assert made.path == bundle
    assert set(content(bundle)) == {"manifest.json", *(file.name for file in made.manifest.files())}
    assert list(made.manifest.graphs) == ["infer", "stream"]
    assert made.manifest.assets.keys() == {"tokens", "reference-infer", "reference-stream"}
    expected = {"source": "built-in", "licence": "CC0-1.0", "sha256": weights["sha256"]}
    assert made.manifest.provenance["weights"] == expected
    assert made.graph().artifacts[0].parity is not None

    other = write_checkpoint(tmp_path / "other", family, seed=1)
    (work / "again").mkdir()
    again = tool.make(other, training, bundle, work / "again")
    assert again.manifest.core_hash != made.manifest.core_hash
    assert set(content(bundle)) == {"manifest.json", *(file.name for file in again.manifest.files())}


def test_what_does_not_fit_changes_nothing(
    tool: ModuleType, family: Family, training: Path, places: tuple[Path, Path], tmp_path: Path
) -> None:
    bundle, work = places
    assert family.builtin is not None
    before = content(family.builtin.folder, bundle)

    def refused(checkpoint: Path, error: type[EdgekitError], message: str) -> None:
        work_in = work / message.replace(" ", "-")
        work_in.mkdir()
        with pytest.raises(error, match=message):
            tool.make(checkpoint, training, bundle, work_in)
        assert content(family.builtin.folder, bundle) == before  # type: ignore[union-attr]

    refused(tmp_path, CheckpointError, "expected config.json")
    refused(write_checkpoint(tmp_path / "s", family, "s"), CheckpointError, "is s")
    refused(write_checkpoint(tmp_path / "wide", family, width=34), CheckpointError, "parameters of variant t")
    broken = write_checkpoint(tmp_path / "broken", family)
    found = open_checkpoint(broken)
    tensors = {name: tensor + 1e5 if name == "head.bias" else tensor for name, tensor in found.tensors().items()}
    tool.save_checkpoint(broken, found.config, tensors)
    refused(broken, CheckpointError, "fp16 can hold, head.bias has others")


def test_what_is_too_large_to_ship_is_refused(
    tool: ModuleType,
    family: Family,
    checkpoint: Path,
    training: Path,
    places: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert family.builtin is not None
    before = content(family.builtin.folder, places[0])
    monkeypatch.setitem(tool.MAX_BYTES, "weights", 1000)
    with pytest.raises(ExportError, match="expected at most 1,000 bytes of weights"):
        tool.make(checkpoint, training, *places)
    assert content(family.builtin.folder, places[0]) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"date": "yesterday"}, "Invalid isoformat"),
        ({"commands": []}, "expected commands as a list"),
        ({"results": None}, "expected results as a dict"),
        ({"data": [{"set": "tones", "licence": "CC0"}]}, "speakers"),
        ({"data": [{"set": "tones", "licence": "CC0", "speakers": [19]}]}, "tones: expected every speaker's id"),
        ({"data": [{"set": "tones", "licence": "GPL", "speakers": ["a"]}]}, "tones: LICENSE does not name its licence"),
    ],
)
def test_what_is_not_told_of_training_is_asked_for(
    tool: ModuleType, training: Path, change: dict[str, Any], message: str
) -> None:
    training.write_text(json.dumps({**TRAINING, **change}))
    with pytest.raises(DataError, match=message):
        tool.read_training(training, "CC0")


def test_folders_are_put_in_place_all_or_none(tool: ModuleType, tmp_path: Path) -> None:
    for name, text in (("place", "old"), ("new", "new"), ("new-2", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(text)
    work = tmp_path / "work"
    work.mkdir()
    moves = {tmp_path / "new": tmp_path / "place", tmp_path / "new-2": tmp_path / "absent" / "place"}
    with pytest.raises(OSError, match="absent"):
        tool.put(moves, work)
    assert (tmp_path / "place" / "file").read_text() == "old"
    assert (tmp_path / "new" / "file").read_text() == "new"
    tool.put({tmp_path / "new": tmp_path / "place"}, work)
    assert (tmp_path / "place" / "file").read_text() == "new"
    assert not (tmp_path / "new").exists()


def test_a_mistake_ends_in_one_line(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "none", "--training", tmp_path / "none.json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "Traceback" not in ran.stderr
    assert ran.stderr.startswith("error: ")
    assert "hint:  " in ran.stderr
