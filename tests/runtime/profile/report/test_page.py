"""The page: which figures are there, what they are drawn of, and that nothing in a result gets out of its text."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgekit.core.errors import EdgekitError
from edgekit.runtime.profile.report.chart import colour, marker
from edgekit.runtime.profile.report.page import write_report

pytestmark = pytest.mark.device_side

ALONE = ["Latency distribution", "Cumulative latencies"]
SENSORS = {
    "power_mw": {"VDD_IN": [5000.0, 6000.0, 7000.0]},
    "temperature_c": {"cpu": [50.0, 51.0, 52.0]},
    "clock_mhz": {"cpu0": [1500.0, 1000.0, 1500.0]},
    "throttled": [False, True, False],
}


class Page(HTMLParser):
    """What a page holds, by tag; whether tags close as they open; what it would fetch; what has which class."""

    VOID = ("meta", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.open: list[str] = []
        self.tags = Counter[str]()
        self.classes = Counter[str]()
        self.attributes: set[str] = set()
        self.drawn: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.figures: list[str] = []
        self.titles: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        self.attributes |= found.keys()
        self.classes.update(found.get("class", "").split())
        self.drawn.append((tag, found))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open[-1:] == ["h3"]:
            self.figures.append(data)
        if self.open[-1:] == ["title"]:
            self.titles.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


@pytest.fixture
def page(made: ModuleType, tmp_path: Path) -> Any:
    """`page(point, ...)`: the page of one result with these points; `more` are other files."""

    def drawn(*points: dict[str, Any], more: tuple[Path, ...] = (), **changes: Any) -> Page:
        write_report([made.write(tmp_path / "a.json", *points, **changes), *more], tmp_path / "a.html")
        return Page((tmp_path / "a.html").read_text(encoding="utf-8"))

    return drawn


def test_one_point_without_sensors_and_layers(page: Any, made: ModuleType) -> None:
    found = page(made.point())
    assert found.figures == ALONE
    assert found.tags["svg"] == 2
    for told in (
        "Nothing is known that would have spoilt these figures.",
        "energy: no sensor of power",
        "layers: not asked for (--layers)",
        "temperature: no zone",
        "latency against length: no two points differ in the length alone",
        "throughput against batch: no two points differ in the batch alone",
        "energy against latency: no sensor of power",
        "accuracy against latency: accuracy was not measured",
    ):
        assert told in found.text


def test_each_figure_is_there_exactly_when_its_data_are(page: Any, made: ModuleType) -> None:
    sensed, layered = "Power, temperature and clocks", ["Time by operator", "Time by module"]
    everything = {"layers": made.layers(), "recording": made.recording(3, **SENSORS)}
    clocks, silent = SENSORS["clock_mhz"], {"cpu0": [None] * 3}
    for given, expected, num_charts in (
        (everything, [*ALONE, sensed, *layered], 5),
        ({"layers": {**made.layers(), "by_module": None}}, [*ALONE, "Time by operator"], 2),
        ({"recording": made.recording(3, clock_mhz=clocks)}, [*ALONE, sensed], 3),
        ({"recording": made.recording(3, clock_mhz=silent)}, ALONE, 2),
        ({"samples_ms": made.latencies(5)}, ALONE, 2),
        ({"asked": {"scenario": "offline"}}, [], 0),
    ):
        found = page(made.point(**given))
        assert found.figures == expected
        assert found.classes["chart"] == found.tags["desc"] == num_charts


def test_the_histogram_holds_every_query_and_marks_percentiles(page: Any, made: ModuleType) -> None:
    run = made.latencies(400)
    run[7] = 900.0
    found = page(made.point(run))
    counts = [int(match[1]) for title in found.titles if (match := re.search(r" ms: (\d+) queries$", title))]
    assert sum(counts) == 399
    assert "1 query is slower than what is drawn, up to 900.0 ms." in found.text
    assert found.classes["mark"] == 6, "p50, p90 and p99, in two figures"
    bars = [each for tag, each in found.drawn if tag == "rect" and each["class"].startswith("bar") and "x" in each]
    heights = [float(bar["height"]) for bar in bars]
    assert heights == pytest.approx([max(heights) * count / max(counts) for count in counts], abs=0.2)

    found = page(made.point(made.latencies(100)))
    assert found.classes["mark"] == 4
    assert "too few samples for p99: 100, at least 368 are needed" in found.text
    assert "Before you trust these figures" in found.texts
    assert "too few samples for p99" in found.texts


def test_the_cumulative_curve_goes_from_none_to_all(page: Any, made: ModuleType) -> None:
    found = page(made.point(made.latencies(2000)))
    (curve,) = (each["d"] for tag, each in found.drawn if tag == "path" and each.get("class") == "line a0")
    heights = [float(height) for height in re.findall(r"V([\d.]+)", curve)]
    assert heights == sorted(heights, reverse=True)
    assert (max(heights), min(heights)) == (pytest.approx(244, abs=1), pytest.approx(57, abs=1))
    assert len(heights) <= 300


def test_points_against_each_other(page: Any, made: ModuleType, tmp_path: Path) -> None:
    points = [
        made.point(
            made.latencies(ms=10 * batch * seconds, seed=batch),
            asked={"batch": batch, "length": f"{seconds}s"},
            energy=made.energy(0.1 / batch),
        )
        for batch in (1, 2, 4)
        for seconds in (1, 3)
    ]
    found = page(*points, more=(made.accuracy(tmp_path / "wer.json"),))
    assert found.figures[:5] == [
        "Cumulative latencies",
        "Latency against length",
        "Throughput against batch",
        "Energy against latency",
        "Accuracy against latency",
    ]
    assert found.figures[5:] == ALONE * 6
    assert found.tags["details"] == 6
    assert "#6 batch 4, 3 s" in found.texts
    assert "All: single-stream, onnxruntime, cpu, fp32, 1 thread." in found.texts
    assert "word error rate over 100 recordings of recordings" in found.text
    assert "Not drawn:" not in found.texts
    # other weights, whose accuracy is not that of these points
    other = made.accuracy(tmp_path / "wer.json", bundle={"core_sha256": "ef" * 32})
    found = page(*points, more=(other,))
    assert "Accuracy against latency" not in found.figures
    assert "no point has the model, backend and precision whose accuracy was measured" in found.text


def test_the_front_of_a_pareto_is_what_no_other_beats(page: Any, made: ModuleType) -> None:
    given = [(10, 0.3), (20, 0.2), (30, 0.25), (40, 0.1)]
    points = [
        made.point(made.latencies(ms=ms), asked={"threads": index}, energy=made.energy(joules))
        for index, (ms, joules) in enumerate(given, start=1)
    ]
    found = page(*points)
    dots = [title for title in found.titles if "energy of an item" in title]
    assert [title.split()[0] for title in dots] == ["#1", "#2", "#3", "#4"]
    figure = found.source.split("<h3>Energy against latency</h3>")[1].split("</figure>")[0]
    (front,) = re.findall(r"<path class='line a0' d='([^']*)'", figure)
    spots = re.findall(r"<circle class=point cx='([\d.]+)' cy='([\d.]+)'", figure)
    assert front == "M{} {}".format(*spots[0]) + "".join(f"H{x}V{y}" for x, y in (spots[1], spots[3]))


def test_points_that_do_something_else_do_not_beat_each_other(page: Any, made: ModuleType) -> None:
    short = made.point(made.latencies(ms=1), asked={"length": "1s"}, energy=made.energy(0.1))
    long = made.point(made.latencies(ms=9), asked={"length": "9s"}, energy=made.energy(0.9))
    figure = page(short, long).source.split("<h3>Energy against latency</h3>")[1].split("</figure>")[0]
    assert re.findall(r"<path class='line (a\d)' d='M[^H']*'", figure) == ["a0", "a1"], "a front for each"


def test_many_points_are_drawn_in_full_but_folded(page: Any, made: ModuleType) -> None:
    points = [made.point(made.latencies(30), asked={"threads": threads}) for threads in range(1, 21)]
    found = page(*points)
    assert found.tags["details"] == 21, "the table and each point"
    assert "cumulative latencies together: it takes up to 6 points with latencies, there are 20" in found.text
    assert "#1 to #20: too few samples for p90, p99" in found.texts


def test_the_timeline_shades_what_was_throttled(page: Any, made: ModuleType) -> None:
    found = page(made.point(recording=made.recording(3, **SENSORS)))
    assert found.classes["shade"] == 3
    assert "throttled: a clock was held down while it was measured" in found.texts
    assert "throttled, 0.1 to 0.1 s" in found.titles
    many = {f"cpu{index}": [1500.0, 1500.0 - index, 1500.0] for index in range(9)}
    found = page(made.point(recording=made.recording(3, clock_mhz=many)))
    names = [text for text in found.texts if re.fullmatch(r"cpu\d", text)]
    assert names == ["cpu8", "cpu7", "cpu6", "cpu5", "cpu4", "cpu3"], "those that moved most"
    assert "Of 9 sensors of clocks, the 6 that moved most." in found.text


def test_a_long_timeline_keeps_its_peaks(page: Any, made: ModuleType) -> None:
    power = [5000.0] * 20_000
    power[7001], power[13_007] = 90_000.0, 0.0
    found = page(made.point(recording=made.recording(20_000, power_mw={"VDD_IN": power})))
    (line,) = (
        each["d"]
        for tag, each in found.drawn
        if tag == "path" and each.get("class") == "line dashed a0" and "H" not in each["d"]
    )
    heights = [float(corner.split()[1]) for corner in line[1:].split("L")]
    assert len(heights) <= 700
    assert (min(heights), max(heights)) == (pytest.approx(26, abs=16), pytest.approx(144, abs=1))


def test_figures_say_how_they_were_measured(page: Any, made: ModuleType) -> None:
    found = page(made.point(), command="edgekit profile 'a b' --threads 1")
    source = (
        "edgekit profile 'a b' --threads 1 · random weights · A CPU, 4 processors · onnxruntime 1.20.0 on cpu · "
        "system Linux 6.1, python 3.11.0, edgekit 0.1.0, numpy 2.0.0 · "
        "2026-01-02T03:04:05+00:00 · load 0.1 before, 0.9 after"
    )
    assert found.texts.count(source) == 2 + 1 + 2, "each figure, the table, and each drawing for who cannot see it"


def test_flags_stand_at_the_top_the_worst_first(page: Any, made: ModuleType) -> None:
    warnings = ["successive latencies correlate by 0.50: too narrow", "clocks changed by more than 5%: cpu0"]
    points = [
        made.point(asked={"threads": 1}, warnings=warnings, load_before=[9.0, 9.0, 9.0]),
        made.point(asked={"threads": 2}, warnings=[warnings[0].replace("0.50", "0.60")]),
        made.refused("no such precision", precision="int8"),
        made.refused("no such precision", precision="int4"),
    ]
    found = page(*points)
    begun = found.texts.index("Before you trust these figures")
    assert [text for text in found.texts[begun + 1 : begun + 5] if text.strip()] == [
        "#1: clocks changed by more than 5%: cpu0",
        "#1 to #2: successive latencies correlate by 0.50: too narrow (numbers are those of #1)",
        "#1: the machine was busy before it began: a load above 5 on 4 processors",
        "refused: no such precision (scenario single-stream, precision int8, threads 1; "
        "scenario single-stream, precision int4, threads 1)",
    ]


HOSTILE = (
    "</title></script><script>alert(1)</script><img src=http://evil.example/ onerror=alert(1)>'\"&amp;$x_1$ \ud800\x00"
)


def test_text_from_a_result_stays_text(page: Any, made: ModuleType, tmp_path: Path) -> None:
    hostile = made.point(
        made.latencies(60),
        asked={"threads": 2},
        warnings=[HOSTILE],
        session={
            "backend": HOSTILE,
            "device": HOSTILE,
            "precision": HOSTILE,
            "computed_in": HOSTILE,
            "version": HOSTILE,
        },
        inputs=[{"name": HOSTILE, "dtype": "float32", "shape": [1], "values": HOSTILE}],
        layers=made.layers(HOSTILE),
        energy={**made.energy(0.1), "measured_by": HOSTILE},
        not_measured={HOSTILE: HOSTILE},
        recording=made.recording(3, power_mw={HOSTILE: [1.0, 2.0, 3.0]}, total=HOSTILE),
    )
    other = made.point(made.latencies(60, ms=20), energy=made.energy(0.2), load={"harness": HOSTILE})
    wer = made.accuracy(tmp_path / "wer.json", command=HOSTILE)
    found = page(
        hostile,
        other,
        made.refused(HOSTILE),
        more=(wer,),
        command=HOSTILE,
        model={"path": HOSTILE, "family": HOSTILE, "variant": HOSTILE},
        machine={"cpu": HOSTILE},
        versions={HOSTILE: HOSTILE},
    )
    assert found.tags["script"] == found.tags["img"] == 0
    assert not found.attributes & {"src", "href", "srcset", "onerror", "onload", "data", "xlink:href"}
    assert found.text.count("<script>alert(1)</script>") > 20, "it is shown"
    assert "Content-Security-Policy" in found.source
    assert "default-src 'none'; style-src 'unsafe-inline'" in found.source


def test_the_page_needs_no_network_and_no_script(page: Any, made: ModuleType) -> None:
    everything = made.point(layers=made.layers(), recording=made.recording(3, **SENSORS))
    found = page(everything)
    assert not re.search(r"https?:|//|@import|url\(|<script|javascript", found.source)
    assert "prefers-color-scheme: dark" in found.source


def test_several_results_on_one_page(page: Any, made: ModuleType, tmp_path: Path) -> None:
    other = made.write(tmp_path / "b.json", made.point(made.latencies(ms=5)), command="the other")
    found = page(made.point(), more=(other,))
    assert {"#1 a.json", "#2 b.json"} <= set(found.texts)
    assert found.figures[0] == "Cumulative latencies"
    assert sum(text.startswith("the other") for text in found.texts) >= 4


def test_results_of_one_name_are_told_apart_by_their_folders(page: Any, made: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    other = made.write(tmp_path / "new" / "a.json", made.point(made.latencies(ms=5)))
    found = page(made.point(), more=(other,))
    assert {f"#1 {tmp_path / 'a.json'}", f"#2 {other}"} <= set(found.texts)


def test_nothing_measured_is_said(page: Any, made: ModuleType) -> None:
    told = "expected a result with a point that was measured, received none: refused: no such precision"
    with pytest.raises(EdgekitError, match=told):
        page(made.refused())


def test_what_was_measured_besides_latencies_is_told(page: Any, made: ModuleType) -> None:
    memory = {"before_mib": 1.0, "loaded_mib": 2.0, "steady_mib": 3.0, "peak_mib": 100.0}
    found = page(
        made.point(
            memory={**memory, "measured": "after the scenario", "gpu_mib": 512.0},
            cold_start=made.cold_start(0.5, 0.25, 0.75),
            energy=made.energy(0.012),
            asked={"scenario": "server"},
            load={"bound": {"bound_ms": 100.0, "percentile": 99.0, "verdict": "not met", "share_within": 0.975}},
        )
    )
    for told in (
        "p99 at most 100 ms: not met (97.5 % of the queries keep it)",
        "memory: 100 MiB at most, read after the scenario; of the GPU 512 MiB",
        "cold start: 0.500 s, median of fresh processes: 3, 0.250 to 0.750 s",
        "energy: 12.00 mJ per item by VDD_IN, idle power included",
    ):
        assert told in found.texts
    found = page(made.point())
    assert "memory: 100 MiB at most, read after the scenario" in found.texts
    untold = ("fresh processes", "mJ per item", "at most 100 ms")
    assert not [text for text in found.texts if any(words in text for words in untold)]


def test_random_weights_are_told(page: Any, made: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert any("random weights" in text for text in page(made.point()).texts)
    monkeypatch.setitem(made.MODEL, "weights", "trained")
    assert not [text for text in page(made.point()).texts if "random weights" in text]


def test_logarithmic_axes_say_so(page: Any, made: ModuleType) -> None:
    def axes(*lengths: int) -> list[str]:
        points = [made.point(made.latencies(ms=10 * each), asked={"length": f"{each}s"}) for each in lengths]
        figure = page(*points).source.split("<h3>Latency against length</h3>")[1].split("</figure>")[0]
        return re.findall(r"<text class=name [^>]*>([^<]*)</text>", figure)

    assert sorted(axes(1, 3)) == ["length of an item (s)", "median latency (ms)"]
    assert sorted(axes(1, 50)) == ["length of an item (s), logarithmic", "median latency (ms), logarithmic"]


def test_counts_have_no_ticks_between_them(page: Any, made: ModuleType) -> None:
    figure = page(made.point(made.latencies(3))).source.split("<h3>Latency distribution</h3>")[1]
    ticks = re.findall(r"text-anchor=end>([^<]*)</text>", figure.split("</figure>")[0])
    assert ticks == [str(count) for count in range(len(ticks))]


def test_series_are_told_apart_without_colours(page: Any, made: ModuleType) -> None:
    looks = {(colour(series), re.sub(r"[-\d.]+", "", marker(series, 0.0, 0.0))) for series in range(24)}
    assert len(looks) == 24
    assert all(
        re.sub(r"[-\d.]+", "", marker(one, 0, 0)) != re.sub(r"[-\d.]+", "", marker(one + 1, 0, 0)) for one in range(5)
    )
    rails = {f"rail{index}": [1.0 + index, 2.0, 3.0] for index in range(6)}
    found = page(made.point(recording=made.recording(3, power_mw=rails)))
    assert found.classes["dashed"] == 2 * 6, "each line and its key"
    dashes = re.findall(r"\.dashed\.a\d \{ stroke-dasharray: ([^;]+);", found.source)
    assert len(set(dashes)) == 6


def test_a_line_breaks_where_its_sensor_told_nothing(page: Any, made: ModuleType) -> None:
    def drawn(column: list[float | None]) -> tuple[list[str], Page]:
        found = page(made.point(recording=made.recording(len(column), temperature_c={"gpu": column})))
        lines = [each["d"] for tag, each in found.drawn if each.get("class") == "line dashed a0"]
        return [line for line in lines if "H" not in line], found  # that of the legend is one with it

    told = "Where a line of temperature breaks, its sensor told nothing."
    lines, found = drawn([50.0] * 5 + [None] * 20 + [60.0] * 5)
    assert [line.count("L") for line in lines] == [4, 4]
    assert told in found.text
    lines, found = drawn([50.0] * 5 + [None] * 3 + [60.0] * 5)
    assert [line.count("L") for line in lines] == [9], "a reading that failed now and then is no gap"
    assert told not in found.text
    # a reading without neighbours would be a line of no length
    lines, found = drawn([None, 50.0, None])
    assert "gpu: 50 at 0.1 s" in found.titles


def test_headings_and_columns_are_told_to_who_hears_the_page(page: Any, made: ModuleType) -> None:
    several = page(made.point(asked={"threads": 1}), made.point(asked={"threads": 2}))
    headings = re.findall(r"<h2>([^<]*)</h2>", several.source)
    assert headings == ["All points", "Points against each other", "Each point in full"]
    assert several.source.index("Each point in full") < several.source.index("<details class=point")
    assert re.findall(r"<h2>([^<]*)</h2>", page(made.point()).source) == ["All points", "In full"]
    columns = [each for tag, each in several.drawn if tag == "th"]
    assert columns
    assert all(each["scope"] == "col" for each in columns)
    assert "<th scope=col></th>" not in several.source
