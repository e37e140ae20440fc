"""What is built for a target, what is refused, and what only the target itself can build."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.core.bundle import open_bundle
from edgekit.core.errors import BackendError, ExportError, UsageError
from edgekit.devices import target as target_module
from edgekit.devices.target import targets
from edgekit.export.build import Request, build
from edgekit.export.target import check_memory, hold_to_target, not_here, requests_for, workspace_mib
from edgekit.runtime import cuda

pytestmark = pytest.mark.device_side


@pytest.mark.parametrize("name", sorted(targets()))
def test_every_target_gets_what_it_runs(name: str) -> None:
    (request,) = requests_for(name, (), None)
    target = targets()[name]
    assert request.format == target.formats[0]
    assert request.precision in target.precisions
    # fp16 for engines, where there is no other default that is faster
    assert request.precision == ("fp16" if request.format in ("trt", "trt-rtx") else "fp32")


@pytest.mark.parametrize(
    ("name", "formats", "precision", "wanted"),
    [
        ("jetson-orin-nx-16gb", (), "bf16", [Request("trt", "bf16")]),
        ("jetson-orin-nx-16gb", ("trt", "onnx"), None, [Request("trt", "fp16"), Request("onnx")]),
        ("jetson-orin-nx-16gb", ("trt",), "fp32", [Request("trt")]),
        ("raspberry-pi-5", (), "fp16", [Request("onnx", "fp16")]),
        ("raspberry-pi-4", ("sherpa",), None, [Request("sherpa")]),
        ("l4", ("trt-rtx",), None, [Request("trt-rtx", "fp16")]),
    ],
)
def test_what_the_user_says_goes_first(
    name: str, formats: tuple[str, ...], precision: str | None, wanted: list[Request]
) -> None:
    assert requests_for(name, formats, precision) == wanted


@pytest.mark.parametrize(
    ("name", "formats", "precision", "reason"),
    [
        ("raspberry-pi-4", ("trt",), None, "received trt: Raspberry Pi 4 Model B has no NVIDIA GPU"),
        ("x86-avx2", ("openvino", "trt-rtx"), None, "received trt-rtx: x86-64 with AVX2 .* has no NVIDIA GPU"),
        ("jetson-xavier-nx", ("trt",), None, "its newest TensorRT is 8.5.2, edgekit builds with 10.3 or newer"),
        ("jetson-agx-orin-64gb", ("trt-rtx",), None, "received trt-rtx: TensorRT-RTX runs on GPUs of compute"),
        ("a100", ("openvino",), None, "received openvino: it runs on processors"),
        ("jetson-xavier-nx", (), "bf16", "fp32, fp16.*received bf16: its compute capability is 7.2"),
        ("raspberry-pi-4", (), "fp16", r"raspberry-pi-4 computes in \(fp32\), received fp16"),
        ("raspberry-pi-9", (), None, "expected a target among .*received 'raspberry-pi-9'"),
    ],
)
def test_what_cannot_run_there_is_refused(
    name: str, formats: tuple[str, ...], precision: str | None, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        requests_for(name, formats, precision)
    assert caught.value.hint


def test_weights_that_do_not_fit_are_refused() -> None:
    four_gb = 4 * 2**30
    orin = "jetson-orin-nano-4gb"
    with pytest.raises(ExportError, match=r"at most 3,814 MiB, the memory of jetson-orin.*received 4,096 MiB"):
        check_memory(orin, four_gb, [Request("onnx")])
    # half the size in fp16, but an engine of TensorRT is built there, from fp32
    check_memory(orin, four_gb, [Request("onnx", "fp16")])
    with pytest.raises(ExportError, match="for trt fp16"):
        check_memory(orin, four_gb, [Request("trt", "fp16")])
    with pytest.raises(ExportError, match="for onnx fp32"):
        check_memory(orin, four_gb, [])
    check_memory("jetson-orin-nano-8gb", four_gb, [Request("trt", "fp16")])
    check_memory("raspberry-pi-5", four_gb, [])  # of which no memory is known


def test_the_builders_workspace_follows_from_the_memory() -> None:
    assert workspace_mib("jetson-orin-nano-8gb") == 8_000_000_000 // 2**20 // 4
    assert workspace_mib("rtx-3060") == 12_000_000_000 // 2**20 // 2
    assert workspace_mib("x86-avx2") is None


def test_engines_of_tensorrt_are_built_on_their_gpu_alone() -> None:
    here = {gpu.compute_capability for gpu in cuda.devices()}
    for name, target in targets().items():
        for format in target.formats:
            reason = not_here(name, Request(format))
            if format != "trt":
                assert reason is None
            elif target.compute_capability not in here:
                assert reason is not None
                assert f"of compute capability {target.compute_capability}; this machine has" in reason


def test_a_bundle_is_held_to_its_target(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hold_to_target(toy_bundle, "x86-avx2", [Request("openvino")]) is None
    assert hold_to_target(toy_bundle, "rtx-4090", [Request("trt-rtx", "fp16")]) == workspace_mib("rtx-4090")
    if "8.7" not in {gpu.compute_capability for gpu in cuda.devices()}:
        with pytest.raises(BackendError, match="expected to build trt fp16 for jetson-orin-nx-8gb") as caught:
            hold_to_target(toy_bundle, "jetson-orin-nx-8gb", [Request("trt", "fp16")])
        command = f"edgekit build {toy_bundle} --format trt --precision fp16 --target jetson-orin-nx-8gb"
        assert caught.value.hint == f"there: {command}"
    tiny = {"tiny": replace(targets()["rtx-4090"], memory_gb=0.000_1)}
    monkeypatch.setattr(target_module, "targets", lambda: tiny)
    with pytest.raises(ExportError, match="the memory of tiny"):
        hold_to_target(toy_bundle, "tiny", [])


def test_targets_are_recorded_once(toy_bundle: Path) -> None:
    pytest.importorskip("onnx", reason="casts graphs with the package onnx")
    pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
    build(toy_bundle, Request("onnx", "fp16"))
    assert "targets" not in open_bundle(toy_bundle).manifest.provenance
    for name in ("raspberry-pi-5", "rk3588", "raspberry-pi-5"):
        build(toy_bundle, Request("onnx", "fp16"), target=name)
    assert open_bundle(toy_bundle).manifest.provenance["targets"] == ["raspberry-pi-5", "rk3588"]
