"""Commands without a bundle: the built-in model answers, and is never written to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.core.files import sha256_of
from edgekit.runtime.builtin import builtin_bundle
from edgekit.runtime.samples import sample_clips, transcripts

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

Cli = Callable[..., Any]
CLIP = sample_clips()[0]


def test_recordings_alone_are_written_down_without_torch() -> None:
    code = """if True:
        import sys
        sys.modules["torch"] = None  # as if it were not installed
        from edgekit.cli import main
        main()
    """
    ran = subprocess.run(
        [sys.executable, "-c", code, "transcribe", CLIP], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()


def test_several_recordings_are_all_recordings(cli: Cli) -> None:
    ran = cli("transcribe", *sample_clips(), "--json")
    assert (ran.code, ran.err) == (0, "")
    told = json.loads(ran.out)["transcripts"]
    assert [record["audio"] for record in told] == [str(clip) for clip in sample_clips()]
    assert told[0]["text"] == cli("transcribe", builtin_bundle(), CLIP).out.strip()


def test_a_recording_that_is_missing_among_others_is_told(cli: Cli, tmp_path: Path) -> None:
    ran = cli("transcribe", CLIP, tmp_path / "none.wav")
    assert ran.code == 1
    assert ran.out.startswith(f"{CLIP}: ")
    assert "No such file" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("transcribe", 2, "expected recordings, received none"),
        ("transcribe FOLDER", 2, "expected recordings after the bundle FOLDER, received none"),
        ("transcribe FOLDER CLIP", 1, "expected a bundle at FOLDER, there is no manifest.json"),
        ("transcribe NONE CLIP", 1, "expected a bundle's folder or a recording, NONE is neither"),
        ("transcribe NONE", 1, "expected a recording that can be read, received NONE"),
        ("benchmark asr", 2, "expected recordings with transcripts, received none"),
    ],
)
def test_what_is_no_bundle_and_no_recording_is_not_answered(
    cli: Cli, tmp_path: Path, arguments: str, code: int, message: str
) -> None:
    folder, none = tmp_path / "folder", tmp_path / "none"
    folder.mkdir()
    names = {"FOLDER": str(folder), "NONE": str(none), "CLIP": str(CLIP)}
    ran = cli(*(names.get(word, word) for word in arguments.split()))
    assert (ran.code, ran.out) == (code, "")
    assert f"error: {message.replace('FOLDER', str(folder)).replace('NONE', str(none))}" in ran.err
    assert "hint:  " in ran.err


def test_inspect_tells_what_it_is_and_whose(cli: Cli) -> None:
    ran = cli("inspect")
    assert (ran.code, ran.err) == (0, "")
    assert f"{builtin_bundle()}: disconformer t, speech-recognition" in ran.out
    assert "weights: built-in, CC-BY-SA-4.0" in ran.out


@pytest.mark.parametrize("arguments", ["build BUNDLE --precision fp16", "verify BUNDLE"])
def test_nothing_writes_to_it(cli: Cli, arguments: str) -> None:
    def content() -> dict[str, str]:
        return {path.name: sha256_of(path) for path in builtin_bundle().iterdir()}

    before = content()
    ran = cli(*(str(builtin_bundle()) if word == "BUNDLE" else word for word in arguments.split()))
    assert (ran.code, ran.out) == (1, "")
    assert f"error: {builtin_bundle()} belongs to the installed edgekit and stays as it is" in ran.err
    assert "hint:  " in ran.err
    assert "edgekit export disconformer --out DIR" in ran.err
    assert content() == before


def test_its_errors_are_counted_where_data_stand_alone(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("jiwer", reason="counts the errors: pip install jiwer")
    data = tmp_path / "data.jsonl"
    rows = [{"audio": str(clip), "text": transcripts()[clip.name], "speaker": clip.stem} for clip in sample_clips()]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = cli("benchmark", "asr", data, "--json")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert found["bundle"]["path"] == str(builtin_bundle())
    assert found["bundle"]["weights"]["source"] == "built-in"
    assert found["errors"]["num_utterances"] == 3
