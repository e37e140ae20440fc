"""`edgekit benchmark libricontinual`, over levels that stand for letters."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgekit.cli import libricontinual
from edgekit.core.bundle import Bundle

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
pytest.importorskip("jiwer", reason="counts the errors: pip install jiwer")
pytest.importorskip("matplotlib", reason="draws: pip install matplotlib")

Cli = Callable[..., Any]
Speak = Callable[..., np.ndarray]


@pytest.fixture
def adapt(cli: Cli) -> Cli:
    """`adapt(bundle, data)` runs `edgekit benchmark libricontinual`."""
    return partial(cli, "benchmark", "libricontinual")


@pytest.fixture
def data(cli: Cli, tmp_path: Path, speak: Speak) -> Path:
    """Two speakers; of the second, one word in two is not what the transcript says."""
    for speaker, transcript in (("7", "AB BAD"), ("8", "AB CAD")):
        folder = tmp_path / "speech" / speaker / "1"
        folder.mkdir(parents=True)
        names = [f"{speaker}-1-{index:04}" for index in range(8)]
        for name in names:
            soundfile.write(folder / f"{name}.wav", speak("AB BAD"), 16000)
        (folder / f"{speaker}-1.trans.txt").write_text("".join(f"{name} {transcript}\n" for name in names))
    sizes = ("--splits", "1s,2s", "--validation", "1s", "--test", "2s")
    ran = cli("data", "libricontinual", tmp_path / "speech", "--speakers", 2, *sizes, "--out", tmp_path / "data")
    assert ran.code == 0, ran.err
    return tmp_path / "data"


def test_a_bundle_as_it_is(adapt: Cli, toy_bundle: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = adapt(toy_bundle, data, "--general", tmp_path / "speech" / "8", "--workers", 2, "--out", out, "--json")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert found == json.loads((out / "results.json").read_text())
    none = found["arms"]["none"]
    assert none["start_speakers"] == {"7": 0.0, "8": 0.5}
    assert (none["tuned_parameters"], none["start_general_wer"], none["splits"]) == (0, 0.5, {})
    assert (found["num_done"], found["num_tasks"]) == (3, 3)
    assert found["command"].startswith(f"edgekit benchmark libricontinual {toy_bundle} {data}")
    assert found["starts"]["none"]["core_sha256"]
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    assert (out / "wer.png").is_file()
    assert not (out / "forgetting.png").exists()
    before = {path: path.stat().st_mtime_ns for path in (out / "tasks").rglob("*.json")}
    again = adapt(toy_bundle, data, "--general", tmp_path / "speech" / "8", "--out", out)
    assert (again.code, again.err) == (0, "")
    assert "none" in again.out
    assert "25.00" in again.out
    assert again.out.endswith(f"{out / 'report.html'}\n")
    assert {path: path.stat().st_mtime_ns for path in (out / "tasks").rglob("*.json")} == before


def test_two_bundles_as_they_are(
    adapt: Cli, toy_bundle: Path, toy_with: Callable[..., Bundle], data: Path, tmp_path: Path
) -> None:
    other = toy_with(variant="other").path
    ran = adapt(toy_bundle, data, "--arms", f"none,other={other}", "--speakers", "8,", "--out", tmp_path / "out")
    assert ran.code == 0
    assert "1s, none - other: 0.00 points, too few speakers to tell (fewer than 5)" in ran.out


def test_wrong_turns(adapt: Cli, toy_with: Callable[..., Bundle], toy_bundle: Path, data: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    for arguments, code, told in (
        ((toy_bundle, data, "--arms", "non"), 2, "did you mean none?"),
        ((toy_bundle, data, "--arms", "fill"), 2, "did you mean full?"),
        ((toy_bundle, data, "--arms", "none,none"), 2, "names that differ"),
        ((toy_bundle, data, "--arms", "full"), 2, "expected a disconformer with a head ctc for the arm full"),
        (
            (toy_bundle, data, "--arms", "matched=here"),
            2,
            "expected a disconformer with a head ctc for the arm matched",
        ),
        ((toy_bundle, data, "--splits", "10m"), 2, "expected a split among 1s, 2s; received '10m'"),
        ((toy_bundle, data, "--speakers", "9,"), 2, "expected a speaker among 7, 8"),
        ((toy_bundle, data, "--general", tmp_path / "none"), 1, "which does not exist"),
        ((toy_bundle, tmp_path), 1, "edgekit data libricontinual"),
        ((tmp_path / "none", data), 1, "error: expected"),
        ((toy_bundle, data, "--ray", "127.0.0.1:1"), 1, "expected "),
    ):
        ran = adapt(*arguments, *out)
        assert (ran.code, ran.out) == (code, ""), arguments
        assert told in ran.err
        assert "Traceback" not in ran.err
    embedding = toy_with(task="speech-embedding", output={"kind": "embedding", "frame_s": 0.02}).path
    ran = adapt(embedding, data, *out)
    assert (ran.code, "is for speech-embedding" in ran.err) == (1, True)
    random = toy_with(provenance={"weights": {"source": "random", "seed": 0}}).path
    ran = adapt(random, data, *out)
    assert (ran.code, "random weights" in ran.err) == (1, True)
    assert adapt(random, data, *out, "--allow-random-weights").code == 0


def test_results_of_another_bundle_are_refused(
    adapt: Cli, toy_with: Callable[..., Bundle], toy_bundle: Path, data: Path, tmp_path: Path
) -> None:
    """Of the same name, but what it does before adaptation is another thing."""
    results = next_task(adapt, toy_bundle, data, tmp_path / "out")
    results.write_text(results.read_text().replace('"variant": "tiny"', '"variant": "old"'))
    ran = adapt(toy_bundle, data, "--speakers", "7,", "--out", tmp_path / "out")
    assert (ran.code, ran.out) == (2, "")
    assert "received 1 of another (what differs: start)" in ran.err
    assert adapt(toy_bundle, data, "--speakers", "7,", "--out", tmp_path / "out", "--redo").code == 0


def next_task(adapt: Cli, bundle: Path, data: Path, out: Path) -> Path:
    assert adapt(bundle, data, "--speakers", "7,", "--out", out).code == 0
    return next((out / "tasks").rglob("*.json"))


def test_arms_of_other_modules(
    adapt: Cli, toy_bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "elsewhere.py").write_text(
        "from dataclasses import dataclass, replace\n"
        "from edgekit.runtime.libricontinual.arms import AsItIs, Outcome\n"
        "from edgekit.runtime.libricontinual.cost import measured\n"
        "@dataclass(frozen=True)\n"
        "class Tuned(AsItIs):\n"
        "    tuned_parameters = 12\n"
        "    def run(self, data, *, num_threads):\n"
        "        with measured() as meter:\n"
        "            found = super().run(data, num_threads=num_threads)\n"
        "        return replace(found, cost=data and meter.cost)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setitem(libricontinual._ARMS, "tuned", "elsewhere:Tuned")
    options = ("--arms", "none,tuned", "--speakers", "8,", "--splits", "1s", "--general", tmp_path / "speech" / "7")
    ran = adapt(toy_bundle, data, *options, "--out", tmp_path / "out")
    assert (ran.code, ran.err) == (0, "")
    assert "tuned 1s: forgetting 0.00 points, gain 0.00" in ran.out
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["num_tasks"] == 3, "both arms begin with the same"
    assert found["arms"]["tuned"]["splits"]["1s"]["seconds"] > 0
    assert (tmp_path / "out" / "forgetting.png").is_file()


def test_a_rate_of_fewer_speakers_says_so(
    adapt: Cli, toy_bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "sometimes.py").write_text(
        "from edgekit.core.errors import EdgekitError\n"
        "from edgekit.runtime.libricontinual.arms import AsItIs\n"
        "class Tuned(AsItIs):\n"
        "    tuned_parameters = 12\n"
        "    def run(self, data, *, num_threads):\n"
        "        if data is not None and data.speaker == '7':\n"
        "            raise EdgekitError('expected another speaker')\n"
        "        return super().run(data, num_threads=num_threads)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setitem(libricontinual._ARMS, "tuned", "sometimes:Tuned")
    ran = adapt(toy_bundle, data, "--arms", "tuned", "--splits", "1s", "--out", tmp_path / "out")
    assert (ran.code, "expected another speaker" in ran.err) == (1, True)
    assert "tuned 1s: 1 of 2 speakers, who gain 0.00 points" in ran.out
