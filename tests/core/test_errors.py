"""What an unknown name is told."""

from __future__ import annotations

import pytest

from edgekit.core.errors import UsageError, unknown

pytestmark = pytest.mark.device_side


def test_an_unknown_name_is_told_the_nearest() -> None:
    error = unknown("format", "opnvino", {"onnx": 1, "openvino": 2})
    assert isinstance(error, UsageError)
    assert error.message == "expected a format among onnx, openvino; received 'opnvino'"
    assert error.hint == "did you mean openvino?"


def test_a_name_that_is_near_nothing_has_no_hint() -> None:
    assert unknown("format", "xyz", ("onnx", "openvino")).hint is None
