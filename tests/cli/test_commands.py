"""The commands as a person types them: what they print, where, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgekit.cli import main
from edgekit.core.bundle import Bundle, open_bundle

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

Run = Callable[..., tuple[int, str, str]]
Speak = Callable[..., np.ndarray]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("inspect", path)` -> exit code, standard output, standard error."""

    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgekit", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return command


@pytest.fixture
def recordings(tmp_path: Path, speak: Speak) -> dict[str, Path]:
    """One of each kind that people have, good and bad."""
    wave = speak("AB BAD")
    spoiled = wave.copy()
    spoiled[7] = np.nan
    made = {name: tmp_path / f"{name}.wav" for name in ("good", "eight", "short", "nan", "empty", "cut", "text")}
    soundfile.write(made["good"], wave, 16000)
    soundfile.write(made["eight"], np.stack([wave] * 8, 1), 16000)
    soundfile.write(made["short"], wave[:160], 16000)
    soundfile.write(made["nan"], spoiled, 16000, subtype="FLOAT")
    made["empty"].write_bytes(b"")
    made["cut"].write_bytes(made["good"].read_bytes()[:9000])
    made["text"].write_text("not sound")
    return {**made, "missing": tmp_path / "missing.wav", "folder": tmp_path}


def test_text_goes_to_standard_output_and_figures_to_standard_error(
    run: Run, toy_bundle: Path, recordings: dict[str, Path]
) -> None:
    code, out, err = run("transcribe", toy_bundle, recordings["good"])
    assert (code, out) == (0, "AB BAD\n")
    assert "RTF" in err
    assert "onnxruntime fp32 on cpu" in err


def test_json_lines_are_what_adapt_will_read(run: Run, toy_bundle: Path, recordings: dict[str, Path]) -> None:
    code, out, _ = run("transcribe", toy_bundle, recordings["good"], recordings["eight"], "--jsonl")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(line["audio"], line["text"]) for line in lines] == [
        (str(recordings[name]), "AB BAD") for name in ("good", "eight")
    ]
    assert lines[0]["words"][0] == {"text": "AB", "start_s": 0.1, "end_s": 0.4, "confidence": 1.0}
    assert lines[0]["rtf"] > 0


def test_one_json_document_and_subtitles(run: Run, toy_bundle: Path, recordings: dict[str, Path]) -> None:
    _, out, _ = run("transcribe", toy_bundle, recordings["good"], "--json")
    assert json.loads(out)["transcripts"][0]["text"] == "AB BAD"
    _, out, _ = run("transcribe", toy_bundle, recordings["good"], "--srt")
    assert out == "1\n00:00:00,100 --> 00:00:01,200\nAB BAD\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short", "expected at least 400 samples"),
        ("nan", "expected finite samples"),
        ("empty", "an empty file"),
        ("cut", "cut short"),
        ("text", "not recognised"),
        ("missing", "No such file"),
        ("folder", "a folder"),
    ],
)
def test_unusable_recordings_are_explained(
    run: Run, toy_bundle: Path, recordings: dict[str, Path], name: str, message: str
) -> None:
    code, out, err = run("transcribe", toy_bundle, recordings[name])
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("error:") == err.count("hint:") == 1


def test_one_broken_recording_does_not_cost_the_others(run: Run, toy_bundle: Path, recordings: dict[str, Path]) -> None:
    code, out, err = run("transcribe", toy_bundle, recordings["good"], recordings["cut"], recordings["eight"])
    assert code == 1
    assert out.splitlines() == [f"{recordings[name]}: AB BAD" for name in ("good", "eight")]
    assert "cut short" in err


def test_random_weights_are_refused_unless_asked_for(
    run: Run, toy_with: Callable[..., Bundle], recordings: dict[str, Path]
) -> None:
    bundle = toy_with(provenance={"weights": {"source": "random", "seed": 0}}).path
    code, out, err = run("transcribe", bundle, recordings["good"])
    assert (code, out) == (1, "")
    assert "random weights" in err
    assert run("transcribe", bundle, recordings["good"], "--allow-random-weights")[:2] == (0, "AB BAD\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["transcribe", "{toy}", "{good}", "--backend", "ncnn"], "expected a backend among"),
        (["transcribe", "{toy}", "{good}", "--json", "--srt"], "several"),
        (["transcribe", "{toy}", "{good}", "{eight}", "--srt"], "expected one recording"),
        (["build", "{toy}", "--format", "tflite"], "expected a format among"),
        (["build", "{toy}", "--openvino", "--precision", "int4"], "expected a precision among"),
        (["build", "{toy}"], "received nothing"),
        (["export", "hubert-studnet"], "did you mean hubert-student?"),
        (["export", "hubert-student", "--variant", "deep-thin-fbnk"], "did you mean deep-thin-fbank?"),
        (["export", "hubert-student", "--head", "rnnt"], "expected a head of hubert-student"),
        (["export", "hubert-student", "--set", "hidden_sise=3"], "did you mean hidden_size?"),
        (["export", "hubert-student", "--set", "hidden_size=x"], "hidden_size"),
        (["export", "hubert-student", "--set", "hidden_size=7"], "must divide"),
        (["nonsense"], "No such command"),
    ],
)
def test_wrong_usage_ends_with_2(
    run: Run, toy_bundle: Path, recordings: dict[str, Path], words: list[str], message: str
) -> None:
    code, out, err = run(*(word.format(toy=toy_bundle, **recordings) for word in words))
    assert (code, out) == (2, "")
    assert message in err


def test_a_bundle_that_was_tampered_with_is_refused(run: Run, toy_bundle: Path, recordings: dict[str, Path]) -> None:
    file = toy_bundle / open_bundle(toy_bundle).graph().artifacts[0].file
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    code, _, err = run("transcribe", toy_bundle, recordings["good"])
    assert code == 1
    assert "was altered" in err
    file.unlink()
    assert "is missing" in run("transcribe", toy_bundle, recordings["good"])[2]
    manifest = json.loads((toy_bundle / "manifest.json").read_text())
    (toy_bundle / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))
    code, _, err = run("inspect", toy_bundle)
    assert code == 1
    assert "schema 99" in err
    assert "pip install --upgrade edgekit" in err


def test_inspect_verify_and_build_say_how_each_artifact_was_checked(run: Run, toy_bundle: Path) -> None:
    pytest.importorskip("openvino", reason="builds an OpenVINO model")
    assert "not executed" in run("inspect", toy_bundle)[1]
    code, out, _ = run("verify", toy_bundle)
    assert code == 0
    assert "verified" in out
    code, out, _ = run("build", toy_bundle, "--openvino", "--json")
    (made,) = json.loads(out)
    assert (code, made["format"], made["parity"]["inputs"]) == (0, "openvino", "synthesised")
    formats = [a["format"] for a in json.loads(run("inspect", toy_bundle, "--json")[1])["graphs"]["infer"]["artifacts"]]
    assert formats == ["onnx", "openvino"]


def test_list_and_doctor(run: Run) -> None:
    code, out, _ = run("list", "--json")
    assert code == 0
    sizes = {(row["family"], row["variant"]): row["parameters"] for row in json.loads(out)}
    assert sizes["hubert-student", "deep-thin-fbank"] == 19_107_008
    code, out, _ = run("doctor", "--json")
    report = json.loads(out)
    assert code == 0
    assert {backend["name"] for backend in report["backends"]} >= {"onnxruntime", "openvino"}
    for probe in report["backends"] + report["tools"]:
        assert probe["usable"] or (probe["missing"] and probe["remedy"])
    assert run("doctor")[0] == 0


@pytest.mark.parametrize(
    "statement",
    [
        "from edgekit.cli import app",
        "import edgekit; edgekit.load",
        "import edgekit.core.store, edgekit.devices.probe, edgekit.devices.measure",
        "import edgekit.runtime.session; edgekit.runtime.session.probe_all()",
        "import edgekit.export.build, edgekit.export.verify, edgekit.export.openvino, edgekit.export.tools",
        "from edgekit.train.family import families; families()",
    ],
)
def test_torch_is_not_imported(statement: str) -> None:
    code = f"import sys; {statement}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_comes_at_once() -> None:
    """The goal is half a second on an idle machine; three times that is a fault on any."""
    took = []
    for _ in range(3):
        before = time.perf_counter()
        subprocess.run([sys.executable, "-m", "edgekit", "--help"], check=True, capture_output=True)
        took.append(time.perf_counter() - before)
    assert min(took) < 1.5


def test_a_reader_that_leaves_early_causes_no_traceback(toy_bundle: Path) -> None:
    command = f"{sys.executable} -m edgekit inspect {toy_bundle} --json | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr
