"""What is read off an engine's inspector, of three versions of TensorRT."""

from __future__ import annotations

import json

import pytest

from edgekit.runtime.tensorrt.engine import engine_precisions

pytestmark = pytest.mark.device_side


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
