"""The exporter, run for real: TensorRT-RTX parses and builds engines on a CPU."""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import ModelProto, numpy_helper

from edgekit.core.errors import BackendError, BundleError, ExportError, UsageError
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec
from edgekit.export.precision import cast_graph
from edgekit.export.tensorrt import build_engine, check_network, engine_key, find_builder, network_flags
from edgekit.runtime import cuda
from edgekit.runtime.backends.tensorrt import probe
from edgekit.runtime.tensorrt.engine import read_engine
from edgekit.runtime.tensorrt.library import engine_log

BATCH = Dim("batch", ((1, 1, 4),))
TIME = Dim("time", ((9, 50, 64), (65, 100, 200)))
SIGNATURE = Signature(
    (TensorSpec("feats", "float32", (BATCH, TIME, 16)), TensorSpec("lengths", "int64", (BATCH,), lengths_of=TIME)),
    (
        TensorSpec("log_probs", "float32", (BATCH, Derived("time", 3, 2, 1), 10)),
        TensorSpec("out_lengths", "int64", (BATCH,)),
    ),
)
ENCODER = """
<ir_version: 10, opset_import: ["" : 18]>
encoder (float[batch, time, 16] feats, int64[batch] lengths)
    => (float[batch, frames, 10] log_probs, int64[batch] out_lengths)
<int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}, int64[1] axis = {1}, int64 zero = {0}, int64 step = {1}>
{
    inner = Sub (lengths, three)
    halves = Div (inner, two)
    out_lengths = Add (halves, one)
    channels = Transpose <perm = [0, 2, 1]> (feats)
    conv = Conv <strides = [2], group = 4> (channels, w_conv)
    frames_first = Transpose <perm = [0, 2, 1]> (conv)
    x = LayerNormalization (frames_first, scale)
    shape = Shape (x)
    num_frames = Gather <axis = 0> (shape, step)
    positions = Range (zero, num_frames, step)
    lengths_column = Unsqueeze (out_lengths, axis)
    valid = Less (positions, lengths_column)
    valid_rows = Unsqueeze (valid, axis)
    attend = Constant <value_float = 0.0> ()
    ignore = Constant <value_float = -10000.0> ()
    mask = Where (valid_rows, attend, ignore)
    q = MatMul (x, w_q)
    turned = Transpose <perm = [0, 2, 1]> (x)
    scores = MatMul (q, turned)
    masked = Add (scores, mask)
    attention = Softmax (masked)
    mixed = MatMul (attention, x)
    erf = Erf (mixed)
    logits = MatMul (erf, w_out)
    log_probs = LogSoftmax (logits)
}
"""


def encoder() -> ModelProto:
    model = onnx.parser.parse_model(ENCODER)
    random = np.random.default_rng(0)
    shapes = {"w_conv": (32, 4, 3), "scale": (32,), "w_q": (32, 32), "w_out": (32, 10)}
    for name, shape in shapes.items():
        array = (random.standard_normal(shape) / 6).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    for node in model.graph.node:
        node.name = f"node_{node.output[0]}"
    onnx.checker.check_model(model, full_check=True)
    return model


def saved(folder: Path, precision: str = "fp32") -> Path:
    model = encoder()
    path = folder / f"{precision}.onnx"
    onnx.save(model if precision == "fp32" else cast_graph(model, precision), path)  # type: ignore[arg-type]
    return path


def simple(folder: Path, body: str, inputs: str, outputs: str, opsets: str = '"" : 18') -> Path:
    text = f"<ir_version: 10, opset_import: [{opsets}]> g ({inputs}) => ({outputs}) {{ {body} }}"
    onnx.save(onnx.parser.parse_model(text), folder / "simple.onnx")
    return folder / "simple.onnx"


@pytest.fixture(scope="module", params=["fp32", "fp16", "bf16"])
def built(request: pytest.FixtureRequest, rtx: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Any]:
    """Precision, engine and details of an engine that was really built."""
    folder = tmp_path_factory.mktemp(request.param)
    out = folder / "model.engine"
    details = build_engine(
        saved(folder, request.param),
        SIGNATURE,
        format="trt-rtx",
        out=out,
        precision=request.param,
        workspace_mib=64,
    )
    return request.param, out, details


def test_an_engine_is_built_with_a_profile_per_bucket(built: tuple[str, Path, Any]) -> None:
    _, out, details = built
    assert out.stat().st_size > 10_000
    assert details["num_profiles"] == 2
    assert details["num_layers"] == sum(n for counts in details["layers"].values() for n in counts.values())
    assert details["num_layers"] > 25
    assert 0 < details["build_s"] < 600
    assert details["builder"].startswith("tensorrt_rtx 1.")
    assert details["warnings"] == []


def test_layers_are_in_the_precision_that_was_asked(built: tuple[str, Path, Any]) -> None:
    precision, _, details = built
    layers = details["layers"]
    low = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16"}[precision]
    assert layers["MATRIX_MULTIPLY"] == {low: 4}
    assert layers["CONVOLUTION"] == {low: 1}
    assert layers["NORMALIZATION"] == {"FLOAT": 1}
    assert layers["SOFTMAX"] == {"FLOAT": 2}
    assert details["num_checked"] >= 14


def test_the_engine_itself_is_inspected_where_a_gpu_can_load_it(built: tuple[str, Path, Any]) -> None:
    precision, _, details = built
    if probe("trt-rtx").usable:
        assert precision in details["inspected"]
    else:
        assert details["inspected"] is None


def test_a_timing_cache_that_is_not_used_is_told(rtx: Any, tmp_path: Path) -> None:
    path = simple(tmp_path, "y = Relu (x)", "float[N, 4] x", "float[N, 4] y")
    size = Dim("N", ((1, 2, 4),))
    signature = Signature((TensorSpec("x", "float32", (size, 4)),), (TensorSpec("y", "float32", (size, 4)),))
    told: list[str] = []
    cache = tmp_path / "timing.cache"
    details = build_engine(path, signature, format="trt-rtx", out=tmp_path / "e", timing_cache=cache, log=told.append)
    assert (
        told
        == details["warnings"]
        == [f"the timing cache {cache} is not used: TensorRT-RTX measures nothing while it builds"]
    )
    assert not cache.exists()


def test_a_graph_in_another_precision_is_refused(rtx: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="in fp16, this one computes in fp32"):
        build_engine(saved(tmp_path), SIGNATURE, format="trt-rtx", out=tmp_path / "e", precision="fp16")
    with pytest.raises(ExportError, match="in fp32, this one computes in bf16"):
        build_engine(saved(tmp_path, "bf16"), SIGNATURE, format="trt-rtx", out=tmp_path / "e", precision="fp32")


def test_a_network_that_is_not_what_the_graph_asks_is_refused(rtx: Any, tmp_path: Path) -> None:
    network = rtx.Builder(engine_log(rtx)).create_network(network_flags(rtx))
    parser = rtx.OnnxParser(network, engine_log(rtx))
    assert parser.parse_from_file(str(saved(tmp_path)))
    assert check_network(parser, encoder()) >= 14
    with pytest.raises(ExportError, match="MatMul 'node_q': expected HALF, TensorRT made FLOAT"):
        check_network(parser, cast_graph(encoder(), "fp16"))
    renamed = encoder()
    for node in renamed.graph.node:
        node.name += "_elsewhere"
    with pytest.raises(ExportError, match="no node was found"):
        check_network(parser, renamed)


def test_every_error_of_the_parser_names_its_node(rtx: Any, tmp_path: Path) -> None:
    body = "a = other.Blur (x) b = other.Sharpen (a) y = Relu (b)"
    path = simple(tmp_path, body, "float[N, 4] x", "float[N, 4] y", '"" : 18, "other" : 1')
    with pytest.raises(ExportError, match=r"node 0 Blur .*; node 1 Sharpen "):
        build_engine(path, SIGNATURE, format="trt-rtx", out=tmp_path / "e")


def test_a_file_that_is_no_onnx_is_refused_and_the_old_engine_kept(rtx: Any, tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(b"the engine of before")
    (tmp_path / "broken.onnx").write_bytes(b"not ONNX" * 10)
    for name, expected in (("broken.onnx", "broken.onnx is not one"), ("absent.onnx", "No such file")):
        with pytest.raises(ExportError, match=expected):
            build_engine(tmp_path / name, SIGNATURE, format="trt-rtx", out=tmp_path / "e")
    assert (tmp_path / "e").read_bytes() == b"the engine of before"


def test_other_inputs_than_the_signature_are_refused(rtx: Any, tmp_path: Path) -> None:
    path = simple(tmp_path, "y = Relu (x)", "float[N, 4] x", "float[N, 4] y")
    with pytest.raises(ExportError, match=r"'feats', 'float32'.*the ONNX has.*'x', 'float32'"):
        build_engine(path, SIGNATURE, format="trt-rtx", out=tmp_path / "e")


def test_a_size_that_the_graph_does_not_have_is_quoted_from_the_builder(rtx: Any, tmp_path: Path) -> None:
    path = simple(tmp_path, "y = Relu (x)", "float[N, 4] x", "float[N, 4] y")
    size = Dim("N", ((1, 2, 4),))
    signature = Signature((TensorSpec("x", "float32", (size, 5)),), (TensorSpec("y", "float32", (size, 5)),))
    with pytest.raises(
        ExportError, match=r"cannot build an engine: .*profile has min=5, opt=5, max=5 but tensor has 4"
    ):
        build_engine(path, signature, format="trt-rtx", out=tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_an_input_whose_values_are_sizes_is_refused(rtx: Any, tmp_path: Path) -> None:
    path = simple(tmp_path, "y = Reshape (x, to)", "float[8] x, int64[2] to", "float[A, B] y")
    signature = Signature(
        (TensorSpec("x", "float32", (8,)), TensorSpec("to", "int64", (2,))), (TensorSpec("y", "float32", (2, 4)),)
    )
    with pytest.raises(ExportError, match=r"the values of \['to'\] decide on shapes"):
        build_engine(path, signature, format="trt-rtx", out=tmp_path / "e")


def test_a_function_stands_before_an_operator_that_tensorrt_knows_by_its_name(rtx: Any, tmp_path: Path) -> None:
    text = """
        <ir_version: 10, opset_import: ["" : 18, "com.microsoft" : 1]>
        g (float[N, 4] x) => (float[N, 4] y)
        { a = com.microsoft.Gelu <alpha = 0.5> (x)  y = com.microsoft.Gelu <alpha = 2.0> (a) }
        <domain: "com.microsoft", opset_import: ["" : 18]>
        Gelu <alpha> (a) => (b) { half = Constant <value_float: float = @alpha> ()  e = Erf (a)  b = Mul (half, e) }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "functions.onnx")
    size = Dim("N", ((1, 2, 4),))
    signature = Signature((TensorSpec("x", "float32", (size, 4)),), (TensorSpec("y", "float32", (size, 4)),))
    details = build_engine(tmp_path / "functions.onnx", signature, format="trt-rtx", out=tmp_path / "e")
    assert details["layers"]["UNARY"] == {"FLOAT": 2}
    assert details["num_checked"] == 4


def test_what_is_logged_is_heard_while_another_runtime_lives(rtx: Any, tmp_path: Path) -> None:
    runtime = rtx.Runtime(engine_log(rtx))  # TensorRT keeps the first logger and ignores later ones
    with pytest.raises(BundleError, match="Cannot deserialize with an empty memory buffer"):
        read_engine(rtx, b"", "empty.engine")
    assert runtime is not None


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_a_damaged_engine_is_refused_with_what_tensorrt_says(
    built: tuple[str, Path, Any], rtx: Any, damage: str
) -> None:
    content = built[1].read_bytes()
    damaged, said = {
        "cut": (content[: len(content) // 2], "plan.header.size == blobSize failed"),
        "foreign": (b"x" * 4096, "magicTag == kEXPECTED_MAGIC_TAG failed"),
    }[damage]
    with pytest.raises(BundleError, match=rf"cannot read damaged\.engine: .*{said}"):
        read_engine(rtx, damaged, "damaged.engine")


def test_the_key_says_what_the_engine_depends_on(rtx: Any) -> None:
    digest = hashlib.sha256(b"onnx").hexdigest()
    key = engine_key("trt-rtx", digest)
    assert key["onnx_sha256"] == digest
    assert key["tensorrt"] == rtx.__version__
    assert key["machine"] == platform.machine()
    assert key["cuda_driver"] == cuda.driver_version()
    assert key["gpu"] is key["compute_capability"] is key["os"] is None  # portable
    assert {"8.6", "8.9", "12.0"} <= set(key["targets"])
    assert "7.5" not in key["targets"]


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="trt, trt-rtx, received 'engine'"):
        find_builder("engine")


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="tensorrt is installed")
def test_an_absent_builder_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="expected the Python module tensorrt, it is not installed") as caught:
        find_builder("trt")
    assert caught.value.hint is not None
    assert "JetPack" in caught.value.hint
    package = tmp_path / "tensorrt"
    package.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    # what NVIDIA's bindings do where their libraries are missing
    (package / "__init__.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    with pytest.raises(BackendError, match=r"installed, its libraries are not: libnvinfer\.so\.10"):
        find_builder("trt")


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="tensorrt is installed")
@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("8.5.2.2", r"expected tensorrt 10\.3 or newer, before 12, found 8\.5\.2\.2"),
        ("12.0.1", r"before 12, found 12\.0\.1"),
        ("10.3.0", "builds only on the GPU that the engine is for"),
    ],
)
def test_a_builder_that_cannot_be_used_is_told(
    version: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if version == "10.3.0" and cuda.devices():
        pytest.skip("a GPU is here")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tensorrt.py").write_text(f"__version__ = {version!r}")
    try:
        with pytest.raises(BackendError, match=said):
            find_builder("trt")
    finally:
        sys.modules.pop("tensorrt", None)
