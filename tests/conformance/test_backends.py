"""Every family on every backend: batched equals alone whatever the padding, and what was asked is what runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BackendError, ExportError, VerificationError
from edgekit.export.build import in_precision
from edgekit.export.pictures import takes_pictures
from edgekit.export.tensorrt import build_engine, find_builder
from edgekit.export.verify import TOLERANCES, batch, check_answers, load_reference, unbatch
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.backends.openvino import precisions
from edgekit.runtime.chunks import Chunks, InChunks, whole
from edgekit.runtime.session import open_session

EXECUTED = [("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")]


def test_the_exporter_verified_what_it_could_execute(small_bundle: Bundle) -> None:
    for graph in small_bundle.manifest.graphs.values():
        for artifact in graph.artifacts:
            assert artifact.parity is not None, f"{artifact.format} {artifact.precision}: {artifact.reason}"
            has_lengths = any(spec.lengths_of is not None for spec in graph.signature.inputs)
            assert len(artifact.parity["lengths"]) >= 3 * has_lengths
            assert artifact.parity["items"] >= 3
            assert "batched_max_abs" in artifact.parity


@pytest.mark.parametrize(("backend", "precision"), EXECUTED)
@pytest.mark.parametrize("junk", [np.nan, np.inf, -1e30, 1e4])
def test_batched_equals_alone_whatever_stands_in_the_padding(
    small_bundle: Bundle, backend: str, precision: str, junk: float
) -> None:
    if backend == "openvino" and precision not in precisions():
        pytest.skip(f"this CPU does not compute in {precision}")
    session = open_session(small_bundle, backend=backend, options=SessionOptions(precision=precision))
    assert (session.backend, session.precision) == (backend, precision)
    reference = load_reference(small_bundle, "infer")
    signature, tolerance = session.signature, TOLERANCES[precision]
    together = batch(signature, reference.inputs)
    for spec in signature.inputs:
        if len(spec.shape) > 1:
            for row, item in enumerate(reference.inputs):
                together[spec.name][row, item[spec.name].shape[1] :] = junk
    rows = unbatch(signature, session.run(together), reference.inputs)
    for row, item, expected in zip(rows, reference.inputs, reference.outputs):
        alone = session.run(item)
        for spec in signature.outputs:
            assert row[spec.name].shape == alone[spec.name].shape == expected[spec.name].shape
            np.testing.assert_allclose(row[spec.name], alone[spec.name], atol=tolerance.atol, rtol=tolerance.rtol)
            np.testing.assert_allclose(row[spec.name], expected[spec.name], atol=tolerance.atol, rtol=tolerance.rtol)


@pytest.mark.parametrize(("backend", "precision"), EXECUTED)
def test_a_graph_with_state_answers_in_chunks(small_bundle: Bundle, backend: str, precision: str) -> None:
    """Recordings of different lengths, alone and as streams of one batch, in chunks of all sizes that buckets name."""
    graphs = [name for name, graph in small_bundle.manifest.graphs.items() if graph.signature.state]
    if not graphs:
        pytest.skip("this family has no graph with state")
    if backend == "openvino" and precision not in precisions():
        pytest.skip(f"this CPU does not compute in {precision}")
    tolerance = TOLERANCES[precision]
    for name in graphs:
        session = open_session(small_bundle, name, backend=backend, options=SessionOptions(precision=precision))
        reference = load_reference(small_bundle, name)
        onnx_session = open_session(small_bundle, name, backend="onnxruntime")
        time_axis = session.signature.dims["time"]
        for steps in {size for bucket in time_axis.buckets for size in bucket[1:]}:
            graph = InChunks(session, steps)
            together = graph.run(batch(graph.signature, reference.inputs))
            rows = unbatch(graph.signature, together, reference.inputs)
            first = steps == Chunks(session.signature).num_steps
            for row, item, expected in zip(rows, reference.inputs, reference.outputs):
                wanted = expected if first else InChunks(onnx_session, steps).run(item)
                for spec in graph.signature.outputs:
                    for answer in (row, graph.run(item)):
                        np.testing.assert_allclose(
                            answer[spec.name], wanted[spec.name], atol=tolerance.atol, rtol=tolerance.rtol
                        )


@pytest.mark.parametrize(("backend", "precision"), EXECUTED)
def test_two_thetas_give_two_answers(small_bundle: Bundle, backend: str, precision: str) -> None:
    """Importers of some backends bake inputs that have initial values; nor may an item get its neighbour's weights."""
    if small_bundle.manifest.adaptation is None:
        pytest.skip("this bundle takes no theta")
    if backend == "openvino" and precision not in precisions():
        pytest.skip(f"this CPU does not compute in {precision}")
    size = small_bundle.manifest.adaptation.layout.size
    thetas = (0.3 * np.random.default_rng(0).standard_normal((3, size))).astype(np.float32)
    thetas[0] = 0
    for name, graph in small_bundle.manifest.graphs.items():
        session = whole(open_session(small_bundle, name, backend=backend, options=SessionOptions(precision=precision)))
        item = load_reference(small_bundle, name).inputs[0]
        output = graph.signature.outputs[0].name
        alone = [session.run({**item, "theta": theta[None]})[output][0] for theta in thetas]
        tolerance = TOLERANCES[precision]
        for one, other in ((0, 1), (1, 2)):
            assert np.abs(alone[one] - alone[other]).max() > 4 * tolerance.atol
        several = {spec.name: np.concatenate([item[spec.name]] * 3) for spec in session.signature.inputs}
        together = session.run({**several, "theta": thetas})[output]
        shared = session.run({**several, "theta": thetas[1:2]})[output]
        for row, expected in zip(together, alone):
            np.testing.assert_allclose(row, expected, atol=tolerance.atol, rtol=tolerance.rtol)
        for row in shared:
            np.testing.assert_allclose(row, alone[1], atol=tolerance.atol, rtol=tolerance.rtol)


@pytest.mark.parametrize("precision", sorted(TOLERANCES))
def test_no_tolerance_forgives_frames_in_another_order_or_a_constant(small_bundle: Bundle, precision: str) -> None:
    reference = load_reference(small_bundle, "infer")
    signature, random = small_bundle.graph().signature, np.random.default_rng(0)
    for spec in signature.outputs:
        if not spec.dtype.startswith("float"):
            continue
        frames = np.concatenate([answer[spec.name].reshape(-1, spec.shape[-1]) for answer in reference.outputs])
        mean = frames.mean(0)
        for spoil in (
            lambda array: array[:, random.permutation(array.shape[1])],
            lambda array, mean=mean: np.broadcast_to(mean, array.shape),
        ):
            answers = iter([{**answer, spec.name: spoil(answer[spec.name])} for answer in reference.outputs])
            session = SimpleNamespace(signature=signature, run=lambda _, answers=answers: next(answers))
            with pytest.raises(VerificationError):
                check_answers(session, reference, TOLERANCES[precision])
            # nor does what is held of the signal alone
            answers = iter([{**answer, spec.name: spoil(answer[spec.name])} for answer in reference.outputs])
            session = SimpleNamespace(signature=signature, run=lambda _, answers=answers: next(answers))
            with pytest.raises(VerificationError, match="of the signal"):
                check_answers(session, reference, replace(TOLERANCES[precision], atol=1e9, cosine=-1))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_threads_share_a_session_until_it_is_closed(small_bundle: Bundle, backend: str) -> None:
    session = open_session(small_bundle, backend=backend)
    items = load_reference(small_bundle, "infer").inputs[:3]
    alone = [session.run(item) for item in items]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(session.run, items * 4))
    for answer, expected in zip(answers, alone * 4):
        for name, array in expected.items():
            np.testing.assert_allclose(answer[name], array, atol=1e-5)
    session.close()
    with pytest.raises(BackendError, match="this one was closed"):
        session.run(items[0])


def test_the_onnx_file_is_what_the_house_asks_for(small_bundle: Bundle) -> None:
    graph = small_bundle.graph()
    model = onnx.load(small_bundle.checked(graph.artifacts[0].files[0]))
    operators = {node.op_type for node in model.graph.node}
    assert "LayerNormalization" in operators or takes_pictures(small_bundle.manifest.features)
    assert not operators & {"If", "Loop", "Scan", "IsNaN"}
    for values, specs in ((model.graph.input, graph.signature.inputs), (model.graph.output, graph.signature.outputs)):
        for value, spec in zip(values, specs):
            names = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            wanted = [axis if isinstance(axis, int) else getattr(axis, "name", "time_out") for axis in spec.shape]
            assert (value.name, names) == (spec.name, wanted)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_tensorrt_rtx_builds_an_engine_of_the_precision_asked_for(small_bundle: Bundle, tmp_path, precision) -> None:
    try:
        find_builder("trt-rtx")
    except BackendError as error:
        pytest.skip(error.message)
    graph = small_bundle.graph()
    source = in_precision(small_bundle.checked(graph.artifacts[0].files[0]), precision, tmp_path / "model.onnx")
    out = tmp_path / "model.engine"
    details = build_engine(source, graph.signature, format="trt-rtx", out=out, precision=precision)
    assert out.stat().st_size > 1000
    assert details["num_profiles"] == len(graph.signature.profiles())
    assert details["num_profiles"] == (1 if takes_pictures(small_bundle.manifest.features) else 4)
    other = "fp16" if precision != "fp16" else "fp32"
    with pytest.raises(ExportError):
        build_engine(source, graph.signature, format="trt-rtx", out=out, precision=other)
