"""The report's charts in SVG, with the colours of the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal
from xml.etree.ElementTree import Element

from ..thresholds import ThresholdChoice
from .elements import h
from .summary import Row, Summary
from .words import label, number

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 24, 16, 44
_LINE = 15


_MOST_TICKS = 10
_TAILS = [digit * 10.0**-exponent for exponent in range(6, 0, -1) for digit in (1, 2, 5)]
_LOGIT_TICKS = [*_TAILS, *(round(1 - tail, 6) for tail in reversed(_TAILS[:-1]))]


def _logit(value: float) -> float:
    return math.log(value / (1 - value))


_SCALES: Mapping[str, Callable[[float], float]] = {
    "linear": float,
    "log": math.log,
    "logit": _logit,
}


@dataclass(frozen=True, slots=True)
class _Axis:
    """Map of values to positions in the picture.

    A `logit` axis stretches both ends of 0 to 1, where scores are concentrated.
    """

    low: float
    high: float
    start: float
    end: float
    scale: Literal["linear", "log", "logit"] = "linear"

    def place(self, value: float) -> float:
        value, low, high = map(_SCALES[self.scale], (value, self.low, self.high))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.scale == "logit":
            found = [tick for tick in _LOGIT_TICKS if self.low <= tick <= self.high]
            every = math.ceil(len(found) / _MOST_TICKS)
            return found[::every] if found else []
        if self.scale == "log":
            exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
            return [
                digit * 10.0**exponent
                for exponent in exponents
                for digit in ((1, 2, 5) if len(exponents) < 4 else (1,))
                if self.low <= digit * 10.0**exponent <= self.high
            ]
        decades = (0.01 * 10**exponent for exponent in count())
        steps = (digit * decade for decade in decades for digit in (1, 2, 5))
        step = next(step for step in steps if (self.high - self.low) / step <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def throughput_chart(summary: Summary) -> Element | None:
    """Draw the first measure, with its interval, against throughput; the first stage as a line.

    Returns:
        The picture, or None if nothing was scored.
    """
    measure = summary.measures[0]
    points = [
        (row, rate)
        for row in summary.rows
        if row.cost is not None and (rate := row.cost.pairs_per_second) is not None
    ]
    if not points:
        return None
    figures = [row.figures[measure] for row in summary.rows]
    y = _Axis(
        max(0.0, min(f.low for f in figures) - 0.02),
        min(max(1.0, *(f.high for f in figures)), max(f.high for f in figures) + 0.02),
        _HEIGHT - _BOTTOM,
        _TOP,
    )
    rates = [rate for _, rate in points]
    x = _Axis(min(rates) / 2, max(rates) * 2, _LEFT, _WIDTH - _RIGHT, scale="log")
    parts = [*_grid(x, y), *_base_line(summary.rows[0], measure, y)]
    parts += [_point(row, x.place(rate), measure, y) for row, rate in points]
    parts += _names(
        [(row.name, x.place(r), y.place(row.figures[measure].mean)) for row, r in points]
    )
    parts.append(
        h(
            "text",
            "pairs a second",
            x=_WIDTH / 2,
            y=_HEIGHT - 8,
            text_anchor="middle",
            class_="axis",
        )
    )
    return _svg(f"{label(measure)} against pairs a second", _HEIGHT, parts)


def _grid(x: _Axis, y: _Axis) -> list[Element]:
    parts = []
    for tick in y.ticks():
        at = y.place(tick)
        parts += [
            h("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at, class_="grid"),
            h("text", f"{tick:.2f}", x=_LEFT - 8, y=at + 4, text_anchor="end", class_="axis"),
        ]
    for tick in x.ticks():
        at, below = x.place(tick), _HEIGHT - _BOTTOM
        parts += [
            h("line", x1=at, x2=at, y1=_TOP, y2=below, class_="grid"),
            h(
                "text",
                f"{tick:,.0f}" if tick >= 1 else f"{tick:g}",
                x=at,
                y=below + 16,
                text_anchor="middle",
                class_="axis",
            ),
        ]
    return parts


def _base_line(row: Row, measure: str, y: _Axis) -> list[Element]:
    at = y.place(row.figures[measure].mean)
    return [
        h("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at, class_="base"),
        h("text", row.name, x=_LEFT + 4, y=at - 5, class_="axis"),
    ]


def _point(row: Row, at: float, measure: str, y: _Axis) -> Element:
    figure = row.figures[measure]
    return h(
        "g",
        h("title", f"{row.name}: {figure.mean:.3f}, {figure.low:.3f} to {figure.high:.3f}"),
        h("line", x1=at, x2=at, y1=y.place(figure.low), y2=y.place(figure.high), class_="whisker"),
        h("circle", cx=at, cy=y.place(figure.mean), r=5, class_="point"),
    )


def _names(points: list[tuple[str, float, float]]) -> list[Element]:
    """Draw names beside their points, moved down if two would overlap."""
    parts = []
    free = 0.0
    for name, x, y in sorted(points, key=lambda point: point[2]):
        at = max(y, free)
        free = at + _LINE
        on_the_left = x > _WIDTH * 0.6
        parts.append(
            h(
                "text",
                name,
                x=x - 10 if on_the_left else x + 10,
                y=at + 4,
                text_anchor="end" if on_the_left else "start",
            )
        )
    return parts


def threshold_chart(name: str, choice: ThresholdChoice) -> Element | None:
    """Draw precision, recall and the share of queries without a document against the threshold.

    A dashed line marks the suggested threshold. Thresholds between 0 and 1 have a logit axis.

    Args:
        name: Name of the system.
        choice: Thresholds of the system.

    Returns:
        The picture, or None if there are fewer than two thresholds.
    """
    inside = [point for point in choice.points if 0 < point.threshold < 1]
    # The first threshold may be 0, which keeps all documents, and the last may be 1.
    is_logit = len(inside) > 1 and all(0 <= point.threshold <= 1 for point in choice.points)
    points = inside if is_logit else choice.points
    if len(points) < 2:
        return None
    low, high = points[0].threshold, points[-1].threshold
    x = _Axis(low, high, _LEFT, _WIDTH - _RIGHT, "logit" if is_logit else "linear")
    y = _Axis(0.0, 1.0, _HEIGHT - _BOTTOM, _TOP + 2 * _LINE)
    places = [x.place(point.threshold) for point in points]
    lines = {
        "precision": [point.precision for point in points],
        "recall": [point.recall for point in points],
        "without": [point.without_documents for point in points],
    }
    parts = _grid(x, y)
    for i, (kind, values) in enumerate(lines.items()):
        line = "L".join(f"{at:.2f} {y.place(v):.2f}" for at, v in zip(places, values, strict=True))
        left = _LEFT + i * 150
        parts += [
            h("path", d=f"M{line}", class_=f"line {kind}"),
            h("path", d=f"M{left} {_TOP}h28", class_=f"line {kind}"),
            h("text", _LINES[kind], x=left + 34, y=_TOP + 4),
        ]
    if choice.suggested is not None and low <= choice.suggested.threshold <= high:
        at = x.place(choice.suggested.threshold)
        on_the_left = at > _WIDTH / 2
        parts += [
            h("line", x1=at, x2=at, y1=_TOP + _LINE, y2=_HEIGHT - _BOTTOM, class_="base"),
            h(
                "text",
                number(choice.suggested.threshold),
                x=at - 5 if on_the_left else at + 5,
                y=_TOP + 2 * _LINE - 4,
                text_anchor="end" if on_the_left else "start",
                class_="axis",
            ),
        ]
    parts.append(
        h("text", "threshold", x=_WIDTH / 2, y=_HEIGHT - 8, text_anchor="middle", class_="axis")
    )
    return _svg(f"{name}: precision and recall against the threshold", _HEIGHT, parts)


_LINES = {
    "precision": "precision",
    "recall": "recall",
    "without": "queries without a document",
}
"""Labels in the picture, by line."""


def difference_chart(differences: Sequence[float], title: str) -> Element:
    """Draw a bar for each query, largest gain first: gains upwards, losses downwards.

    Args:
        differences: Differences of the queries, each between -1 and 1.
        title: Title of the picture, also its text for screen readers.
    """
    height, middle = 140, 70
    ordered = sorted(differences, reverse=True)
    width = (_WIDTH - _LEFT - _RIGHT) / len(ordered)
    reach = max(0.05, *map(abs, ordered))
    gains, losses = "", ""
    for i, difference in enumerate(ordered):
        if not difference:
            continue
        bar = (
            f"M{_LEFT + i * width:.2f} {middle}h{width:.2f}"
            f"v{-difference / reach * (middle - 8):.2f}h{-width:.2f}z"
        )
        if difference > 0:
            gains += bar
        else:
            losses += bar
    parts = [
        h("path", d=gains, class_="gain"),
        h("path", d=losses, class_="loss"),
        h("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=middle, y2=middle, class_="base"),
        h("text", f"+{reach:.2f}", x=_LEFT - 8, y=14, text_anchor="end", class_="axis"),
        h("text", "0", x=_LEFT - 8, y=middle + 4, text_anchor="end", class_="axis"),
        h("text", f"-{reach:.2f}", x=_LEFT - 8, y=height - 4, text_anchor="end", class_="axis"),
    ]
    return _svg(title, height, parts)


def _svg(title: str, height: int, parts: Sequence[Element]) -> Element:
    box = f"0 0 {_WIDTH} {height}"
    return h("svg", h("title", title), *parts, viewBox=box, role="img", aria_label=title)
