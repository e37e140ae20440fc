"""A joint graph cut in two: together they answer as it does, and the first needs nothing of the gradient."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.core.errors import ExportError
from edgekit.export.cut import cut, refer_to, share_weights

SIZE = 32
WEIGHT = np.random.default_rng(0).standard_normal((SIZE, SIZE)).astype(np.float32)


def _joint(spoil: bool = False) -> onnx.ModelProto:
    """y = tanh(-sigmoid(x w) t), and something of y d, sigmoid(x w) and its negative, [1, SIZE]."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Neg", ["s"], ["n"]),
        helper.make_node("Mul", ["n", "theta"], ["m"]),
        helper.make_node("Tanh", ["m"], ["y"] if not spoil else ["u"]),
        *([helper.make_node("Add", ["u", "d"], ["y"])] if spoil else []),
        helper.make_node("Mul", ["y", "y"], ["yy"]),
        helper.make_node("Sub", ["one", "yy"], ["slope"]),
        helper.make_node("Mul", ["d", "slope"], ["dm"]),
        helper.make_node("Mul", ["dm", "n"], ["dn"]),
        helper.make_node("Mul", ["dn", "s"], ["dt"]),
        helper.make_node("ReduceSum", ["dt", "axes"], ["d_theta"], keepdims=1),
    ]
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in {"x": ["n", SIZE], "theta": [1, SIZE], "d": ["n", SIZE], "y": ["n", SIZE]}.items()
    }
    gradient = helper.make_tensor_value_info("d_theta", TensorProto.FLOAT, [1, SIZE])
    constants = [
        numpy_helper.from_array(WEIGHT, "w"),
        numpy_helper.from_array(np.ones(1, np.float32), "one"),
        numpy_helper.from_array(np.array([0]), "axes"),
    ]
    graph = helper.make_graph(
        nodes, "joint", [values["x"], values["theta"], values["d"]], [values["y"], gradient], constants
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _run(model: onnx.ModelProto | str, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    source = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, {value.name: given[value.name] for value in session.get_inputs()})))


@pytest.fixture
def given() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    shapes = {"x": (5, SIZE), "theta": (1, SIZE), "d": (5, SIZE)}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def test_the_halves_answer_as_the_whole(given) -> None:
    whole = _run(_joint(), given)
    halves = cut(_joint(), "d_theta")
    first = _run(halves.forward, given)
    second = _run(halves.backward, {**given, **first})
    np.testing.assert_array_equal(first["y"], whole["y"])
    np.testing.assert_allclose(second["d_theta"], whole["d_theta"], rtol=1e-6)


def test_only_what_is_dear_is_handed_on() -> None:
    halves = cut(_joint(), "d_theta")
    # the negative follows from the sigmoid, which does not follow from inputs without the product
    assert set(halves.saved) == {"s", "y"}
    assert "d" not in {value.name for value in halves.forward.graph.input}
    assert [value.name for value in halves.backward.graph.output] == ["d_theta"]
    operators = {node.op_type for node in halves.backward.graph.node}
    assert "Neg" in operators
    assert not operators & {"MatMul", "Sigmoid", "Tanh"}


def test_an_answer_that_depends_on_the_cotangent_is_refused() -> None:
    with pytest.raises(ExportError, match="the cotangent is among them"):
        cut(_joint(spoil=True), "d_theta")


def test_large_weights_lie_once_in_a_file_of_their_own(tmp_path, given) -> None:
    joint = _joint()
    models = share_weights([joint, joint], tmp_path / "weights.bin")
    assert (tmp_path / "weights.bin").stat().st_size == WEIGHT.nbytes
    (tmp_path / "weights.bin").rename(tmp_path / "other.bin")
    expected = _run(joint, given)
    for model in models:
        assert len(model.SerializeToString()) < 2000
        onnx.save(refer_to(model, "other.bin"), tmp_path / "model.onnx")
        np.testing.assert_array_equal(_run(str(tmp_path / "model.onnx"), given)["d_theta"], expected["d_theta"])
    # what they were made of is as it was
    assert len(joint.SerializeToString()) > WEIGHT.nbytes
