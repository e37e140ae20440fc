"""From ONNX to an engine of TensorRT 10.3 to 11.x or TensorRT-RTX, whose Python modules share all that is used here.

The network is strongly typed: it computes in the types of the ONNX graph (see `precision.py`), and what the parser
made is held to them. TensorRT measures kernels, so it needs the GPU that the engine is for; TensorRT-RTX leaves that
to the device and builds anywhere. Without a GPU it fails only at refitting, at stripped plans and at the compute
capability "current", none of which is asked for here, and at reading an engine back.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, inliner

from edgekit.core.errors import BackendError, BundleError, ExportError
from edgekit.core.files import explained, write_atomic
from edgekit.core.signature import Signature
from edgekit.export.graph_types import float_types, value_types
from edgekit.runtime import cuda
from edgekit.runtime.backends.tensorrt import probe
from edgekit.runtime.tensorrt.engine import DTYPES, check_engine, engine_precisions, read_engine
from edgekit.runtime.tensorrt.key import machine_key
from edgekit.runtime.tensorrt.library import engine_log, listening, load_module, logged_errors

_TRT_TYPES: dict[int, str] = {TensorProto.FLOAT: "FLOAT", TensorProto.FLOAT16: "HALF", TensorProto.BFLOAT16: "BF16"}
_PRECISIONS = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
# TF32 rounds the factors of fp32 products to 10 bits: as coarse as fp16, and on by default.
_FLAGS = ("strongly_typed", "no_tf32")
_EXPECTED_WARNINGS = ("has Int64 binding",)  # lengths are int64, and the runtime binds them so


def find_builder(format: str) -> Any:
    """The module that builds engines of a format.

    Raises:
        BackendError: it is not installed, its libraries are not, or it needs a GPU that is not there.
    """
    module = load_module(format)
    if format == "trt" and not cuda.devices():
        raise BackendError(
            f"expected an NVIDIA GPU: TensorRT {module.__version__} builds only on the GPU that the engine is for",
            hint="build on the device itself; --format trt-rtx builds anywhere, for GPUs of compute capability 8.0 on",
        )
    return module


def engine_key(format: str, onnx_sha256: str) -> dict[str, Any]:
    """What an engine that is built here and now depends on; `differences` holds another machine to it.

    Args:
        onnx_sha256: of the ONNX in the bundle that the engine comes from.
    """
    gpus = cuda.devices()
    key = machine_key(format, load_module(format), gpus[0] if gpus else None)
    return {**key, "flags": list(_FLAGS), "onnx_sha256": onnx_sha256}


def build_engine(
    onnx_path: Path,
    signature: Signature,
    *,
    format: str,
    out: Path,
    precision: str | None = None,
    workspace_mib: int | None = None,
    timing_cache: Path | None = None,
    log: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Build an engine with one optimisation profile per bucket of the signature, and write it to `out`.

    Args:
        format: "trt" or "trt-rtx".
        precision: what the graph must be in; None: what it is in.
        workspace_mib: limit of the memory that layers may use while they run; None: the GPU's.
        timing_cache: read where it exists and written afterwards, so that the next build is faster; TensorRT only.
        log: told of the builder's warnings.

    Returns:
        Details for the manifest: `num_layers`, `layers` (how many per type and precision), `num_profiles`,
        `num_checked` (nodes whose type was read back), `inspected` (the engine's layers per precision, None where
        no GPU could load it), `build_s`, `warnings`.

    Raises:
        BackendError: the builder is not here.
        ExportError: the graph cannot be read, has other inputs than the signature, or is not what was asked.
    """
    module = find_builder(format)
    started = time.perf_counter()
    model, parse = load_graph(onnx_path)
    with listening(module) as messages:
        builder = module.Builder(engine_log(module))
        network = builder.create_network(network_flags(module))
        parser = module.OnnxParser(network, engine_log(module))
        if not parse(parser):
            raise ExportError(f"TensorRT cannot read {onnx_path.name}: {parser_errors(parser)}")
        computed = check_precision(model, precision)
        num_checked = check_network(parser, model)
        check_inputs(network, signature)
        config = builder.create_builder_config()
        config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
        config.clear_flag(module.BuilderFlag.TF32)
        if workspace_mib is not None:
            config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, workspace_mib << 20)
        add_profiles(builder, config, signature, messages)
        notes = [] if timing_cache is None else load_timing_cache(config, timing_cache, format)
        failed_before = len(messages)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise ExportError(f"TensorRT cannot build an engine: {logged_errors(messages[failed_before:])}")
        content = bytes(plan)
    inspected = inspect(module, content, signature, format, computed)
    if timing_cache is not None and format == "trt":
        write_atomic(timing_cache, bytes(config.get_timing_cache().serialize()))
    write_atomic(out, content)
    notes += [text for severity, text in messages if severity == "WARNING"]
    warnings = [text for text in dict.fromkeys(notes) if not any(known in text for known in _EXPECTED_WARNINGS)]
    if log is not None:
        for text in warnings:
            log(text)
    return {
        "builder": f"{module.__name__.removesuffix('_bindings')} {module.__version__}",
        "num_layers": network.num_layers,
        "layers": layer_counts(network),
        "num_profiles": config.num_optimization_profiles,
        "num_checked": num_checked,
        "inspected": inspected,
        "build_s": round(time.perf_counter() - started, 3),
        "warnings": warnings,
    }


def load_graph(path: Path) -> tuple[onnx.ModelProto, Callable[[Any], bool]]:
    """The graph of an ONNX file, and how a parser reads it: from the file, or inlined where it has local functions.

    The parser would expand functions too, but an operator that it knows by name goes before the function that the
    file gives for it, whatever the domain (TensorRT-RTX 1.7: Gelu, MultiHeadAttention, RotaryEmbedding), and the
    inner nodes of a second call cannot be looked up.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ExportError(f"expected an ONNX file at {path}: {error.strerror or error}") from error
    except DecodeError as error:
        raise ExportError(f"expected an ONNX file, {path} is not one: {error}") from error
    if not model.functions:
        return model, lambda parser: bool(parser.parse_from_file(str(path)))
    inlined = inliner.inline_local_functions(model)
    return inlined, lambda parser: bool(parser.parse(inlined.SerializeToString(), str(path)))


def network_flags(module: Any) -> int:
    """Bits for `create_network`. A flag's value is the number of its bit, and differs between versions."""
    flags = module.NetworkDefinitionCreationFlag
    names = [name for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED") if hasattr(flags, name)]
    return sum(1 << int(getattr(flags, name)) for name in names)


def parser_errors(parser: Any) -> str:
    """All errors of the ONNX parser, each with the node's index, operator and name."""
    texts = []
    for error in (parser.get_error(index) for index in range(parser.num_errors)):
        where = f"node {error.node()} {error.node_operator()} {error.node_name()!r}: " if error.node() >= 0 else ""
        texts.append(where + error.desc())
    return "; ".join(texts) or "its parser gives no reason"


def check_precision(model: onnx.ModelProto, precision: str | None) -> str:
    """The precision that a graph computes in: the lowest of its float types.

    Raises:
        ExportError: it is not `precision`.
    """
    found = {name for names in float_types(model).values() for name in names}
    computed = next((precision for name, precision in _PRECISIONS.items() if name in found), "fp32")
    if precision not in (None, computed):
        raise ExportError(
            f"expected an ONNX graph in {precision}, this one computes in {computed}",
            hint="edgekit.export.precision.cast_graph",
        )
    return computed


def check_network(parser: Any, model: onnx.ModelProto) -> int:
    """Hold the parsed network to the ONNX graph, node by node; return how many float nodes were compared.

    Raises:
        ExportError: a node gives another type than it asks for, or none could be compared.
    """
    types = value_types(model)
    nodes: dict[str, onnx.NodeProto] = {}
    for node in model.graph.node:
        if types.get(node.output[0]) in _TRT_TYPES:
            nodes.setdefault(node.name or f"node_of_{node.output[0]}", node)  # of one name, the first is looked up
    wrong, num_checked = [], 0
    for name, node in nodes.items():
        tensor = parser.get_layer_output_tensor(name, 0)
        if tensor is None:
            continue
        num_checked += 1
        asked, made = _TRT_TYPES[types[node.output[0]]], tensor.dtype.name
        if asked != made:
            wrong.append(f"{node.op_type} {name!r}: expected {asked}, TensorRT made {made}")
    if wrong:
        raise ExportError(f"{len(wrong)} nodes are not in the precision of the ONNX graph: {'; '.join(wrong[:5])}")
    if nodes and not num_checked:
        raise ExportError("the types of the parsed network cannot be compared with the ONNX graph: no node was found")
    return num_checked


def check_inputs(network: Any, signature: Signature) -> None:
    """Hold the network's inputs and outputs to the signature."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    declared = (
        sorted((spec.name, spec.dtype) for spec in signature.inputs),
        sorted((spec.name, spec.dtype) for spec in signature.outputs),
    )
    found = tuple(
        sorted((tensor.name, DTYPES.get(tensor.dtype.name, tensor.dtype.name)) for tensor in tensors)
        for tensors in (inputs, outputs)
    )
    if declared != found:
        raise ExportError(f"expected the inputs and outputs of the signature, {declared}; the ONNX has {found}")
    shapes = [tensor.name for tensor in inputs if tensor.is_shape_tensor]
    if shapes:
        raise ExportError(
            f"expected inputs that are data, the values of {shapes} decide on shapes",
            hint="let sizes follow from the inputs' own sizes",
        )


def add_profiles(builder: Any, config: Any, signature: Signature, messages: Sequence[tuple[str, str]]) -> None:
    """One optimisation profile per bucket."""
    for number, shapes in enumerate(signature.profiles()):
        before = len(messages)
        profile = builder.create_optimization_profile()
        try:
            for name, (low, opt, high) in shapes.items():
                profile.set_shape(name, low, opt, high)
            accepted = config.add_optimization_profile(profile) >= 0
        except ValueError as error:
            raise ExportError(f"TensorRT refuses bucket {number}, {shapes}: {error}") from error
        if not accepted:
            raise ExportError(f"TensorRT refuses bucket {number}, {shapes}: {logged_errors(messages[before:])}")


def load_timing_cache(config: Any, path: Path, format: str) -> list[str]:
    """Attach a timing cache; a new one where the file is missing or of another GPU or version, which is noted."""
    if format == "trt-rtx":
        return [f"the timing cache {path} is not used: TensorRT-RTX measures nothing while it builds"]
    with explained(path):
        content = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(content)
    if cache is not None and config.set_timing_cache(cache, False):
        return []
    if not config.set_timing_cache(config.create_timing_cache(b""), False):
        raise ExportError("TensorRT refuses an empty timing cache")
    return [f"the timing cache {path} is of another GPU or TensorRT version, and was started anew"]


def inspect(module: Any, content: bytes, signature: Signature, format: str, precision: str) -> dict[str, int] | None:
    """How many of the engine's layers give which precision; None where it cannot be loaded here.

    Raises:
        ExportError: it computes in another precision, or cannot be read back by what wrote it.
    """
    if not probe(format).usable:
        return None
    try:
        engine = read_engine(module, content, "the engine just built")
        check_engine(module, engine, signature, precision)
    except BundleError as error:
        raise ExportError(error.message) from error
    text = engine.create_engine_inspector().get_engine_information(module.LayerInformationFormat.JSON)
    return engine_precisions(text)


def layer_counts(network: Any) -> dict[str, dict[str, int]]:
    """How many layers of the parsed network are of which type and precision: `{"MATRIX_MULTIPLY": {"HALF": 17}}`."""
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        dtype = layer.get_output(0).dtype.name if layer.num_outputs else "NONE"
        of_type = counts[layer.type.name]
        of_type[dtype] = of_type.get(dtype, 0) + 1
    return {name: dict(sorted(of_type.items())) for name, of_type in sorted(counts.items())}
