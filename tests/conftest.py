"""What tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets; tests that use it are skipped where there is none."""
    default = Path(__file__).parents[1] / ".." / "shared" / "data"
    folder = Path(os.environ.get("EDGEKIT_SHARED_DATA", default)).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; EDGEKIT_SHARED_DATA names another folder")
    return folder
