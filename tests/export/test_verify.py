"""Holding artifacts to the original model's answers: what passes, what is caught, and what the manifest then says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgekit
from edgekit.cli import main
from edgekit.core.bundle import Artifact, Bundle, open_bundle
from edgekit.core.bundle_writer import writing
from edgekit.core.errors import BackendError, BundleError, ForeignEngineError, UnavailableError, VerificationError
from edgekit.core.reference import Reference
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec
from edgekit.export.build import Request, build
from edgekit.export.verify import TOLERANCES, batch, check_answers, load_reference, unbatch, verify_bundle
from edgekit.runtime.backends import onnxruntime as ort_backend
from edgekit.runtime.backends import tensorrt as trt_backend
from edgekit.runtime.backends.base import Probe, SessionOptions
from edgekit.runtime.backends.openvino import precisions
from edgekit.runtime.session import open_session

pytestmark = pytest.mark.device_side
onnxruntime = pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
onnx = pytest.importorskip("onnx", reason="changes graphs with the package onnx")

FP32, BF16 = TOLERANCES["fp32"], TOLERANCES["bf16"]


def onnx_artifact(path: Path) -> Artifact:
    return open_bundle(path).graph().artifacts[0]


@contextmanager
def changed_onnx(path: Path) -> Iterator[Any]:
    """Gives the model of a bundle to change; afterwards the bundle holds it as if it had been exported so."""
    bundle = open_bundle(path)
    model = onnx.load(path / onnx_artifact(path).file)
    yield model
    onnx.checker.check_model(model, full_check=True)
    with writing(path) as writer:
        file = writer.add_bytes(model.SerializeToString(), "infer-onnx-fp32", ".onnx")
        graph = bundle.graph().with_artifact(Artifact("onnx", "fp32", (file,), reason="not executed"))
        writer.commit(replace(bundle.manifest, graphs={"infer": graph}))


def add_to_log_probs(model: Any, *nodes: Any) -> None:
    """Make the output `log_probs` the sum of what it was and of `extra`, which the nodes compute from `x`."""
    (last,) = (node for node in model.graph.node if "log_probs" in node.output)
    last.output[0] = "original"
    model.graph.node.extend([*nodes, onnx.helper.make_node("Add", ["original", "extra"], ["log_probs"], name="spoil")])


def depend_on_padding(model: Any) -> None:
    """Add to `log_probs` by how much anything in `x` is louder than a recording can be."""
    make = onnx.helper.make_node
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1), "full_scale"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 2]), "last_axes"))
    add_to_log_probs(
        model,
        make("Abs", ["x_B1N"], ["loudness"], name="loudness"),
        make("ReduceMax", ["loudness", "last_axes"], ["peak"], name="peak"),
        make("Sub", ["peak", "full_scale"], ["over"], name="over"),
        make("Relu", ["over"], ["extra"], name="extra"),
    )


def give_reference(path: Path, reference: Reference) -> None:
    bundle = open_bundle(path)
    with writing(path) as writer:
        asset = writer.add_bytes(reference.to_bytes(), "reference", ".npz")
        writer.commit(replace(bundle.manifest, assets={**bundle.manifest.assets, "reference-infer": asset}))


def off_by(bundle: Bundle, times_tolerance: float) -> Reference:
    """The bundle's reference, with the best symbol's value in frame 3 of item 1 moved by so many tolerances."""
    reference = load_reference(bundle, "infer")
    log_probs = reference.outputs[1]["log_probs"].copy()
    log_probs[0, 3, log_probs[0, 3].argmax()] += times_tolerance * FP32.atol
    outputs = list(reference.outputs)
    outputs[1] = {**outputs[1], "log_probs": log_probs}
    return replace(reference, outputs=tuple(outputs))


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    monkeypatch.setattr(sys, "argv", ["edgekit", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code


def test_what_passes_is_recorded_with_its_figures(toy_bundle: Path) -> None:
    ((name, returned),) = verify_bundle(toy_bundle)
    bundle = open_bundle(toy_bundle)
    artifact = bundle.graph().artifacts[0]
    assert (name, returned) == ("infer", artifact)
    assert (artifact.reason, artifact.failed) == (None, False)
    parity = artifact.parity
    assert parity is not None
    assert parity["inputs"] == "synthesised"
    assert (parity["atol"], parity["rtol"]) == (FP32.atol, FP32.rtol)
    assert parity["lengths"] == [8000, 20800, 24000]
    assert (parity["backend"], parity["computed_in"]) == (f"onnxruntime {onnxruntime.__version__} on cpu", "fp32")
    assert (parity["max_relative_rms"], parity["min_signal_cosine"]) == (FP32.relative_rms, FP32.signal_cosine)
    assert 0 < parity["alone_relative_rms"] < FP32.relative_rms
    assert parity["batched_signal_cosine"] > FP32.signal_cosine
    assert parity["date"] == datetime.now(timezone.utc).date().isoformat()
    reference = load_reference(bundle, "infer")
    session = onnxruntime.InferenceSession(toy_bundle / artifact.file)
    errors = np.concatenate(
        [
            np.abs(session.run(["log_probs"], item)[0].astype(np.float64) - expected["log_probs"]).ravel()
            for item, expected in zip(reference.inputs, reference.outputs)
        ]
    )
    assert parity["alone_max_abs"] == pytest.approx(errors.max(), rel=1e-3)
    assert parity["alone_mean_abs"] == pytest.approx(errors.mean(), rel=1e-3)
    assert 0 < parity["batched_max_abs"] < 1e-2
    assert min(parity["alone_cosine"], parity["batched_cosine"]) > FP32.cosine


def test_half_a_tolerance_passes_and_two_do_not(toy_bundle: Path) -> None:
    bundle = open_bundle(toy_bundle)
    half, twice = off_by(bundle, 0.5), off_by(bundle, 2)
    give_reference(toy_bundle, half)
    verify_bundle(toy_bundle)
    give_reference(toy_bundle, twice)
    where = r"^onnx fp32: alone, item 1, output log_probs: expected 0\.002 at \[0, 3, \d\], received .*atol 0\.001"
    with pytest.raises(VerificationError, match=where) as caught:
        verify_bundle(toy_bundle)
    assert caught.value.hint == f"edgekit export toy --out {toy_bundle}"


def test_what_failed_is_refused_until_it_passes(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = open_bundle(toy_bundle)
    right = load_reference(bundle, "infer")
    give_reference(toy_bundle, off_by(bundle, 2))
    assert run_cli(monkeypatch, "verify", toy_bundle) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: onnx fp32: alone, item 1, output log_probs: expected")
    artifact = onnx_artifact(toy_bundle)
    assert (artifact.failed, artifact.parity) == (True, None)
    assert str(artifact.reason).startswith("alone, item 1, output log_probs")
    with pytest.raises(BundleError, match=r"onnx fp32 of .* failed its check: alone, item 1") as caught:
        edgekit.load(toy_bundle)
    assert caught.value.hint == f"edgekit export toy --out {toy_bundle}"
    assert run_cli(monkeypatch, "inspect", toy_bundle) == 0
    assert "FAILED" in capsys.readouterr().out
    give_reference(toy_bundle, right)
    assert run_cli(monkeypatch, "verify", toy_bundle) == 0
    assert "verified" in capsys.readouterr().out
    assert edgekit.load(toy_bundle).session.backend == "onnxruntime"


def test_an_answer_that_depends_on_the_padding_fails_batched_only(toy_bundle: Path) -> None:
    with changed_onnx(toy_bundle) as model:
        depend_on_padding(model)
    with pytest.raises(VerificationError, match="batched, item 0, output log_probs: expected"):
        verify_bundle(toy_bundle)
    assert onnx_artifact(toy_bundle).failed


def test_an_answer_that_depends_on_the_neighbours_fails_batched_only(toy_bundle: Path) -> None:
    with changed_onnx(toy_bundle) as model:
        make = onnx.helper.make_node
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "batch_axis"))
        add_to_log_probs(
            model,
            make("ReduceMean", ["x_lens", "batch_axis"], ["mean_length"], name="mean"),
            make("Sub", ["mean_length", "x_lens"], ["shorter"], name="shorter"),
            make("Cast", ["shorter"], ["shorter_float"], name="cast", to=onnx.TensorProto.FLOAT),
            make("ReduceMax", ["shorter_float", "batch_axis"], ["extra"], name="extra"),
        )
    with pytest.raises(VerificationError, match="batched, item 0, output log_probs: expected"):
        verify_bundle(toy_bundle)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_fail(toy_bundle: Path, value: float) -> None:
    with changed_onnx(toy_bundle) as model:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), "extra"))
        add_to_log_probs(model)
    with pytest.raises(VerificationError, match=f"alone, item 0, output log_probs: expected .* received {value}"):
        verify_bundle(toy_bundle)


def test_wrong_lengths_fail(toy_bundle: Path) -> None:
    with changed_onnx(toy_bundle) as model:
        (plus,) = (array for array in model.graph.initializer if array.name == "plus")
        plus.CopyFrom(onnx.numpy_helper.from_array(np.array(2), "plus"))
    where = r"alone, item 0, output log_probs_lens: expected \[24\], received \[25\]"
    with pytest.raises(VerificationError, match=where):
        verify_bundle(toy_bundle)


def test_an_output_of_another_shape_fails(toy_bundle: Path) -> None:
    with changed_onnx(toy_bundle) as model:
        (last,) = (node for node in model.graph.node if "log_probs" in node.output)
        last.output[0] = "original"
        make = onnx.helper.make_node
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "none_B"))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1]), "end_B"))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "axis_B"))
        model.graph.node.append(make("Slice", ["original", "none_B", "end_B", "axis_B"], ["log_probs"], name="cut"))
    where = r"alone, item 0, output log_probs: expected float32\[1, 24, 6\], received float32\[1, 23, 6\]"
    with pytest.raises(VerificationError, match=where):
        verify_bundle(toy_bundle)


def test_a_graph_that_takes_one_item_only_fails_batched(toy_bundle: Path) -> None:
    with changed_onnx(toy_bundle) as model:
        (last,) = (node for node in model.graph.node if "log_probs_lens" in node.output)
        last.output[0] = "original_lens"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "one_item"))
        model.graph.node.append(
            onnx.helper.make_node("Reshape", ["original_lens", "one_item"], ["log_probs_lens"], name="fixed")
        )
    with pytest.raises(VerificationError, match=r"^onnx fp32: cannot be run: "):
        verify_bundle(toy_bundle)
    assert onnx_artifact(toy_bundle).failed


def test_a_file_that_the_backend_refuses_fails(toy_bundle: Path) -> None:
    bundle = open_bundle(toy_bundle)
    with writing(toy_bundle) as writer:
        file = writer.add_bytes(b"no graph", "infer-onnx-fp32", ".onnx")
        graph = bundle.graph().with_artifact(Artifact("onnx", "fp32", (file,), reason="not executed"))
        writer.commit(replace(bundle.manifest, graphs={"infer": graph}))
    with pytest.raises(VerificationError, match=r"^onnx fp32: cannot be opened: "):
        verify_bundle(toy_bundle)
    assert onnx_artifact(toy_bundle).failed


def test_more_items_than_a_batch_holds_are_all_batched(
    toy_bundle: Path, toy_with: Callable[..., Bundle], speak: Callable[..., np.ndarray]
) -> None:
    with changed_onnx(toy_bundle) as model:
        depend_on_padding(model)
    session = open_session(open_bundle(toy_bundle))
    assert session.signature.batch is not None
    most = session.signature.batch.max
    waves = [speak("ABC")] * most + [speak("AB"), speak("A"), speak("AB")]
    items = tuple({"x": wave[None], "x_lens": np.array([len(wave)])} for wave in waves)
    reference = Reference("real", items, tuple(session.run(item) for item in items))
    # the first batch is full of items of one length; what stands among padding is in the second
    with pytest.raises(VerificationError, match=f"batched, item {most}, output log_probs: "):
        check_answers(session, reference, FP32)
    sound = open_session(toy_with())
    parity = check_answers(sound, reference, FP32)
    assert (parity["inputs"], len(parity["lengths"])) == ("real", 3)
    assert parity["batched_max_abs"] < FP32.atol * np.abs(reference.outputs[0]["log_probs"]).max()


def test_a_reference_that_proves_little_is_refused(toy_bundle: Path, speak: Callable[..., np.ndarray]) -> None:
    session = open_session(open_bundle(toy_bundle))
    reference = load_reference(open_bundle(toy_bundle), "infer")
    two = replace(reference, inputs=reference.inputs[:2], outputs=reference.outputs[:2])
    with pytest.raises(BundleError, match=r"expected a reference of 3 lengths or more, this one has \[8000, 20800\]"):
        check_answers(session, two, FP32)
    hush = tuple({"x": np.zeros((1, n), np.float32), "x_lens": np.array([n])} for n in (400, 900, 1600))
    constant = replace(reference, inputs=hush, outputs=tuple(session.run(item) for item in hush))
    with pytest.raises(BundleError, match="alone, output log_probs: expected a reference that changes"):
        check_answers(session, constant, FP32)


def test_a_graph_that_answers_in_whole_numbers_only_is_refused(toy_with: Callable[..., Bundle]) -> None:
    bundle = toy_with()
    graph = bundle.graph()
    signature = replace(graph.signature, outputs=graph.signature.outputs[1:])
    bundle = replace(bundle, manifest=replace(bundle.manifest, graphs={"infer": replace(graph, signature=signature)}))
    with pytest.raises(BundleError, match=r"expected a float output to compare, received \['log_probs_lens'\]"):
        check_answers(open_session(bundle), load_reference(bundle, "infer"), FP32)


def test_a_signal_lost_under_a_constant_fails_where_every_value_is_within_its_tolerance(toy_bundle: Path) -> None:
    reference = load_reference(open_bundle(toy_bundle), "infer")
    outputs = tuple({**a, "log_probs": 100 + np.float32(4e-5) * a["log_probs"]} for a in reference.outputs)
    with changed_onnx(toy_bundle) as model:  # answers 100 whatever it is asked, which is right to 1e-3 of 100
        (last,) = (node for node in model.graph.node if "log_probs" in node.output)
        last.output[0] = "original"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0), "nothing"))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(100), "always"))
        model.graph.node.append(onnx.helper.make_node("Mul", ["original", "nothing"], ["zeros"], name="erase"))
        model.graph.node.append(onnx.helper.make_node("Add", ["zeros", "always"], ["log_probs"], name="constant"))
    give_reference(toy_bundle, replace(reference, outputs=outputs))
    with pytest.raises(VerificationError, match=r"alone, output log_probs: expected errors of at most 0\.00\d+ of the"):
        verify_bundle(toy_bundle)


def test_a_model_that_says_nearly_nothing_is_held_to_rounding(toy_bundle: Path) -> None:
    """As one that has learned to answer blank everywhere: its signal is as small as fp32's rounding of its output."""
    reference = load_reference(open_bundle(toy_bundle), "infer")
    random = np.random.default_rng(0)
    nearly = [np.float32(100) + np.float32(2e-7) * a["log_probs"] for a in reference.outputs]
    rounded = [n * (1 + 1e-7 * random.standard_normal(n.shape)).astype(np.float32) for n in nearly]
    with changed_onnx(toy_bundle) as model:
        (last,) = (node for node in model.graph.node if "log_probs" in node.output)
        last.output[0] = "original"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(2e-7), "little"))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(100), "always"))
        model.graph.node.append(onnx.helper.make_node("Mul", ["original", "little"], ["signal"], name="shrink"))
        model.graph.node.append(onnx.helper.make_node("Add", ["signal", "always"], ["log_probs"], name="raise"))
    outputs = tuple({**a, "log_probs": r} for a, r in zip(reference.outputs, rounded))
    give_reference(toy_bundle, replace(reference, outputs=outputs))
    ((_, artifact),) = verify_bundle(toy_bundle)
    assert artifact.parity is not None
    assert artifact.parity["alone_relative_rms"] > FP32.relative_rms


def test_fp16_on_the_cpu_is_told_as_what_it_is_computed_in(toy_bundle: Path) -> None:
    (artifact,) = build(toy_bundle, Request("onnx", "fp16"))
    assert artifact.parity is not None
    assert artifact.parity["computed_in"] == "fp32"
    session = open_session(open_bundle(toy_bundle), options=SessionOptions(precision="fp16"))
    assert (session.precision, str(session)) == ("fp16", "onnxruntime fp16 graph computed in fp32 on cpu")


@pytest.mark.parametrize("where", ["open", "run"])
def test_what_a_usable_backend_refuses_has_failed(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def refuse(*_: object) -> None:
        raise BackendError("no such kernel")

    monkeypatch.setattr(ort_backend if where == "open" else ort_backend.OnnxRuntimeSession, where, refuse)
    with pytest.raises(VerificationError, match=r"^onnx fp32: cannot be (opened|run): no such kernel"):
        verify_bundle(toy_bundle)
    assert onnx_artifact(toy_bundle).failed


def test_a_kernel_that_the_backend_lacks_is_no_fault_of_the_graph(toy_bundle: Path) -> None:
    with changed_onnx(toy_bundle) as model:
        make = onnx.helper.make_node
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float64(0), "nought"))
        add_to_log_probs(
            model,
            make("Asinh", ["nought"], ["wide"], name="asinh"),  # of doubles, for which ONNX Runtime has no kernel
            make("Cast", ["wide"], ["extra"], name="cast", to=onnx.TensorProto.FLOAT),
        )
    ((_, found),) = verify_bundle(toy_bundle)
    assert (found.parity, found.failed) == (None, False)
    assert str(found.reason).startswith("not executed: ONNX Runtime cannot open ")
    assert "NOT_IMPLEMENTED" in str(found.reason)
    with pytest.raises(UnavailableError, match="NOT_IMPLEMENTED"):
        edgekit.load(toy_bundle)


def test_a_kernel_that_is_missing_at_run_time_is_no_fault_of_the_graph(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UnavailableError("no such kernel")

    monkeypatch.setattr(ort_backend.OnnxRuntimeSession, "run", refuse)
    ((_, found),) = verify_bundle(toy_bundle)
    assert (found.parity, found.reason, found.failed) == (None, "not executed: no such kernel", False)


def test_a_precision_without_a_tolerance_is_not_executed(toy_bundle: Path) -> None:
    bundle = open_bundle(toy_bundle)
    with writing(toy_bundle) as writer:
        file = writer.add_bytes(b"a graph of tomorrow", "infer-onnx-int3", ".onnx")
        graph = bundle.graph().with_artifact(Artifact("onnx", "int3", (file,), reason="not executed"))
        writer.commit(replace(bundle.manifest, graphs={"infer": graph}))
    (_, first), (_, second) = verify_bundle(toy_bundle)
    assert first.parity is not None
    assert second.reason == "not executed: no tolerance is known for int3"


def test_a_reference_without_an_input_of_the_signature_is_refused(toy_bundle: Path) -> None:
    bundle = open_bundle(toy_bundle)
    reference = load_reference(bundle, "infer")
    inputs = tuple({"x": item["x"]} for item in reference.inputs)
    for broken in (replace(reference, inputs=inputs), replace(reference, outputs=reference.outputs[1:])):
        with pytest.raises(BundleError, match=r"all inputs and outputs, this one lacks (\['x_lens'\]|some)"):
            check_answers(open_session(bundle), broken, FP32)


@pytest.fixture
def hinting(toy_bundle: Path) -> Path:
    """A bundle with an artifact whose backend computes it in bf16, and can do so on this machine."""
    pytest.importorskip("openvino", reason="needs OpenVINO: pip install openvino")
    if "bf16" not in precisions():
        pytest.skip("this CPU does not compute in bf16")
    build(toy_bundle, Request("openvino"))
    return toy_bundle


def test_hinted_precisions_are_checked_recorded_and_shown(
    hinting: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert open_bundle(hinting).graph().artifacts[1].hinted() == {}
    verify_bundle(hinting)
    artifact = open_bundle(hinting).graph().artifacts[1]
    assert artifact.details["hinted"].keys() == {"bf16"}
    hinted = artifact.hinted()["bf16"]
    assert (hinted.precision, hinted.files, hinted.failed) == ("bf16", artifact.files, False)
    assert hinted.parity is not None
    assert artifact.parity is not None
    assert (hinted.parity["computed_in"], hinted.parity["atol"]) == ("bf16", TOLERANCES["bf16"].atol)
    assert hinted.parity["alone_max_abs"] > 10 * artifact.parity["alone_max_abs"]
    assert run_cli(monkeypatch, "inspect", hinting) == 0
    assert re.search(r"openvino +bf16 hint +verified +max error", capsys.readouterr().out)
    build(hinting, Request("openvino"))  # another artifact, not checked so
    assert open_bundle(hinting).graph().artifacts[1].hinted() == {}


def test_a_hinted_precision_that_fails_is_refused_and_the_others_are_not(
    hinting: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TOLERANCES, "bf16", FP32)
    assert run_cli(monkeypatch, "verify", hinting) == 0
    assert re.search(r"openvino +bf16 hint +FAILED +alone, item 0, output log_probs: expected", capsys.readouterr().out)
    assert edgekit.load(hinting, backend="openvino").session.precision == "fp32"
    with pytest.raises(BundleError, match=r"openvino bf16 of .* failed its check: alone, item 0") as caught:
        edgekit.load(hinting, backend="openvino", precision="bf16")
    assert caught.value.hint == "--precision fp32"
    monkeypatch.setitem(TOLERANCES, "bf16", BF16)
    verify_bundle(hinting)
    assert edgekit.load(hinting, backend="openvino", precision="bf16").session.computed_in == "bf16"


def test_an_engine_of_another_machine_is_not_executed_and_stops_nothing(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ForeignEngineError("infer.engine cannot run here: built for GPU A, this is B")

    with writing(toy_bundle) as writer:
        bundle = open_bundle(toy_bundle)
        file = writer.add_bytes(b"engine", "infer-trt-fp32", ".engine")
        engine = Artifact("trt", "fp32", (file,), reason="not executed", engine={"format": "trt"})
        writer.commit(replace(bundle.manifest, graphs={"infer": bundle.graph().with_artifact(engine)}))
    monkeypatch.setattr(trt_backend, "probe", lambda format=None: Probe("tensorrt", usable=True))
    monkeypatch.setattr(trt_backend, "open", refuse)
    verify_bundle(toy_bundle)
    of_onnx, of_engine = open_bundle(toy_bundle).graph().artifacts
    assert of_onnx.parity is not None
    assert (of_engine.parity, of_engine.failed) == (None, False)
    assert of_engine.reason == "not executed: infer.engine cannot run here: built for GPU A, this is B"


def test_an_absent_device_is_an_error_and_the_record_stays(toy_bundle: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was built with CUDA")
    verify_bundle(toy_bundle)
    before = (toy_bundle / "manifest.json").read_bytes()
    with pytest.raises(BackendError, match=r"on cuda, received onnx fp32: not executed: .* installation has cpu"):
        verify_bundle(toy_bundle, options=SessionOptions(device="cuda"))
    assert (toy_bundle / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("sound", [True, False])
def test_a_machine_that_cannot_execute_an_artifact_keeps_its_record(toy_bundle: Path, sound: bool) -> None:
    if sound:
        verify_bundle(toy_bundle)
    else:
        give_reference(toy_bundle, off_by(open_bundle(toy_bundle), 2))
        with pytest.raises(VerificationError):
            verify_bundle(toy_bundle)
    before = onnx_artifact(toy_bundle)
    code = """if True:
        import sys
        sys.modules["onnxruntime"] = None  # as if it were not installed
        from edgekit.export.verify import verify_bundle
        ((_, found),) = verify_bundle(sys.argv[1])
        print(found.parity, found.failed, found.reason)
    """
    found = subprocess.run([sys.executable, "-c", code, toy_bundle], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("None False not executed: missing the package onnxruntime")
    assert onnx_artifact(toy_bundle) == before
    assert before.failed is not sound


@pytest.mark.parametrize("name", ["reference-infer", "onnx"])
def test_an_altered_file_is_an_error_and_no_verdict(toy_bundle: Path, name: str) -> None:
    bundle = open_bundle(toy_bundle)
    stored = bundle.manifest.assets.get(name) or bundle.graph().artifacts[0].files[0]
    content = bytearray((toy_bundle / stored.name).read_bytes())
    content[len(content) // 2] ^= 1
    (toy_bundle / stored.name).write_bytes(content)
    before = (toy_bundle / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match="was altered"):
        verify_bundle(toy_bundle)
    assert (toy_bundle / "manifest.json").read_bytes() == before


TIME, MELS, BATCH = Dim("time", ((1, 4, 9),)), Dim("bins", ((1, 2, 3),)), Dim("batch", ((1, 2, 6),))
RAGGED = Signature(
    (
        TensorSpec("x", "float32", (BATCH, TIME, 2)),
        TensorSpec("y", "int64", (BATCH, MELS, TIME)),
        TensorSpec("n", "int64", (BATCH,), lengths_of=TIME),
    ),
    (
        TensorSpec("every_second", "float32", (BATCH, Derived("time", 1, 2, 1), 2)),
        TensorSpec("y", "int64", (BATCH, MELS, TIME)),
        TensorSpec("n", "int64", (BATCH,), lengths_of=TIME),
    ),
)


def elementwise(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A computation in which no value depends on another."""
    return {"every_second": -inputs["x"][:, ::2], "y": inputs["y"] + 1, "n": inputs["n"]}


@given(sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_batch_and_unbatch_give_each_item_its_own(sizes: list[tuple[int, int]], seed: int) -> None:
    random = np.random.default_rng(seed)
    items = [
        {
            "x": random.standard_normal((1, time, 2)).astype(np.float32),
            "y": random.integers(-9, 9, (1, bins, time)),
            "n": np.array([time]),
        }
        for time, bins in sizes
    ]
    together = batch(RAGGED, items)
    assert RAGGED.check_inputs(together) == {
        "batch": len(items),
        "time": max(time for time, _ in sizes),
        "bins": max(bins for _, bins in sizes),
    }
    for item, answer in zip(items, unbatch(RAGGED, elementwise(together), items)):
        for name, expected in elementwise(item).items():
            np.testing.assert_array_equal(answer[name], expected, strict=True)


def test_padding_is_loud() -> None:
    items = [{"x": np.zeros((1, time, 2), np.float32)} for time in (1, 1000)]
    signature = Signature((TensorSpec("x", "float32", (BATCH, Dim("time", ((1, 1000, 1000),)), 2)),), ())
    padding = batch(signature, items)["x"][0, 1:]
    assert 80 < padding.std() < 120
