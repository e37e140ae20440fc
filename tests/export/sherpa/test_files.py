"""The files that sherpa-onnx reads: self-contained, in its own form, one pair per graph that fits."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.bundle_writer import writing
from edgekit.core.errors import UsageError
from edgekit.core.signature import Signature
from edgekit.export.build import Request, build
from edgekit.export.verify import verify_bundle
from edgekit.runtime.latency import measure_bundle
from edgekit.runtime.session import open_session

onnx = pytest.importorskip("onnx", reason="writes graphs with the package onnx")
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
device_side = pytest.mark.device_side

Make = Callable[..., Bundle]
Find = Callable[..., tuple[Path, Path]]
Run = Callable[..., subprocess.CompletedProcess[str]]


@device_side
def test_the_file_is_self_contained_and_says_what_it_is(babbling: Make, files_of: Find) -> None:
    path = babbling().path
    (artifact,) = build(path, Request("sherpa"))
    assert artifact.details == {"model_type": "zipformer2_ctc", "num_symbols": 29}
    model = onnx.load(files_of(path)[0])
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "model_type": "zipformer2_ctc",
        "version": "1",
        "model_author": "edgekit",
        "comment": "babbling tiny",
        "vocab_size": "29",
        "subsampling_factor": "4",
    }
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == [
        "x",
        "x_lens",
        "log_probs",
        "log_probs_lens",
    ]
    assert model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value == 29
    assert (model.ir_version, len(model.functions), [entry.domain for entry in model.opset_import]) == (8, 0, [""])


@device_side
def test_tokens_are_in_sherpa_onnx_own_form(babbling: Make, files_of: Find) -> None:
    path = babbling(streams=True).path
    build(path, Request("sherpa"))
    for graph in ("infer", "stream"):
        lines = files_of(path, graph)[1].read_text(encoding="utf-8").splitlines()
        assert lines == [f"{symbol} {i}" for i, symbol in enumerate(("<blk>", "▁", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"))]


@device_side
def test_a_graph_that_answers_as_sherpa_onnx_reads_stays_as_it_is(babbling: Make, files_of: Find) -> None:
    bundle = babbling(("<blank>", "|", *"ABC"))
    build(bundle.path, Request("sherpa"))
    assert len(onnx.load(files_of(bundle.path)[0]).graph.node) == 7


@device_side
@pytest.mark.parametrize("state", [(), (("so_far", "so_far_after"),)], ids=["no memory", "another"])
def test_a_graph_whose_memory_is_another_is_left_out_with_a_reason(
    babbling: Make, state: tuple[tuple[str, str], ...]
) -> None:
    bundle = babbling(streams=True)
    stream = bundle.graph("stream")
    names = {name for pair in state for name in pair} | {"x", "x_lens", "log_probs", "log_probs_lens"}
    inputs, outputs = (
        tuple(spec for spec in specs if spec.name in names)
        for specs in (stream.signature.inputs, stream.signature.outputs)
    )
    other = replace(stream, signature=Signature(inputs, outputs, state))
    with writing(bundle.path) as writer:
        writer.commit(replace(bundle.manifest, graphs={**bundle.manifest.graphs, "stream": other}))
    said: list[str] = []
    assert len(build(bundle.path, Request("sherpa"), log=said.append)) == 1
    (line,) = said
    assert line.startswith("graph stream does not fit sherpa-onnx: expected a graph that remembers float32[batch, ")
    assert line.endswith("received so_far: int64[batch]" if state else "received one without memory")
    assert [len(graph.artifacts) for graph in open_bundle(bundle.path).manifest.graphs.values()] == [2, 1]


@device_side
def test_it_is_no_backend_of_edgekit(babbling: Make) -> None:
    path = babbling().path
    build(path, Request("sherpa"))
    bundle = open_bundle(path)
    assert open_session(bundle).backend == "onnxruntime"
    graph = bundle.graph()
    alone = Bundle(path, replace(bundle.manifest, graphs={"infer": graph.with_artifact(graph.artifacts[1])}))
    assert open_session(alone).backend == "onnxruntime"
    with pytest.raises(UsageError, match="expected a backend among tensorrt, onnxruntime, openvino"):
        open_session(bundle, backend="sherpa")
    with writing(path) as writer:  # as if it had been checked where sherpa-onnx is
        artifact = replace(graph.artifacts[1], parity={"backend": "sherpa-onnx"}, reason=None)
        writer.commit(replace(bundle.manifest, graphs={"infer": graph.with_artifact(artifact)}))
    assert {row["backend"] for row in measure_bundle(open_bundle(path))} <= {"onnxruntime"}
    verify_bundle(path)


@device_side
def test_the_command_line_builds_it_and_says_how_to_use_it(babbling: Make, files_of: Find, run_edgekit: Run) -> None:
    path = babbling(streams=True).path
    shown = [run_edgekit("build", path, "--format", "sherpa").stdout, run_edgekit("inspect", path).stdout]
    commands = {"infer": "sherpa-onnx-offline --zipformer-ctc-model", "stream": "sherpa-onnx --zipformer2-ctc-model"}
    for graph, command in commands.items():
        model, tokens = (file.name for file in files_of(path, graph))
        for out in shown:
            assert f"{command}={model} --tokens={tokens} speech.wav" in out
    near = run_edgekit("build", path, "--format", "sherp")
    assert (near.returncode, near.stderr.partition("hint:")[2].strip()) == (2, "did you mean sherpa?")
    half = run_edgekit("build", path, "--format", "sherpa", "--precision", "fp16")
    assert half.returncode == 2
    assert "expected sherpa fp32, received fp16" in half.stderr


@device_side
def test_where_a_graph_is_left_out_the_command_line_says_so(babbling: Make, run_edgekit: Run) -> None:
    bundle = babbling()
    graphs = {**bundle.manifest.graphs, "stream": bundle.graph()}
    assets = {**bundle.manifest.assets, "reference-stream": bundle.manifest.assets["reference-infer"]}
    with writing(bundle.path) as writer:
        writer.commit(replace(bundle.manifest, graphs=graphs, assets=assets))
    ran = run_edgekit("build", bundle.path, "--format", "sherpa")
    assert ran.returncode == 0
    assert "graph stream does not fit sherpa-onnx: expected a graph that remembers" in " ".join(ran.stderr.split())


@device_side
@pytest.mark.parametrize("command", ["build", "export"])
def test_the_help_names_it(command: str, run_edgekit: Run) -> None:
    assert "trt-rtx, sherpa" in " ".join(run_edgekit(command, "--help").stdout.split())
