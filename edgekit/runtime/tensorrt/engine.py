"""Reading an engine, and holding it to the signature and the precision of the artifact that it is said to be."""

from __future__ import annotations

import json
import re
from typing import Any

from edgekit.core.errors import EngineError
from edgekit.core.signature import Axis, Dim, Signature, TensorSpec
from edgekit.runtime.tensorrt.library import engine_log, listening, logged_errors

DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "INT32": "int32", "INT8": "int8", "BOOL": "bool"}
"""NumPy's names of TensorRT's types."""
_INSPECTED = {"half": "fp16", "fp16": "fp16", "bfloat16": "bf16", "bf16": "bf16", "float": "fp32", "fp32": "fp32"}


def read_engine(module: Any, content: bytes, name: str) -> Any:
    """Deserialise an engine; it holds its runtime.

    Raises:
        EngineError: it cannot be read; says what TensorRT logged.
    """
    with listening(module) as messages:
        runtime = module.Runtime(engine_log(module))
        engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        said = logged_errors(messages)
        raise EngineError(f"TensorRT {module.__version__} cannot read {name}: {said}")
    return engine


def check_engine(module: Any, engine: Any, signature: Signature, precision: str) -> None:
    """Hold an engine to the signature and the precision of the artifact that it is said to be.

    Raises:
        EngineError: other tensors, other types, or computed in another precision.
    """
    declared = {(spec.name, "INPUT", spec.dtype) for spec in signature.inputs}
    declared |= {(spec.name, "OUTPUT", spec.dtype) for spec in signature.outputs}
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = {
        (name, engine.get_tensor_mode(name).name, DTYPES.get(engine.get_tensor_dtype(name).name, "?")) for name in names
    }
    if declared != found:
        raise EngineError(f"expected an engine with {sorted(declared)}, this one has {sorted(found)}")
    for name in names:
        if engine.get_tensor_location(name) != module.TensorLocation.DEVICE:
            raise EngineError(f"expected {name} on the GPU, the engine wants it on the host, as a shape")
    text = engine.create_engine_inspector().get_engine_information(module.LayerInformationFormat.JSON)
    computed = engine_precisions(text)
    # Nothing recognised is no evidence: the exporter held the network itself to the ONNX graph.
    if computed and (precision not in computed or (precision == "fp32" and computed.keys() != {"fp32"})):
        raise EngineError(f"expected an engine that computes in {precision}, its layers give {computed}")


def engine_signature(engine: Any) -> Signature:
    """What an engine says of its own tensors, with the sizes of its first optimisation profile.

    A dynamic axis of an input is called by its tensor and place ("x_0"). Outputs stand without axes: their sizes show
    when it runs.

    Raises:
        EngineError: a tensor of a type that NumPy does not have.
    """
    inputs, outputs = [], []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = DTYPES.get(engine.get_tensor_dtype(name).name)
        if dtype is None:
            raise EngineError(f"expected a type of NumPy, {name} is {engine.get_tensor_dtype(name).name}")
        if engine.get_tensor_mode(name).name != "INPUT":
            outputs.append(TensorSpec(name, dtype, ()))
            continue
        sizes = zip(engine.get_tensor_shape(name), *engine.get_tensor_profile_shape(name, 0))
        axes: list[Axis] = []
        for place, (size, *profile) in enumerate(sizes):
            # a profile may begin at an empty tensor
            low, opt, high = (max(bound, 1) for bound in profile)
            axes.append(size if size > 0 else Dim(re.sub(r"\W", "_", f"{name}_{place}"), ((low, opt, high),)))
        inputs.append(TensorSpec(name, dtype, tuple(axes)))
    return Signature(tuple(inputs), tuple(outputs))


def engine_precision(module: Any, engine: Any) -> str | None:
    """The lowest precision that layers of an engine give; None where its inspector does not tell."""
    text = engine.create_engine_inspector().get_engine_information(module.LayerInformationFormat.JSON)
    computed = engine_precisions(text)
    return next((name for name in ("fp16", "bf16", "fp32") if name in computed), None)


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
