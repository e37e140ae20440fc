"""`edgekit transcribe --stream` as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgekit.core.bundle import open_bundle

ON = ("--stream", "--allow-random-weights")


@pytest.fixture
def bundle(core_bundle: Path) -> Path:
    """A small model with random weights, which babbles."""
    return core_bundle


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("sound") / "noise.wav"
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, 48_000)
    soundfile.write(path, samples, 16_000, subtype="PCM_16")
    return path


def run(*arguments: str | Path, sound: bytes | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgekit", "transcribe", *map(str, arguments)]
    done = subprocess.run(command, input=sound, capture_output=True, check=False)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_file_and_a_pipe_of_its_samples_say_the_same(bundle: Path, wave: Path) -> None:
    from_file = run(bundle, wave, *ON)
    assert (from_file.returncode, from_file.stdout.strip() != "") == (0, True), from_file.stderr
    assert "chunks of 320 ms computed in" in from_file.stderr
    samples = soundfile.read(wave, dtype="int16")[0]
    from_pipe = run(bundle, "-", *ON, sound=samples.tobytes())
    assert from_pipe.stdout == from_file.stdout
    # an odd byte at the end is no sample
    assert run(bundle, "-", *ON, sound=samples.tobytes() + b"x").stdout == from_file.stdout


def test_jsonl_shows_what_is_known_before_the_end(bundle: Path, wave: Path) -> None:
    lines = [json.loads(line) for line in run(bundle, wave, *ON, "--jsonl", "--chunk", "0.64").stdout.splitlines()]
    assert lines[-1]["final"] is True
    assert any(not line["final"] for line in lines)
    assert lines[-1]["audio"] == str(wave)
    assert lines[-1]["text"] == " ".join(word["text"] for word in lines[-1]["words"])
    assert lines[0]["audio_s"] < 1.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stream", "--json"], "expected --jsonl or plain text with --stream"),
        (["--chunk", "0.3"], "expected --stream with --chunk"),
        (["--stream", "--chunk", "9"], "expected chunks of"),
        (["--stream", "--silence", "0"], "expected positive seconds"),
        (["--microphone"], "expected --microphone or recordings, received both"),
    ],
)
def test_what_does_not_fit_is_said(bundle: Path, wave: Path, arguments: list[str], message: str) -> None:
    done = run(bundle, wave, "--allow-random-weights", *arguments)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_random_weights_and_broken_files_are_refused(bundle: Path, wave: Path, tmp_path: Path) -> None:
    assert "random weights" in run(bundle, wave, "--stream").stderr
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    done = run(bundle, broken, *ON)
    assert done.returncode == 1
    assert "expected a recording that can be read" in done.stderr


def test_listening_without_a_microphone_says_what_is_missing(bundle: Path) -> None:
    try:
        import sounddevice

        if any(device["max_input_channels"] for device in sounddevice.query_devices()):
            pytest.skip("there is a microphone here")
    except (ImportError, OSError):
        pass
    done = run(bundle, "--microphone", "--allow-random-weights")
    assert done.returncode == 1
    assert "error: expected" in done.stderr
    assert "hint:" in done.stderr


def test_a_speaker_in_a_stream(
    personal_bundle: Path, wave: Path, tmp_path: Path, install: Callable[..., object]
) -> None:
    adaptation = open_bundle(personal_bundle).manifest.adaptation
    assert adaptation is not None
    theta = np.random.default_rng(0).standard_normal(adaptation.layout.size).astype(np.float32)
    install(personal_bundle, tmp_path, "anna", theta)
    answers = []
    for speaker in ((), ("--speaker", "anna", "--store", str(tmp_path))):
        done = run(personal_bundle, wave, *ON, *speaker, "--jsonl")
        assert done.returncode == 0, done.stderr
        answers.append([json.loads(line) for line in done.stdout.splitlines()])
    core, anna = answers
    assert core[-1]["text"] != anna[-1]["text"]
    assert {(line["speaker"], line["speaker_version"]) for line in anna} == {("anna", 1)}
    assert not any("speaker" in line for line in core)
    done = run(personal_bundle, "-", *ON, "--speaker", "ana", "--store", str(tmp_path), sound=b"")
    assert (done.returncode, "did you mean anna?" in done.stderr) == (1, True)
