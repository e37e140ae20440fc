"""Formats added to a bundle on the device: built from its ONNX, executed where they can be, all or nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.bundle_writer import writing
from edgekit.core.errors import BundleError, ExportError, UsageError, VerificationError
from edgekit.core.reference import Reference
from edgekit.export.build import Request, build, check_free_space
from edgekit.export.verify import TOLERANCES, load_reference
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.session import open_session

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
openvino = pytest.importorskip("openvino", reason="needs OpenVINO: pip install openvino")
onnx = pytest.importorskip("onnx", reason="casts graphs with the package onnx")

Speak = Callable[..., np.ndarray]


def made(path: Path) -> list[tuple[str, str]]:
    """Format and precision of what a bundle holds, after a look at every file's hash."""
    bundle = open_bundle(path)
    for file in bundle.manifest.files():
        bundle.checked(file)
    return [(artifact.format, artifact.precision) for artifact in bundle.graph().artifacts]


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != ".lock"}


def test_openvino_is_built_executed_and_runs(toy_bundle: Path, speak: Speak) -> None:
    (artifact,) = build(toy_bundle, Request("openvino"))
    assert made(toy_bundle) == [("onnx", "fp32"), ("openvino", "fp32")]
    assert open_bundle(toy_bundle).graph().artifacts[1] == artifact
    assert [Path(file.name).suffix for file in artifact.files] == [".xml", ".bin"]
    assert artifact.parity is not None
    assert artifact.parity["backend"].startswith(f"openvino {openvino.__version__.split('-')[0]}")
    assert artifact.parity["batched_max_abs"] < 0.1
    recogniser = edgekit.load(toy_bundle, backend="openvino")
    assert recogniser.session.backend == "openvino"
    assert recogniser.transcribe((speak("DAB BAD"), 16000)).text == "DAB BAD"


def test_openvino_is_bounded_as_the_signature_says(toy_bundle: Path) -> None:
    (artifact,) = build(toy_bundle, Request("openvino"))
    model = openvino.Core().read_model(toy_bundle / artifact.file, toy_bundle / artifact.files[1].name)
    shapes = {port.any_name: port.partial_shape.to_string() for port in model.inputs}
    assert shapes == {"x": "[1..16,400..480000]", "x_lens": "[1..16]"}


def test_onnx_in_fp16_is_executed_and_computes_in_fp16(toy_bundle: Path, speak: Speak) -> None:
    (artifact,) = build(toy_bundle, Request("onnx", "fp16"))
    assert artifact.parity is not None
    assert artifact.parity["atol"] == TOLERANCES["fp16"].atol
    model = onnx.load(toy_bundle / artifact.file)
    kernel = next(array for array in model.graph.initializer if "mean" in array.name)
    assert kernel.data_type == onnx.TensorProto.FLOAT16
    # fp16's rounding shows, so the fp32 graph was not checked by mistake
    fp32 = open_session(open_bundle(toy_bundle))
    fp16 = open_session(open_bundle(toy_bundle), options=SessionOptions(precision="fp16"))
    item = load_reference(open_bundle(toy_bundle), "infer").inputs[0]
    assert np.abs(fp16.run(item)["log_probs"] - fp32.run(item)["log_probs"]).max() > 0.05
    assert edgekit.load(toy_bundle, precision="fp16").transcribe((speak("CAB"), 16000)).text == "CAB"


def test_onnx_in_bf16_says_that_no_cpu_executed_it(toy_bundle: Path) -> None:
    (artifact,) = build(toy_bundle, Request("onnx", "bf16"))
    assert (artifact.parity, artifact.failed) == (None, False)
    assert artifact.reason == "not executed: ONNX Runtime's CPU kernels do not run bf16 graphs"
    model = onnx.load(toy_bundle / artifact.file)
    assert onnx.TensorProto.BFLOAT16 in {array.data_type for array in model.graph.initializer}


@pytest.mark.parametrize(
    ("format", "precision", "message", "hint"),
    [
        ("opnvino", "fp32", "expected a format among onnx, openvino, trt, trt-rtx, sherpa; received", "openvino"),
        ("trt_rtx", "fp32", "expected a format among", "trt-rtx"),
        ("onnx", "fp61", "expected a precision among fp32, fp16, bf16; received 'fp61'", "fp16"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(format: str, precision: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Request(format, precision)
    assert caught.value.hint == f"did you mean {hint}?"


def test_a_name_that_is_near_nothing_has_no_hint() -> None:
    with pytest.raises(UsageError) as caught:
        Request("ncnn-int4")
    assert caught.value.hint is None


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_openvino_in_low_precision_is_a_hint_at_run_time(toy_bundle: Path, precision: str) -> None:
    before = content(toy_bundle)
    with pytest.raises(UsageError, match=f"expected openvino fp32, received {precision}") as caught:
        build(toy_bundle, Request("openvino", precision))
    assert "--precision when it runs" in str(caught.value.hint)
    assert content(toy_bundle) == before


def test_the_onnx_itself_is_not_built(toy_bundle: Path) -> None:
    with pytest.raises(UsageError, match="made by edgekit export") as caught:
        build(toy_bundle, Request("onnx"))
    assert caught.value.hint == f"edgekit export toy --out {toy_bundle}"


def test_two_formats_keep_each_other_and_a_second_build_takes_the_place_of_the_first(toy_bundle: Path) -> None:
    build(toy_bundle, Request("openvino"))
    build(toy_bundle, Request("onnx", "fp16"))
    build(toy_bundle, Request("openvino"))
    assert made(toy_bundle) == [("onnx", "fp32"), ("openvino", "fp32"), ("onnx", "fp16")]
    num_named = len({file.name for file in open_bundle(toy_bundle).manifest.files()})
    assert len(content(toy_bundle)) == num_named + 1


def test_builds_of_two_processes_at_once_both_land(toy_bundle: Path) -> None:
    code = """if True:
        import sys
        from edgekit.export.build import Request, build
        import edgekit.export.openvino, edgekit.export.precision, onnxruntime, openvino
        print("ready", flush=True)
        sys.stdin.readline()
        build(sys.argv[1], Request(*sys.argv[2:]))
    """
    builders = [
        subprocess.Popen(
            [sys.executable, "-c", code, toy_bundle, *request],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for request in (["openvino"], ["onnx", "fp16"])
    ]
    for builder in builders:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "ready\n"
    for builder in builders:
        assert builder.stdin is not None
        builder.stdin.write("\n")
        builder.stdin.flush()
    for builder in builders:
        _, errors = builder.communicate(timeout=60)
        assert builder.returncode == 0, errors
    assert sorted(made(toy_bundle)) == [("onnx", "fp16"), ("onnx", "fp32"), ("openvino", "fp32")]
    assert all(artifact.parity for artifact in open_bundle(toy_bundle).graph().artifacts[1:])


def test_a_build_that_answers_wrongly_leaves_the_bundle_as_it_was(toy_bundle: Path) -> None:
    bundle = open_bundle(toy_bundle)
    reference = load_reference(bundle, "infer")
    outputs = tuple({**answer, "log_probs": answer["log_probs"] - 1} for answer in reference.outputs)
    with writing(toy_bundle) as writer:
        asset = writer.add_bytes(Reference(reference.origin, reference.inputs, outputs).to_bytes(), "reference", ".npz")
        writer.commit(replace(bundle.manifest, assets={**bundle.manifest.assets, "reference-infer": asset}))
    before = content(toy_bundle)
    for request in (Request("openvino"), Request("onnx", "fp16")):
        with pytest.raises(VerificationError, match="alone, item 0, output log_probs: expected -1"):
            build(toy_bundle, request)
        assert content(toy_bundle) == before


def test_a_graph_that_openvino_cannot_read_leaves_the_bundle_as_it_was(toy_bundle: Path) -> None:
    bundle = open_bundle(toy_bundle)
    graph = bundle.graph()
    model = onnx.load(toy_bundle / graph.artifacts[0].file)
    model.graph.node[-1].domain, model.graph.node[-1].op_type = "nobody", "Unheard"
    model.opset_import.append(onnx.helper.make_opsetid("nobody", 1))
    with writing(toy_bundle) as writer:
        file = writer.add_bytes(model.SerializeToString(), "infer-onnx-fp32", ".onnx")
        graph = graph.with_artifact(replace(graph.artifacts[0], files=(file,)))
        writer.commit(replace(bundle.manifest, graphs={"infer": graph}))
    before = content(toy_bundle)
    with pytest.raises(ExportError, match=r"OpenVINO cannot convert model\.onnx"):
        build(toy_bundle, Request("openvino"))
    assert content(toy_bundle) == before


@pytest.mark.parametrize(
    ("format", "missing", "message", "hint"),
    [
        ("openvino", "openvino", "expected the package openvino", 'pip install "edgekit[openvino]"'),
        ("openvino", "onnx", "expected the package onnx", 'pip install "edgekit[jetson]"'),
        ("trt", "tensorrt", "expected the Python module tensorrt", "edgekit[trt]"),
        ("trt-rtx", "tensorrt_rtx_bindings", "expected the Python module tensorrt_rtx", "edgekit[trt-rtx]"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_brings_it(
    toy_bundle: Path, format: str, missing: str, message: str, hint: str
) -> None:
    before = content(toy_bundle)
    code = f"""if True:
        import sys
        sys.modules[{missing!r}] = None  # as if it were not installed
        sys.modules["tensorrt_rtx"] = None
        from edgekit.cli import main
        main()
    """
    command = [sys.executable, "-c", code, "build", toy_bundle, "--format", format]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1, failed.stderr
    assert f"error: {message}" in failed.stderr
    assert hint in failed.stderr.partition("hint:")[2]
    assert "Traceback" not in failed.stderr
    assert content(toy_bundle) == before


def test_a_build_without_the_backend_says_that_it_was_not_executed(toy_bundle: Path) -> None:
    code = """if True:
        import sys
        sys.modules["onnxruntime"] = None  # as if it were not installed
        from edgekit.export.build import Request, build
        (artifact,) = build(sys.argv[1], Request("onnx", "fp16"))
        assert artifact.parity is None and not artifact.failed, artifact
        print(artifact.reason)
    """
    built = subprocess.run([sys.executable, "-c", code, toy_bundle], capture_output=True, text=True, timeout=60)
    assert built.stdout.startswith("not executed: missing the package onnxruntime"), built.stderr
    assert ("onnx", "fp16") in made(toy_bundle)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="expected a bundle at"):
        build(tmp_path / "nothing", Request("openvino"))
    assert not (tmp_path / "nothing").exists()


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    check_free_space(tmp_path / "not" / "yet", 1 << 20)
    with pytest.raises(BundleError, match=rf"expected \d+ MiB free at {tmp_path}, there are \d+"):
        check_free_space(tmp_path / "not" / "yet", free * 2)
