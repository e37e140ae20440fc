"""What is heard of TensorRT's log, and what of it is told as the cause."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.runtime.tensorrt.library import engine_log, listening, logged_errors

pytestmark = pytest.mark.device_side


def test_the_cause_stands_first_among_logged_errors() -> None:
    noise = "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime"
    messages = [("INFO", "Loaded"), ("ERROR", "magic tag"), ("ERROR", noise), ("ERROR", "magic tag"), ("WARNING", "w")]
    assert logged_errors(messages) == "magic tag"
    assert logged_errors([("ERROR", noise)]) == noise
    assert logged_errors([("INTERNAL_ERROR", "out of memory")]) == "out of memory"
    assert logged_errors([("WARNING", "w")]) == "TensorRT logged no error"


def test_the_logger_is_heard_and_heard_no_more(rtx: Any) -> None:
    log = engine_log(rtx)
    assert log is engine_log(rtx)
    with listening(rtx) as outer:
        log.log(rtx.ILogger.WARNING, "one")
        with listening(rtx) as inner:
            log.log(rtx.ILogger.ERROR, "two")
            log.log(rtx.ILogger.VERBOSE, "chatter")
    log.log(rtx.ILogger.ERROR, "three")
    assert outer == [("WARNING", "one"), ("ERROR", "two")]
    assert inner == [("ERROR", "two")]
