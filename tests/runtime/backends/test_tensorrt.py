"""What the TensorRT backend decides without a GPU; `tests/gpu` runs engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import BackendError, BundleError, SignatureError, UsageError
from edgekit.core.signature import Dim, Signature, TensorSpec
from edgekit.runtime import cuda
from edgekit.runtime.backends import tensorrt
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.backends.tensorrt import (
    capacity,
    choose_profile,
    differences,
    engine_precisions,
    logged_errors,
    machine_key,
)

pytestmark = pytest.mark.device_side

SIZE = Dim("N", ((1, 2, 4),))
SIGNATURE = Signature((TensorSpec("x", "float32", (SIZE, 4)),), (TensorSpec("y", "float32", (SIZE, 4)),))
PROFILES = [
    {"feats": ((1, 9, 80), (1, 50, 80), (4, 64, 80)), "lengths": ((1,), (1,), (4,))},
    {"feats": ((1, 100, 80), (1, 150, 80), (2, 200, 80)), "lengths": ((1,), (1,), (2,))},
]
ORIN = cuda.Device(0, "Orin", "8.7", 7620)
KEY = {
    "format": "trt",
    "tensorrt": "10.3.0",
    "gpu": "Orin",
    "compute_capability": "8.7",
    "targets": [],
    "cuda_driver": "12.6",
    "os": "Linux",
    "machine": "aarch64",
    "onnx_sha256": "ab" * 32,
}
PORTABLE = {**KEY, "format": "trt-rtx", "gpu": None, "compute_capability": None, "os": None, "targets": ["8.6", "12.0"]}


@pytest.fixture(scope="module")
def rtx() -> Any:
    try:
        return tensorrt.load_module("trt-rtx")
    except BackendError as error:
        pytest.skip(f"TensorRT-RTX: {error.message}")


@pytest.mark.parametrize(("batch", "time", "index"), [(1, 9, 0), (4, 64, 0), (3, 30, 0), (1, 100, 1), (2, 200, 1)])
def test_the_profile_that_holds_the_sizes_is_chosen(batch: int, time: int, index: int) -> None:
    assert choose_profile(PROFILES, {"feats": (batch, time, 80), "lengths": (batch,)}) == index


def test_of_two_profiles_that_fit_the_smaller_is_chosen() -> None:
    overlapping = [{"x": ((1,), (4,), (8,))}, {"x": ((4,), (8,), (16,))}]
    assert choose_profile(overlapping, {"x": (6,)}) == 0
    assert choose_profile(overlapping, {"x": (9,)}) == 1


@pytest.mark.parametrize("shape", [(1, 80, 80), (3, 150, 80), (1, 8, 80), (1, 201, 80), (1, 50, 40), (1, 50)], ids=str)
def test_sizes_that_no_profile_holds_are_told_with_what_each_holds(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        SignatureError, match=r"feats \[1, 9, 80\] to \[4, 64, 80\].* or feats \[1, 100, 80\]"
    ) as caught:
        choose_profile(PROFILES, {"feats": shape, "lengths": (shape[0],)})
    assert f"received feats {list(shape)}" in caught.value.message


@given(current=st.sampled_from([0, 256, 4096, 1 << 20]), needed=st.integers(1, 1 << 33))
def test_buffers_grow_to_powers_of_two_and_never_shrink(current: int, needed: int) -> None:
    size = capacity(current, needed)
    assert size >= max(current, needed)
    assert size == current or (size & (size - 1) == 0 and size < 2 * max(needed, 256))
    assert capacity(size, needed) == size


def test_an_engine_fits_the_machine_it_was_built_on() -> None:
    assert differences(KEY, KEY, ORIN) == []
    assert differences(KEY, {**KEY, "cuda_driver": "12.8"}, ORIN) == []  # a newer driver runs older engines


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("gpu", "NVIDIA RTX A2000", "built for GPU Orin, this is NVIDIA RTX A2000"),
        ("compute_capability", "8.6", "built for compute capability 8.7, this is 8.6"),
        ("tensorrt", "10.7.0", "built for TensorRT 10.3.0, this is 10.7.0"),
        ("os", "Windows", "built for system Linux, this is Windows"),
        ("machine", "x86_64", "built for processor aarch64, this is x86_64"),
    ],
)
def test_an_engine_of_another_machine_is_told_apart(field: str, value: str, told: str) -> None:
    assert differences(KEY, {**KEY, field: value}, ORIN) == [told]


def test_an_engine_of_another_onnx_is_told_apart() -> None:
    assert differences({**KEY, "bundle_onnx_sha256": KEY["onnx_sha256"]}, KEY, ORIN) == []
    assert differences({**KEY, "bundle_onnx_sha256": "00"}, KEY, ORIN) == ["built from another ONNX than the bundle's"]


def test_a_key_with_fields_missing_fits_nowhere() -> None:
    assert differences({"format": "trt"}, KEY, ORIN) == [
        f"its {name} was not recorded" for name in ("TensorRT", "GPU", "compute capability", "system", "processor")
    ]


@pytest.mark.parametrize(
    ("compute_capability", "fits"), [("8.6", True), ("12.0", True), ("12.1", True), ("9.0", False), ("7.5", False)]
)
def test_a_portable_engine_fits_its_target_gpus_and_newer_ones(compute_capability: str, fits: bool) -> None:
    gpu = cuda.Device(0, "any", compute_capability, 8000)
    here = {**PORTABLE, "targets": []}
    expected = [] if fits else [f"built for compute capability 8.6, 12.0 or newer, this is {compute_capability}"]
    assert differences(PORTABLE, here, gpu) == expected


def test_precisions_are_read_off_the_inspectors_of_three_versions() -> None:
    half = "Row major linear FP16 format"
    layers = [
        {"Name": "a", "Outputs": [{"Name": "t", "Format/Datatype": "Half"}]},
        {"Name": "b", "Outputs": [{"Name": "Float", "Format/Datatype": half}]},
        {"Name": "c", "Outputs": [{"Format": "Row major linear FP32 format (kLINEAR)", "DataType": "Float"}]},
        {"Name": "d", "Outputs": [{"DataType": "BFloat16"}, {"DataType": "Int64"}]},
        {"Name": "e", "Outputs": [{"Format/Datatype": "Int32"}]},
        {"Name": "f"},
    ]
    assert engine_precisions(json.dumps({"Layers": layers})) == {"fp16": 2, "fp32": 1, "bf16": 1}
    assert engine_precisions(json.dumps({"Layers": ["names", "only"], "Bindings": ["x"]})) == {}
    assert engine_precisions("") == {}


def test_the_cause_stands_first_among_logged_errors() -> None:
    noise = "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime"
    messages = [("INFO", "Loaded"), ("ERROR", "magic tag"), ("ERROR", noise), ("ERROR", "magic tag"), ("WARNING", "w")]
    assert logged_errors(messages) == "magic tag"
    assert logged_errors([("ERROR", noise)]) == noise
    assert logged_errors([("INTERNAL_ERROR", "out of memory")]) == "out of memory"
    assert logged_errors([("WARNING", "w")]) == "TensorRT logged no error"


def test_the_logger_is_heard_and_heard_no_more(rtx: Any) -> None:
    log = tensorrt.engine_log(rtx)
    assert log is tensorrt.engine_log(rtx)
    with tensorrt.listening(rtx) as outer:
        log.log(rtx.ILogger.WARNING, "one")
        with tensorrt.listening(rtx) as inner:
            log.log(rtx.ILogger.ERROR, "two")
            log.log(rtx.ILogger.VERBOSE, "chatter")
    log.log(rtx.ILogger.ERROR, "three")
    assert outer == [("WARNING", "one"), ("ERROR", "two")]
    assert inner == [("ERROR", "two")]


@pytest.mark.skipif(bool(cuda.devices()), reason="a GPU is here")
def test_probing_without_a_gpu_says_what_is_missing(rtx: Any) -> None:
    probe = tensorrt.probe("trt-rtx")
    assert not probe.usable
    assert probe.version == rtx.__version__
    assert probe.missing is not None
    assert "NVIDIA GPU" in probe.missing
    assert tensorrt.probe() == probe  # of two that cannot run, the one that is installed


def opened(tmp_path: Path, key: dict[str, Any] | None, **options: Any) -> Any:
    path = tmp_path / "infer.engine"
    path.write_bytes(b"")
    return tensorrt.open([path], SIGNATURE, SessionOptions(engine=key, **options))


def test_an_engine_without_a_key_is_refused(tmp_path: Path) -> None:
    for key in (None, {}):
        with pytest.raises(BundleError, match=r"expected the key that infer\.engine was built with"):
            opened(tmp_path, key)
    with pytest.raises(UsageError, match="received 'plan'"):
        opened(tmp_path, {"format": "plan"})


def test_a_foreign_engine_is_refused_with_the_command_that_rebuilds_it(rtx: Any, tmp_path: Path) -> None:
    key = machine_key("trt-rtx", rtx, None)
    for change in ({"tensorrt": "1.2.0"}, {"machine": "riscv64"}):
        with pytest.raises(BundleError, match=r"infer\.engine cannot run here: built for") as caught:
            opened(tmp_path, {**key, **change}, precision="fp16")
        assert caught.value.hint == f"edgekit build {tmp_path} --format trt-rtx --precision fp16"


@pytest.mark.skipif(bool(cuda.devices()), reason="a GPU is here")
def test_without_a_gpu_an_engine_that_fits_is_refused_as_such(rtx: Any, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="expected the GPU cuda:0 to run TensorRT on"):
        opened(tmp_path, machine_key("trt-rtx", rtx, None))
    with pytest.raises(BackendError, match="expected device cuda or cuda:N for TensorRT, received 'cpu'"):
        opened(tmp_path, machine_key("trt-rtx", rtx, None), device="cpu")
