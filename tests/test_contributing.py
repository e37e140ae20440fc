"""CONTRIBUTING.md, followed to the letter: the family that it adds is found, exported, checked and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The page's files, as an installed package with its entry point."""
    site = tmp_path_factory.mktemp("site")
    text = PAGE.read_text(encoding="utf-8")
    files = re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in files] == [
        "tiny_letters/config.py",
        "tiny_letters/model.py",
        "tiny_letters/__init__.py",
    ]
    for name, content in files:
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(content)
    entry_points = re.search(r"    (\[project\.entry-points.*?)\n\n", text, re.DOTALL)
    assert entry_points is not None
    group, entry = (line.strip() for line in entry_points[1].splitlines())
    info = site / "tiny_letters-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-letters\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group.split(chr(34))[1]}]\n{entry.replace(chr(34), '')}\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}


def edgekit(environment: dict[str, str], folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "edgekit", *arguments]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_family_is_listed(environment: dict[str, str], tmp_path: Path) -> None:
    assert re.search(r"tiny-letters +large +102,656 +ctc", edgekit(environment, tmp_path, "list"))


def test_the_family_is_exported_checked_and_run(environment: dict[str, str], tmp_path: Path) -> None:
    commands = re.findall(r"^    edgekit (export .*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert commands == ["export tiny-letters --openvino"]
    shown = edgekit(environment, tmp_path, *commands[0].split(), "--no-latency")
    assert re.search(r"onnx +fp32 +\S+ +verified .*batched and alone", shown)
    assert re.search(r"openvino +fp32 +\S+ +verified .*batched and alone", shown)
    clip = Path(__file__).parents[1] / "edgekit" / "runtime" / "samples" / "short.flac"
    edgekit(environment, tmp_path, "transcribe", "tiny-letters-small", str(clip), "--allow-random-weights")
