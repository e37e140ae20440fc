"""A bundle whose content is a number, for the tests that read bundles and those that write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.core.bundle import Artifact, Bundle, Graph, Manifest
from edgekit.core.bundle_writer import BundleWriter, writing
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec

BATCH, TIME = Dim("batch", ((1, 1, 4),)), Dim("time", ((400, 1600, 3200),))
SIGNATURE = Signature(
    (TensorSpec("x", "float32", (BATCH, TIME)),),
    (TensorSpec("logits", "float32", (BATCH, Derived("time", 400, 320, 1), 32)),),
)


def _put(writer: BundleWriter, tag: int) -> Manifest:
    """Add the files of a bundle whose content is `tag`, except for one that never changes."""
    onnx = writer.add_bytes(f"graph {tag} ".encode() * 20, "infer", ".onnx")
    with writer.staging() as folder:
        (folder / "model.xml").write_text(f"<net>{tag}</net>")
        (folder / "model.bin").write_bytes(f"weights {tag} ".encode() * 30)
        openvino = tuple(writer.add(folder / name, "infer-fp16") for name in ("model.xml", "model.bin"))
    artifacts = (
        Artifact("onnx", "fp32", (onnx,), parity={"inputs": "synthesised", "atol": 1e-4, "rtol": 1e-3}),
        Artifact(
            "openvino", "fp16", openvino, reason="not executed: no such device", details={"operators": {"Add": 1}}
        ),
    )
    return Manifest(
        family="hubert-student",
        variant="tiny",
        task="ctc",
        config={"layers": [1, 2], "name": "é"},
        features={"sample_rate_hz": 16_000},
        output={"kind": "ctc"},
        provenance={"weights": {"source": "random"}, "tag": tag},
        graphs={"infer": Graph(SIGNATURE, artifacts)},
        assets={
            "tokens": writer.add_bytes(f"tokens {tag}".encode(), "tokens", ".txt"),
            "always": writer.add_bytes(b"the same", "always", ".txt"),
        },
    )


@pytest.fixture(scope="session")
def put() -> Callable[[BundleWriter, int], Manifest]:
    """`put(writer, tag)` adds the files of such a bundle and gives the manifest to commit."""
    return _put


@pytest.fixture(scope="session")
def write() -> Callable[[Path, int], Bundle]:
    """`write(path, tag)` makes such a bundle, or one of another tag into this one."""

    def write(path: Path, tag: int) -> Bundle:
        with writing(path) as writer:
            return writer.commit(_put(writer, tag))

    return write
