"""The built-in model learns a speaker where nothing but the device's packages is installed, and its core stays."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.core.bundle import open_bundle
from edgekit.core.files import sha256_of
from edgekit.core.theta import INPUT
from edgekit.export.verify import load_reference
from edgekit.runtime.builtin import builtin_bundle
from edgekit.runtime.samples import sample_clips, transcripts
from edgekit.runtime.session import open_session
from edgekit.runtime.tasks import load

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="adaptation runs on ONNX Runtime")

_ALONE = """
import sys
from edgekit.cli import main
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """The sample clips, twice each, with their texts."""
    rows = []
    for clip in sample_clips():
        for copy in range(2):
            path = shutil.copyfile(clip, tmp_path / f"{clip.stem}-{copy}{clip.suffix}")
            rows.append(json.dumps({"audio": str(path), "text": transcripts()[clip.name]}) + "\n")
    (tmp_path / "lines.jsonl").write_text("".join(rows), encoding="utf-8")
    return tmp_path / "lines.jsonl"


def core_answer(bundle: Path) -> bytes:
    """The bits of what the core alone answers, without anybody's weights."""
    opened = open_bundle(bundle)
    item = next(each for each in load_reference(opened, "infer").inputs if not each[INPUT].any())
    answer = open_session(opened, backend="onnxruntime").run(item)[opened.graph().signature.outputs[0].name]
    return bytes(answer.tobytes())


def test_a_speaker_is_learned_without_torch_and_the_core_stays(lines: Path, tmp_path: Path) -> None:
    bundle, store = builtin_bundle(), tmp_path / "store"
    before = {path.name: sha256_of(path) for path in bundle.iterdir()}
    heard = [load(bundle).transcribe(clip) for clip in sample_clips()]
    answer = core_answer(bundle)
    command = ["adapt", str(lines), "--speaker", "ann", "--store", str(store), "--threads", "1", "--json"]
    settings = ["--set", "steps=12", "--set", "evaluate_steps=4", "--set", "learning_rate=3e-3"]
    ran = subprocess.run(
        [sys.executable, "-c", _ALONE, *command, *settings], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.endswith("False\n")
    told = json.loads(ran.stdout)
    assert told["held_back"]["after"]["loss"] < told["held_back"]["before"]["loss"]
    assert told["installed"] == 1

    assert {path.name: sha256_of(path) for path in bundle.iterdir()} == before
    assert core_answer(bundle) == answer
    recogniser = load(bundle, store=store)
    again = [recogniser.transcribe(clip) for clip in sample_clips()]
    assert [(each.text, each.words) for each in again] == [(each.text, each.words) for each in heard]
    learned = [recogniser.transcribe(clip, speaker="ann") for clip in sample_clips()]
    # as certain, to the last digit, would be the core's own answer
    assert [each.words for each in learned] != [each.words for each in heard]
    forget = ["speakers", "forget", "ann", "--store", str(store), "--yes"]
    gone = subprocess.run([sys.executable, "-c", _ALONE, *forget], capture_output=True, text=True, timeout=60)
    assert gone.returncode == 0, gone.stderr
    assert not list((store / open_bundle(bundle).manifest.core_hash / "speakers").glob("ann*"))
