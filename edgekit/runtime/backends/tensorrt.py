"""TensorRT 10.3 to 11.x and TensorRT-RTX: runs an engine that was built for this machine, and never builds one.

`options.engine` is the key that was recorded when the engine was built; its "format" says which of the two libraries
it is for. Where the caller knows the SHA-256 of the ONNX that the bundle holds now, it adds it to the key as
"bundle_onnx_sha256", and an engine of another ONNX is refused.
"""

from __future__ import annotations

import ctypes
import json
import math
import platform
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.errors import BackendError, BundleError, SignatureError, UsageError
from edgekit.core.signature import Signature
from edgekit.runtime import cuda
from edgekit.runtime.backends.base import Probe, SessionOptions

NAME = "tensorrt"
FORMATS = ("trt", "trt-rtx")
HINTED_PRECISIONS: tuple[str, ...] = ()

_MODULES = {"trt": ("tensorrt",), "trt-rtx": ("tensorrt_rtx_bindings", "tensorrt_rtx")}
_VERSIONS = {"trt": ((10, 3), (12, 0)), "trt-rtx": ((1, 7), (2, 0))}
_REMEDIES = {
    "trt": "pip install 'edgekit[trt]'; on a Jetson TensorRT comes with JetPack (sudo apt install python3-libnvinfer), "
    "and a virtual environment sees it with --system-site-packages",
    "trt-rtx": "pip install 'edgekit[trt-rtx]'",
}
_NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "INT32": "int32", "INT8": "int8", "BOOL": "bool"}
_KEY_FIELDS = {
    "tensorrt": "TensorRT",
    "gpu": "GPU",
    "compute_capability": "compute capability",
    "os": "system",
    "machine": "processor",
}
_INSPECTED = {"half": "fp16", "fp16": "fp16", "bfloat16": "bf16", "bf16": "bf16", "float": "fp32", "fp32": "fp32"}
_CAPTURE_AT = 3  # runs with the same shapes before a CUDA graph is made of them

Shape = tuple[int, ...]
Profile = Mapping[str, tuple[Shape, Shape, Shape]]


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
    if not any(_targets(gpu.compute_capability, targets) for gpu in gpus):
        missing = f"a GPU of compute capability {', '.join(targets)} or newer; this is {gpus[0].compute_capability}"
        return Probe(NAME, False, version, missing=missing, remedy="use --format trt, which runs on every NVIDIA GPU")
    return Probe(NAME, True, version, devices=("cuda",))


def open(files: Sequence[Path], signature: Signature, options: SessionOptions) -> TensorRTSession:
    """Load an engine.

    Raises:
        BundleError: no key, the key of another machine or ONNX, or an engine that cannot be read.
        BackendError: no TensorRT, no GPU, or another device than "cuda" or "cuda:N" is asked for.
    """
    key = options.engine
    if key is None or "format" not in key:
        raise BundleError(f"expected the key that {files[0].name} was built with, the bundle records none")
    format = str(key["format"])
    hint = f"edgekit build {files[0].parent} --format {format} --precision {options.precision}"
    module = load_module(format)
    found = re.fullmatch(r"cuda(?::(\d+))?", options.device or "cuda")
    if found is None:
        raise BackendError(f"expected device cuda or cuda:N for TensorRT, received {options.device!r}")
    index = int(found[1] or 0)
    gpu = next((gpu for gpu in cuda.devices() if gpu.index == index), None)
    wrong = differences(key, machine_key(format, module, gpu), gpu)
    if wrong:
        raise BundleError(f"{files[0].name} cannot run here: {'; '.join(wrong)}", hint=hint)
    if gpu is None:
        raise BackendError(
            f"expected the GPU cuda:{index} to run TensorRT on, this machine has none",
            hint="install NVIDIA's driver, or run the bundle's ONNX: --backend onnxruntime",
        )
    try:
        return TensorRTSession(module, files[0], signature, options, gpu)
    except BundleError as error:
        raise BundleError(error.message, hint=hint) from error


def load_module(format: str) -> Any:
    """The Python module of one of the two libraries, with its shared libraries.

    Raises:
        BackendError: not installed, without its libraries, or of a version that is not supported.
    """
    if format not in FORMATS:
        raise UsageError(f"expected a format of {', '.join(FORMATS)}, received {format!r}")
    name = next((name for name in _MODULES[format] if find_spec(name) is not None), None)
    if name is None:
        wanted = " or ".join(_MODULES[format])
        raise BackendError(f"expected the Python module {wanted}, it is not installed", hint=_REMEDIES[format])
    try:
        module = import_module(name)
    except (ImportError, OSError) as error:
        raise BackendError(
            f"the Python module {name} is installed, its libraries are not: {error}", hint=_REMEDIES[format]
        ) from error
    low, high = _VERSIONS[format]
    version = tuple(int(part) for part in str(module.__version__).split(".")[:2])
    if not low <= version < high:
        wanted = f"{low[0]}.{low[1]} or newer, before {high[0]}"
        raise BackendError(f"expected {name} {wanted}, found {module.__version__}", hint=_REMEDIES[format])
    return module


def machine_key(format: str, module: Any, gpu: cuda.Device | None) -> dict[str, Any]:
    """What an engine that is built here and now depends on; None where it runs on any.

    An engine of TensorRT-RTX is portable over its target GPUs and over Linux and Windows, and compiles its kernels
    when it is loaded; one of TensorRT is for one model of GPU.
    """
    portable = format == "trt-rtx"
    names = vars(module.ComputeCapability) if portable else ()
    targets = [f"{match[1]}.{match[2]}" for name in names if (match := re.fullmatch(r"SM(\d+)(\d)", name))]
    return {
        "format": format,
        "tensorrt": str(module.__version__),
        "gpu": None if portable or gpu is None else gpu.name,
        "compute_capability": None if portable or gpu is None else gpu.compute_capability,
        # 7.5 has to be asked for when the engine is built, which we do not.
        "targets": sorted((target for target in targets if _number(target) >= (8, 0)), key=_number),
        "cuda_driver": cuda.driver_version(),
        "os": None if portable else platform.system(),
        "machine": platform.machine(),
    }


def differences(recorded: Mapping[str, Any], here: Mapping[str, Any], gpu: cuda.Device | None) -> list[str]:
    """In which ways an engine's key does not fit a machine; another CUDA driver does fit.

    Args:
        recorded: the key beside the engine.
        here: `machine_key` of this machine; without a GPU the GPU is not compared.
        gpu: this machine's.
    """
    found = []
    for key, name in _KEY_FIELDS.items():
        if key not in recorded:
            found.append(f"its {name} was not recorded")
        elif None not in (recorded[key], here[key]) and recorded[key] != here[key]:
            found.append(f"built for {name} {recorded[key]}, this is {here[key]}")
    if gpu is not None and not _targets(gpu.compute_capability, recorded.get("targets", ())):
        wanted = ", ".join(recorded["targets"])
        found.append(f"built for compute capability {wanted} or newer, this is {gpu.compute_capability}")
    now = recorded.get("bundle_onnx_sha256")
    if now is not None and now != recorded.get("onnx_sha256"):
        found.append("built from another ONNX than the bundle's")
    return found


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _targets(compute_capability: str, targets: Sequence[str]) -> bool:
    """One of the targets, or newer than all of them; no targets: any."""
    if not targets or compute_capability in targets:
        return True
    return _number(compute_capability) > max(_number(target) for target in targets)


@cache
def engine_log(module: Any) -> Any:
    """The one logger of `module` in this process.

    TensorRT keeps the first logger that it is given while anything made with it lives, and ignores any other, so
    whoever wants to hear something listens to this one.
    """

    class Log(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.listeners: list[Callable[[str, str], None]] = []

        def log(self, severity: Any, message: str) -> None:
            if severity != module.ILogger.VERBOSE:
                for listener in tuple(self.listeners):
                    listener(severity.name, message)

    return Log()


@contextmanager
def listening(module: Any) -> Iterator[list[tuple[str, str]]]:
    """Collect what TensorRT logs meanwhile, as `(severity, message)`; severities are "ERROR", "WARNING", ..."""
    messages: list[tuple[str, str]] = []
    listeners = engine_log(module).listeners

    def listener(severity: str, message: str) -> None:
        messages.append((severity, message))

    listeners.append(listener)
    try:
        yield messages
    finally:
        listeners.remove(listener)


def logged_errors(messages: Sequence[tuple[str, str]]) -> str:
    """The errors among logged messages, the cause first, as one text."""
    errors = list(dict.fromkeys(text for severity, text in messages if severity in ("ERROR", "INTERNAL_ERROR")))
    # Without a driver each error is followed by one more about CUDA.
    causes = [text for text in errors if "catchCudaError" not in text] or errors
    return "; ".join(causes[:5]) or "TensorRT logged no error"


def read_engine(module: Any, content: bytes, name: str) -> Any:
    """Deserialise an engine; it holds its runtime.

    Raises:
        BundleError: it cannot be read; says what TensorRT logged.
    """
    with listening(module) as messages:
        runtime = module.Runtime(engine_log(module))
        engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        said = logged_errors(messages)
        raise BundleError(f"TensorRT {module.__version__} cannot read {name}: {said}")
    return engine


def engine_precisions(inspected: str) -> dict[str, int]:
    """How many layers of an engine give which precision, read off the engine inspector's JSON.

    TensorRT 10 writes `"Format/Datatype": "Half"` or a sentence with FP16 in it, TensorRT 11 splits the field. Empty
    where the inspector does not tell: the engine was built without detailed profiling verbosity.
    """
    counts: dict[str, int] = {}
    try:
        layers = json.loads(inspected).get("Layers", [])
    except ValueError:
        return counts
    for layer in layers:
        outputs = layer.get("Outputs", []) if isinstance(layer, dict) else []
        texts = [str(value) for tensor in outputs for key, value in tensor.items() if re.search("(?i)type|format", key)]
        words = {word.lower() for text in texts for word in re.findall(r"\w+", text)}
        for precision in {_INSPECTED[word] for word in words & _INSPECTED.keys()}:
            counts[precision] = counts.get(precision, 0) + 1
    return counts


def choose_profile(profiles: Sequence[Profile], shapes: Mapping[str, Shape]) -> int:
    """The first optimisation profile that holds the shapes; buckets ascend, so the smallest.

    Raises:
        SignatureError: none does; says what each holds.
    """
    for index, profile in enumerate(profiles):
        bounds = ((shapes[name], low, high) for name, (low, _, high) in profile.items())
        if all(len(s) == len(low) and all(a <= b <= c for a, b, c in zip(low, s, high)) for s, low, high in bounds):
            return index
    held = " or ".join(
        ", ".join(f"{name} {list(low)} to {list(high)}" for name, (low, _, high) in profile.items())
        for profile in profiles
    )
    received = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    raise SignatureError(f"expected sizes of an optimisation profile, {held}; received {received}")


def capacity(current: int, needed: int) -> int:
    """The size in bytes of a buffer that has `current` and must hold `needed`: the next power of two, at least 256."""
    return current if needed <= current else max(256, 1 << (needed - 1).bit_length())


def engine_profiles(engine: Any, signature: Signature) -> list[Profile]:
    """The optimisation profiles that an engine really has."""
    profiles: list[Profile] = []
    for index in range(engine.num_optimization_profiles):
        profile = {}
        for spec in signature.inputs:
            low, opt, high = engine.get_tensor_profile_shape(spec.name, index)
            profile[spec.name] = (tuple(low), tuple(opt), tuple(high))
        profiles.append(profile)
    return profiles


def check_engine(module: Any, engine: Any, signature: Signature, precision: str) -> None:
    """Hold an engine to the signature and the precision of the artifact that it is said to be.

    Raises:
        BundleError: other tensors, other types, or computed in another precision.
    """
    declared = {(spec.name, "INPUT", spec.dtype) for spec in signature.inputs}
    declared |= {(spec.name, "OUTPUT", spec.dtype) for spec in signature.outputs}
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = {
        (name, engine.get_tensor_mode(name).name, _NUMPY.get(engine.get_tensor_dtype(name).name, "?")) for name in names
    }
    if declared != found:
        raise BundleError(f"expected an engine with {sorted(declared)}, this one has {sorted(found)}")
    for name in names:
        if engine.get_tensor_location(name) != module.TensorLocation.DEVICE:
            raise BundleError(f"expected {name} on the GPU, the engine wants it on the host, as a shape")
    text = engine.create_engine_inspector().get_engine_information(module.LayerInformationFormat.JSON)
    computed = engine_precisions(text)
    # Nothing recognised is no evidence: the exporter held the network itself to the ONNX graph.
    if computed and (precision not in computed or (precision == "fp32" and computed.keys() != {"fp32"})):
        raise BundleError(f"expected an engine that computes in {precision}, its layers give {computed}")


class TensorRTSession:
    """An engine on one GPU: an execution context per optimisation profile, one run at a time."""

    backend = NAME

    def __init__(
        self, module: Any, path: Path, signature: Signature, options: SessionOptions, gpu: cuda.Device
    ) -> None:
        self.device = f"cuda:{gpu.index}"
        self.precision = options.precision
        self.signature = signature
        self._lock = threading.Lock()
        self._contexts: list[_ProfileContext] = []
        with ExitStack() as stack:
            self._cuda = cuda.Context(gpu.index)
            stack.callback(self._cuda.close)
            stream = self._cuda.stream()
            stack.callback(self._cuda.destroy_stream, stream)
            engine = read_engine(module, path.read_bytes(), path.name)
            check_engine(module, engine, signature, options.precision)
            self._profiles = engine_profiles(engine, signature)
            for index in range(len(self._profiles)):
                context = _ProfileContext(module, engine, index, self._cuda, stream, signature)
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
                raise BackendError("expected an open session, this one was closed")
            self._cuda.use()
            index = choose_profile(self._profiles, {name: array.shape for name, array in inputs.items()})
            return self._contexts[index].run(inputs)

    def close(self) -> None:
        with self._lock:
            if self._stack is not None:
                self._cuda.use()
                self._stack.close()
                self._stack = None


@dataclass
class _Buffer:
    """One tensor's memory: on the GPU, and page-locked on the host with an array over it."""

    device: int = 0
    pinned: int = 0
    num_bytes: int = 0
    array: np.ndarray = field(default_factory=lambda: np.empty(0))


class _ProfileContext:
    """One optimisation profile: its execution context, its buffers, and a CUDA graph while the shapes repeat.

    A graph holds the shapes and addresses that it was captured with, and changing the context's shapes makes it
    invalid, so there is one at most. TensorRT-RTX, which swaps kernels while it runs, makes its own.
    """

    def __init__(
        self, module: Any, engine: Any, index: int, context: cuda.Context, stream: int, signature: Signature
    ) -> None:
        self._module, self._cuda, self._stream = module, context, stream
        self._dtypes = {spec.name: spec.dtype for spec in (*signature.inputs, *signature.outputs)}
        self._inputs = [spec.name for spec in signature.inputs]
        self._outputs = [spec.name for spec in signature.outputs]
        self._buffers = {name: _Buffer() for name in self._dtypes}
        self._shapes: dict[str, Shape] = {}
        self._num_runs = 0
        self._graph: int | None = None
        self.uncapturable: str | None = None
        self._own_graphs = not hasattr(module, "CudaGraphStrategy")
        if self._own_graphs:
            # By default every context would have the memory of the largest profile.
            self._config = module.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        else:
            self._config = engine.create_runtime_config()
            self._config.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        with listening(module) as messages:
            self._context = engine.create_execution_context(self._config)
            if self._context is None or not self._context.set_optimization_profile_async(index, stream):
                raise BackendError(
                    f"TensorRT cannot make an execution context for profile {index}: {logged_errors(messages)}",
                    hint="free some GPU memory, or build the engine with smaller buckets",
                )
        context.synchronize(stream)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        shapes = {name: inputs[name].shape for name in self._inputs}
        if shapes != self._shapes:
            self._bind(shapes)
        for name in self._inputs:
            np.copyto(self._buffers[name].array, inputs[name])
        self._num_runs += 1
        if self._own_graphs and self._num_runs == _CAPTURE_AT and self.uncapturable is None:
            try:
                self._graph = self._cuda.capture(self._stream, self._enqueue)
            except BackendError as error:
                self.uncapturable = error.message
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._enqueue()
        self._cuda.synchronize(self._stream)
        return {name: self._buffers[name].array.copy() for name in self._outputs}

    @property
    def captured(self) -> bool:
        return self._graph is not None

    def close(self) -> None:
        self._drop_graph()
        self._context = None
        for buffer in self._buffers.values():
            self._release(buffer)

    def _enqueue(self) -> None:
        for name in self._inputs:
            buffer = self._buffers[name]
            self._cuda.copy_in(buffer.device, buffer.pinned, buffer.array.nbytes, self._stream)
        with listening(self._module) as messages:
            if not self._context.execute_async_v3(self._stream):
                raise BackendError(f"TensorRT cannot run the engine: {logged_errors(messages)}")
        for name in self._outputs:
            buffer = self._buffers[name]
            self._cuda.copy_out(buffer.pinned, buffer.device, buffer.array.nbytes, self._stream)

    def _bind(self, shapes: dict[str, Shape]) -> None:
        """Tell the context new shapes and give every tensor memory that holds them."""
        self._drop_graph()
        self._shapes, self._num_runs = {}, 0
        with listening(self._module) as messages:
            try:
                accepted = all(self._context.set_input_shape(name, shape) for name, shape in shapes.items())
                accepted = accepted and not self._context.infer_shapes()
            except RuntimeError as error:
                raise BackendError(f"TensorRT refuses the shapes {shapes}: {error}") from error
        if not accepted:
            raise BackendError(f"TensorRT refuses the shapes {shapes}: {logged_errors(messages)}")
        for name, dtype in self._dtypes.items():
            shape = tuple(self._context.get_tensor_shape(name))
            if min(shape, default=1) < 0:
                raise BackendError(f"expected output sizes that follow from the inputs', {name} has {list(shape)}")
            self._reserve(self._buffers[name], np.dtype(dtype), shape)
            if not self._context.set_tensor_address(name, self._buffers[name].device):
                raise BackendError(f"TensorRT refuses the memory of {name}")
        self._shapes = shapes

    def _reserve(self, buffer: _Buffer, dtype: np.dtype[Any], shape: Shape) -> None:
        size = math.prod(shape)
        needed = capacity(buffer.num_bytes, max(size * dtype.itemsize, 1))
        if needed != buffer.num_bytes:
            self._release(buffer)
            buffer.device = self._cuda.alloc(needed)
            buffer.pinned = self._cuda.alloc_pinned(needed)
            buffer.num_bytes = needed
        memory = (ctypes.c_byte * buffer.num_bytes).from_address(buffer.pinned)
        buffer.array = np.ctypeslib.as_array(memory)[: size * dtype.itemsize].view(dtype).reshape(shape)

    def _release(self, buffer: _Buffer) -> None:
        device, pinned = buffer.device, buffer.pinned
        buffer.device = buffer.pinned = buffer.num_bytes = 0
        buffer.array = np.empty(0)
        if device:
            self._cuda.free(device)
        if pinned:
            self._cuda.free_pinned(pinned)

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._cuda.destroy_graph(self._graph)
            self._graph = None
