"""The format that sherpa-onnx reads: it hears what edgekit hears, and what it cannot feed or spell is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import edgekit
from edgekit.core.bundle import Artifact, Bundle, Graph, Manifest, open_bundle
from edgekit.core.bundle_writer import writing
from edgekit.core.errors import BundleError, ExportError, UsageError, VerificationError
from edgekit.core.reference import Reference
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec
from edgekit.export.build import Request, build
from edgekit.export.sherpa import FBANK, FRAME_S, Symbols, _strays, symbols_of, transcribe
from edgekit.export.verify import load_reference, verify_bundle
from edgekit.runtime.features.fbank import Fbank, FbankConfig
from edgekit.runtime.latency import measure_bundle
from edgekit.runtime.samples import sample_clips
from edgekit.runtime.session import open_session

onnx = pytest.importorskip("onnx", reason="writes graphs with the package onnx")
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
device_side = pytest.mark.device_side
needs_sherpa = pytest.mark.skipif(find_spec("sherpa_onnx") is None, reason="needs sherpa-onnx: pip install sherpa-onnx")

WINDOW, STRIDE = 7, 4
LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")
PIECES = ("▁THE", "S", "▁", "<unk>", "▁A", "ING", "É", "▁É", "5", "<pad>")
SPACED = (*"abcdef", " ", "<blank>")

Make = Callable[..., Bundle]


@pytest.fixture
def babbling(tmp_path: Path) -> Make:
    """`babbling(labels)`: a bundle that hears something of each label in any speech; `changes` replace its fields."""

    def make(labels: Sequence[str] = LETTERS, delimiter: str = "|", **changes: Any) -> Bundle:
        return write_babbling(tmp_path / "bundle", labels, delimiter, **changes)

    return make


def write_babbling(path: Path, labels: Sequence[str], delimiter: str, **changes: Any) -> Bundle:
    """One convolution of seven log-mel frames, by noise; in silence, where all else is even, the blank is best."""
    rng = np.random.default_rng(0)
    blank = next(i for i, label in enumerate(labels) if label in ("<pad>", "<blank>"))
    kernel = rng.normal(0, 0.2, (len(labels), 80, WINDOW)).astype(np.float32)
    kernel -= kernel.mean((1, 2), keepdims=True)
    bias = np.where(np.arange(len(labels)) == blank, 1, 0).astype(np.float32)
    time, batch = Dim("time", ((WINDOW, 100, 3000),)), Dim("batch", ((1, 1, 16),))
    frames = Derived("time", minus=WINDOW, over=STRIDE, plus=1)
    signature = Signature(
        (TensorSpec("x", "float32", (batch, time, 80)), TensorSpec("x_lens", "int64", (batch,), lengths_of=time)),
        (
            TensorSpec("log_probs", "float32", (batch, frames, len(labels))),
            TensorSpec("log_probs_lens", "int64", (batch,), lengths_of=frames),
        ),
    )
    inputs, outputs = [], []
    for clip in sample_clips():
        x = Fbank(FBANK)(soundfile.read(clip, dtype="float32")[0])
        windows = np.lib.stride_tricks.sliding_window_view(x, WINDOW, axis=0)[::STRIDE]
        logits = np.einsum("tmw,vmw->tv", windows.astype(np.float64), kernel) + bias
        top = logits.max(1, keepdims=True)
        log_probs = (logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))).astype(np.float32)
        inputs.append({"x": x[None], "x_lens": np.array([len(x)])})
        outputs.append({"log_probs": log_probs[None], "log_probs_lens": np.array([len(windows)])})
    with writing(path) as writer:
        file = writer.add_bytes(babbling_onnx(kernel, bias), "infer-onnx-fp32", ".onnx")
        reference = Reference("synthesised", tuple(inputs), tuple(outputs))
        fields: dict[str, Any] = {
            "family": "babbling",
            "variant": "tiny",
            "task": "speech-recognition",
            "config": {},
            "features": {"kind": "kaldi-fbank", **asdict(FBANK), "min_samples": 1040},
            "output": {
                "kind": "ctc",
                "blank": blank,
                "delimiter": delimiter,
                "frame_s": FRAME_S,
            },
            "provenance": {"weights": {"source": "checkpoint", "name": "noise"}},
            "graphs": {"infer": Graph(signature, (Artifact("onnx", "fp32", (file,), reason="not executed"),))},
            "assets": {
                "tokens": writer.add_bytes("\n".join(labels).encode() + b"\n", "tokens", ".txt"),
                "reference-infer": writer.add_bytes(reference.to_bytes(), "reference-infer", ".npz"),
            },
        }
        return writer.commit(Manifest(**{**fields, **changes}))


def babbling_onnx(kernel: np.ndarray, bias: np.ndarray) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    make = helper.make_node
    numbers = {name: np.array(number) for name, number in (("window", WINDOW), ("stride", STRIDE), ("one", 1))}
    constants = {"kernel": kernel, "bias": bias, **numbers}
    nodes = [
        make("Transpose", ["x"], ["x_BMF"], perm=[0, 2, 1]),
        make("Conv", ["x_BMF", "kernel", "bias"], ["logits_BVT"], strides=[STRIDE]),
        make("Transpose", ["logits_BVT"], ["logits"], perm=[0, 2, 1]),
        make("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
        make("Sub", ["x_lens", "window"], ["past"]),
        make("Div", ["past", "stride"], ["hops"]),
        make("Add", ["hops", "one"], ["log_probs_lens"]),
    ]
    graph = helper.make_graph(
        nodes,
        "babbling",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "time", 80]),
            helper.make_tensor_value_info("x_lens", TensorProto.INT64, ["batch"]),
        ],
        [
            helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["batch", "time_out", len(kernel)]),
            helper.make_tensor_value_info("log_probs_lens", TensorProto.INT64, ["batch"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()
    return model


def recordings(folder: Path) -> list[Path]:
    """The sample clips and longer ones made of them, 1.6 to 18 s."""
    waves = [soundfile.read(clip, dtype="float32")[0] for clip in sample_clips()]
    clips = list(sample_clips())
    for repeats in (1, 2):
        longer = folder / f"joined-{repeats}.wav"
        soundfile.write(longer, np.tile(np.concatenate(waves), repeats)[: 18 * 16000], 16000, subtype="FLOAT")
        clips.append(longer)
    return clips


def files(path: Path) -> tuple[Path, Path]:
    artifact = open_bundle(path).artifact("infer", "sherpa", "fp32")
    model, tokens = (path / file.name for file in artifact.files)
    return model, tokens


def replace_file(path: Path, index: int, content: bytes) -> None:
    """Give the bundle's sherpa artifact another file, as if it had been built so."""
    bundle = open_bundle(path)
    artifact = bundle.artifact("infer", "sherpa", "fp32")
    with writing(path) as writer:
        stored = list(artifact.files)
        stored[index] = writer.add_bytes(content, "infer-sherpa-fp32", Path(stored[index].name).suffix)
        graph = bundle.graph().with_artifact(replace(artifact, files=tuple(stored)))
        writer.commit(replace(bundle.manifest, graphs={"infer": graph}))


def hears_the_same(path: Path, clips: Sequence[Path]) -> list[str]:
    """The texts that sherpa-onnx and edgekit both wrote, after a look at the times of words."""
    recogniser = edgekit.load(path, backend="onnxruntime")
    _, answers = transcribe(*files(path), clips)
    texts = []
    for clip, answer in zip(clips, answers, strict=True):
        transcript = recogniser.transcribe(clip, allow_random_weights=True)
        assert " ".join(answer["text"].split()) == transcript.text
        starts, begin = [], True
        for token, time in zip(answer["tokens"], answer["timestamps"], strict=True):
            begin = begin or token.startswith(" ")
            if begin and token != " ":
                starts.append(time)
                begin = False
        assert starts == pytest.approx([word.start_s for word in transcript.words], abs=1e-4)
        texts.append(transcript.text)
    return texts


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgekit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@device_side
@needs_sherpa
@pytest.mark.parametrize(
    ("labels", "delimiter"), [(LETTERS, "|"), (PIECES, "▁"), (SPACED, " ")], ids=["letters", "pieces", "spaced"]
)
def test_sherpa_onnx_writes_what_edgekit_writes(
    babbling: Make, tmp_path: Path, labels: tuple[str, ...], delimiter: str
) -> None:
    path = babbling(labels, delimiter).path
    (artifact,) = build(path, Request("sherpa"))
    assert artifact.parity is not None
    assert artifact.parity["backend"].startswith("sherpa-onnx ")
    assert artifact.parity["texts"] == len(sample_clips())
    assert artifact.parity["batched_max_abs"] < 1e-3
    texts = hears_the_same(path, recordings(tmp_path))
    assert all(" " in text for text in texts)
    bundle = open_bundle(path)
    best = [output["log_probs"].argmax(-1) for output in load_reference(bundle, "infer").outputs]
    heard = set(np.concatenate(best, axis=1)[0].tolist())
    assert heard > set(symbols_of(bundle, bundle.graph()).silent)  # and not the blank alone is not spelled
    assert len(heard) > len(labels) * 3 / 4


@needs_sherpa
def test_a_family_is_heard_the_same(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="exports with torch")
    from edgekit.core.settings import apply_settings
    from edgekit.export.export import ExportRequest, export
    from edgekit.train.families.disconformer import FAMILY
    from edgekit.train.families.disconformer.model import random_model, save_model

    config = apply_settings(FAMILY.variants["t"], (*FAMILY.small, "num_augments=0"))
    model = random_model(config, "ctc", 0)
    module: Any = model.module
    x = torch.from_numpy(Fbank(FBANK)(soundfile.read(sample_clips()[-1], dtype="float32")[0]))[None]
    with torch.no_grad():  # so that it says more than a few letters
        module.head.weight *= 100
        module.head.bias -= module(x, torch.tensor([x.shape[1]]))[0].mean((0, 1))
    save_model(tmp_path / "checkpoint", module, config, "t", model.tokens)
    path = export(ExportRequest("disconformer", str(tmp_path / "checkpoint")), tmp_path / "bundle").path
    (artifact,) = build(path, Request("sherpa"))
    assert artifact.parity is not None, artifact.reason
    texts = hears_the_same(path, recordings(tmp_path))
    assert len({letter for text in texts for letter in text}) > 8
    assert [(record.format, record.failed) for _, record in verify_bundle(path)].count(("sherpa", False)) == 1


@device_side
def test_the_file_is_self_contained_and_says_what_it_is(babbling: Make) -> None:
    path = babbling().path
    (artifact,) = build(path, Request("sherpa"))
    assert artifact.details == {"model_type": "zipformer2_ctc", "num_symbols": 29}
    model = onnx.load(files(path)[0])
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
def test_tokens_are_in_sherpa_onnx_own_form(babbling: Make) -> None:
    path = babbling().path
    build(path, Request("sherpa"))
    lines = files(path)[1].read_text(encoding="utf-8").splitlines()
    assert lines == [f"{symbol} {i}" for i, symbol in enumerate(("<blk>", "▁", *LETTERS[5:]))]


@device_side
def test_the_blank_is_first_and_what_is_not_spelled_is_part_of_it(babbling: Make) -> None:
    bundle = babbling(PIECES, "▁")
    symbols = symbols_of(bundle, bundle.graph())
    assert symbols.texts == ("<blk>", "▁THE", "S", "▁", "▁A", "ING", "É", "▁É", "5")
    assert (symbols.silent, symbols.spelled) == ((9, 3), (0, 1, 2, 4, 5, 6, 7, 8))
    log_probs = np.log(np.arange(1, 11)[None] / 55)
    assert np.exp(symbols.fold(log_probs)) * 55 == pytest.approx(np.array([[10, 1, 2, 3, 5, 6, 7, 8, 9]]))


@device_side
def test_a_graph_that_answers_as_sherpa_onnx_reads_stays_as_it_is(babbling: Make) -> None:
    bundle = babbling(("<blank>", "|", *"ABC"))
    assert symbols_of(bundle, bundle.graph()) == Symbols(("<blk>", "▁", *"ABC"), (0,), (1, 2, 3, 4))
    build(bundle.path, Request("sherpa"))
    assert len(onnx.load(files(bundle.path)[0]).graph.node) == 7


@device_side
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"features": {"kind": "kaldi-fbank", **asdict(FbankConfig())}},  # hubert-student's
            "expected features.snip_edges False, received True; expected features.high_freq -400.0, received 0.0; "
            "expected features.scale 1.0, received 32768.0",
        ),
        (
            {"features": {"kind": "kaldi-fbank", **asdict(replace(FBANK, preemphasis=0.9))}},
            "expected features.preemphasis 0.97, received 0.9",
        ),
        (
            {"features": {"kind": "waveform", "sample_rate": 16000, "normalise": False}},
            "expected features of kind 'kaldi-fbank', received 'waveform'",
        ),
        (
            {"output": {"kind": "ctc", "blank": 0, "delimiter": "|", "frame_s": 0.02}},
            "expected an answer every 0.04 s, received one every 0.02 s",
        ),
        (
            {"output": {"kind": "embedding", "frame_s": 0.04}, "task": "speech-embedding"},
            "expected an output of kind 'ctc', received 'embedding'",
        ),
    ],
    ids=["hubert-student", "preemphasis", "waveform", "rate", "embedding"],
)
def test_what_sherpa_onnx_cannot_feed_is_refused(babbling: Make, changes: dict[str, Any], message: str) -> None:
    path = babbling(**changes).path
    before = sorted(path.iterdir())
    with pytest.raises(ExportError) as caught:
        build(path, Request("sherpa"))
    assert caught.value.message == f"babbling tiny does not fit sherpa-onnx: {message}"
    assert caught.value.hint is not None
    assert ("--head ctc" if "embedding" in message else "edgekit transcribe") in caught.value.hint
    assert sorted(path.iterdir()) == before


@device_side
def test_other_tensors_than_features_and_lengths_are_refused(toy_bundle: Path) -> None:
    bundle = open_bundle(toy_bundle)
    fields = {"features": {"kind": "kaldi-fbank", **asdict(FBANK)}, "output": {**bundle.manifest.output}}
    fields["output"]["frame_s"] = FRAME_S
    with pytest.raises(ExportError, match=r"expected inputs and outputs of one float32\[batch, time, size\] each"):
        symbols_of(Bundle(toy_bundle, replace(bundle.manifest, **fields)), bundle.graph())


@device_side
@pytest.mark.parametrize(
    ("label", "delimiter"),
    [("A B", "|"), ("SIL", "|"), ("▁A", "|"), ("<0x41>", "▁"), ("\x07", "|"), ("D", "|")],
)
def test_a_label_that_sherpa_onnx_reads_otherwise_is_refused(babbling: Make, label: str, delimiter: str) -> None:
    bundle = babbling(("<pad>", "C", delimiter, "D", label), delimiter)
    with pytest.raises(ExportError, match="as label 4") as caught:
        build(bundle.path, Request("sherpa"))
    assert repr(label) in caught.value.message


@device_side
def test_letters_that_look_like_bytes_of_pairs_are_refused(babbling: Make) -> None:
    with pytest.raises(ExportError, match="byte-level BPE"):
        build(babbling(("<pad>", "▁", "▁a", "ƙ"), "▁").path, Request("sherpa"))


@device_side
def test_labels_that_do_not_match_the_classes_are_told(babbling: Make) -> None:
    bundle = babbling()
    with writing(bundle.path) as writer:
        tokens = writer.add_bytes(b"<pad>\nA\n", "tokens", ".txt")
        writer.commit(replace(bundle.manifest, assets={**bundle.manifest.assets, "tokens": tokens}))
    with pytest.raises(BundleError, match=r"received 2 labels, 0 and '\|'"):
        build(bundle.path, Request("sherpa"))


@device_side
def test_without_sherpa_onnx_only_its_log_probabilities_are_checked(
    babbling: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "absent" / "sherpa_onnx").mkdir(parents=True)
    (tmp_path / "absent" / "sherpa_onnx" / "__init__.py").write_text("raise ImportError('no wheel for this machine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "absent"))
    path = babbling().path
    (artifact,) = build(path, Request("sherpa"))
    assert (artifact.parity, artifact.failed) == (None, False)
    assert artifact.reason == (
        "not executed: missing the package sherpa-onnx (no wheel for this machine); by ONNX Runtime alone it answers "
        "as it must"
    )
    assert "not executed" in cli("inspect", path).stdout
    model = onnx.load(files(path)[0])
    kernel = next(array for array in model.graph.initializer if array.name == "kernel")
    kernel.raw_data = bytes(len(kernel.raw_data))
    replace_file(path, 0, model.SerializeToString())
    with pytest.raises(VerificationError, match=r"sherpa fp32: alone, item 0, output log_probs: expected -"):
        verify_bundle(path)


@device_side
@needs_sherpa
@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (0, lambda content: b"", "cannot be opened"),
        (1, lambda content: content.replace(b"<blk>", b"<pad>"), "sherpa-onnx ended with"),
        (1, lambda content: content.replace(b"E 2\nT 3", b"T 2\nE 3"), "expected a best path of the log-probabilities"),
        (1, lambda content: content.replace(b"E 2", b"EE 2"), "expected symbols of tokens.txt"),
    ],
    ids=["damaged", "no blank", "swapped", "other symbol"],
)
def test_what_sherpa_onnx_reads_otherwise_fails_its_check(
    babbling: Make, index: int, change: Callable[[bytes], bytes], message: str
) -> None:
    path = babbling().path
    build(path, Request("sherpa"))
    replace_file(path, index, change(files(path)[index].read_bytes()))
    with pytest.raises(VerificationError, match=message) as caught:
        verify_bundle(path)
    assert caught.value.hint == f"edgekit build {path} --format sherpa --precision fp32"
    artifact = open_bundle(path).artifact("infer", "sherpa", "fp32")
    assert artifact.failed
    build(path, Request("sherpa"))
    assert not open_bundle(path).artifact("infer", "sherpa", "fp32").failed


@device_side
def test_a_path_of_best_symbols_is_recognised() -> None:
    log_probs = np.full((6, 3), -9.0)
    log_probs[range(6), [1, 1, 0, 1, 2, 0]] = 0
    assert _strays(log_probs, [1, 1, 2], [0, 3, 4]) is None
    assert _strays(log_probs, [1, 2], [0, 4]) == 3
    assert _strays(log_probs, [1, 1, 2], [1, 3, 4]) == 0
    assert _strays(log_probs, [1, 1, 1, 2], [0, 1, 3, 4]) == 1
    assert _strays(log_probs, [1, 1, 2, 2], [0, 3, 4, 6]) == 6
    log_probs[3, 0] = -1e-4  # a tie: either is right
    assert _strays(log_probs, [1, 1, 2], [0, 3, 4]) is None
    assert _strays(log_probs, [1, 2], [0, 4]) is None


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
def test_only_the_graph_of_whole_recordings_is_built(babbling: Make) -> None:
    bundle = babbling()
    graphs = {**bundle.manifest.graphs, "stream": bundle.graph()}
    assets = {**bundle.manifest.assets, "reference-stream": bundle.manifest.assets["reference-infer"]}
    with writing(bundle.path) as writer:
        writer.commit(replace(bundle.manifest, graphs=graphs, assets=assets))
    assert len(build(bundle.path, Request("sherpa"))) == 1
    assert [len(graph.artifacts) for graph in open_bundle(bundle.path).manifest.graphs.values()] == [2, 1]


@device_side
@needs_sherpa
def test_the_command_line_builds_it_and_says_how_to_use_it(babbling: Make) -> None:
    path = babbling().path
    shown = [cli("build", path, "--format", "sherpa").stdout, cli("inspect", path).stdout]
    model, tokens = (file.name for file in files(path))
    for out in shown:
        assert f"sherpa-onnx-offline --zipformer-ctc-model={model} --tokens={tokens} speech.wav" in out
        assert "sherpa-onnx" in out.partition("verified")[2]
    near = cli("build", path, "--format", "sherp")
    assert (near.returncode, near.stderr.partition("hint:")[2].strip()) == (2, "did you mean sherpa?")
    half = cli("build", path, "--format", "sherpa", "--precision", "fp16")
    assert half.returncode == 2
    assert "expected sherpa fp32, received fp16" in half.stderr


@device_side
@pytest.mark.parametrize("command", ["build", "export"])
def test_the_help_names_it(command: str) -> None:
    assert "trt-rtx, sherpa" in " ".join(cli(command, "--help").stdout.split())
