"""What belongs to a model: its size and its hash are those of all of it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import EdgekitError
from edgekit.core.files import sha256_of
from edgekit.runtime.profile.files import describe_files, files_of

pytestmark = pytest.mark.device_side


def entry(name: str) -> bytes:
    """A tensor's `location`, as protobuf writes it."""
    value = name.encode()
    size = bytes([len(value)]) if len(value) < 128 else bytes([len(value) % 128 + 128, len(value) // 128])
    return b"\x0a\x08location\x12" + size + value


def test_a_file_alone_is_itself(tmp_path: Path) -> None:
    for name in ("model.onnx", "model.engine", "model.xml"):
        path = tmp_path / name
        path.write_bytes(b"model")
        assert describe_files(path) == {"sha256": sha256_of(path), "num_bytes": 5}
        path.write_bytes(b"")
        assert files_of(path) == [path]
        path.unlink()


def test_weights_of_an_openvino_model_count(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_bytes(b"graph")
    (tmp_path / "model.bin").write_bytes(b"weights")
    told = describe_files(path)
    assert told["num_bytes"] == 12
    (tmp_path / "model.bin").write_bytes(b"WEIGHTS")
    assert describe_files(path)["sha256"] != told["sha256"]


def test_weights_beside_an_onnx_file_count(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="writes a model")
    weights = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    told = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 64]) for name in ("x", "y")]
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", told[:1], told[1:], [weights]))
    path, name = tmp_path / "model.onnx", f"{'long' * 50}.data"
    onnx.save(model, path, save_as_external_data=True, location=name, size_threshold=0)
    assert files_of(path) == [path, tmp_path / name]
    assert describe_files(path)["num_bytes"] == path.stat().st_size + 4 * 64 * 64


def test_a_model_names_no_files_elsewhere(tmp_path: Path) -> None:
    folder, path = tmp_path / "folder", tmp_path / "folder" / "model.onnx"
    folder.mkdir()
    for name in ("outside", "folder/inside"):
        (tmp_path / name).write_bytes(b"data")
    names = ("inside", "inside", "absent", "../outside", str(tmp_path / "outside"), "in\0side", "/dev/zero", "")
    path.write_bytes(b"".join(map(entry, names)) + entry("inside")[:-3])
    assert files_of(path) == [path, folder / "inside"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a file that opens and cannot be read")
def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.symlink_to("/proc/self/mem")
    with pytest.raises(EdgekitError, match=r"cannot read .*model\.onnx: Input/output error"):
        describe_files(path)
