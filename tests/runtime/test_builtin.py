"""The bundle that ships: whole, small, and answering from where nobody can write."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import edgekit
from edgekit.core.bundle import Bundle, is_builtin, open_bundle
from edgekit.core.errors import BundleError
from edgekit.runtime.builtin import builtin_bundle
from edgekit.runtime.samples import sample_clips

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

MAX_BYTES = 32_000_000


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return open_bundle(builtin_bundle())


def test_it_holds_a_checked_onnx_for_recordings_and_one_for_streams(shipped: Bundle) -> None:
    assert list(shipped.manifest.graphs) == ["infer", "stream"]
    for graph in shipped.manifest.graphs.values():
        (artifact,) = graph.artifacts
        assert (artifact.format, artifact.precision) == ("onnx", "fp32")
        assert artifact.parity is not None
    for file in shipped.manifest.files():
        shipped.checked(file)


def test_it_is_small_and_nothing_lies_about(shipped: Bundle) -> None:
    files = {path.name: path.stat().st_size for path in shipped.path.iterdir()}
    assert files.keys() == {"manifest.json", *(file.name for file in shipped.manifest.files())}
    assert sum(files.values()) <= MAX_BYTES


def test_it_is_what_is_meant_where_no_bundle_is_named(shipped: Bundle) -> None:
    recogniser = edgekit.load()
    assert recogniser.bundle.manifest == shipped.manifest
    heard = [recogniser.transcribe(clip).text for clip in sample_clips()]
    assert all(text and not set(text) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ") for text in heard), heard


def test_it_answers_from_where_nobody_can_write(shipped: Bundle, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shipped.path, tmp_path / "copy"))
    for path in copy.iterdir():
        path.chmod(0o444)
    copy.chmod(0o555)
    before = {path.name: path.stat().st_mtime_ns for path in (copy, *copy.iterdir())}
    clip = sample_clips()[0]
    try:
        assert edgekit.load(copy).transcribe(clip).text == edgekit.load().transcribe(clip).text
        # root may write all the same
        assert {path.name: path.stat().st_mtime_ns for path in (copy, *copy.iterdir())} == before
    finally:
        copy.chmod(0o755)


def test_what_mends_or_extends_it_is_not_done_in_place(shipped: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no openvino fp32") as caught:
        edgekit.load(backend="openvino")
    assert str(caught.value.hint).startswith("edgekit export disconformer")
    assert str(caught.value.hint).endswith("--format openvino --precision fp32")
    assert is_builtin(shipped.path)
    assert not is_builtin(Path(shutil.copytree(shipped.path, tmp_path / "copy")))
