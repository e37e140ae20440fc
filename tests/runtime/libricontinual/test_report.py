from __future__ import annotations

import json
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

from edgekit.core.errors import UnavailableError
from edgekit.runtime.libricontinual.benchmark import Options, Run, run_benchmark
from edgekit.runtime.libricontinual.plots import DARK, plot_forgetting, plot_wer
from edgekit.runtime.libricontinual.report import check_drawing, to_html, write_report

pytest.importorskip("jiwer", reason="counts the errors: pip install jiwer")


@pytest.fixture
def run(built: Path, general: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path) -> Run:
    arms = [made_up_arms.Learner("none", tuned=0), made_up_arms.Learner("full<b>".replace("<b>", ""), forgets=0.5)]
    return run_benchmark(built, arms, tmp_path / "out", Options(general=general), command="edgekit <script>")


class Page(HTMLParser):
    """What a page holds, by tag; whether tags close as they open; what it would fetch."""

    VOID = ("meta", "img", "source", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags = Counter[str]()
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.addresses += [value or "" for name, value in attrs if name in ("src", "srcset", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_report_needs_no_other_file(run: Run) -> None:
    page = Page(to_html(run).decode())
    assert page.open == []
    assert (page.tags["img"], page.tags["source"], page.tags["script"]) == (2, 2, 0)
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    text = " ".join(page.texts)
    for told in ("LibriContinual-like: none, full", "19 of 19 tasks are done.", "full is better", "edgekit <script>"):
        assert told in text
    assert "prefers-color-scheme: dark" in text
    assert "30.00" in page.texts, "the error rate of the small split"
    assert "+20.00" in page.texts, "its gain"


def test_pictures(run: Run) -> None:
    pictures = [plot_wer(run.summary), plot_wer(run.summary, DARK), plot_forgetting(run.summary)]
    assert all(picture is not None and picture.startswith(b"\x89PNG") for picture in pictures)
    assert len(set(pictures)) == 3
    assert plot_wer(run.summary) == pictures[0], "the same figures are the same bytes"


def test_files(run: Run, tmp_path: Path) -> None:
    assert write_report(run, tmp_path / "report") == tmp_path / "report" / "report.html"
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"report.html", "results.json", "wer.png", "forgetting.png"}
    found = json.loads((tmp_path / "report" / "results.json").read_text())
    assert found["arms"]["full"]["splits"]["2s"]["wer"]["mean"] == pytest.approx(0.3)
    assert found["command"] == "edgekit <script>"


def test_of_an_arm_alone_there_is_little_to_draw(
    built: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path
) -> None:
    run = run_benchmark(built, [made_up_arms.Learner("none", tuned=0)], tmp_path / "out", Options(speakers=2))
    assert plot_forgetting(run.summary) is None
    page = Page(to_html(run).decode())
    assert page.tags["img"] == 1
    assert "There is nothing to compare." in page.texts
    assert "No arm tunes anything." in page.texts


def test_failures_are_told(built: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path) -> None:
    run = run_benchmark(built, [made_up_arms.Learner(fails=("2",))], tmp_path / "out", Options(speakers=2))
    text = " ".join(Page(to_html(run).decode()).texts)
    assert "4 of 6 tasks are done." in text
    assert "2 failed; the first: learner, 2, 2s: expected to learn 2" in text
    assert "1 of 2 speakers" in text, "beside the rate after adaptation, which is of others than the one before"


def test_what_was_left_out_and_of_what_the_cost_is(
    built: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path
) -> None:
    arms = [made_up_arms.Learner(details={"num_left_out": 1})]
    run = run_benchmark(built, arms, tmp_path / "out", Options(speakers=2))
    text = " ".join(Page(to_html(run).decode()).texts)
    assert "too long to be learned or validated by, over all tasks: 4" in text
    assert "the sum of all learning rates that were tried" in text
    assert "of 2 speakers" not in text


def test_without_matplotlib(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UnavailableError, match="expected the package matplotlib to draw") as raised:
        check_drawing()
    assert raised.value.hint == 'pip install "edgekit[benchmark]"'
