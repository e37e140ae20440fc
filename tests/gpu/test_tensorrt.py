"""Engines, built and run on this machine's GPU; skipped where there is none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import ModelProto, numpy_helper

from edgekit.core.errors import BackendError, BundleError, SignatureError
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec
from edgekit.export.precision import cast_graph
from edgekit.export.tensorrt import build_engine, engine_key
from edgekit.runtime.backends import tensorrt
from edgekit.runtime.backends.base import SessionOptions

BATCH = Dim("batch", ((1, 1, 4),))
TIME = Dim("time", ((9, 50, 64), (100, 150, 200)))
SIGNATURE = Signature(
    (TensorSpec("feats", "float32", (BATCH, TIME, 16)), TensorSpec("lengths", "int64", (BATCH,), lengths_of=TIME)),
    (
        TensorSpec("log_probs", "float32", (BATCH, Derived("time", 3, 2, 1), 10)),
        TensorSpec("out_lengths", "int64", (BATCH,)),
    ),
)
MODEL = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[batch, time, 16] feats, int64[batch] lengths)
    => (float[batch, frames, 10] log_probs, int64[batch] out_lengths)
<int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}>
{
    inner = Sub (lengths, three)
    halves = Div (inner, two)
    out_lengths = Add (halves, one)
    channels = Transpose <perm = [0, 2, 1]> (feats)
    conv = Conv <strides = [2]> (channels, w_conv)
    frames_first = Transpose <perm = [0, 2, 1]> (conv)
    x = LayerNormalization (frames_first, scale)
    turned = Transpose <perm = [0, 2, 1]> (x)
    scores = MatMul (x, turned)
    attention = Softmax (scores)
    mixed = MatMul (attention, x)
    logits = MatMul (mixed, w_out)
    log_probs = LogSoftmax (logits)
}
"""
ATOL = {"fp32": 1e-4, "fp16": 1e-3, "bf16": 1e-2}


def model() -> ModelProto:
    made = onnx.parser.parse_model(MODEL)
    random = np.random.default_rng(0)
    for name, shape in {"w_conv": (32, 16, 3), "scale": (32,), "w_out": (32, 10)}.items():
        array = (random.standard_normal(shape) / 6).astype(np.float32)
        made.graph.initializer.append(numpy_helper.from_array(array, name))
    return made


@dataclass(frozen=True)
class Built:
    path: Path
    format: str
    precision: str
    key: dict[str, Any]
    details: dict[str, Any]

    def open(self, **changes: Any) -> Any:
        options = SessionOptions(precision=self.precision, engine={**self.key, **changes})
        return tensorrt.open([self.path], SIGNATURE, options)


@pytest.fixture(scope="module", params=tensorrt.FORMATS)
def format(request: pytest.FixtureRequest) -> str:
    probe = tensorrt.probe(request.param)
    if not probe.usable:
        pytest.skip(f"{request.param}: missing {probe.missing}")
    return str(request.param)


@pytest.fixture(scope="module", params=["fp32", "fp16", "bf16"])
def built(request: pytest.FixtureRequest, format: str, tmp_path_factory: pytest.TempPathFactory) -> Built:
    precision, folder = request.param, tmp_path_factory.mktemp("engine")
    onnx.save(model() if precision == "fp32" else cast_graph(model(), precision), folder / "model.onnx")
    out = folder / "infer.engine"
    details = build_engine(folder / "model.onnx", SIGNATURE, format=format, out=out, precision=precision)
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    return Built(out, format, precision, engine_key(format, digest), details)


@pytest.fixture(scope="module")
def reference() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model().SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.fixture
def session(built: Built) -> Iterator[Any]:
    session = built.open()
    yield session
    session.close()


def inputs_of(batch: int, time: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    feats = random.standard_normal((batch, time, 16)).astype(np.float32)
    return {"feats": feats, "lengths": np.linspace(9, time, batch).astype(np.int64)}


def hold(session: Any, reference: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> None:
    expected, expected_lengths = reference.run(None, inputs)
    outputs = session.run(inputs)
    assert outputs["log_probs"].dtype == np.float32
    assert np.abs(outputs["log_probs"] - expected).max() < ATOL[session.precision]
    assert outputs["out_lengths"].tolist() == expected_lengths.tolist()


def test_the_engine_computes_in_what_was_asked(built: Built) -> None:
    assert built.details["inspected"] is not None
    if built.format == "trt":
        assert built.precision in built.details["inspected"]


@pytest.mark.parametrize(("batch", "time"), [(1, 9), (4, 64), (2, 33), (1, 100), (4, 200)])
def test_answers_are_those_of_fp32(session: Any, reference: Any, batch: int, time: int) -> None:
    assert session.device == "cuda:0"
    hold(session, reference, inputs_of(batch, time))


def test_an_engine_that_stands_alone_answers_as_in_its_bundle(built: Built, reference: Any) -> None:
    session = tensorrt.open_alone(built.path, SessionOptions(precision="as in the file"))
    try:
        assert session.precision in (built.precision, "as built")
        assert [spec.name for spec in session.signature.inputs] == ["feats", "lengths"]
        assert session.signature.dims["feats_1"].buckets == ((9, 50, 64),)
        inputs = inputs_of(2, 50)
        expected, _ = reference.run(None, inputs)
        assert np.abs(session.run(inputs)["log_probs"] - expected).max() < ATOL[built.precision]
    finally:
        session.close()


def test_answers_stay_right_when_a_graph_is_captured_dropped_and_captured_again(
    built: Built, session: Any, reference: Any
) -> None:
    for time in (33, 50, 33, 200):
        for seed in range(6):
            hold(session, reference, inputs_of(2, time, seed))
        assert session.uncapturable is None
        if built.format == "trt":
            assert session.num_graphs >= 1


def test_threads_share_a_session(session: Any, reference: Any) -> None:
    failures: list[AssertionError] = []

    def work(seed: int) -> None:
        try:
            for count in range(20):
                hold(session, reference, inputs_of(1 + (seed + count) % 4, (20, 40, 120)[count % 3], seed))
        except AssertionError as error:
            failures.append(error)

    threads = [Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_two_sessions_and_a_closed_one(built: Built, reference: Any) -> None:
    first, second = built.open(), built.open()
    hold(first, reference, inputs_of(1, 50))
    first.close()
    first.close()
    hold(second, reference, inputs_of(1, 50))
    second.close()
    with pytest.raises(BackendError, match="expected an open session"):
        second.run(inputs_of(1, 50))


def test_a_size_between_the_buckets_is_refused(session: Any) -> None:
    with pytest.raises(SignatureError, match="expected sizes of an optimisation profile"):
        session.run(inputs_of(1, 80))


def test_engines_that_do_not_belong_here_are_refused(built: Built, tmp_path: Path) -> None:
    for change in ({"tensorrt": "10.0.1"}, {"bundle_onnx_sha256": "00"}):
        with pytest.raises(BundleError, match="cannot run here") as caught:
            built.open(**change)
        assert caught.value.hint is not None
        assert caught.value.hint.startswith("edgekit build ")
    if built.format == "trt":
        with pytest.raises(BundleError, match="built for GPU another"):
            built.open(gpu="another")
    cut = tmp_path / "cut.engine"
    cut.write_bytes(built.path.read_bytes()[:-1000])
    with pytest.raises(BundleError, match=r"cannot read cut\.engine"):
        Built(cut, built.format, built.precision, built.key, {}).open()
    if built.precision != "fp32":
        with pytest.raises(BundleError, match="expected an engine that computes in fp32"):
            Built(built.path, built.format, "fp32", built.key, {}).open()


def test_a_timing_cache_is_written_and_used(format: str, tmp_path: Path) -> None:
    if format != "trt":
        pytest.skip("TensorRT-RTX measures nothing while it builds")
    onnx.save(model(), tmp_path / "model.onnx")
    cache = tmp_path / "timing.cache"
    for content in (None, b"not a timing cache"):
        if content is not None:
            cache.write_bytes(content)
        details = build_engine(
            tmp_path / "model.onnx", SIGNATURE, format=format, out=tmp_path / "e", timing_cache=cache
        )
        assert cache.stat().st_size > 100
        assert any("timing cache" in text.lower() for text in details["warnings"]) == (content is not None)
