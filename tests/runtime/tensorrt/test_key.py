"""Which machine an engine's key fits."""

from __future__ import annotations

import pytest

from edgekit.runtime import cuda
from edgekit.runtime.tensorrt.key import differences

pytestmark = pytest.mark.device_side

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
