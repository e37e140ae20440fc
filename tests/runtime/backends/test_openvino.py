"""An IR that is not what the manifest says of it is refused when it is opened."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import BackendError
from edgekit.export.build import Request, build
from edgekit.runtime.backends import openvino as backend
from edgekit.runtime.backends.base import SessionOptions

pytestmark = pytest.mark.device_side
pytest.importorskip("openvino", reason="needs OpenVINO: pip install openvino")
pytest.importorskip("onnx", reason="builds the IR with the package onnx")


@pytest.fixture
def built(toy_bundle: Path) -> tuple[Bundle, list[Path]]:
    (artifact,) = build(toy_bundle, Request("openvino"))
    return open_bundle(toy_bundle), [toy_bundle / file.name for file in artifact.files]


def test_an_ir_is_two_files(built: tuple[Bundle, list[Path]]) -> None:
    bundle, files = built
    with pytest.raises(BackendError, match=r"expected a model of two files, \.xml and \.bin, received"):
        backend.open(files[:1], bundle.graph().signature, SessionOptions())


@pytest.mark.parametrize("name", ["scores", "x_lens"])
def test_its_tensors_are_those_of_the_signature(built: tuple[Bundle, list[Path]], name: str) -> None:
    bundle, files = built
    signature = bundle.graph().signature
    first, *others = signature.outputs
    with pytest.raises(BackendError, match=f"expected .*'{name}'.* as in the signature; received .*'log_probs'"):
        backend.open(files, replace(signature, outputs=(replace(first, name=name), *others)), SessionOptions())


SIGNALLED = """
import os, signal, sys
from pathlib import Path
from edgekit.core.bundle import open_bundle
from edgekit.runtime.session import open_session

first, second = (open_session(open_bundle(sys.argv[1]), backend="openvino") for _ in range(2))
first.close()
del first
second.close()
del second
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_is_handled_after_sessions_were_closed(built: tuple[Bundle, list[Path]]) -> None:
    """As Ctrl-C is. With a core for each session, the stack on which signals are handled was unmapped by now."""
    command = [sys.executable, "-c", SIGNALLED, str(built[0].path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "handled\n", "")
