"""From a family to a bundle: where weights and recordings come from, and what is left where an export fails or dies."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

import edgekit
from edgekit.cli import main
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import AudioError, BundleError, CheckpointError, UsageError, VerificationError

torch = pytest.importorskip("torch", reason="exports modules of torch")
pytest.importorskip("onnxruntime", reason="executes what was exported")

from edgekit.core.settings import apply_settings  # noqa: E402
from edgekit.core.signature import Dim, Signature  # noqa: E402
from edgekit.export import verify  # noqa: E402
from edgekit.export.build import Request, build  # noqa: E402
from edgekit.export.export import ExportRequest, export, make_reference  # noqa: E402
from edgekit.train.family import LoadedModel, families  # noqa: E402

FAMILY = "hubert-student"
SMALL = families()[FAMILY].small


def content(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.iterdir() if entry.name != ".lock"}


def check_whole(bundle: Bundle) -> None:
    """Every file is there and unaltered, and the ONNX was executed."""
    for file in bundle.manifest.files():
        bundle.checked(file)
    assert bundle.graph().artifacts[0].parity is not None


def check_swept(path: Path) -> None:
    """A bundle's folder holds what its manifest names and nothing else."""
    names = {file.name for file in open_bundle(path).manifest.files()}
    assert set(content(path)) == {*names, "manifest.json"}


def recording(path: Path, seconds: float, seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * 16000))
    soundfile.write(path, noise, 16000)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(ExportRequest(FAMILY, settings=SMALL, seed=7), tmp_path_factory.mktemp("export") / "bundle").path


@pytest.fixture
def bundle_path(exported: Path, tmp_path: Path) -> Path:
    """A fresh copy of a small bundle with random weights."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


def test_random_weights_are_called_so(bundle_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    assert bundle.manifest.provenance["weights"] == {"source": "random", "seed": 7}
    assert (bundle.manifest.family, bundle.manifest.variant) == (FAMILY, "deep-thin-fbank")
    assert bundle.manifest.config["hidden_size"] == 64
    assert bundle.manifest.config["head"] == "ctc"
    with pytest.raises(BundleError, match="was exported with random weights"):
        edgekit.load(bundle_path).transcribe((np.zeros(16000, np.float32), 16000))


def test_the_onnx_is_held_to_torch_at_lengths_of_the_sample_clips(bundle_path: Path) -> None:
    (artifact,) = open_bundle(bundle_path).graph().artifacts
    assert artifact.parity is not None
    assert (artifact.parity["inputs"], artifact.parity["reference"]) == ("synthesised", "torch fp32")
    assert len(artifact.parity["lengths"]) == 4
    assert artifact.parity["batched_max_abs"] < 1e-3
    assert artifact.details["operators"]["LayerNormalization"] >= 2


def test_the_same_seed_is_the_same_graph_and_another_is_another(exported: Path, tmp_path: Path) -> None:
    again = export(ExportRequest(FAMILY, settings=SMALL, seed=7), tmp_path / "again")
    assert again.manifest.core_hash == open_bundle(exported).manifest.core_hash
    other = export(ExportRequest(FAMILY, settings=SMALL, seed=8), tmp_path / "again")
    assert other.manifest.core_hash != again.manifest.core_hash


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers", reason="makes the checkpoint, and is what it is held to")
    folder = tmp_path_factory.mktemp("hubert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.HubertConfig(**sizes, conv_dim=[16] * 7, num_conv_pos_embedding_groups=4)
    transformers.HubertModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    return folder


def test_a_checkpoint_answers_as_in_transformers(hubert: Path, tmp_path: Path) -> None:
    from transformers import HubertModel, Wav2Vec2FeatureExtractor

    recordings = [recording(tmp_path / f"{seconds}.wav", seconds, seed=3) for seconds in (0.9, 1.5)]
    bundle = export(ExportRequest("hubert", str(hubert), audio=recordings), tmp_path / "bundle")
    assert (bundle.manifest.task, bundle.manifest.variant) == ("speech-embedding", "custom")
    weights = bundle.manifest.provenance["weights"]
    assert (weights["source"], weights["name"]) == ("checkpoint", str(hubert))
    parity = bundle.graph().artifacts[0].parity
    assert parity is not None
    assert parity["inputs"] == "real"
    assert len(set(parity["lengths"])) >= 3
    assert {14400, 24000} <= set(parity["lengths"])

    theirs = HubertModel.from_pretrained(hubert).eval()
    prepare = Wav2Vec2FeatureExtractor.from_pretrained(hubert)
    encoder = edgekit.load(bundle.path)
    for path in [*recordings, recording(tmp_path / "new.wav", 3.21, seed=4)]:
        wave, rate = soundfile.read(path, dtype="float32")
        with torch.no_grad():
            expected = theirs(prepare(wave, sampling_rate=rate, return_tensors="pt").input_values).last_hidden_state
        received = encoder.embed(path)
        assert received.frame_s == 0.02
        np.testing.assert_allclose(received.frames, expected[0].numpy(), atol=1e-4, rtol=1e-3)


def test_settings_are_for_random_weights(hubert: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--set changes the sizes of random weights; a checkpoint has its own"):
        export(ExportRequest("hubert", str(hubert), settings=["hidden_size=64"]), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_checkpoint_of_another_family_names_the_command_for_it(hubert: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="hubert"):
        export(ExportRequest(FAMILY, str(hubert)), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_an_unusable_recording_is_found_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="No such file"):
        export(ExportRequest(FAMILY, settings=SMALL, audio=[tmp_path / "none.wav"]), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.fixture(scope="module")
def small_model() -> tuple[LoadedModel, Signature]:
    family = families()[FAMILY]
    config = apply_settings(family.variants["deep-thin-fbank"], SMALL)
    return family.model.random_model(config, "ctc", 0), config.graphs("ctc")["infer"]


@pytest.mark.parametrize("seconds", [(2,), (0.1,), (100,), (5, 5, 5), (40, 50, 60), (1, 2, 3), (1, 2, 3, 4)], ids=str)
def test_whatever_is_recorded_the_reference_has_three_lengths(
    small_model: tuple[LoadedModel, Signature], tmp_path: Path, seconds: tuple[float, ...]
) -> None:
    model, signature = small_model
    paths = [recording(tmp_path / f"{index}.wav", duration, index) for index, duration in enumerate(seconds)]
    reference = make_reference(model, signature, paths, "real")
    time_axis = next(spec.lengths_of for spec in signature.inputs if isinstance(spec.lengths_of, Dim))
    lengths = [int(item["x_lens"][0]) for item in reference.inputs]
    assert len(set(lengths)) >= 3
    assert max(lengths) <= time_axis.max
    # every recording is there, as far as the graph takes it
    assert {min(round(duration * 100) - 2, time_axis.max) for duration in seconds} <= set(lengths)
    for item, answer in zip(reference.inputs, reference.outputs):
        sizes = signature.check_inputs(item)
        assert answer["log_probs"].shape == signature.output_shape(signature.outputs[0], sizes)


def test_an_export_that_fails_its_check_leaves_nothing_or_the_old_bundle(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(bundle_path)
    monkeypatch.setitem(verify.TOLERANCES, "fp32", verify.Tolerance(atol=-1, rtol=0, cosine=1))
    for path in (tmp_path / "fresh", bundle_path):
        with pytest.raises(VerificationError, match="alone, item 0, output log_probs: expected"):
            export(ExportRequest(FAMILY, settings=SMALL, seed=9), path)
    assert content(tmp_path / "fresh") == {}
    assert content(bundle_path) == before


def test_an_export_over_a_bundle_sweeps_what_the_old_one_held(bundle_path: Path) -> None:
    build(bundle_path, Request("onnx", "fp16"))
    (bundle_path / ".staging.abcd1234.part").mkdir()  # of an export that was killed
    before = set(content(bundle_path))
    bundle = export(ExportRequest(FAMILY, settings=SMALL, seed=10), bundle_path)
    assert bundle.manifest.provenance["weights"]["seed"] == 10
    check_whole(open_bundle(bundle_path))
    check_swept(bundle_path)
    kept = before & set(content(bundle_path))
    assert {name.split("-")[0] for name in kept} == {"manifest.json", "tokens"}


@contextmanager
def disk_of(num_bytes: int) -> Iterator[None]:
    """No file can become larger: the writer is told so, as of a full disk, by an error of `write`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_disk_that_fills_keeps_the_old_bundle(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(bundle_path)
    sizes = sorted(file.num_bytes for file in open_bundle(bundle_path).manifest.files())
    settings = [part for setting in SMALL for part in ("--set", setting)]
    monkeypatch.setattr(sys, "argv", ["edgekit", "export", FAMILY, *settings, "--out", str(bundle_path)])
    # the largest file is the reference, the second the ONNX: one of them does not fit
    for limit in (sizes[-1] - 1, sizes[-2] - 1):
        with pytest.raises(SystemExit) as left, disk_of(limit):
            main()
        assert left.value.code == 1
        printed = capsys.readouterr()
        assert f"error: cannot write {bundle_path}" in printed.err
        assert "File too large" in printed.err
        assert "hint:  free some space or choose another folder; what was there before is unchanged" in printed.err
        assert content(bundle_path) == before


EXPORTER = """if True:
    import os, sys
    from pathlib import Path
    from edgekit.export.export import ExportRequest, export
    from edgekit.train.family import families
    settings = families()[sys.argv[1]].small
    export(ExportRequest(sys.argv[1], settings=settings), Path(sys.argv[2]))  # imports all that it needs
    print("ready", flush=True)
    for line in sys.stdin:
        path, seed = line.split()
        child = os.fork()
        while child == 0:
            print("begin", seed, flush=True)
            request = ExportRequest(sys.argv[1], settings=settings, seed=int(seed))
            export(request, Path(path), report=lambda step: print(step, flush=True))
            print("done", seed, flush=True)
            seed = int(seed) + 1
        print("pid", child, flush=True)
        os.waitpid(child, 0)
        print("gone", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_an_export_killed_at_any_moment_leaves_a_whole_bundle_or_none(tmp_path: Path) -> None:
    chance = random.Random(0)
    # one thread each, so that the process can be forked when it has computed
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    exporter = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", EXPORTER, FAMILY, tmp_path / "warm"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **threads},
    )
    assert exporter.stdin is not None
    assert exporter.stdout is not None
    assert exporter.stdout.readline() == "ready\n"
    committed = found = 0
    for kill in range(20):
        path = tmp_path / f"bundle{kill // 5}"
        committed = committed if kill % 5 else 0
        exporter.stdin.write(f"{path} {kill * 100 + 1}\n")
        exporter.stdin.flush()
        lines = []
        if kill % 2:  # anywhere; else while the files are written, checked and committed, which is the end of an export
            time.sleep(chance.uniform(0, 3))
        else:
            while not lines or not lines[-1].startswith("checking"):
                lines.append(exporter.stdout.readline())
            time.sleep(chance.uniform(0, 0.2))
        while not any(line.startswith("pid") for line in lines):
            lines.append(exporter.stdout.readline())
        os.kill(next(int(line.split()[1]) for line in lines if line.startswith("pid")), signal.SIGKILL)
        while lines[-1] != "gone\n":
            lines.append(exporter.stdout.readline())
        begun = [int(line.split()[1]) for line in lines if line.startswith("begin")]
        committed = max([committed, *(int(line.split()[1]) for line in lines if line.startswith("done"))])
        if not (path / "manifest.json").exists():
            assert not committed, f"kill {kill}"
            continue
        bundle = open_bundle(path)
        check_whole(bundle)
        committed_now = bundle.manifest.provenance["weights"]["seed"]
        assert committed_now in (committed, *begun[-1:]), f"kill {kill}"
        committed = committed_now
        found += 1
    assert found >= 4
    exporter.stdin.close()
    assert exporter.wait(timeout=30) == 0
    export(ExportRequest(FAMILY, settings=SMALL), path)
    check_swept(path)
