"""One chart as SVG that stands in a page: axes, lines, bars, points, marks. Colours are the page's, by CSS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from edgekit.runtime.profile.report.scale import Scale

NUM_COLOURS = 6
WIDTH = 760
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 18, 12, 46
_CHARACTER = 6.6
"""About how wide a character is, in the units of the drawing."""
_ROW = 15
Point = tuple[float, float]


class Chart:
    """A chart to draw on; what is drawn later lies above. A logarithmic axis says so.

    Args:
        title: for who cannot see it; `described` also how it was measured.
        rows: of labels of `mark`, above the axes.
    """

    def __init__(
        self,
        title: str,
        x: Scale,
        y: Scale,
        *,
        x_label: str,
        y_label: str,
        described: str = "",
        height: int = 300,
        rows: int = 0,
    ) -> None:
        self._x, self._y, self._height = x, y, height
        self._top, self._bottom = _TOP + rows * _ROW, height - (_BOTTOM if x_label else _BOTTOM - 16)
        self._row_ends = [float("-inf")] * rows
        self._head = f"<title>{escape(title)}</title><desc>{escape(described)}</desc>"
        self._title = title
        self._parts: list[str] = []
        self._labels: list[tuple[float, float, float, float]] = []
        self._axes(x_label, y_label)

    def line(self, points: Sequence[Point], series: int, *, dashed: bool = False, stepped: bool = False) -> None:
        """A line through points, or in steps, each as high as the point at its beginning.

        Args:
            dashed: as its series is, which tells lines without markers apart where colours do not.
        """
        placed = [self._at(*point) for point in points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        if stepped:
            path = "M{:.1f} {:.1f}".format(*placed[0]) + "".join(f"H{x:.1f}V{y:.1f}" for x, y in placed[1:])
        kind = "line dashed" if dashed else "line"
        self._add(f"<path class='{kind} {colour(series)}' d='{path}'/>")

    def bars(self, edges: Sequence[float], heights: Sequence[float], series: int, told: Sequence[str]) -> None:
        """From edge to edge; `told` is what each says when it is pointed at."""
        base = self._at(edges[0], max(self._y.low, 0.0))[1]
        for low, high, height, words in zip(edges, edges[1:], heights, told):
            (left, top), right = self._at(low, height), self._at(high, height)[0]
            size = f"width='{max(right - left - 0.6, 0.4):.1f}' height='{max(base - top, 0.0):.1f}'"
            shown = f"<title>{escape(words)}</title>"
            self._add(f"<rect class='bar {colour(series)}' x='{left:.1f}' y='{top:.1f}' {size}>{shown}</rect>")

    def points(self, points: Iterable[Point], series: int, told: Iterable[str], *, named: Sequence[str] = ()) -> None:
        """Marks at points; `named` are labels beside them."""
        for index, (point, words) in enumerate(zip(points, told)):
            x, y = self._at(*point)
            self._add(f"<g class='{colour(series)}'>{marker(series, x, y, words)}</g>")
            if named and named[index]:
                self._label(named[index], x, y)

    def whisker(self, x: float, low: float, high: float, series: int) -> None:
        """An interval, upright."""
        (left, bottom), (_, top) = self._at(x, low), self._at(x, high)
        self._add(f"<path class='whisker {colour(series)}' d='M{left:.1f} {bottom:.1f}V{top:.1f}'/>")

    def mark(self, value: float, text: str, interval: tuple[float, float] | None = None) -> None:
        """An upright line across with its label above, in the first row that has room, and its interval behind."""
        if interval is not None:
            left, right = (self._at(end, self._y.low)[0] for end in interval)
            self._add(
                f"<rect class=interval x='{left:.1f}' y='{self._top}' width='{max(right - left, 0.5):.1f}' "
                f"height='{self._bottom - self._top}'/>"
            )
        x = self._at(value, self._y.low)[0]
        half = len(text) * _CHARACTER / 2
        middle = min(max(x, _LEFT + half), WIDTH - half - 4)
        fitting = (row for row, end in enumerate(self._row_ends) if middle - half > end + 6)
        row = next(fitting, len(self._row_ends) - 1)
        self._row_ends[row] = middle + half
        y = _TOP + row * _ROW
        self._add(f"<path class=mark d='M{x:.1f} {y + 3}V{self._bottom}'/>")
        self._add(f"<text class=over x='{middle:.1f}' y='{y}' text-anchor=middle>{escape(text)}</text>")

    def shade(self, low: float, high: float, words: str) -> None:
        """Of the whole height, from one place to another."""
        left, right = (self._at(value, self._y.low)[0] for value in (low, high))
        size = f"width='{max(right - left, 2.0):.1f}' height='{self._bottom - self._top}'"
        self._add(f"<rect class=shade x='{left:.1f}' y='{self._top}' {size}><title>{escape(words)}</title></rect>")

    def svg(self) -> str:
        """The drawing."""
        name = escape(self._title, quote=True)
        size = f"viewBox='0 0 {WIDTH} {self._height}' width='{WIDTH}' height='{self._height}'"
        drawn = f"<svg class=chart role=img aria-label='{name}' {size}>{self._head}{''.join(self._parts)}</svg>"
        return f"<div class=wide>{drawn}</div>"

    def _at(self, x: float, y: float) -> Point:
        across, up = self._x.at(x), self._y.at(y)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), self._bottom - up * (self._bottom - self._top)

    def _axes(self, x_label: str, y_label: str) -> None:
        x_label, y_label = _with_kind(x_label, self._x), _with_kind(y_label, self._y)
        right, middle = WIDTH - _RIGHT, (self._top + self._bottom) / 2
        for value, text in self._y.ticks:
            y = self._at(self._x.low, value)[1]
            self._add(f"<path class=grid d='M{_LEFT} {y:.1f}H{right}'/>")
            self._add(f"<text x='{_LEFT - 8}' y='{y + 4:.1f}' text-anchor=end>{escape(text)}</text>")
        for value, text in self._x.ticks:
            x = self._at(value, self._y.low)[0]
            self._add(f"<path class=grid d='M{x:.1f} {self._top}V{self._bottom}'/>")
            self._add(f"<text x='{x:.1f}' y='{self._bottom + 17}' text-anchor=middle>{escape(text)}</text>")
        self._add(f"<path class=axis d='M{_LEFT} {self._top}V{self._bottom}H{right}'/>")
        self._add(
            f"<text class=name x='14' y='{middle:.0f}' text-anchor=middle {_upright(middle)}>{escape(y_label)}</text>"
        )
        if x_label:
            across = (_LEFT + right) / 2
            self._add(
                f"<text class=name x='{across:.0f}' y='{self._height - 8}' text-anchor=middle>{escape(x_label)}</text>"
            )

    def _label(self, text: str, x: float, y: float) -> None:
        """Beside a point, where there is room; a point without its label still tells it when it is pointed at."""
        width = len(text) * _CHARACTER
        sides = [(x + 7, y - 5), (x - 7 - width, y - 5), (x + 7, y + 14), (x - 7 - width, y + 14)]
        for left, bottom in sides:
            box = (left, bottom - 11, left + width, bottom)
            inside = left > _LEFT and left + width < WIDTH - 2 and self._top < bottom < self._bottom
            if inside and not any(_overlap(box, other) for other in self._labels):
                self._labels.append(box)
                self._add(f"<text class=over x='{left:.1f}' y='{bottom:.1f}'>{escape(text)}</text>")
                return

    def _add(self, part: str) -> None:
        self._parts.append(part)


def colour(series: int) -> str:
    """The class of a series' colour."""
    return f"a{series % NUM_COLOURS}"


def marker(series: int, x: float, y: float, words: str = "") -> str:
    """Of a series, in another shape than its neighbours and than those of its colour: 24 look different."""
    told = f"<title>{escape(words)}</title>" if words else ""
    kind = (series + series // NUM_COLOURS) % 4
    if kind == 0:
        return f"<circle class=point cx='{x:.1f}' cy='{y:.1f}' r='4'>{told}</circle>"
    turned = f" transform='rotate(45 {x:.1f} {y:.1f})'" if kind == 2 else ""
    if kind == 3:
        return f"<path class=point d='M{x - 4.5:.1f} {y + 4:.1f}h9l-4.5 -9z'>{told}</path>"
    return f"<rect class=point x='{x - 3.5:.1f}' y='{y - 3.5:.1f}' width='7' height='7'{turned}>{told}</rect>"


def legend(names: Sequence[str], *, markers: bool = True) -> str:
    """HTML: what the series are called, in their order; nothing of one without a name."""
    if not any(names):
        return ""
    items = "".join(
        f"<li><svg class='key {colour(series)}' viewBox='0 0 26 12' width=26 height=12>"
        f"<path class='line{'' if markers else ' dashed'} {colour(series)}' d='M1 6H25'/>"
        f"{marker(series, 13, 6) if markers else ''}</svg>"
        f"{escape(name)}</li>"
        for series, name in enumerate(names)
    )
    return f"<ul class=legend>{items}</ul>"


def _with_kind(label: str, scale: Scale) -> str:
    return f"{label}, logarithmic" if label and scale.log else label


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    """Of two boxes: left, top, right, bottom."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _upright(middle: float) -> str:
    return f"transform='rotate(-90 14 {middle:.0f})'"
