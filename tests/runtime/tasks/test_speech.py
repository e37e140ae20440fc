"""A manifest that somebody wrote by hand: its bundle opens, loads and is shown, or is refused with a reason."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.cli import main
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.bundle_writer import writing
from edgekit.core.errors import BundleError, EdgekitError

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")


class DELETED:
    """Stands for a field that is not there; a class, whose name is the same in every process's test ids."""


VAST = 10**400

GRAPH = "graphs.infer"
SIGNATURE = f"{GRAPH}.signature"
ARTIFACT = f"{GRAPH}.artifacts.0"
FIGURES = {"alone_max_abs": 0.1, "alone_cosine": 1.0, "lengths": [1], "inputs": "real", "computed_in": "fp32"}
FBANK = {"kind": "kaldi-fbank"}

REFUSED: list[tuple[str, object, str]] = [
    ("output.frame_s", DELETED, r"output\.frame_s of 0\.02, as features and signature say; received None"),
    ("output.frame_s", None, "received None"),
    ("output.frame_s", "0.02", r"received '0\.02'"),
    ("output.frame_s", [0.02], "received"),
    ("output.frame_s", -0.02, r"received -0\.02"),
    ("output.frame_s", 0, "received 0"),
    ("output.frame_s", 0.04, r"received 0\.04"),
    ("output.frame_s", 0.0200011, r"received 0\.0200011"),
    ("output.frame_s", float("nan"), "received nan"),
    ("output.frame_s", float("inf"), "received inf"),
    ("output.frame_s", VAST, "received 1000"),
    ("output.blank", DELETED, "expected 6 labels and a blank among them, received 6 and None"),
    ("output.blank", "0", "received 6 and '0'"),
    ("output.blank", -1, "received 6 and -1"),
    ("output.blank", 6, "received 6 and 6"),
    ("output.blank", 1.0, r"received 6 and 1\.0"),
    ("output.blank", False, "received 6 and False"),
    ("output.delimiter", DELETED, r"output\.delimiter to be the label between words, received None"),
    ("output.delimiter", 5, "received 5"),
    ("output.kind", [], r"expected an output of kind 'ctc', received \[\]"),
    ("output", [], "is not a manifest"),
    ("features", FBANK, "received"),
    ("features.kind", [], "expected features of kind"),
    ("features.normalise", DELETED, "received none of 'normalise'"),
    ("features.min_samples", "a", "min_samples is a whole number"),
    ("features.min_samples", -5, "min_samples is a whole number"),
    ("features.sample_rate", "16000", "sample_rate is a whole number"),
    ("features.sample_rate", -1, "sample_rate is a whole number"),
    ("features.sample_rate", VAST, "sample_rate is a whole number"),
    ("features.sample_rate", float("inf"), "sample_rate is a whole number"),
    ("features.sample_rate", 8000, r"output\.frame_s of 0\.04"),
    ("features", {**FBANK, "sample_rate": 1e308}, "expected kaldi-fbank features that fit together"),
    ("features", {**FBANK, "num_mel_bins": 3.5}, "num_mel_bins: expected int"),
    ("features", {**FBANK, "num_mel_bins": 10**9}, "expected num_mel_bins of 3 to 512"),
    ("features", {**FBANK, "frame_length_ms": 1e12}, "expected frames of two samples to one second"),
    ("features", {**FBANK, "frame_length_ms": float("inf")}, "expected kaldi-fbank features that fit together"),
    ("features", {**FBANK, "low_freq": float("nan")}, "low_freq: expected float"),
    (f"{SIGNATURE}.inputs.0.dtype", "float33", "a dtype is one of bool, .*, got 'float33'"),
    (f"{SIGNATURE}.inputs.0.dtype", 5, "a dtype is one of"),
    (f"{SIGNATURE}.outputs.1.dtype", [], "a dtype is one of"),
    (f"{SIGNATURE}.outputs.0.name", 5, "a tensor needs a name"),
    (f"{SIGNATURE}.outputs.0.name", "", "a tensor needs a name"),
    (f"{SIGNATURE}.inputs.0.shape", ["batch"], "is not a manifest"),
    (f"{SIGNATURE}.inputs.0.shape", ["time", "batch"], r"expected an input \[batch, time, \.\.\.\]"),
    (f"{SIGNATURE}.inputs.0.shape", "batch", "unknown axis"),
    (f"{SIGNATURE}.inputs.1.lengths_of", DELETED, r"expected an input \[batch, time, \.\.\.\] and one that counts"),
    (f"{SIGNATURE}.outputs.1.lengths_of", DELETED, r"expected an output \[batch, time, \.\.\.\] and one that counts"),
    (f"{SIGNATURE}.outputs", [], "expected an output"),
    (f"{SIGNATURE}.outputs.0.shape.1", "time", "expected an output"),
    (f"{SIGNATURE}.outputs.0.shape.2", 7, "expected 7 labels and a blank among them, received 6 and 0"),
    (f"{SIGNATURE}.outputs.0.shape.2", 0, "a fixed size is at least 1"),
    (f"{SIGNATURE}.outputs.0.shape.2", "batch", "expected batch labels"),
    (f"{SIGNATURE}.dims.time.buckets", [[400.5, 500, 600]], "are whole numbers"),
    (
        f"{SIGNATURE}.dims.time.buckets",
        [[1, 1, 300]],
        "expected a graph of several frames, received 300 samples of 320",
    ),
    (f"{SIGNATURE}.dims.time.multiple_of", 1.5, "are whole numbers"),
    (f"{ARTIFACT}.format", 5, "format, precision and reason are text"),
    (f"{ARTIFACT}.format", "openvino", "the first artifact of a graph is its fp32 ONNX"),
    (f"{ARTIFACT}.precision", "int4", "the first artifact of a graph is its fp32 ONNX"),
    (f"{ARTIFACT}.reason", 5, "format, precision and reason are text"),
    (f"{ARTIFACT}.failed", "no", "an artifact failed or not, received 'no'"),
    (f"{ARTIFACT}.engine", [1], "parity, engine and details are objects"),
    (f"{ARTIFACT}.details", [], "parity, engine and details are objects"),
    (f"{ARTIFACT}.details", None, "parity, engine and details are objects"),
    (f"{ARTIFACT}.details", {"hinted": []}, "is not a manifest"),
    (f"{ARTIFACT}.details", {"hinted": {"bf16": {}}}, "is not a manifest"),
    (f"{ARTIFACT}.details", {"hinted": {"bf16": {"parity": [], "reason": None, "failed": False}}}, "is not a manifest"),
    (f"{ARTIFACT}.files.0.num_bytes", VAST, "expected a SHA-256 and a size"),
    (f"{ARTIFACT}.files.0.num_bytes", -1, "expected a SHA-256 and a size"),
    (f"{ARTIFACT}.files.0.name", "a" * 999, "expected a plain file name"),
    ("assets.tokens", DELETED, "has no asset 'tokens'"),
    ("task", "../speech", r"is for '\.\./speech'"),
    ("provenance.weights", "random", "is not a manifest"),
]

ODD: list[tuple[str, object]] = [
    (f"{ARTIFACT}.parity", {}),
    (f"{ARTIFACT}.parity", {**FIGURES, "backend": "here"}),
    (f"{ARTIFACT}.parity", {**FIGURES, "alone_max_abs": "large", "backend": "here"}),
    (f"{ARTIFACT}.parity", {**FIGURES, "alone_max_abs": VAST, "backend": "here"}),
    (f"{ARTIFACT}.parity", {**FIGURES, "lengths": 5, "backend": "here"}),
    (f"{ARTIFACT}.parity", []),
    (f"{ARTIFACT}.details", {"hinted": {"int3": {"parity": {}, "reason": None, "failed": False}}}),
    (f"{SIGNATURE}.dims.time.buckets", [[400, 10**30, VAST]]),
    (f"{SIGNATURE}.outputs.0.shape.1", "(batch - 400) // 320 + 1"),
    (f"{SIGNATURE}.outputs.0.shape.1", f"(time - 400) // {VAST} + 1"),
    (f"{SIGNATURE}.inputs.0.dtype", "float16"),
    ("output.kind", "embedding"),
    ("config", {"x": float("nan")}),
    ("family", "\ud800"),
]


def changed(path: Path, place: str, value: object) -> None:
    """Put a value at a place of the manifest, or delete what is there; where `parity` is put, `reason` goes."""
    data = json.loads((path / "manifest.json").read_text())
    *outer, last = (int(key) if key.isdigit() else key for key in place.split("."))
    inner: Any = data
    for key in outer:
        inner = inner[key]
    if value is DELETED:
        del inner[last]
    else:
        inner[last] = value
    if last == "parity":
        inner["reason"] = None
    (path / "manifest.json").write_text(json.dumps(data))


def shown(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """`edgekit inspect`: its exit code and all that it prints, as a table or as JSON."""
    for arguments in (["--json"], []):
        monkeypatch.setattr(sys, "argv", ["edgekit", "inspect", str(path), *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
    return left.value.code, "".join(capsys.readouterr())


@pytest.mark.parametrize(("place", "value", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_manifest_that_does_not_fit_is_refused(
    toy_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    value: object,
    message: str,
) -> None:
    changed(toy_bundle, place, value)
    with pytest.raises(BundleError, match=message):
        edgekit.load(toy_bundle)
    code, printed = shown(toy_bundle, monkeypatch, capsys)
    try:
        open_bundle(toy_bundle)
    except BundleError:
        assert (code, printed[:7]) == (1, "error: ")
    else:
        assert code == 0


@pytest.mark.parametrize(("place", "value"), ODD, ids=lambda value: str(value)[:40])
def test_an_odd_manifest_is_no_traceback(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str, value: object
) -> None:
    changed(toy_bundle, place, value)
    with suppress(EdgekitError):
        edgekit.load(toy_bundle).transcribe((np.zeros(16000, np.float32), 16000))
    code, _ = shown(toy_bundle, monkeypatch, capsys)
    assert code in (0, 1)


def test_a_record_of_a_check_that_says_nothing_is_called_unknown(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(toy_bundle, f"{ARTIFACT}.parity", {})
    code, printed = shown(toy_bundle, monkeypatch, capsys)
    assert code == 0
    assert "unknown" in printed
    assert "the record of its check cannot be read: edgekit verify BUNDLE" in printed
    changed(toy_bundle, f"{ARTIFACT}.parity", {**FIGURES, "backend": "here"})
    assert (
        "verified   max error 1.0e-01, cosine 1.000000, 1 real lengths, here"
        in shown(toy_bundle, monkeypatch, capsys)[1]
    )


@pytest.mark.parametrize("content", [b"A\nB\n", b"<pad>\n|\nA\nB\nC\nD\nE\n", b"\xff\n|\nA\nB\nC\nD\n", b""])
def test_labels_that_are_none_or_not_as_many_as_the_classes(toy_bundle: Path, content: bytes) -> None:
    manifest = open_bundle(toy_bundle).manifest
    with writing(toy_bundle) as writer:
        assets = {**manifest.assets, "tokens": writer.add_bytes(content, "tokens", ".txt")}
        writer.commit(replace(manifest, assets=assets))
    with pytest.raises(BundleError, match=r"expected (6 labels|labels in UTF-8)"):
        edgekit.load(toy_bundle)


def test_frames_of_an_embedding_are_held_to_the_graph_too(toy_with: Callable[..., Bundle]) -> None:
    with pytest.raises(BundleError, match=r"output\.frame_s of 0\.02, .* received 0\.01"):
        edgekit.load(toy_with(task="speech-embedding", output={"kind": "embedding", "frame_s": 0.01}).path)
