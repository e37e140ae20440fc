"""`edgekit benchmark asr`, run for real over recordings whose errors are planted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import edgekit
from edgekit.core.bundle import Bundle
from edgekit.runtime.benchmark_asr import peak_memory_mib

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
pytest.importorskip("jiwer", reason="counts the errors: pip install jiwer")

Speak = Callable[..., np.ndarray]


Cli = Callable[..., Any]


@pytest.fixture
def asr(cli: Cli) -> Cli:
    """`asr(bundle, data)` runs `edgekit benchmark asr`."""
    return partial(cli, "benchmark", "asr")


@pytest.fixture
def write(tmp_path: Path, speak: Speak) -> Callable[[Mapping[str, tuple[str, str | None]]], Path]:
    """`write({"1-2-0000": (spoken, transcript)})`: a folder as LibriSpeech has it; transcripts may be None."""

    def make(utterances: Mapping[str, tuple[str, str | None]]) -> Path:
        folder = tmp_path / "speech"
        for name, (spoken, transcript) in utterances.items():
            speaker, chapter, _ = name.split("-")
            chapter_folder = folder / speaker / chapter
            chapter_folder.mkdir(parents=True, exist_ok=True)
            soundfile.write(chapter_folder / f"{name}.flac", speak(spoken), 16000)
            if transcript is not None:
                with (chapter_folder / f"{speaker}-{chapter}.trans.txt").open("a", encoding="utf-8") as file:
                    file.write(f"{name} {transcript}\n")
        return folder

    return make


PLANTED = {
    "11-1-0000": ("AB BAD", "AB BAD"),
    "11-1-0001": ("CAB DAD", "CAB DAD"),
    "12-1-0000": ("AB BAD", "AB BAD CAB"),  # a deletion
    "13-1-0000": ("DAD CAB", "DAD BAD"),  # a substitution
    "14-7-0000": ("AB AB", "AB"),  # an insertion
    "15-1-0000": ("BAD CAB", "BAD CAB"),
}
"""12 words of 5 speakers, one error of each kind."""


@pytest.fixture
def speech(write: Callable[..., Path]) -> Path:
    return write(PLANTED)


def test_the_figures(asr: Cli, toy_bundle: Path, speech: Path) -> None:
    ran = asr(toy_bundle, speech, "--json", "--threads", 1)
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    errors = found["errors"]
    assert [errors[name] for name in ("num_words", "substitutions", "deletions", "insertions")] == [12, 1, 1, 1]
    assert errors["wer"] == 3 / 12
    # CAB against BAD: 2; " CAB": 4; " AB": 3
    assert errors["cer"] == pytest.approx(9 / sum(len(transcript) for _, transcript in PLANTED.values()))
    assert (errors["num_utterances"], errors["num_speakers"], errors["resampled"]) == (6, 5, "speakers")
    low, high = errors["interval"]
    assert 0 <= low < 3 / 12 < high < 1
    assert {s["speaker"]: s["num_errors"] for s in errors["speakers"]} == {"11": 0, "12": 1, "13": 1, "14": 1, "15": 0}
    assert {bad["id"] for bad in errors["worst"]} == {"12-1-0000", "13-1-0000", "14-7-0000"}
    speed = found["speed"]
    audio_s = [soundfile.info(path).duration for path in speech.rglob("*.flac")]
    assert speed["audio_s"] == pytest.approx(sum(audio_s))
    assert speed["rtf"] == pytest.approx(speed["compute_s"] / speed["audio_s"])
    assert 0 < speed["rtf_p50"] <= speed["rtf_p95"]
    assert 0 < found["memory"]["loaded_mib"] <= found["memory"]["peak_mib"]
    assert found["skipped"] == []


def test_a_result_says_what_made_it(asr: Cli, toy_bundle: Path, speech: Path) -> None:
    found = json.loads(asr(toy_bundle, speech, "--json", "--threads", 1).out)
    assert found["benchmark"] == "asr"
    assert found["command"] == f"edgekit benchmark asr {toy_bundle} {speech} --json --threads 1"
    assert found["date"].startswith("20")
    assert found["machine"]["num_cpus"] >= 1
    assert found["machine"]["gpu"] is None
    assert found["versions"]["edgekit"] == edgekit.__version__
    assert {"onnxruntime", "numpy", "jiwer"} <= found["versions"].keys()
    assert found["bundle"]["weights"] == {"source": "checkpoint", "name": "toy"}
    assert found["session"] == {
        "backend": "onnxruntime",
        "device": "cpu",
        "precision": "fp32",
        "computed_in": "fp32",
        "num_threads": 1,
    }
    assert found["data"] == {"path": str(speech), "num_utterances": 6, "limit": None}


def test_a_person_sees_it_at_one_glance(asr: Cli, toy_bundle: Path, speech: Path) -> None:
    ran = asr(toy_bundle, speech)
    assert (ran.code, ran.err) == (0, "")
    assert f"{toy_bundle} on {speech}" in " ".join(ran.out.split())
    assert "25.00 %" in ran.out
    assert "over 5 speakers" in ran.out
    assert "1 S, 1 D, 1 I of 12 words" in ran.out
    assert "6 scored, 0 skipped" in ran.out
    assert "onnxruntime fp32 on cpu" in ran.out
    assert "REF:" not in ran.out
    worst = asr(toy_bundle, speech, "--show-worst").out
    assert worst.count("REF:") == 3
    assert "12-1-0000, errors: 1\nREF: AB BAD CAB\nHYP: AB BAD ***\n              D\n" in worst


def test_the_file_holds_what_json_prints(asr: Cli, toy_bundle: Path, speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "results" / "toy.json"
    ran = asr(toy_bundle, speech, "--json", "--out", out)
    assert (ran.code, ran.err) == (0, f"written to {out}\n")
    assert json.loads(out.read_text(encoding="utf-8")) == json.loads(ran.out)
    assert [path.name for path in out.parent.iterdir()] == ["toy.json"]


def test_transcripts_as_people_write_them(asr: Cli, toy_bundle: Path, write: Callable[..., Path]) -> None:
    speech = write({"1-1-0000": ("AB BAD", "Ab, bad!")})
    assert json.loads(asr(toy_bundle, speech, "--json").out)["errors"]["wer"] == 0
    as_they_stand = json.loads(asr(toy_bundle, speech, "--json", "--no-normalise").out)["errors"]
    assert (as_they_stand["wer"], as_they_stand["normalised"], as_they_stand["interval"]) == (1, False, None)
    assert "no interval" in asr(toy_bundle, speech).out


def test_a_few_are_taken_from_everywhere(asr: Cli, toy_bundle: Path, speech: Path) -> None:
    found = json.loads(asr(toy_bundle, speech, "--limit", 3, "--json").out)
    assert [s["speaker"] for s in found["errors"]["speakers"]] == ["11", "12", "14"]
    assert found["data"]["limit"] == 3
    assert json.loads(asr(toy_bundle, speech, "--limit", 99, "--json").out)["errors"]["num_utterances"] == 6


def test_a_broken_recording_is_no_obstacle_to_others(asr: Cli, toy_bundle: Path, speech: Path) -> None:
    broken = speech / "11" / "1" / "11-1-0000.flac"
    broken.write_bytes(broken.read_bytes()[:60])
    ran = asr(toy_bundle, speech, "--json")
    assert ran.code == 0
    found = json.loads(ran.out)
    assert found["errors"]["num_utterances"] == 5
    assert [skipped["path"] for skipped in found["skipped"]] == [str(broken)]
    assert found["skipped"][0]["reason"] in ran.err
    assert "5 scored, 1 skipped" in asr(toy_bundle, speech).out


def test_recordings_too_short_for_the_model_are_counted(asr: Cli, toy_bundle: Path, speech: Path, speak: Speak) -> None:
    short = speech / "15" / "1" / "15-1-0000.flac"
    soundfile.write(short, speak("BAD")[:300], 16000)
    found = json.loads(asr(toy_bundle, speech, "--json").out)
    assert [skipped["path"] for skipped in found["skipped"]] == [str(short)]


def test_nothing_but_broken_recordings(asr: Cli, toy_bundle: Path, speech: Path, speak: Speak) -> None:
    for path in speech.rglob("*.flac"):
        soundfile.write(path, speak("BAD")[:300], 16000)
    ran = asr(toy_bundle, speech)
    assert ran.code != 0
    assert ran.out == ""
    assert ran.err.startswith("error: expected ")
    assert "\nhint:  " in ran.err


def test_a_missing_folder(asr: Cli, toy_bundle: Path, tmp_path: Path) -> None:
    ran = asr(toy_bundle, tmp_path / "none")
    assert ran.code in (1, 2)
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert str(tmp_path / "none") in ran.err


def test_recordings_without_transcripts(asr: Cli, toy_bundle: Path, write: Callable[..., Path]) -> None:
    speech = write({"1-1-0000": ("AB", None), "1-1-0001": ("BAD", None)})
    ran = asr(toy_bundle, speech)
    assert (ran.code, ran.out) == (2, "")
    assert f"error: expected recordings with transcripts in {speech}, received 2 without" in ran.err
    assert "\nhint:  " in ran.err


def test_a_bundle_for_another_task_is_wrong_usage(asr: Cli, toy_with: Callable[..., Bundle], speech: Path) -> None:
    bundle = toy_with(task="speech-embedding", output={"kind": "embedding", "frame_s": 0.02})
    ran = asr(bundle.path, speech)
    assert (ran.code, ran.out) == (2, "")
    assert f"error: expected a bundle for speech-recognition, {bundle.path} is for speech-embedding" in ran.err


def test_random_weights_are_measured_only_when_asked_for(
    asr: Cli, toy_with: Callable[..., Bundle], speech: Path
) -> None:
    bundle = toy_with(provenance={"weights": {"source": "random", "seed": 0}})
    ran = asr(bundle.path, speech)
    assert (ran.code, ran.out) == (1, "")
    assert "random weights" in ran.err
    allowed = asr(bundle.path, speech, "--allow-random-weights", "--json")
    assert allowed.err.startswith("warning: random weights")
    assert json.loads(allowed.out)["bundle"]["weights"]["source"] == "random"


def test_other_wrong_turns(asr: Cli, toy_bundle: Path, speech: Path, tmp_path: Path) -> None:
    folder = asr(toy_bundle, speech, "--out", tmp_path)
    assert (folder.code, folder.out) == (2, "")
    assert f"expected a file for --out, received the folder {tmp_path}" in folder.err
    assert asr(toy_bundle, speech, "--limit", 0).code == 2
    assert asr(tmp_path / "none", speech).code == 1
    assert "did you mean onnxruntime?" in asr(toy_bundle, speech, "--backend", "onnxruntim").err


@pytest.mark.parametrize("arguments", ["benchmark --help", "benchmark asr --help"])
def test_help_imports_nothing_heavy(arguments: str) -> None:
    code = """if True:
        import sys
        from edgekit.cli import main
        try:
            main()
        except SystemExit as left:
            assert left.code == 0
        heavy = "numpy onnxruntime rich soundfile soxr torch jiwer rapidfuzz edgekit.runtime edgekit.train"
        loaded = [name for name in heavy.split() if name in sys.modules]
        assert not loaded, loaded
    """
    ran = subprocess.run([sys.executable, "-c", code, *arguments.split()], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "Word error rate" in ran.stdout


def test_without_jiwer_nothing_is_run(
    asr: Cli, toy_bundle: Path, speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    ran = asr(toy_bundle, speech)
    assert (ran.code, ran.out) == (1, "")
    assert "error: expected the package jiwer to count word errors" in ran.err
    assert ran.err.endswith('hint:  pip install "edgekit[benchmark]"\n')


def test_peak_memory_is_that_of_this_process_alone() -> None:
    """Neither what was freed again is forgotten, nor what the process that started this one holds is counted."""
    if "VmHWM" not in Path("/proc/self/status").read_text():
        pytest.skip("this system does not tell")
    code = """if True:
        import numpy as np
        from edgekit.runtime.benchmark_asr import peak_memory_mib
        before = peak_memory_mib()
        np.ones(64 << 20, np.uint8)
        print(before, peak_memory_mib())
    """
    held = np.ones(512 << 20, np.uint8)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    before, after = map(float, ran.stdout.split())
    assert len(held) >> 20 <= peak_memory_mib()
    assert before < 512
    assert 60 < after - before < 80


def test_a_search_with_hotwords_is_measured_and_told(
    asr: Cli, toy_bundle: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    """How it was decoded stands in the result; what cannot be used is told."""
    speech = write({"11-1-0000": ("AB", "AB")})
    greedy = json.loads(asr(toy_bundle, speech, "--json").out)
    assert (greedy["decoding"], greedy["errors"]["wer"]) == ({"search": "greedy"}, 0)
    words = tmp_path / "words.txt"
    words.write_text("AD :1000000\n")
    searched = json.loads(asr(toy_bundle, speech, "--json", "--hotwords", words, "--beam", 4).out)
    assert searched["decoding"] == {"search": "beam", "beam": 4, "num_hotwords": 1, "hotwords_weight": 1.0}
    wrong = asr(toy_bundle, speech, "--hotwords-weight", 2)
    assert (wrong.code, "hotwords file" in wrong.err) == (2, True)
    words.write_text("XYZ\n")
    unknown = asr(toy_bundle, speech, "--hotwords", words)
    assert (unknown.code, "XYZ" in unknown.err) == (1, True)
