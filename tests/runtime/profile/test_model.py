"""Bundles, tasks and other people's files, opened and measured in this process."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import BackendError, BundleError, EdgekitError, SignatureError, UnavailableError, UsageError
from edgekit.devices.scenarios import Answered
from edgekit.runtime import cuda
from edgekit.runtime.profile.measure import held_to, measure_point
from edgekit.runtime.profile.model import describe_model, open_subject
from edgekit.runtime.profile.point import Point

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

Quick = Callable[..., Point]


def test_a_bundles_graph_is_measured(quick: Quick, toy_bundle: Path) -> None:
    steps: list[str] = []
    asked = {"batch": 2, "layers": True, "bound_ms": 1e6, "bound_percentile": 50.0, "min_queries": 20}
    told = measure_point(quick(toy_bundle, length="1s", **asked), steps.append)
    assert steps == ["loading", "warming up", "measuring single-stream", "timing layers"]
    assert told["session"]["backend"] == "onnxruntime"
    assert (told["items_per_call"], told["audio_s"], told["inputs"][0]["shape"]) == (2, 1.0, [2, 16000])
    median_ms = np.median(told["samples_ms"])
    assert told["latency"]["num_samples"] == len(told["samples_ms"]) == told["scenario"]["num_calls"]
    assert told["rtf"] == pytest.approx(median_ms / 1e3 / 2, rel=1e-3)
    assert told["scenario"]["bound"] == {"bound_ms": 1e6, "percentile": 50.0, "verdict": "met", "share_within": 1.0}
    items, seconds = told["marks"]["num_items"], told["marks"]["stop_s"] - told["marks"]["start_s"]
    assert told["throughput_per_s"] == pytest.approx(items / seconds)
    assert items == 2 * len(told["samples_ms"])
    assert told["memory"]["peak_mib"] > 10
    assert told["layers"]["sum_ms"] > 0
    assert told["timing_overhead_us"] < 20


def test_length_is_steps_or_seconds_of_sound(quick: Quick, toy_bundle: Path) -> None:
    cases = [(None, "1.5s", 150, 1.5), (toy_bundle, "8001", 8001, 8001 / 16000), (toy_bundle, None, 8000, 0.5)]
    for model, length, steps, audio_s in cases:
        subject = open_subject(quick(model, length=length))
        assert (subject.inputs[0]["shape"][1], subject.audio_s) == (steps, pytest.approx(audio_s))
        subject.close()
    for length in ("3m", "0", "-1s", "nans", ""):
        with pytest.raises(UsageError, match="expected a length in steps or seconds"):
            open_subject(quick(toy_bundle, length=length))


def test_a_task_is_measured_from_waveform_to_text(quick: Quick, toy_bundle: Path) -> None:
    for batch in (1, 3):
        told = measure_point(quick(toy_bundle, task=True, length="0.5s", batch=batch))
        assert (told["audio_s"], told["items_per_call"]) == (0.5, batch)
        assert told["inputs"] == [
            {"name": "waveform", "dtype": "float32", "shape": [batch, 8000], "values": "the sample clips"}
        ]
        assert told["layers"] is None
    with pytest.raises(UsageError, match="expected --batch and --length alone with --task, received also dims"):
        open_subject(quick(toy_bundle, task=True, dims=("time=800",)))


def test_offline_has_a_throughput_and_no_latency(quick: Quick) -> None:
    told = measure_point(quick(scenario="offline", workers=2))
    assert told["latency"] is None
    assert "latency" in told["not_measured"]
    assert told["rtf"] == pytest.approx(1 / told["throughput_per_s"])
    assert told["scenario"]["num_queries"] == 1


def test_a_server_is_held_to_its_bound(quick: Quick) -> None:
    told = measure_point(quick(scenario="server", qps=200.0, bound_ms=0.001, bound_percentile=50.0, duration_s=0.1))
    assert told["scenario"]["bound"]["share_within"] == 0
    assert told["scenario"]["bound"]["verdict"] == "not met"
    assert told["rtf"] is None
    assert "rtf" in told["not_measured"]


def test_a_bound_is_met_missed_or_not_resolved() -> None:
    answered = Answered("edgekit", np.arange(1.0, 101), 0.0, 1.0, 100)
    # the 95 % interval of the median of 100 samples: the 40th to the 61st (a table of the binomial)
    assert [held_to(answered, bound, 50).verdict for bound in (39, 40, 60, 61)] == [
        "not met",
        "not resolved",
        "not resolved",
        "met",
    ]
    assert held_to(answered, 1e9, 99).verdict == "not resolved"  # 100 samples say too little
    assert held_to(answered, 25, 50).share_within == 0.25


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_file_of_others_runs_on_both_libraries(quick: Quick, foreign: Path, backend: str) -> None:
    pytest.importorskip(backend)
    shapes = ("x=2x8000", "x_lens=2")
    told = measure_point(quick(foreign, backend=backend, shapes=shapes, values=("x_lens=8000",), batch=2))
    assert told["session"]["backend"] == backend
    assert told["session"]["precision"] == {"onnxruntime": "as in the file", "openvino": "fp32"}[backend]
    assert (told["items_per_call"], told["audio_s"], told["rtf"]) == (2, None, None)
    assert told["not_measured"]["rtf"] == "the model's input is not known to be sound"
    assert len(told["samples_ms"]) == told["scenario"]["num_calls"]


def test_an_openvino_model_runs_and_says_in_what_it_computed(quick: Quick, foreign: Path) -> None:
    openvino = pytest.importorskip("openvino")
    path = foreign.with_suffix(".xml")
    openvino.save_model(openvino.convert_model(foreign), path, compress_to_fp16=False)
    options = {"shapes": ("x=1x8000", "x_lens=1"), "values": ("x_lens=8000",)}
    assert measure_point(quick(path, **options))["session"]["precision"] == "fp32"
    native = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if native:
        assert measure_point(quick(path, precision="bf16", **options))["session"]["precision"] == "bf16"
    else:
        with pytest.raises(UnavailableError, match="expected bf16 on cpu"):
            open_subject(quick(path, precision="bf16", **options))
    weights = path.with_suffix(".bin")
    assert describe_model(quick(path))["num_bytes"] == path.stat().st_size + weights.stat().st_size
    weights.unlink()
    with pytest.raises(BackendError, match="OpenVINO cannot open"):
        open_subject(quick(path, **options))


@pytest.mark.skipif(bool(cuda.devices()), reason="a GPU is here")
@pytest.mark.parametrize("suffix", [".engine", ".plan", ".trt"])
def test_an_engine_needs_a_gpu(quick: Quick, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"engine")
    with pytest.raises(UnavailableError, match="expected the GPU cuda:0 to run TensorRT on, this machine has none"):
        open_subject(quick(path))


def test_what_is_no_model_is_refused(quick: Quick, toy_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    (tmp_path / "empty").mkdir()
    wrong: list[tuple[Any, type[EdgekitError], str]] = [
        ({"model": tmp_path / "none.onnx"}, UsageError, "expected a model at .*none.onnx, there is no such file"),
        (
            {"model": tmp_path / "model.pt"},
            UsageError,
            r"expected a bundle's folder or a file with a suffix among \.onnx",
        ),
        ({"model": tmp_path / "empty"}, BundleError, "expected a bundle at .*empty"),
        ({"model": tmp_path / "model.onnx"}, BackendError, "ONNX Runtime cannot open"),
        ({"model": tmp_path / "model.onnx", "task": True}, UsageError, "expected a bundle with --task"),
        ({"model": tmp_path / "model.onnx", "precision": "fp16"}, UsageError, "it lies in the file; received fp16"),
        (
            {"model": tmp_path / "model.onnx", "backend": "tensorrt"},
            UsageError,
            "among onnxruntime, openvino; received",
        ),
        ({"batch": 99}, SignatureError, "x: expected batch in 1..16, received 99"),
        ({"length": "9999999"}, SignatureError, "x: expected time in 400..480000, received 9999999"),
        ({"length": "99999s"}, SignatureError, "x: expected time in 400..480000, received 1599984000"),
        ({"precision": "bf16"}, BundleError, "holds no bf16 artifact"),
        ({"graph": "encoder"}, BundleError, "expected a graph 'encoder'"),
        ({"scenario": "server"}, UsageError, "expected a rate of queries and a bound"),
        ({"duration_s": 0.0}, UsageError, "expected counts of 1 or more, a time and a rate above 0"),
        ({"bound_ms": -1.0}, UsageError, "expected a latency bound above 0 ms, received -1"),
    ]
    for changes, kind, message in wrong:
        with pytest.raises(kind, match=message):
            measure_point(quick(**{"model": toy_bundle, **changes}))


def test_a_wrong_type_of_input_is_named(quick: Quick, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="writes a model")
    path = tmp_path / "words.onnx"
    text = "g (string[N] words) => (string[N] out) { out = Identity (words) }"
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]> {text}')
    onnx.save(model, path)
    message = "expected inputs of bool, float16, float32, float64, int16, int32, int64, int8, uint8; words is tensor("
    with pytest.raises(UsageError, match=re.escape(message + "string)")):
        open_subject(quick(path))
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]> {text.replace("string", "uint64")}')
    onnx.save(model, path)
    with pytest.raises(UsageError, match=re.escape(message + "uint64)")):
        open_subject(quick(path))


def test_a_name_that_is_no_text_is_told(quick: Quick, foreign: Path) -> None:
    path = foreign.with_name("model\udcff.onnx")
    try:
        foreign.rename(path)
    except OSError:
        pytest.skip("this system has no such names")
    with pytest.raises(UsageError, match="expected a model whose name is text in UTF-8") as caught:
        describe_model(quick(path))
    assert caught.value.hint == "rename it"


def test_an_input_of_any_rank_may_be_given_a_shape(quick: Quick, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="writes a model")
    told = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", told[:1], told[1:])
    path = tmp_path / "any.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    subject = open_subject(quick(path, shapes=("x=2x3",)))
    assert subject.inputs[0]["shape"] == [2, 3]
    subject.call()
    subject.close()


def test_layers_that_cannot_be_timed_lose_nothing_else(
    quick: Quick, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(what: object) -> None:
        raise BackendError("there is no room for its file")

    monkeypatch.setattr("edgekit.runtime.profile.model.time_layers", full)
    told = measure_point(quick(toy_bundle, layers=True))
    assert (told["layers"], told["not_measured"]["layers"]) == (None, "there is no room for its file")
    assert told["samples_ms"]


def test_a_length_that_is_told_twice_must_be_the_same(quick: Quick, toy_bundle: Path) -> None:
    """Otherwise the real-time factor would be that of another length."""
    with pytest.raises(UsageError, match="expected one size of time, received 16000 by --length, 8000 by --dim"):
        open_subject(quick(toy_bundle, length="1s", dims=("time=8000",)))
    with pytest.raises(UsageError, match="expected one size of batch, received 2 by --batch, 3 by --dim"):
        open_subject(quick(toy_bundle, batch=2, dims=("batch=3",)))
