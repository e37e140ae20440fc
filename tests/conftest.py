"""What tests share: real data, TensorRT-RTX, and a bundle whose "speech" is known exactly and needs no torch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.bundle import Adaptation, Artifact, Bundle, Graph, Manifest, open_bundle
from edgekit.core.bundle_writer import writing
from edgekit.core.errors import BackendError
from edgekit.core.record import Record
from edgekit.core.reference import Reference
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec
from edgekit.core.store import Store
from edgekit.core.theta import ThetaLayout
from edgekit.runtime.session import probe_format
from edgekit.runtime.tensorrt.library import load_module

LABELS = ("<pad>", "|", "A", "B", "C", "D")
LEVELS = np.linspace(-0.75, 0.75, len(LABELS)).astype(np.float32)
HOP, FRAME = 320, 400
# only the part of a window that the next one does not share, so that no window mixes two letters
MEAN = np.where(np.arange(FRAME) < HOP, 1 / HOP, 0).astype(np.float32)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m device_side`, do not even import the other tests: torch is absent there."""
    if config.option.markexpr != "device_side" or not collection_path.name.startswith("test_"):
        return None
    return True if "device_side" not in collection_path.read_text(encoding="utf-8") else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets; tests that use it are skipped where there is none."""
    default = Path(__file__).parents[1] / ".." / "shared" / "data"
    folder = Path(os.environ.get("EDGEKIT_SHARED_DATA", default)).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; EDGEKIT_SHARED_DATA names another folder")
    return folder


@pytest.fixture(scope="session")
def rtx() -> Any:
    """The Python module of TensorRT-RTX; tests that use it are skipped where it is not installed."""
    try:
        return load_module("trt-rtx")
    except BackendError as error:
        pytest.skip(f"TensorRT-RTX: {error.message}")


@pytest.fixture(scope="session")
def adaptable(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small random DisConformer with theta as an input and gradient graphs, held to torch by all gates; shared, so
    that a test which changes it copies it."""
    export = pytest.importorskip("edgekit.export.export")
    from edgekit.train.family import find_family

    family = find_family("disconformer")
    request = export.ExportRequest(family.name, settings=family.small, seed=0, adapt=True, gates="full")
    bundle: Bundle = export.export(request, tmp_path_factory.mktemp("adaptable") / "bundle")
    return bundle


@pytest.fixture(scope="session")
def speak() -> Callable[..., np.ndarray]:
    """`speak("AB C", frames_each=5)`: a waveform at 16 kHz in which each letter is a level, with blanks between."""

    def wave(text: str, frames_each: int = 5) -> np.ndarray:
        symbols = [symbol for letter in text for symbol in (0, LABELS.index("|" if letter == " " else letter))]
        return np.repeat(LEVELS[[*symbols, 0]], frames_each * HOP)

    return wave


@pytest.fixture(scope="session")
def _toy_bundle(tmp_path_factory: pytest.TempPathFactory, speak: Callable[..., np.ndarray]) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("toy") / "bundle", speak).path


@pytest.fixture
def toy_bundle(_toy_bundle: Path, tmp_path: Path) -> Path:
    """A fresh copy of a bundle for speech recognition that understands `speak`, with weights that count as trained."""
    return Path(shutil.copytree(_toy_bundle, tmp_path / "toy"))


@pytest.fixture(scope="session")
def _personal_toy(tmp_path_factory: pytest.TempPathFactory, speak: Callable[..., np.ndarray]) -> Path:
    from edgekit.export.build import Request, build

    path = write_toy_bundle(tmp_path_factory.mktemp("toy") / "bundle", speak, personal=True).path
    if probe_format("openvino").usable:
        build(path, Request("openvino"))
    return path


@pytest.fixture
def personal_toy(_personal_toy: Path, tmp_path: Path) -> Path:
    """The same with a theta, which `hears` makes; also for OpenVINO where that is installed."""
    return Path(shutil.copytree(_personal_toy, tmp_path / "personal"))


@pytest.fixture(scope="session")
def hears() -> Callable[[str], np.ndarray]:
    """`hears("BACD")`: the theta, float32 [6], of one whose A, B, C and D are written as these letters."""

    def theta(letters: str) -> np.ndarray:
        meant = np.empty_like(LEVELS)
        meant[[0, 1, *(LABELS.index(letter) for letter in letters)]] = LEVELS
        return meant - LEVELS

    return theta


@pytest.fixture(scope="session")
def install() -> Callable[..., Record]:
    """`install(bundle, root, "anna", theta_P, speech_s=60)`: a speaker as `edgekit adapt` leaves one, with details."""
    pytest.importorskip("safetensors", reason="a speaker's weights are a safetensors file")
    from edgekit.runtime.adapt import speaker

    def written(bundle: Path, root: Path, name: str, theta_P: np.ndarray, **details: Any) -> Record:
        manifest = open_bundle(bundle).manifest
        assert manifest.adaptation is not None
        store = Store(manifest.core_hash, root)
        return speaker.install(store, name, theta_P, manifest.adaptation.layout.hash, details)

    return written


@pytest.fixture(scope="session")
def core_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small DisConformer with random weights, which babbles, whole and in chunks. Not to be changed."""
    export = pytest.importorskip("edgekit.export.export")
    from edgekit.train.family import find_family

    family = find_family("disconformer")
    request = export.ExportRequest(family.name, settings=family.small, seed=0)
    bundle: Bundle = export.export(request, tmp_path_factory.mktemp("core") / "bundle")
    return bundle.path


@pytest.fixture(scope="session")
def personal_bundle(adaptable: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights with a theta, also for OpenVINO where that is installed. Not to be changed."""
    from edgekit.export.build import Request, build

    path = Path(shutil.copytree(adaptable.path, tmp_path_factory.mktemp("personal") / "bundle"))
    if probe_format("openvino").usable:
        build(path, Request("openvino"))
    return path


def write_toy_bundle(path: Path, speak: Callable[..., np.ndarray], *, personal: bool = False, **changes: Any) -> Bundle:
    """A graph that averages windows of 25 ms and names the nearest level; `changes` replace fields of its manifest.

    Args:
        personal: a theta of six values is added to the levels: a speaker has levels of their own.
    """
    time, batch = Dim("time", ((400, 8000, 16000), (16001, 80000, 480000))), Dim("batch", ((1, 1, 16),))
    frames = Derived("time", minus=FRAME, over=HOP, plus=1)
    theta = TensorSpec("theta", "float32", (Dim("speakers", ((1, 1, 16),)), len(LABELS)), weights=True)
    signature = Signature(
        (
            TensorSpec("x", "float32", (batch, time)),
            TensorSpec("x_lens", "int64", (batch,), lengths_of=time),
            *([theta] if personal else []),
        ),
        (
            TensorSpec("log_probs", "float32", (batch, frames, len(LABELS))),
            TensorSpec("log_probs_lens", "int64", (batch,), lengths_of=frames),
        ),
    )
    waves = [speak("AB"), speak("ABC CD"), speak("DAB BAD")]
    nobody = {"theta": np.zeros((1, len(LABELS)), np.float32)} if personal else {}
    inputs = tuple({"x": w[None], "x_lens": np.array([len(w)]), **nobody} for w in waves)
    outputs = tuple(toy_answer(item["x"]) for item in inputs)
    with writing(path) as writer:
        with writer.staging() as folder:
            toy_onnx(folder / "model.onnx", personal=personal)
            file = writer.add(folder / "model.onnx", "infer-onnx-fp32")
        assets = {
            "tokens": writer.add_bytes("\n".join(LABELS).encode() + b"\n", "tokens", ".txt"),
            "reference-infer": writer.add_bytes(
                Reference("synthesised", inputs, outputs).to_bytes(), "reference", ".npz"
            ),
        }
        fields: dict[str, Any] = {
            "family": "toy",
            "variant": "tiny",
            "task": "speech-recognition",
            "config": {},
            "features": {"kind": "waveform", "sample_rate": 16000, "normalise": False},
            "output": {"kind": "ctc", "blank": 0, "delimiter": "|", "frame_s": 0.02},
            "provenance": {"weights": {"source": "checkpoint", "name": "toy"}},
            "graphs": {"infer": Graph(signature, (Artifact("onnx", "fp32", (file,), reason="not executed"),))},
            "assets": assets,
            "adaptation": Adaptation(ThetaLayout.of([("levels", (len(LABELS),))])) if personal else None,
        }
        return writer.commit(Manifest(**{**fields, **changes}))


def toy_answer(x: np.ndarray) -> dict[str, np.ndarray]:
    """What the toy graph answers, computed without it."""
    windows = np.lib.stride_tricks.sliding_window_view(x[0].astype(np.float64), FRAME)[::HOP]
    scores = -1000 * ((windows @ MEAN)[:, None] - LEVELS) ** 2
    log_probs = scores - np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1, keepdims=True))
    log_probs -= scores.max(1, keepdims=True)
    return {"log_probs": log_probs[None].astype(np.float32), "log_probs_lens": np.array([len(windows)])}


def toy_onnx(path: Path, *, personal: bool = False) -> None:
    onnx = pytest.importorskip("onnx", reason="the toy graph is written with the package onnx")
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "mean": MEAN[None, None],
        "levels": LEVELS[None, None],
        "sharpness": np.float32(-1000),
        "one": np.array([1]),
        "frame": np.array(FRAME),
        "hop": np.array(HOP),
        "plus": np.array(1),
    }
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["x_B1N"], name="unsqueeze"),
        helper.make_node("Conv", ["x_B1N", "mean"], ["level_B1T"], name="average", strides=[HOP]),
        helper.make_node("Transpose", ["level_B1T"], ["level_BT1"], name="transpose", perm=[0, 2, 1]),
        *(
            [
                helper.make_node("Unsqueeze", ["theta", "one"], ["theta_S1P"], name="unsqueeze_theta"),
                helper.make_node("Add", ["levels", "theta_S1P"], ["own_levels"], name="own_levels"),
            ]
            if personal
            else []
        ),
        helper.make_node(
            "Sub", ["level_BT1", "own_levels" if personal else "levels"], ["difference"], name="difference"
        ),
        helper.make_node("Mul", ["difference", "difference"], ["square"], name="square"),
        helper.make_node("Mul", ["square", "sharpness"], ["scores"], name="scores"),
        helper.make_node("LogSoftmax", ["scores"], ["log_probs"], name="log_softmax", axis=-1),
        helper.make_node("Sub", ["x_lens", "frame"], ["past"], name="past"),
        helper.make_node("Div", ["past", "hop"], ["hops"], name="hops"),
        helper.make_node("Add", ["hops", "plus"], ["log_probs_lens"], name="frames"),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "time"]),
            helper.make_tensor_value_info("x_lens", TensorProto.INT64, ["batch"]),
            *(
                [helper.make_tensor_value_info("theta", TensorProto.FLOAT, ["speakers", len(LABELS)])]
                if personal
                else []
            ),
        ],
        [
            helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["batch", "time_out", len(LABELS)]),
            helper.make_tensor_value_info("log_probs_lens", TensorProto.INT64, ["batch"]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


@pytest.fixture
def toy_with(speak: Callable[..., np.ndarray], tmp_path: Path) -> Callable[..., Bundle]:
    """`toy_with(task="...")`: the toy bundle with fields of its manifest replaced."""
    return lambda **changes: write_toy_bundle(tmp_path / "changed", speak, **changes)


@pytest.fixture
def opened(toy_bundle: Path) -> Bundle:
    return open_bundle(toy_bundle)


@pytest.fixture(scope="session")
def write_colours(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bundle]:
    """`write_colours(output={...})`: a bundle that tells pictures by their mean colour (`COLOURS`), also for OpenVINO
    where that is installed. What is given replaces fields of its manifest, `names` those of its classes (bytes).
    `explains`: with a graph that takes what is bright for the object."""
    from edgekit.export.build import Request, build

    def written(
        names: bytes = b"red\ngreen\nblue\nwhite\n", built: bool = True, explains: bool = False, **changes: Any
    ) -> Bundle:
        path = write_colour_bundle(tmp_path_factory.mktemp("colours") / "bundle", names, explains, **changes).path
        if built and probe_format("openvino").usable:
            build(path, Request("openvino"))
        return open_bundle(path)

    return written


@pytest.fixture(scope="session")
def _colour_bundle(write_colours: Callable[..., Bundle]) -> Path:
    return write_colours().path


@pytest.fixture
def colour_bundle(_colour_bundle: Path, tmp_path: Path) -> Path:
    """A fresh copy of it."""
    return Path(shutil.copytree(_colour_bundle, tmp_path / "colours"))


COLOURS = np.array([[4, -2, -2, 2], [-2, 4, -2, 2], [-2, -2, 4, 2]], np.float32)
"""Logits are a picture's mean colour, each channel from -1 to 1, times this: red, green, blue and white."""


def write_colour_bundle(path: Path, names: bytes, explains: bool = False, **changes: Any) -> Bundle:
    batch = Dim("batch", ((1, 1, 5),))
    signature = Signature(
        (TensorSpec("pixels", "float32", (batch, 3, 24, 32)),),
        (TensorSpec("embedding", "float32", (batch, 3)), TensorSpec("logits", "float32", (batch, 4))),
    )
    random = np.random.default_rng(0)
    inputs = tuple({"pixels": random.uniform(-1, 1, (1, 3, 24, 32)).astype(np.float32) ** n} for n in (1, 2, 3))
    means = [item["pixels"].mean((2, 3)) for item in inputs]
    outputs = tuple({"embedding": mean, "logits": mean @ COLOURS} for mean in means)
    with writing(path) as writer:
        assets = {"tokens": writer.add_bytes(names, "tokens", ".txt")}
        with writer.staging() as folder:
            colour_onnx(folder / "model.onnx")
            file = writer.add(folder / "model.onnx", "infer-onnx-fp32")
            graphs = {"infer": Graph(signature, (Artifact("onnx", "fp32", (file,), reason="not executed"),))}
            if explains:
                bright_onnx(folder / "explain.onnx")
                file = writer.add(folder / "explain.onnx", "explain-onnx-fp32")
                maps = tuple(TensorSpec(name, "float32", (batch, 6, 8)) for name in ("extent", "distance", "angle"))
                explain = Signature(signature.inputs, maps)
                graphs["explain"] = Graph(explain, (Artifact("onnx", "fp32", (file,), reason="not executed"),))
                seen = [item["pixels"].reshape(1, 3, 6, 4, 8, 4).mean((1, 3, 5)) for item in inputs]
                seen_maps = tuple(
                    {"extent": cells, "distance": np.maximum(cells, 0), "angle": np.maximum(-cells, 0)}
                    for cells in seen
                )
                content = Reference("synthesised", inputs, seen_maps).to_bytes()
                assets["reference-explain"] = writer.add_bytes(content, "reference-explain", ".npz")
        reference = Reference("synthesised", inputs, outputs).to_bytes()
        assets["reference-infer"] = writer.add_bytes(reference, "reference", ".npz")
        size = {"height": 24, "width": 32, "resize": "shortest-edge", "resize_to": 36, "resample": "bicubic"}
        fields: dict[str, Any] = {
            "family": "colours",
            "variant": "tiny",
            "task": "image-classification",
            "config": {},
            "features": {"kind": "image", **size, "mean": [0.5] * 3, "std": [0.5] * 3},
            "output": {"kind": "classes", "embedding": "embedding", "logits": "logits"},
            "provenance": {"weights": {"source": "checkpoint", "name": "colours"}},
            "graphs": graphs,
            "assets": assets,
        }
        return writer.commit(Manifest(**{**fields, **changes}))


def colour_onnx(path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the toy graph is written with the package onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["embedding"], name="mean", keepdims=0),
        helper.make_node("MatMul", ["embedding", "colours"], ["logits"], name="colours"),
    ]
    infos = {"pixels": ["batch", 3, 24, 32], "embedding": ["batch", 3], "logits": ["batch", 4]}
    pixels, *answers = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in infos.items())
    constants = {"axes": np.array([2, 3]), "colours": COLOURS}
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "colours", [pixels], answers, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def bright_onnx(path: Path) -> None:
    """Extent is the mean brightness of 4 x 4 pixels, distance what of it is above 0, angle what is below."""
    onnx = pytest.importorskip("onnx", reason="the toy graph is written with the package onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("AveragePool", ["pixels"], ["cells"], name="cells", kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("ReduceMean", ["cells", "axes"], ["extent"], name="mean", keepdims=0),
        helper.make_node("Relu", ["extent"], ["distance"], name="above"),
        helper.make_node("Neg", ["extent"], ["dark"], name="dark"),
        helper.make_node("Relu", ["dark"], ["angle"], name="below"),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 24, 32])
    maps = ("extent", "distance", "angle")
    answers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 6, 8]) for name in maps]
    axes = numpy_helper.from_array(np.array([1]), "axes")
    graph = helper.make_graph(nodes, "bright", [pixels], answers, [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
