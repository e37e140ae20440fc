"""Choosing a backend, refusing what is absent, altered or wrong, and checking inputs in one place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgekit.core.bundle import Artifact, Bundle, open_bundle
from edgekit.core.bundle_writer import writing
from edgekit.core.errors import BackendError, BundleError, SignatureError, UsageError
from edgekit.runtime.backends.base import Probe, SessionOptions
from edgekit.runtime.session import BACKENDS, backend_for, backend_module, open_session, probe_all

pytestmark = pytest.mark.device_side
onnxruntime = pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

X = {"x": np.zeros((1, 1600), np.float32), "x_lens": np.array([1600])}


def test_the_session_says_what_really_runs(opened: Bundle) -> None:
    session = open_session(opened)
    assert str(session) == "onnxruntime fp32 on cpu"
    outputs = session.run(X)
    assert outputs["log_probs"].shape == (1, 4, 6)
    assert outputs["log_probs_lens"].tolist() == [4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((1, 1600))}, "expected x: float32"),
        ({"x": np.zeros((1, 1600, 1), np.float32)}, "expected x: float32"),
        ({"x": np.zeros((1, 399), np.float32)}, "expected time in"),
        ({"x": np.zeros((17, 1600), np.float32), "x_lens": np.full(17, 1600)}, "expected batch in"),
        ({"x_lens": np.array([1601])}, "expected lengths in 400..1600"),
        ({"x_lens": np.array([1600, 1600])}, "expected one size of batch"),
        ({"y": np.zeros(1)}, "expected inputs"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(opened: Bundle, change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        open_session(opened).run({**X, **change})


def test_an_unknown_backend(opened: Bundle) -> None:
    with pytest.raises(UsageError, match="expected a backend among"):
        open_session(opened, backend="ncnn")


def test_a_format_that_was_not_built_names_the_command(opened: Bundle) -> None:
    with pytest.raises(BundleError, match="holds no openvino fp32") as caught:
        open_session(opened, backend="openvino")
    assert caught.value.hint == f"edgekit build {opened.path} --format openvino --precision fp32"


def test_a_precision_that_was_not_built_names_the_command(opened: Bundle) -> None:
    with pytest.raises(BundleError, match="holds no"):
        open_session(opened, options=SessionOptions(precision="fp16"))


def test_an_absent_device_is_an_error_and_not_the_cpu(opened: Bundle) -> None:
    if "cuda" in backend_module("onnxruntime").probe().devices:
        pytest.skip("this onnxruntime was built with CUDA")
    with pytest.raises(BackendError, match="cuda"):
        open_session(opened, options=SessionOptions(device="cuda"))
    session = open_session(opened, options=SessionOptions(device="cuda", allow_fallback=True))
    assert session.device == "cpu"


def test_an_altered_file_is_refused(opened: Bundle) -> None:
    file = opened.path / opened.graph().artifacts[0].file
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match="was altered"):
        open_session(opened)


def test_an_artifact_that_failed_its_check_is_refused(opened: Bundle) -> None:
    failed = replace(opened.graph().artifacts[0], failed=True, reason="wrong answers")
    with writing(opened.path) as writer:
        graphs = {"infer": opened.graph().with_artifact(failed)}
        writer.commit(replace(opened.manifest, graphs=graphs))
    with pytest.raises(BundleError, match="failed its check: wrong answers"):
        open_session(open_bundle(opened.path))


def test_every_format_has_a_backend_and_every_backend_a_probe() -> None:
    assert {backend_for(format) for format in ("onnx", "openvino", "trt", "trt-rtx")} == set(BACKENDS)
    for probe in probe_all():
        assert probe.usable or (probe.missing and probe.remedy)


@pytest.mark.parametrize("present", ["trt", "trt-rtx"])
def test_of_two_formats_of_a_backend_the_one_that_runs_here_is_opened(
    opened: Bundle, monkeypatch: pytest.MonkeyPatch, present: str
) -> None:
    def open(files: object, signature: object, options: SessionOptions) -> SimpleNamespace:
        return SimpleNamespace(
            backend=options.engine["format"], device="", precision="", computed_in="", signature=signature
        )

    graph = opened.graph()
    with writing(opened.path) as writer:
        for format in ("trt", "trt-rtx"):
            file = writer.add_bytes(format.encode(), f"infer-{format}-fp32", ".engine")
            graph = graph.with_artifact(
                Artifact(format, "fp32", (file,), reason="not executed", engine={"format": format})
            )
        writer.commit(replace(opened.manifest, graphs={"infer": graph}))
    module = backend_module("tensorrt")
    monkeypatch.setattr(module, "probe", lambda format=None: Probe("tensorrt", usable=format == present, missing="it"))
    monkeypatch.setattr(module, "open", open)
    assert open_session(open_bundle(opened.path)).backend == present


def test_a_closed_session_says_so(opened: Bundle) -> None:
    session = open_session(opened)
    session.close()
    session.close()
    with pytest.raises(BackendError, match="expected an open session, this one was closed"):
        session.run(X)


def test_both_packages_of_onnx_runtime_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # what pip leaves behind, for real, of a second package
    for name in ("onnxruntime", "onnxruntime_gpu"):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    probe = backend_module("onnxruntime").probe()
    assert not probe.usable
    assert "both installed" in str(probe.missing)
    assert "pip uninstall" in str(probe.remedy)


def test_a_manifest_survives_being_read_and_written(opened: Bundle) -> None:
    text = json.loads((opened.path / "manifest.json").read_text())
    assert json.loads(json.dumps(opened.manifest.to_json())) == text
