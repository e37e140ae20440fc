"""What the TensorRT backend tells and refuses without a GPU; `tests/gpu` runs engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekit.core.errors import BackendError, BundleError, UsageError
from edgekit.core.signature import Dim, Signature, TensorSpec
from edgekit.runtime import cuda
from edgekit.runtime.backends import tensorrt
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.tensorrt.key import machine_key

pytestmark = pytest.mark.device_side

SIZE = Dim("N", ((1, 2, 4),))
SIGNATURE = Signature((TensorSpec("x", "float32", (SIZE, 4)),), (TensorSpec("y", "float32", (SIZE, 4)),))


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
