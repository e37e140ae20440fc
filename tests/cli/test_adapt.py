"""`edgekit adapt`, from recordings to words that are understood: a speaker whose letters lie where others are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import soundfile

from edgekit.core.bundle import MANIFEST, Bundle, open_bundle
from edgekit.core.files import locked
from edgekit.core.store import Store
from edgekit.runtime.adapt import adaptation
from edgekit.runtime.adapt.speaker import read_theta
from edgekit.runtime.benchmark_asr import peak_memory_mib

pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

LEVELS = np.linspace(-0.75, 0.75, 6)
HOP = 320
SHIFT = 0.16
"""Of the speaker's levels, which are 0.3 apart: more than half, so that each is taken for the next."""

WORDS = ("AB", "BAD", "CAB", "DAD", "AD", "CAD", "DAB", "BABA")


class Ran(Protocol):
    """What a command left behind."""

    code: object
    out: str
    err: str


Cli = Callable[..., Ran]
Speak = Callable[..., np.ndarray]


class ToyGradient:
    """The toy's levels with a gradient, as its ONNX answers: -1000 (level - own level)^2, normalised."""

    size = 6
    starts = np.full((1, 6), 0.01, np.float32)

    def __init__(self, bundle: Bundle, *, num_threads: int | None = None) -> None:
        assert bundle.manifest.adaptation is not None
        self.layout_hash = bundle.manifest.adaptation.layout.hash
        self.closed = False

    def forward(self, features_N: np.ndarray, theta_P: np.ndarray) -> np.ndarray:
        # as the convolution: windows of 400 samples of which 320 count
        num_frames = (len(features_N) - 400) // HOP + 1
        level_T = features_N[: num_frames * HOP].reshape(-1, HOP).mean(1, dtype=np.float64)
        self._off_TV = level_T[:, None] - (LEVELS + theta_P)
        scores_TV = -1000 * self._off_TV**2
        scores_TV -= scores_TV.max(1, keepdims=True)
        log_probs_TV = scores_TV - np.log(np.exp(scores_TV).sum(1, keepdims=True))
        self._probs_TV = np.exp(log_probs_TV)
        return log_probs_TV.astype(np.float32)

    def backward(self, d_log_probs_TV: np.ndarray) -> np.ndarray:
        d_scores_TV = d_log_probs_TV - self._probs_TV * d_log_probs_TV.sum(1, keepdims=True, dtype=np.float64)
        return (2000 * self._off_TV * d_scores_TV).sum(0).astype(np.float32)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def bundle(personal_toy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy that takes a speaker's levels, as one that has gradients; these are computed here."""
    file = personal_toy / MANIFEST
    manifest = json.loads(file.read_text())
    manifest["adaptation"]["gradient"] = [manifest["assets"]["tokens"]] * 3
    file.write_text(json.dumps(manifest))
    monkeypatch.setattr(adaptation, "open_gradient", ToyGradient)
    return personal_toy


@pytest.fixture
def say(speak: Speak) -> Callable[[Path, str], Path]:
    """`say(path, "AB C")`: a recording of our speaker."""

    def write(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, speak(text) + np.float32(SHIFT), 16000, subtype="FLOAT")
        return path

    return write


def texts(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, 3)) for _ in range(count)]


@pytest.fixture
def corrected(tmp_path: Path, say: Callable[[Path, str], Path]) -> Path:
    """Twelve recordings and what a person has made of `edgekit transcribe --jsonl`."""
    lines = []
    for index, text in enumerate(texts(12)):
        say(tmp_path / "said" / f"{index:02}.wav", text)
        lines.append(json.dumps({"audio": f"{index:02}.wav", "text": text.lower(), "words": [], "rtf": 0.01}) + "\n")
    path = tmp_path / "said" / "corrected.jsonl"
    path.write_text("".join(lines))
    return path


@pytest.fixture
def adapt(cli: Cli, tmp_path: Path) -> Cli:
    """`adapt(bundle, data)`: for the speaker anna, in a store of its own, with a pace for levels."""
    pace = {"learning_rate": 0.02, "batch_s": 4, "steps": 60, "evaluate_steps": 5, "patience": 99}
    options = [part for name, value in pace.items() for part in ("--set", f"{name}={value}")]
    return partial(cli, "adapt", "--speaker", "anna", "--store", tmp_path / "store", *options)


@pytest.fixture
def store(bundle: Path, tmp_path: Path) -> Store:
    return Store(open_bundle(bundle).manifest.core_hash, tmp_path / "store")


def test_a_speaker_is_understood(
    adapt: Cli, cli: Cli, bundle: Path, corrected: Path, store: Store, tmp_path: Path
) -> None:
    clip = corrected.parent / "00.wav"
    assert cli("transcribe", bundle, clip).out.strip() != texts(1)[0]
    ran = adapt(bundle, corrected, "--threads", 1)
    assert (ran.code, ran.err) == (0, "")
    assert "12 utterances" not in ran.out
    assert re.search(r"10 utterances, \d+ s, with corrected texts; 2 held back, \d+ s", ran.out)
    assert re.search(r"held-back word error rate +\d+\.\d\d % +0\.00 %", ran.out)
    assert "ended by: steps" in ran.out
    following = ran.out.splitlines()[-1]
    assert following.startswith("installed anna, version 1; next: edgekit transcribe ")
    command = following.split("next: edgekit ")[1].replace("AUDIO", str(clip)).split()
    assert cli(*command).out.strip() == texts(1)[0]

    card = store.open("speakers", "anna").card
    told = card.details
    manifest = open_bundle(bundle).manifest
    assert manifest.adaptation is not None
    theta = read_theta(store.open("speakers", "anna"), manifest.adaptation.layout.hash, 6)
    assert (theta > SHIFT - 0.15).all()  # near enough for each level to be the nearest
    assert (theta < SHIFT + 0.15).all()
    assert (told["labels"], told["num_utterances"], told["start"], told["steps"]) == (["corrected"], 10, 0, 60)
    assert told["held_back"]["num_utterances"] == 2
    assert told["held_back"]["after"]["wer"] == 0 < told["held_back"]["before"]["wer"]
    assert told["held_back"]["after"]["loss"] < told["held_back"]["before"]["loss"]
    assert told["settings"]["learning_rate"] == 0.02
    assert told["seconds"] > 0
    assert 0 < told["peak_mib"] < peak_memory_mib() + 0.1  # it is rounded
    assert told["edgekit"]
    text = json.dumps(told)
    assert not any(word in text for word in WORDS)  # what was said is nobody's business
    assert str(tmp_path) not in text
    assert not (store.path / "speakers" / "anna" / "resume").exists()


def test_json(adapt: Cli, bundle: Path, corrected: Path) -> None:
    with corrected.open("a") as file:
        file.write('{"audio": "00.wav", "text": "AB", "id": "again"}\n{"audio": "01.wav", "text": "12", "id": "x"}\n')
    ran = adapt(bundle, corrected, "--json")
    assert ran.code == 0
    found = json.loads(ran.out)
    assert (found["speaker"], found["installed"]) == ("anna", 1)
    assert [look["step"] for look in found["history"]] == list(range(0, 61, 5))
    assert sorted(each["reason"] for each in found["skipped"]) == ["named a second time"] * 2
    assert "left out" in ran.err
    assert "next: edgekit transcribe" in ran.err


def test_a_speaker_is_learned_by_one_process_at_a_time(
    adapt: Cli, bundle: Path, corrected: Path, store: Store, tmp_path: Path
) -> None:
    with locked(store.resume_folder("speakers", "anna") / ".lock", timeout_s=0):
        ran = adapt(bundle, corrected)
        assert ran.code == 1
        assert "another process is learning 'anna'" in ran.err
        assert adapt(bundle, corrected, "--speaker", "bert").code == 0
    assert store.names("speakers") == ["bert"]
    assert adapt(bundle, corrected).code == 0
    assert store.names("speakers") == ["anna", "bert"]


def test_recordings_alone_are_labelled_by_the_model(
    adapt: Cli, bundle: Path, tmp_path: Path, speak: Speak, store: Store
) -> None:
    """Of one who is understood, but not clearly."""
    clips = []
    for index, text in enumerate(texts(8)):
        clips.append(tmp_path / f"{index}.wav")
        soundfile.write(clips[-1], speak(text) + np.float32(0.145), 16000, subtype="FLOAT")
    ran = adapt(bundle, *clips)
    assert (ran.code, ran.err) == (0, "")
    assert "with the model's own words" in ran.out
    assert "against the model's own words" in ran.out
    assert store.open("speakers", "anna").card.details["labels"] == ["pseudo"]
    unsure = adapt(bundle, *clips, "--set", "confidence=0.999")
    assert unsure.code == 1
    assert "expected two utterances or more, to learn and to judge by; received 0 of use (8 left out:" in unsure.err
    assert "below 0.999" in unsure.err


def test_hotwords_help_where_the_model_is_asked(adapt: Cli, bundle: Path, tmp_path: Path, speak: Speak) -> None:
    """What is heard as BC is AC with a hotword, and that is learned."""
    for index in range(4):
        wave = 0.49 * speak("D AC") + 0.51 * speak("D BC")
        soundfile.write(tmp_path / f"{index}.wav", wave, 16000, subtype="FLOAT")
    (tmp_path / "words.txt").write_text("ac :9\n")
    clips = sorted(tmp_path.glob("*.wav"))
    few = ("--set", "confidence=0", "--set", "steps=2", "--json")
    plain = json.loads(adapt(bundle, *clips, *few).out)["held_back"]["before"]
    helped = json.loads(adapt(bundle, *clips, *few, "--hotwords", tmp_path / "words.txt").out)["held_back"]["before"]
    assert plain["wer"] == 0
    assert helped["wer"] == 0.5
    assert helped["loss"] > plain["loss"]


def test_nothing_is_installed_that_is_not_better(
    adapt: Cli, bundle: Path, tmp_path: Path, speak: Speak, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one who speaks as the model was made, from a starting point that is far from that."""

    class Far(ToyGradient):
        starts = np.full((1, 6), 0.5, np.float32)

    monkeypatch.setattr(adaptation, "open_gradient", Far)
    lines = []
    for index, text in enumerate(texts(6)):
        soundfile.write(tmp_path / f"{index}.wav", speak(text), 16000, subtype="FLOAT")
        lines.append(json.dumps({"audio": f"{index}.wav", "text": text}) + "\n")
    (tmp_path / "said.jsonl").write_text("".join(lines))
    ran = adapt(bundle, tmp_path / "said.jsonl", "--set", "learning_rate=1e-5")
    assert ran.code == 1
    assert "nothing was installed" in ran.err
    assert "held-back loss" in ran.out
    assert "installed anna" not in ran.out
    assert store.names("speakers") == []
    assert not (store.path / "speakers" / "anna").exists()
    assert (
        json.loads(adapt(bundle, tmp_path / "said.jsonl", "--set", "learning_rate=1e-5", "--json").out)["installed"]
        is None
    )


# Stopped, and gone on with.


@pytest.fixture
def stopped(adapt: Cli, bundle: Path, corrected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adaptation that somebody stopped after some updates."""
    calls = 0

    class Interrupted(ToyGradient):
        def backward(self, d_log_probs_TV: np.ndarray) -> np.ndarray:
            nonlocal calls
            calls += 1
            if calls == 40:
                raise KeyboardInterrupt
            return super().backward(d_log_probs_TV)

    with monkeypatch.context() as patched:
        patched.setattr(adaptation, "open_gradient", Interrupted)
        ran = adapt(bundle, corrected)
    assert (ran.code, ran.out, ran.err) == (130, "", "stopped; to go on, give the same command again\n")


@pytest.mark.usefixtures("stopped")
def test_it_goes_on(adapt: Cli, bundle: Path, corrected: Path, store: Store) -> None:
    ran = adapt(bundle, corrected)
    assert ran.code == 0
    assert re.fullmatch(r"going on from update [1-9]\d*\n", ran.err)
    first = store.open("speakers", "anna").read("theta.safetensors")
    assert adapt(bundle, corrected).err == ""  # nothing is left to go on with
    assert store.open("speakers", "anna").read("theta.safetensors") == first
    assert store.versions("speakers", "anna") == [1, 2]


@pytest.mark.usefixtures("stopped")
def test_it_does_not_go_on_with_something_else(adapt: Cli, bundle: Path, corrected: Path) -> None:
    must = adapt(bundle, corrected, "--set", "seed=1", "--resume")
    assert must.code == 1
    assert "expected to go on with what was begun, its settings and data differ" in must.err
    assert "--fresh" in must.err
    assert adapt(bundle, corrected, "--fresh").err == ""
    assert "there is none" in adapt(bundle, corrected, "--resume").err


@pytest.mark.usefixtures("stopped")
def test_it_says_what_it_drops(adapt: Cli, bundle: Path, corrected: Path) -> None:
    ran = adapt(bundle, corrected, "--set", "patience=98")
    assert (ran.code, ran.err.count("\n")) == (0, 1)
    assert "an unfinished adaptation is dropped: expected to go on with what was begun, its settings differ" in ran.err


# Limits.


def test_it_is_done_in_time(adapt: Cli, bundle: Path, corrected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(ToyGradient):
        def forward(self, features_N: np.ndarray, theta_P: np.ndarray) -> np.ndarray:
            time.sleep(0.01)
            return super().forward(features_N, theta_P)

    monkeypatch.setattr(adaptation, "open_gradient", Slow)
    began = time.monotonic()
    ran = adapt(bundle, corrected, "--budget", "3s", "--set", "steps=100000", "--set", "epochs=100000", "--json")
    assert time.monotonic() - began < 3
    assert ran.code == 0
    found = json.loads(ran.out)
    assert (found["stopped"], found["installed"]) == ("budget", 1)
    assert 1.5 < found["seconds"] < 3


def test_too_little_memory(adapt: Cli, bundle: Path, corrected: Path, store: Store) -> None:
    ran = adapt(bundle, corrected, "--max-memory", "1MiB")
    assert (ran.code, ran.out) == (1, "")
    assert "error: expected to stay within 1 MiB, the loaded model alone has taken" in ran.err
    assert "hint:  --max-memory " in ran.err
    enough = adapt(bundle, corrected, "--max-memory", f"{peak_memory_mib() + 500:.0f} MiB")
    assert (enough.code, enough.err) == (0, "")
    assert store.names("speakers") == ["anna"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--budget soon", "expected --budget as 60s or 5m, received 'soon'"),
        ("--budget 0s", "received '0s'"),
        ("--budget 5x", "hint:  units: s, sec, m, min, h"),
        ("--max-memory 3lots", "expected --max-memory as 300MiB, received '3lots'"),
        ("--set steps=0", "expected steps of 1 or more"),
        ("--set step=3", "did you mean steps?"),
        ("--set start=zeros", "gradients vanish there"),
        ("--set start=1", "expected a start below 1, received 1"),
        ("--lm-weight 2", "expected a language model file"),
    ],
)
def test_wrong_usage(adapt: Cli, bundle: Path, corrected: Path, options: str, message: str) -> None:
    ran = adapt(bundle, corrected, *options.split())
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_wrong_turns(
    adapt: Cli, cli: Cli, bundle: Path, corrected: Path, tmp_path: Path, toy_bundle: Path, colour_bundle: Path
) -> None:
    assert "expected a name for who speaks" in cli("adapt", bundle, corrected).err
    assert f"expected recordings after the bundle {bundle}, received none" in adapt(bundle).err
    assert "which does not exist" in adapt(bundle, tmp_path / "none").err
    assert "1 to 64 of" in cli("adapt", bundle, corrected, "--speaker", "an/na").err
    without = adapt(toy_bundle, corrected)
    assert (without.code, without.out) == (1, "")
    assert "expected a bundle with gradients" in without.err
    assert "edgekit enroll" in adapt(colour_bundle, corrected).err
    assert not (tmp_path / "store").exists()


def test_what_is_left_out_is_told(adapt: Cli, bundle: Path, corrected: Path, tmp_path: Path) -> None:
    with corrected.open("a") as file:
        file.write('{"audio": "none.wav", "text": "AB"}\n')
    say_12 = tmp_path / "said" / "12.wav"
    soundfile.write(say_12, np.zeros(16000, np.float32), 16000)
    with corrected.open("a") as file:
        file.write(f'{{"audio": "{say_12.name}", "text": "room 12", "speaker": "ben"}}\n')
    ran = adapt(bundle, corrected)
    assert ran.code == 0
    assert re.search(r"left out .*none\.wav: expected a recording", ran.err)
    assert re.search(r"left out .*12\.wav: expected letters that the labels have, received 'R'", ran.err)


def test_several_speakers_are_told(adapt: Cli, bundle: Path, corrected: Path) -> None:
    lines = [json.loads(line) for line in corrected.read_text().splitlines()]
    marked = [json.dumps({**line, "speaker": f"s{index % 2}"}) + "\n" for index, line in enumerate(lines)]
    corrected.write_text("".join(marked))
    assert "warning: the data name 2 speakers, and all of them were taken for anna" in adapt(bundle, corrected).err


def test_the_settings_are_shown(cli: Cli) -> None:
    ran = cli("adapt", "--show", "--set", "steps=7")
    assert ran.code == 0
    assert {"steps=7", "learning_rate=0.001", "start=best"} <= set(ran.out.splitlines())


# With the gradients of a real model.


def test_a_disconformer_learns_without_torch(
    adaptable: Bundle, tmp_path: Path, say: Callable[[Path, str], Path]
) -> None:
    """Random weights: what they learn is no speech, but the loss falls, and it is kept for `transcribe`."""
    lines = []
    for index, text in enumerate(texts(8)):
        say(tmp_path / f"{index}.wav", text)
        lines.append(json.dumps({"audio": f"{index}.wav", "text": text}) + "\n")
    (tmp_path / "said.jsonl").write_text("".join(lines))
    code = """if True:
        import sys
        sys.modules["torch"] = None  # as if it were not installed
        from edgekit.cli import main
        main()
    """
    options = ["--set", "steps=6", "--set", "batch_s=8", "--set", "evaluate_steps=3", "--set", "learning_rate=0.01"]
    store = ["--store", str(tmp_path / "store"), "--speaker", "anna", "--allow-random-weights"]
    run = partial(subprocess.run, capture_output=True, text=True, timeout=300, check=False, env={**os.environ})
    python, data = [sys.executable, "-c", code], str(tmp_path / "said.jsonl")
    limits = ["--budget", "60s", "--max-memory", "1GiB", "--threads", "1", "--json"]
    ran: Any = run([*python, "adapt", str(adaptable.path), data, *options, *limits, *store])
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["steps"] == 6
    assert found["held_back"]["after"]["loss"] < found["held_back"]["before"]["loss"]
    assert found["peak_mib"] < 1024
    heard = run([*python, "transcribe", str(adaptable.path), str(tmp_path / "0.wav"), *store])
    assert heard.returncode == 0, heard.stderr
