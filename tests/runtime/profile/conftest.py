"""An ONNX file as somebody else's, points that take no time, and results whose figures are made up."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgekit.core.bundle import open_bundle
from edgekit.runtime.builtin import builtin_bundle
from edgekit.runtime.profile.point import Point


@pytest.fixture
def foreign(toy_bundle: Path, tmp_path: Path) -> Path:
    """x [batch, time], x_lens [batch]: a convolution and what names the nearest level."""
    artifact = open_bundle(toy_bundle).graph().artifacts[0]
    return Path(shutil.copyfile(toy_bundle / artifact.file, tmp_path / "model.onnx"))


@pytest.fixture
def quick() -> Callable[..., Point]:
    """`quick(model, batch=2)`: a point that asks little."""

    def made(model: Path | None = None, **changes: Any) -> Point:
        fixed: dict[str, Any] = {"threads": 1, "duration_s": 0.05, "warm_up_limit_s": 0.05, "harness": "edgekit"}
        return Point(str(model or builtin_bundle()), **{**fixed, **changes})

    return made


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `made_results`."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("made_results")
