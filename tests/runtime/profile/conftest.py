"""An ONNX file as somebody else's, and points that take no time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
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
