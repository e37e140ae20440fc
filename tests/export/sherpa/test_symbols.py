"""What sherpa-onnx can feed and spell; the rest is refused before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.bundle_writer import writing
from edgekit.core.errors import BundleError, ExportError
from edgekit.export.build import Request, build
from edgekit.export.sherpa.symbols import FBANK, FRAME_S, Symbols, symbols_of
from edgekit.runtime.features.fbank import FbankConfig

onnx = pytest.importorskip("onnx", reason="writes graphs with the package onnx")
device_side = pytest.mark.device_side

Make = Callable[..., Bundle]


@device_side
def test_the_blank_is_first_and_what_is_not_spelled_is_part_of_it(babbling: Make) -> None:
    bundle = babbling("pieces")
    symbols = symbols_of(bundle, bundle.graph())
    assert symbols.texts == ("<blk>", "▁THE", "S", "▁", "▁A", "ING", "É", "▁É", "5")
    assert (symbols.silent, symbols.spelled) == ((9, 3), (0, 1, 2, 4, 5, 6, 7, 8))
    log_probs = np.log(np.arange(1, 11)[None] / 55)
    assert np.exp(symbols.fold(log_probs)) * 55 == pytest.approx(np.array([[10, 1, 2, 3, 5, 6, 7, 8, 9]]))


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
def test_classes_that_are_read_as_they_are_need_no_folding(babbling: Make) -> None:
    bundle = babbling(("<blank>", "|", *"ABC"))
    symbols = symbols_of(bundle, bundle.graph())
    assert symbols == Symbols(("<blk>", "▁", *"ABC"), (0,), (1, 2, 3, 4))
    assert symbols.unchanged
