"""README.md's Python example, run as it stands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgekit.core.bundle import open_bundle
from edgekit.core.store import Store
from edgekit.export.build import Request, build
from edgekit.runtime.adapt.speaker import install
from edgekit.runtime.builtin import builtin_bundle
from edgekit.runtime.samples import sample_clips

pytestmark = pytest.mark.device_side
pytest.importorskip("onnx", reason="the example's bundle is built with the package onnx")
pytest.importorskip("openvino", reason="the example runs on OpenVINO: pip install openvino")

PAGE = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_python_example_runs(toy_bundle: Path, speak: Callable[..., np.ndarray], tmp_path: Path) -> None:
    example = EXAMPLES[0]
    build(toy_bundle, Request("openvino"))
    (bundle,) = re.findall(r'edgekit\.load\("([^"]+)"', example)
    (recording,) = re.findall(r'\.transcribe\("([^"]+)"', example)
    toy_bundle.rename(tmp_path / bundle)
    soundfile.write(tmp_path / recording, speak("AB BAD"), 16000)
    ran = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    text, words = ran.stdout.splitlines()
    assert re.fullmatch(r"AB BAD RTF \d\.\d{3}", text)
    assert re.fullmatch(r"\[\('AB', 0\.1\d*\), \('BAD', 0\.7\d*\)\]", words)


def test_the_streaming_example_runs(tmp_path: Path) -> None:
    example = EXAMPLES[1]
    np.save(tmp_path / "blocks.npy", np.zeros((50, 2_400), np.float32))
    before = "import edgekit\nimport numpy as np\nblocks = np.load('blocks.npy')\n"
    ran = subprocess.run(
        [sys.executable, "-c", before + example], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ""  # silence says nothing


def test_the_example_with_speakers_runs(tmp_path: Path) -> None:
    example = EXAMPLES[2]
    manifest = open_bundle(builtin_bundle()).manifest
    assert manifest.adaptation is not None
    layout = manifest.adaptation.layout
    home = tmp_path / "home"
    for name in re.findall(r'"(ann|ben)"', example):
        install(
            Store(manifest.core_hash, home / "edgekit" / "store"),
            name,
            np.zeros(layout.size, np.float32),
            layout.hash,
            {},
        )
    for recording in re.findall(r'"(\w+\.flac)"', example):
        shutil.copyfile(sample_clips()[0], tmp_path / recording)
    ran = subprocess.run(
        [sys.executable, "-c", f"import edgekit\n{example}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "XDG_DATA_HOME": str(home)},
    )
    assert ran.returncode == 0, ran.stderr
