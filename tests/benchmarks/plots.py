"""Log-log plots as SVG, of what was measured and nothing else."""

from __future__ import annotations

import math
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 170, 36, 48
_COLOURS = ("#0b6e4f", "#c1440e", "#b8860b", "#3b5b92", "#6b6b6b")
_FONT = 'font-family="sans-serif" font-size="12"'

Points = list[tuple[float, float]]


class Axis(NamedTuple):
    """A logarithmic axis over whole decades, from `low` to `high` on the page."""

    first: int
    last: int
    low: float
    high: float

    @classmethod
    def over(cls, values: list[float], low: float, high: float) -> Axis:
        first = math.floor(math.log10(min(values)))
        return cls(first, max(first + 1, math.ceil(math.log10(max(values)))), low, high)

    def at(self, value: float) -> float:
        share = (math.log10(value) - self.first) / (self.last - self.first)
        return self.low + share * (self.high - self.low)

    def decades(self) -> list[float]:
        return [10.0**power for power in range(self.first, self.last + 1)]


def log_log(title: str, across: str, up: str, series: dict[str, Points]) -> str:
    """A plot with a line of points for each series; what is not above zero is left out."""
    drawn = {
        name: [(x, y) for x, y in points if x > 0 and y > 0] for name, points in series.items()
    }
    every = [point for points in drawn.values() for point in points]
    x_axis = Axis.over([x for x, _ in every], _LEFT, _WIDTH - _RIGHT)
    y_axis = Axis.over([y for _, y in every], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {_FONT}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        _text(_LEFT, 20, title, weight="bold"),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, across, anchor="middle"),
        f'<g transform="rotate(-90 14 {_HEIGHT / 2:g})">',
        _text(14, _HEIGHT / 2, up, anchor="middle"),
        "</g>",
    ]
    for value in x_axis.decades():
        parts.append(_line(x_axis.at(value), y_axis.low, x_axis.at(value), y_axis.high))
        parts.append(_text(x_axis.at(value), y_axis.low + 16, _decade(value), anchor="middle"))
    for value in y_axis.decades():
        parts.append(_line(x_axis.low, y_axis.at(value), x_axis.high, y_axis.at(value)))
        parts.append(_text(x_axis.low - 6, y_axis.at(value) + 4, _decade(value), anchor="end"))
    for number, (name, points) in enumerate(drawn.items()):
        parts += _series(name, points, number, x_axis, y_axis)
    return "\n".join([*parts, "</svg>", ""])


def _series(name: str, points: Points, number: int, x_axis: Axis, y_axis: Axis) -> list[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    placed = [(f"{x_axis.at(x):.1f}", f"{y_axis.at(y):.1f}") for x, y in sorted(points)]
    path = " ".join(f"{x},{y}" for x, y in placed)
    height = _TOP + 16 + 20 * number
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in placed),
        f'<circle cx="{_WIDTH - _RIGHT + 20}" cy="{height - 2}" r="5" fill="{colour}"/>',
        _text(_WIDTH - _RIGHT + 32, height + 2, name),
    ]


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="#222222">{escape(text)}</text>'
    )


def _decade(value: float) -> str:
    power = round(math.log10(value))
    short = -3 <= power <= 4
    return f"{value:,g}" if short else f"1e{power}"
