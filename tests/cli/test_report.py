"""`edgekit report` as typed, from a profile to the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

Cli = Callable[..., Any]
QUICK = ("--duration", "0.1", "--threads", "1", "--set", "harness=edgekit", "--set", "warm_up_limit_s=0.05")


def test_a_page_of_a_profile(cli: Cli, toy_bundle: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    ran = cli("profile", toy_bundle, "--cold-starts", 0, "--out", result, *QUICK)
    assert ran.code == 0, ran.err
    ran = cli("report", result)
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == f"written to {tmp_path / 'result.html'}\n"
    page = (tmp_path / "result.html").read_text(encoding="utf-8")
    for told in ("Profile of toy tiny", "Latency distribution", "Time by operator", "LogSoftmax", "edgekit profile "):
        assert told in page

    ran = cli("report", result, result, "--out", tmp_path / "two" / "page.html")
    assert ran.code == 0, ran.err
    assert "#2" in (tmp_path / "two" / "page.html").read_text(encoding="utf-8")

    (tmp_path / "link.json").symlink_to(result)
    (tmp_path / "same.json").hardlink_to(result)
    around = tmp_path / "two" / ".." / "result.json"
    for out in (result, tmp_path, around, tmp_path / "link.json", tmp_path / "same.json"):
        ran = cli("report", result, "--out", out)
        assert ran.code == 2
        assert f"expected a file of its own for the page, received {out}" in ran.err
    assert cli("report", result).code == 0, "it is still there"


def test_what_is_no_result_is_said(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1, 2]")
    ran = cli("report", tmp_path / "a.json")
    assert ran.code == 1
    assert "expected a result of edgekit profile at" in ran.err
    for folder in (".", "/", tmp_path):
        ran = cli("report", folder)
        assert ran.code == 1
        assert f"expected a result of edgekit profile at {folder}, received: " in ran.err
    (tmp_path / "wer.json").write_text('{"benchmark": "asr"}')
    ran = cli("report", tmp_path / "wer.json")
    assert ran.code == 1
    assert "expected a value at bundle of" in ran.err
    assert cli("report").code == 2
