"""From a family to a bundle: where weights and recordings come from, and what is left where an export fails or dies."""

from __future__ import annotations

import json
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import edgekit
from edgekit.cli import main
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.bundle_writer import writing
from edgekit.core.errors import (
    AudioError,
    BundleError,
    CheckpointError,
    EdgekitError,
    ExportError,
    UsageError,
    VerificationError,
)

torch = pytest.importorskip("torch", reason="exports modules of torch")
pytest.importorskip("onnxruntime", reason="executes what was exported")

from safetensors.torch import load_file  # noqa: E402

from edgekit.core.files import sha256_of  # noqa: E402
from edgekit.core.settings import apply_settings  # noqa: E402
from edgekit.core.signature import Dim, Signature  # noqa: E402
from edgekit.devices import target  # noqa: E402
from edgekit.devices.target import targets  # noqa: E402
from edgekit.export import verify  # noqa: E402
from edgekit.export.build import Request, build  # noqa: E402
from edgekit.export.export import MAX_AUDIO, ExportRequest, export, make_reference  # noqa: E402
from edgekit.train.family import Builtin, LoadedModel, families  # noqa: E402

FAMILY = "hubert-student"
SMALL = families()[FAMILY].small

TINY = {
    "tiny_family-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-family\nVersion: 1.0\n",
    "tiny_family-1.0.dist-info/entry_points.txt": "[edgekit.families]\ntiny = tiny_family:FAMILY\n",
    "tiny_family/__init__.py": """
from dataclasses import dataclass

from edgekit.core.signature import Derived, Dim, Signature, TensorSpec
from edgekit.train.family import Family

BATCH, TIME = Dim("batch", ((1, 1, 16),)), Dim("time", ((400, 8000, 160000),))
FRAMES = Derived("time", minus=400, over=320, plus=1)


@dataclass(frozen=True)
class Config:
    width: int = 8

    def graphs(self, head):
        inputs = TensorSpec("x", "float32", (BATCH, TIME)), TensorSpec("x_lens", "int64", (BATCH,), lengths_of=TIME)
        states = TensorSpec("states", "float32", (BATCH, FRAMES, self.width))
        return {"infer": Signature(inputs, (states, TensorSpec("states_lens", "int64", (BATCH,), lengths_of=FRAMES)))}

    def features(self):
        return {"kind": "waveform", "sample_rate": 16000, "normalise": False}

    def num_parameters(self):
        return 401 * self.width


HEADS = {"embedding": "speech-embedding"}
FAMILY = Family("tiny", "one convolution", "none", {"one": Config()}, HEADS, "tiny_family.model")
""",
    "tiny_family/model.py": """
import torch

from edgekit.train.family import LoadedModel


class Model(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = torch.nn.Conv1d(1, width, 400, stride=320)

    def forward(self, x, x_lens):
        return self.conv(x[:, None]).transpose(1, 2), (x_lens - 400) // 320 + 1


def random_model(config, head, seed):
    torch.manual_seed(seed)
    output = {"kind": "embedding", "frame_s": 0.02}
    weights = {"source": "random", "seed": seed}
    return LoadedModel(Model(config.width).eval(), config, head, config.features(), output, weights)
""",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of an installed package that brings the family `tiny`, which exports in a second."""
    folder = tmp_path_factory.mktemp("packages")
    for name, text in TINY.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        families.cache_clear()
        yield folder
    families.cache_clear()
    for name in [name for name in sys.modules if name.startswith("tiny_family")]:
        del sys.modules[name]


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
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small model of our own with random weights."""
    return export(ExportRequest(FAMILY, settings=SMALL, seed=7), tmp_path_factory.mktemp("small") / "bundle")


@pytest.fixture(scope="module")
def exported(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(ExportRequest("tiny", seed=7), tmp_path_factory.mktemp("tiny") / "bundle").path


@pytest.fixture
def tiny_bundle(exported: Path, tmp_path: Path) -> Path:
    """A fresh copy of a bundle of the tiny family."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


def test_random_weights_are_called_so(small: Bundle) -> None:
    bundle = open_bundle(small.path)
    assert bundle.manifest.provenance["weights"] == {"source": "random", "seed": 7}
    assert (bundle.manifest.family, bundle.manifest.variant) == (FAMILY, "deep-thin-fbank")
    assert bundle.manifest.config["hidden_size"] == 64
    assert bundle.manifest.config["head"] == "ctc"
    with pytest.raises(BundleError, match="was exported with random weights"):
        edgekit.load(small.path).transcribe((np.zeros(16000, np.float32), 16000))


def test_the_onnx_is_held_to_torch_at_lengths_of_the_sample_clips(small: Bundle) -> None:
    check_whole(small)
    check_swept(small.path)
    (artifact,) = open_bundle(small.path).graph().artifacts
    assert artifact.parity is not None
    assert (artifact.parity["inputs"], artifact.parity["reference"]) == ("synthesised", "torch fp32")
    assert len(artifact.parity["lengths"]) == 4
    assert artifact.parity["batched_max_abs"] < 1e-3
    assert artifact.details["operators"]["LayerNormalization"] >= 2


def test_the_same_seed_is_the_same_graph_and_another_is_another(exported: Path, tmp_path: Path) -> None:
    again = export(ExportRequest("tiny", seed=7), tmp_path / "again")
    assert again.manifest.core_hash == open_bundle(exported).manifest.core_hash
    other = export(ExportRequest("tiny", seed=8), tmp_path / "again")
    assert other.manifest.core_hash != again.manifest.core_hash


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers", reason="makes the checkpoint, and is what it is held to")
    folder = tmp_path_factory.mktemp("hubert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    # two convolutions where HuBERT has seven, of the same 320 samples a frame: they take long to export
    convolutions = {"conv_dim": [16, 16], "conv_kernel": [20, 20], "conv_stride": [16, 20]}
    config = transformers.HubertConfig(**sizes, **convolutions, num_conv_pos_embedding_groups=4)
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


@pytest.fixture
def with_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """DisConformer made small, with built-in weights of variant t: their folder."""
    from edgekit.train.families.disconformer.model import build as build_module
    from edgekit.train.families.disconformer.model import save_model
    from edgekit.train.tokens import LETTERS

    family, folder = families()["disconformer"], tmp_path / "weights"
    config = apply_settings(family.variants["t"], family.small)
    save_model(folder, build_module(config, "ctc"), config, "t", LETTERS)
    small = replace(family, variants={"t": config, "s": config}, builtin=Builtin("t", folder, "CC0-1.0"))
    monkeypatch.setitem(families(), "disconformer", small)
    return folder


@pytest.mark.parametrize(
    ("asked", "source"),
    [
        ({"head": "ctc"}, "built-in"),
        ({"variant": "t", "head": "embedding"}, "built-in"),
        ({"variant": "s", "head": "embedding"}, "random"),
        ({"settings": ["active=1"], "head": "embedding"}, "built-in"),
        ({"settings": ["kernel=5"], "head": "embedding"}, "random"),
        ({"settings": ["active=1", "kernel=5"], "head": "embedding"}, "random"),
        ({"seed": 0, "head": "embedding"}, "random"),
    ],
    ids=str,
)
def test_built_in_weights_are_exported_where_nothing_else_is_asked_for(
    with_weights: Path, tmp_path: Path, asked: dict[str, Any], source: str
) -> None:
    manifest = export(ExportRequest("disconformer", **asked), tmp_path / "bundle").manifest
    weights = manifest.provenance["weights"]
    assert manifest.config["active"] == [1] * ("active=1" in asked.get("settings", ()))
    if source == "random":
        assert weights == {"source": "random", "seed": 0}
    else:
        sha256 = {"model.safetensors": sha256_of(with_weights / "model.safetensors")}
        assert weights == {"source": "built-in", "licence": "CC0-1.0", "sha256": sha256}


def test_what_of_a_checkpoint_is_deployed_may_be_chosen(with_weights: Path, tmp_path: Path) -> None:
    """The core, and with augment nets, each held to torch's sum of groups, whole and in chunks."""
    from edgekit.runtime.chunks import whole
    from edgekit.runtime.session import open_session
    from edgekit.train.families.disconformer.model import build as build_module
    from edgekit.train.families.disconformer.model import fill

    config = families()["disconformer"].variants["t"]
    module = build_module(config, "ctc").eval()
    fill(module, load_file(with_weights / "model.safetensors"), "")
    inputs = {"x": np.random.default_rng(0).normal(size=(1, 93, 80)).astype(np.float32), "x_lens": np.array([93])}
    answers: dict[str, list[np.ndarray]] = {"infer": [], "stream": []}
    for active in ((), (0,), (0, 2)):
        asked = f"active={','.join(map(str, active))}"
        path = tmp_path / asked
        bundle = export(ExportRequest("disconformer", str(with_weights), settings=[asked]), path)
        manifest = open_bundle(path).manifest
        assert manifest.config["active"] == list(active)
        assert manifest.config["num_parameters"] == config.core_parameters() + len(active) * config.augment_parameters()
        assert manifest.provenance["weights"]["source"] == "checkpoint"
        assert manifest.provenance["command"].endswith(f"--set {asked}")
        module.active = active
        with torch.no_grad():
            expected = module(*map(torch.from_numpy, inputs.values()))[0].numpy()
        for name, graph in manifest.graphs.items():
            assert graph.artifacts[0].parity is not None
            answers[name].append(whole(open_session(bundle, name, backend="onnxruntime")).run(inputs)["log_probs"])
        np.testing.assert_allclose(answers["infer"][-1], expected, rtol=1e-3, atol=1e-4)
        memory = next(spec for spec in manifest.graphs["stream"].signature.inputs if spec.name == "keys_values")
        assert memory.shape[-1] == (config.num_heads + len(active) * config.augment_heads) * config.head_width
    for core, one, two in answers.values():
        assert min(float(abs(a - b).max()) for a, b in ((core, one), (core, two), (one, two))) > 1e-3


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["width=64"], "a checkpoint has its own, and lets active, personal be set"),
        (["active=0", "dropout=0"], "a checkpoint has its own, and lets active, personal be set"),
        (["active=7"], "active must name different augment nets of 0..3, got (7,)"),
        (["active=0,0"], "active must name different augment nets"),
    ],
)
def test_nothing_else_of_a_checkpoint_may_be_set(
    settings: list[str], told: str, with_weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgekitError) as caught:
        export(ExportRequest("disconformer", str(with_weights), settings=settings), tmp_path / "bundle")
    assert told in caught.value.message
    assert not (tmp_path / "bundle").exists()


def test_built_in_weights_are_not_written_over_a_checkpoints(with_weights: Path, tmp_path: Path) -> None:
    mine = export(ExportRequest("disconformer", str(with_weights), head="embedding"), tmp_path / "bundle")
    before = content(mine.path)
    with pytest.raises(UsageError, match="holds a disconformer with checkpoint weights, which would be lost"):
        export(ExportRequest("disconformer", head="embedding"), mine.path)
    assert content(mine.path) == before


def test_a_seed_is_for_random_weights(hubert: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--seed is of random weights; a checkpoint has its own"):
        export(ExportRequest("hubert", str(hubert), seed=0), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_settings_are_for_random_weights(hubert: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--set changes the sizes of random weights; a checkpoint has its own$"):
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


def test_weights_that_one_file_cannot_hold_are_refused_at_once(tiny: Path, tmp_path: Path) -> None:
    with torch.device("meta"), pytest.raises(ExportError, match=r"expected at most 2 GiB of fp32 weights, .* received"):
        export(ExportRequest("tiny", settings=["width=1400000"]), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_another_family_is_not_written_over_a_bundle(tiny: Path, small: Bundle) -> None:
    before = content(small.path)
    with pytest.raises(UsageError, match="holds a hubert-student with random weights, which would be lost") as caught:
        export(ExportRequest("tiny"), small.path)
    assert "--out" in str(caught.value.hint)
    assert content(small.path) == before


def test_random_weights_are_not_written_over_a_checkpoints(tiny_bundle: Path) -> None:
    manifest = open_bundle(tiny_bundle).manifest
    with writing(tiny_bundle) as writer:
        trained = {**manifest.provenance, "weights": {"source": "checkpoint", "name": "mine"}}
        writer.commit(replace(manifest, provenance=trained))
    before = content(tiny_bundle)
    with pytest.raises(UsageError, match="holds a tiny with checkpoint weights, which would be lost"):
        export(ExportRequest("tiny"), tiny_bundle)
    assert content(tiny_bundle) == before


def test_a_bundle_keeps_the_command_that_makes_it_again(small: Bundle, tiny: Path, tmp_path: Path) -> None:
    settings = " ".join(f"--set {setting}" for setting in SMALL)
    assert small.manifest.provenance["command"] == f"edgekit export {FAMILY} {settings} --seed 7"
    named = recording(tmp_path / "my voice.wav", 2)
    bundle = export(ExportRequest("tiny", variant="one", head="embedding", audio=[named]), tmp_path / "bundle")
    command = bundle.manifest.provenance["command"]
    assert shlex.split(command)[3:] == ["--variant", "one", "--head", "embedding", "--audio", str(named)]
    (bundle.path / bundle.graph().artifacts[0].file).unlink()
    with pytest.raises(BundleError, match="is missing") as caught:
        edgekit.load(bundle.path)
    assert caught.value.hint == f"export it again: {command} --out {bundle.path}"


def test_more_recordings_than_a_bundle_keeps_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.wav" for index in range(MAX_AUDIO + 1)]
    with pytest.raises(UsageError, match=f"expected at most {MAX_AUDIO} recordings for the check, received 9"):
        export(ExportRequest(FAMILY, audio=paths), tmp_path / "bundle")


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
    reference = make_reference(model, "infer", paths, "real")
    time_axis = next(spec.lengths_of for spec in signature.inputs if isinstance(spec.lengths_of, Dim))
    lengths = [int(item["x_lens"][0]) for item in reference.inputs]
    assert len(set(lengths)) >= 3
    assert max(lengths) <= time_axis.max
    # every recording is there, as far as the graph takes it
    assert {min(round(duration * 100) - 2, time_axis.max) for duration in seconds} <= set(lengths)
    for item, answer in zip(reference.inputs, reference.outputs):
        sizes = signature.check_inputs(item)
        assert answer["log_probs"].shape == signature.output_shape(signature.outputs[0], sizes)


def test_a_recording_too_short_for_three_lengths_is_told_what_is_enough(
    small_model: tuple[LoadedModel, Signature], tmp_path: Path
) -> None:
    with pytest.raises(AudioError, match=r"expected a recording to cut to 3 lengths, received 0\.03 s") as caught:
        make_reference(small_model[0], "infer", [recording(tmp_path / "short.wav", 0.03)], "real")
    assert caught.value.hint == "give a recording of at least 0.08 s"
    make_reference(small_model[0], "infer", [recording(tmp_path / "enough.wav", 0.08)], "real")


def test_an_export_that_fails_its_check_leaves_nothing_or_the_old_bundle(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(tiny_bundle)
    monkeypatch.setitem(verify.TOLERANCES, "fp32", replace(verify.TOLERANCES["fp32"], atol=-1, rtol=0))
    for path in (tmp_path / "fresh", tiny_bundle):
        with pytest.raises(VerificationError, match="alone, item 0, output states: expected"):
            export(ExportRequest("tiny", seed=9), path)
    assert content(tmp_path / "fresh") == {}
    assert content(tiny_bundle) == before


def test_an_export_over_a_bundle_sweeps_what_the_old_one_held(tiny_bundle: Path) -> None:
    build(tiny_bundle, Request("onnx", "fp16"))
    before = set(content(tiny_bundle))
    (tiny_bundle / ".staging.abcd1234.part").mkdir()  # of an export that was killed
    bundle = export(ExportRequest("tiny", seed=10), tiny_bundle)
    assert bundle.manifest.provenance["weights"]["seed"] == 10
    check_whole(open_bundle(tiny_bundle))
    check_swept(tiny_bundle)
    assert before & set(content(tiny_bundle)) == {"manifest.json"}


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
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(tiny_bundle)
    sizes = sorted(file.num_bytes for file in open_bundle(tiny_bundle).manifest.files())
    monkeypatch.setattr(sys, "argv", ["edgekit", "export", "tiny", "--out", str(tiny_bundle)])
    # of ONNX and reference, which the seed changes, each in turn does not fit; the largest file first
    for limit in (sizes[-1] // 2, sizes[-2] // 2):
        with pytest.raises(SystemExit) as left, disk_of(limit):
            main()
        assert left.value.code == 1
        printed = capsys.readouterr()
        assert f"error: cannot write {tiny_bundle}" in printed.err
        assert "File too large" in printed.err
        assert "hint:  free some space or choose another folder; what was there before is unchanged" in printed.err
        assert content(tiny_bundle) == before


EXPORTER = """if True:
    import os, sys, time
    from pathlib import Path
    from edgekit.export.export import ExportRequest, export

    def say(*words):
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())

    steps = []
    for _ in range(2):  # imports all that it needs, then measures how long the last step takes
        export(ExportRequest("tiny"), Path(sys.argv[1]), report=lambda step: steps.append(time.perf_counter()))
    say("ready", time.perf_counter() - steps[-1])
    for line in sys.stdin:
        path, seed = line.split()
        child = os.fork()
        while child == 0:
            say("begin", seed)
            export(ExportRequest("tiny", seed=int(seed)), Path(path), report=say)
            say("done", seed)
            seed = int(seed) + 1
        say("pid", child)
        os.waitpid(child, 0)
        say("gone")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_an_export_killed_at_any_moment_leaves_a_whole_bundle_or_none(tiny: Path, tmp_path: Path) -> None:
    chance = random.Random(0)
    # one thread each, so that a process that has computed can be forked
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    exporter = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", EXPORTER, tmp_path / "warm"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **threads, "PYTHONPATH": str(tiny)},
    )
    assert exporter.stdin is not None
    assert exporter.stdout is not None
    ready, last_step_s = exporter.stdout.readline().split()
    assert ready == "ready"
    last_seed: int | None = None
    num_found = 0
    for kill in range(20):
        path = tmp_path / f"bundle{kill // 5}"
        if kill % 5 == 0:
            last_seed = None
        exporter.stdin.write(f"{path} {kill * 1000}\n")
        exporter.stdin.flush()
        said: list[list[str]] = []

        def listen(word: str, said: list[list[str]] = said) -> None:
            while not said or said[-1][0] != word:
                said.append(exporter.stdout.readline().split())

        if kill % 5 == 1:  # anywhere in an export over a bundle
            listen("done")
            time.sleep(chance.uniform(0, 1.5))
        elif kill % 5 == 3:  # anywhere
            time.sleep(chance.uniform(0, 1.5))
        else:  # where an export ends: the files are written, it is checked, committed and swept
            listen("checking")
            time.sleep(chance.uniform(0, float(last_step_s)))
        while "pid" not in [words[0] for words in said]:
            said.append(exporter.stdout.readline().split())
        os.kill(next(int(words[1]) for words in said if words[0] == "pid"), signal.SIGKILL)
        listen("gone")
        begun, done = ([int(words[1]) for words in said if words[0] == word] for word in ("begin", "done"))
        last_seed = done[-1] if done else last_seed
        if not (path / "manifest.json").exists():
            assert last_seed is None, f"kill {kill}"
            continue
        bundle = open_bundle(path)
        check_whole(bundle)
        seed = bundle.manifest.provenance["weights"]["seed"]
        assert seed in (last_seed, *begun[-1:]), f"kill {kill}"
        last_seed = seed
        num_found += 1
    assert num_found >= 16
    exporter.stdin.close()
    assert exporter.wait(timeout=30) == 0
    export(ExportRequest("tiny"), path)
    check_swept(path)


def test_the_target_is_recorded_and_holds_the_model_to_its_memory(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = export(ExportRequest("tiny", target="raspberry-pi-5"), tmp_path / "bundle")
    assert bundle.manifest.provenance["targets"] == ["raspberry-pi-5"]
    assert bundle.manifest.provenance["command"] == "edgekit export tiny --target raspberry-pi-5"
    narrow = {"narrow": replace(targets()["rtx-4090"], memory_gb=1e-6)}
    monkeypatch.setattr(target, "targets", lambda: narrow)
    with pytest.raises(ExportError, match="the memory of narrow"):
        export(ExportRequest("tiny", target="narrow"), tmp_path / "other")
    assert not (tmp_path / "other").exists()
