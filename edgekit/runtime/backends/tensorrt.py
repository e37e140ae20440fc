"""TensorRT 10.3 to 11.x and TensorRT-RTX: runs an engine that was built for this machine, and never builds one.

`options.engine` is the key that was recorded when the engine was built; its "format" says which of the two libraries
it is for. Where the caller knows the SHA-256 of the ONNX that the bundle holds now, it adds it to the key as
"bundle_onnx_sha256", and an engine of another ONNX is refused.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.bundle import build_command
from edgekit.core.errors import BackendError, EngineError, ForeignEngineError, UnavailableError
from edgekit.core.signature import Signature
from edgekit.runtime import cuda
from edgekit.runtime.backends.base import Probe, SessionOptions, closed
from edgekit.runtime.tensorrt.engine import check_engine, engine_precision, engine_signature, read_engine
from edgekit.runtime.tensorrt.execution import ExecutionContext
from edgekit.runtime.tensorrt.key import differences, is_target, machine_key
from edgekit.runtime.tensorrt.library import load_module
from edgekit.runtime.tensorrt.profiles import choose_profile, engine_profiles

NAME = "tensorrt"
FORMATS = ("trt", "trt-rtx")
HINTED_PRECISIONS: tuple[str, ...] = ()


def probe(format: str | None = None) -> Probe:
    """Whether an engine could run here: of one format, or of either; of two that are absent the less absent one."""
    if format is None:
        probes = [probe(name) for name in FORMATS]
        return max(probes, key=lambda probe: (probe.usable, probe.version is not None))
    try:
        module = load_module(format)
        gpus = cuda.devices()
    except BackendError as error:
        return Probe(NAME, False, missing=f"TensorRT ({error.message})", remedy=error.hint)
    version = str(module.__version__)
    if not gpus:
        return Probe(NAME, False, version, missing="an NVIDIA GPU and its driver", remedy="install NVIDIA's driver")
    targets = machine_key(format, module, None)["targets"]
    if not any(is_target(gpu.compute_capability, targets) for gpu in gpus):
        missing = f"a GPU of compute capability {', '.join(targets)} or newer; this is {gpus[0].compute_capability}"
        return Probe(NAME, False, version, missing=missing, remedy="use --format trt, which runs on every NVIDIA GPU")
    return Probe(NAME, True, version, devices=("cuda",))


def open(files: Sequence[Path], signature: Signature, options: SessionOptions) -> TensorRTSession:
    """Load an engine.

    Raises:
        ForeignEngineError: the key of another machine or ONNX.
        EngineError: no key, or an engine that cannot be read.
        UnavailableError: no TensorRT, no GPU, or another device than "cuda" or "cuda:N" is asked for.
        BackendError: TensorRT or CUDA refuses, for example for want of memory.
    """
    key = options.engine
    if key is None or "format" not in key:
        raise EngineError(f"expected the key that {files[0].name} was built with, the bundle records none")
    format = str(key["format"])
    hint = build_command(files[0].parent, format, options.precision)
    module = load_module(format)
    index, gpu = _gpu(options.device)
    wrong = differences(key, machine_key(format, module, gpu), gpu)
    if wrong:
        raise ForeignEngineError(f"{files[0].name} cannot run here: {'; '.join(wrong)}", hint=hint)
    if gpu is None:
        raise _no_gpu(index, "run the bundle's ONNX: --backend onnxruntime")
    try:
        return TensorRTSession(module, files[0], signature, options, gpu)
    except EngineError as error:
        raise EngineError(error.message, hint=hint) from error


def open_alone(path: Path, options: SessionOptions) -> TensorRTSession:
    """Load an engine that stands by itself: its signature and precision are read off it, and no key is held against it.

    Raises:
        UnavailableError: no GPU, or neither library is installed.
        EngineError: no library that is installed can read it.
        BackendError: TensorRT or CUDA refuses, for example for want of memory.
    """
    index, gpu = _gpu(options.device)
    if gpu is None:
        raise _no_gpu(index, "profile the ONNX that the engine was built from")
    unreadable: list[EngineError] = []
    absent: list[UnavailableError] = []
    for format in FORMATS:
        try:
            return TensorRTSession(load_module(format), path, None, options, gpu)
        except EngineError as error:
            unreadable.append(error)
        except UnavailableError as error:
            absent.append(error)
    if unreadable:
        hint = "build it anew with the library that is here; edgekit doctor says which"
        raise EngineError(unreadable[0].message, hint=hint) from unreadable[0]
    raise absent[0]


def _gpu(device: str | None) -> tuple[int, cuda.Device | None]:
    """The index of the GPU that is asked for, and that GPU, if it is there."""
    found = re.fullmatch(r"cuda(?::(\d+))?", device or "cuda")
    if found is None:
        raise UnavailableError(f"expected device cuda or cuda:N for TensorRT, received {device!r}")
    index = int(found[1] or 0)
    return index, next((gpu for gpu in cuda.devices() if gpu.index == index), None)


def _no_gpu(index: int, otherwise: str) -> UnavailableError:
    return UnavailableError(
        f"expected the GPU cuda:{index} to run TensorRT on, this machine has none",
        hint=f"install NVIDIA's driver, or {otherwise}",
    )


class TensorRTSession:
    """An engine on one GPU: an execution context per optimisation profile, one run at a time.

    Args:
        signature: what it must be; None: what it says of itself, and its precision too.
    """

    backend = NAME

    def __init__(
        self, module: Any, path: Path, signature: Signature | None, options: SessionOptions, gpu: cuda.Device
    ) -> None:
        self.device = f"cuda:{gpu.index}"
        self.precision = self.computed_in = options.precision
        self._lock = threading.Lock()
        self._contexts: list[ExecutionContext] = []
        with ExitStack() as stack:
            self._cuda = cuda.Context(gpu.index)
            stack.callback(self._cuda.close)
            stream = self._cuda.stream()
            stack.callback(self._cuda.destroy_stream, stream)
            engine = read_engine(module, path.read_bytes(), path.name)
            if signature is None:
                signature = engine_signature(engine)
                self.precision = self.computed_in = engine_precision(module, engine) or "as built"
            check_engine(module, engine, signature, self.precision)
            self.signature = signature
            self._profiles = engine_profiles(engine, signature)
            for index in range(len(self._profiles)):
                context = ExecutionContext(module, engine, index, self._cuda, stream, signature)
                stack.callback(context.close)
                self._contexts.append(context)
            self._stack: ExitStack | None = stack.pop_all()

    @property
    def uncapturable(self) -> str | None:
        """Why no CUDA graph could be made of a profile, where one was tried and refused."""
        return next((context.uncapturable for context in self._contexts if context.uncapturable), None)

    @property
    def num_graphs(self) -> int:
        """Profiles that now run as a CUDA graph of ours; TensorRT-RTX's own are not counted."""
        return sum(context.captured for context in self._contexts)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with self._lock:
            if self._stack is None:
                raise closed()
            self._cuda.use()
            index = choose_profile(self._profiles, {name: array.shape for name, array in inputs.items()})
            return self._contexts[index].run(inputs)

    def close(self) -> None:
        with self._lock:
            if self._stack is not None:
                self._cuda.use()
                self._stack.close()
                self._stack = None
