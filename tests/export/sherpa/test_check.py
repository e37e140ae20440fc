"""The check of sherpa-onnx's files: it hears what edgekit hears, and what is otherwise is found."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import edgekit
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.bundle_writer import writing
from edgekit.core.errors import VerificationError
from edgekit.core.reference import Reference
from edgekit.export.build import Request, build
from edgekit.export.sherpa.hearing import transcribe
from edgekit.export.sherpa.online import online_of
from edgekit.export.sherpa.symbols import FBANK, symbols_of
from edgekit.export.verify import load_reference, verify_bundle
from edgekit.runtime.features.fbank import Fbank
from edgekit.runtime.samples import sample_clips

onnx = pytest.importorskip("onnx", reason="writes graphs with the package onnx")
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
device_side = pytest.mark.device_side
needs_sherpa = pytest.mark.skipif(find_spec("sherpa_onnx") is None, reason="needs sherpa-onnx: pip install sherpa-onnx")

Make = Callable[..., Bundle]
Find = Callable[..., tuple[Path, Path]]
Replace = Callable[..., None]
Run = Callable[..., subprocess.CompletedProcess[str]]


def hears_the_same(path: Path, files: tuple[Path, Path], clips: Sequence[Path]) -> list[str]:
    """The texts that sherpa-onnx and edgekit both wrote, after a look at the times of words."""
    recogniser = edgekit.load(path, backend="onnxruntime")
    _, answers = transcribe("offline", *files, clips)
    transcripts = [recogniser.transcribe(clip, allow_random_weights=True) for clip in clips]
    for transcript, answer in zip(transcripts, answers, strict=True):
        assert_same(transcript, answer)
    return [transcript.text for transcript in transcripts]


def streams_the_same(path: Path, files: tuple[Path, Path], clips: Sequence[Path], folder: Path) -> list[str]:
    """The same of edgekit's stream, given as many samples as sherpa-onnx decodes and one step more."""
    online = online_of(open_bundle(path).graph("stream").signature)
    whole = []
    for index, clip in enumerate(clips):
        wave = np.concatenate((soundfile.read(clip, dtype="float32")[0], np.zeros(online.silence, np.float32)))
        whole.append(folder / f"whole-{index}.wav")
        num_steps = online.heard(len(wave) // FBANK.frame_shift) + 1
        soundfile.write(whole[-1], wave[: num_steps * FBANK.frame_shift], 16000, subtype="FLOAT")
    _, answers = transcribe("online", *files, whole)
    recogniser = edgekit.load(path, backend="onnxruntime")
    texts = []
    for clip, answer in zip(whole, answers, strict=True):
        live = recogniser.stream(16000, endpoint=None, allow_random_weights=True)
        live.accept(soundfile.read(clip, dtype="float32")[0])
        (update,) = live.finish()[-1:]
        assert_same(update, answer)
        texts.append(update.text)
    return texts


def assert_same(transcript: Any, answer: dict[str, Any]) -> None:
    assert " ".join(answer["text"].split()) == transcript.text
    starts, begin = [], True
    for token, time in zip(answer["tokens"], answer["timestamps"], strict=True):
        begin = begin or token.startswith(" ")
        if begin and token != " ":
            starts.append(time)
            begin = False
    assert starts == pytest.approx([word.start_s for word in transcript.words], abs=1e-4)


@device_side
@needs_sherpa
@pytest.mark.parametrize("labels", ["letters", "pieces", "spaced"])
def test_sherpa_onnx_writes_what_edgekit_writes(
    babbling: Make, files_of: Find, recordings: list[Path], tmp_path: Path, labels: str
) -> None:
    path = babbling(labels, streams=True).path
    for artifact in build(path, Request("sherpa")):
        assert artifact.parity is not None
        assert artifact.parity["backend"].startswith("sherpa-onnx ")
        assert artifact.parity["texts"] == len(sample_clips())
        assert artifact.parity["batched_max_abs"] < 1e-3
    texts = hears_the_same(path, files_of(path), recordings)
    streamed = streams_the_same(path, files_of(path, "stream"), recordings, tmp_path)
    assert all(" " in text for text in (*texts, *streamed))
    assert texts != streamed
    bundle = open_bundle(path)
    num_labels = len(bundle.asset("tokens").read_text(encoding="utf-8").splitlines())
    for graph in ("infer", "stream"):
        best = [output["log_probs"].argmax(-1) for output in load_reference(bundle, graph).outputs]
        heard = set(np.concatenate(best, axis=1)[0].tolist())
        assert heard > set(symbols_of(bundle, bundle.graph(graph)).silent)  # and not the blank alone is not spelled
        assert len(heard) > num_labels * 3 / 4


@needs_sherpa
def test_a_family_is_heard_the_same(tmp_path: Path, files_of: Find, recordings: list[Path]) -> None:
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
    for artifact in build(path, Request("sherpa")):
        assert artifact.parity is not None, artifact.reason
    texts = hears_the_same(path, files_of(path), recordings)
    streamed = streams_the_same(path, files_of(path, "stream"), recordings, tmp_path)
    for said in (texts, streamed):
        assert len({letter for text in said for letter in text}) > 8
    assert [(record.format, record.failed) for _, record in verify_bundle(path)].count(("sherpa", False)) == 2


@device_side
def test_without_sherpa_onnx_only_its_log_probabilities_are_checked(
    babbling: Make,
    files_of: Find,
    replace_file: Replace,
    run_edgekit: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "absent" / "sherpa_onnx").mkdir(parents=True)
    (tmp_path / "absent" / "sherpa_onnx" / "__init__.py").write_text("raise ImportError('no wheel for this machine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "absent"))
    path = babbling(streams=True).path
    for artifact in build(path, Request("sherpa")):
        assert (artifact.parity, artifact.failed) == (None, False)
        assert artifact.reason == (
            "not executed: missing the package sherpa-onnx (no wheel for this machine); by ONNX Runtime alone it "
            "answers as it must"
        )
    assert "not executed" in run_edgekit("inspect", path).stdout
    for graph, constant in (("stream", "of_keys_values"), ("infer", "kernel")):
        model = onnx.load(files_of(path, graph)[0])
        array = next(array for array in model.graph.initializer if array.name == constant)
        array.raw_data = bytes(len(array.raw_data))
        replace_file(path, 0, model.SerializeToString(), graph)
        with pytest.raises(VerificationError, match=r"sherpa fp32: alone, item 0, output log_probs: expected -"):
            verify_bundle(path)


@device_side
@needs_sherpa
@pytest.mark.parametrize("graph", ["infer", "stream"])
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
    babbling: Make,
    files_of: Find,
    replace_file: Replace,
    graph: str,
    index: int,
    change: Callable[[bytes], bytes],
    message: str,
) -> None:
    path = babbling(streams=graph == "stream").path
    build(path, Request("sherpa"))
    replace_file(path, index, change(files_of(path, graph)[index].read_bytes()), graph)
    with pytest.raises(VerificationError, match=message) as caught:
        verify_bundle(path)
    assert caught.value.hint == f"edgekit build {path} --format sherpa --precision fp32"
    assert open_bundle(path).artifact(graph, "sherpa", "fp32").failed
    build(path, Request("sherpa"))
    assert not open_bundle(path).artifact(graph, "sherpa", "fp32").failed


@device_side
@needs_sherpa
def test_other_windows_than_its_own_fail_the_check(babbling: Make, files_of: Find, replace_file: Replace) -> None:
    """Metadata are read by nobody but sherpa-onnx."""
    path = babbling(streams=True).path
    build(path, Request("sherpa"))
    model = onnx.load(files_of(path, "stream")[0])
    (length,) = (entry for entry in model.metadata_props if entry.key == "decode_chunk_len")
    length.value = "28"
    replace_file(path, 0, model.SerializeToString(), "stream")
    with pytest.raises(VerificationError, match="expected a best path of the log-probabilities"):
        verify_bundle(path)


@device_side
def test_recordings_too_short_for_windows_check_nothing(babbling: Make) -> None:
    bundle = babbling(streams=True)
    graph = bundle.graph("stream")
    whole = load_reference(bundle, "stream")
    short = Reference(
        whole.origin,
        tuple({"x": whole.inputs[0]["x"][:, :n], "x_lens": np.array([n])} for n in (20, 30, 60)),
        tuple({**whole.outputs[0], "log_probs_lens": np.array([(n - 7) // 4 + 1])} for n in (20, 30, 60)),
    )
    with writing(bundle.path) as writer:
        asset = writer.add_bytes(short.to_bytes(), "reference-stream", ".npz")
        assets = {**bundle.manifest.assets, "reference-stream": asset}
        writer.commit(replace(bundle.manifest, assets=assets, graphs={**bundle.manifest.graphs, "stream": graph}))
    _, artifact = build(bundle.path, Request("sherpa"))
    assert artifact.reason == "not executed: expected recordings of 3 numbers of whole windows, received 1"
