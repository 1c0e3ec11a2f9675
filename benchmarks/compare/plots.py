"""Plots as SVG, written by hand: bars of systems with the spread of their runs, and curves over a log axis.

Colours are readable on light and on dark pages: the text is a middle grey, the ground is left open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

import msgspec

from benchmarks.report import number

WIDTH: Final = 720
_OURS: Final = "#c2410c"
_OTHERS: Final = "#64748b"
_INK: Final = "#7d8590"
_COLOURS: Final = ("#c2410c", "#0369a1", "#15803d", "#7e22ce", "#a16207", "#be185d")
_LEFT: Final = 130
_RIGHT: Final = 150
_ROW: Final = 26
_TOP: Final = 34


class Bar(msgspec.Struct, frozen=True):
    """One system's median, with the least and the most of its runs."""

    name: str
    value: float
    least: float
    most: float
    is_ours: bool = False


class Curve(msgspec.Struct, frozen=True):
    """Points of one line, by rising x."""

    name: str
    points: tuple[tuple[float, float], ...]


def bars(title: str, unit: str, rows: Sequence[Bar]) -> str:
    """Return horizontal bars, in the order given."""
    height = _TOP + _ROW * len(rows) + 10
    scale = (WIDTH - _LEFT - _RIGHT) / (max(row.most for row in rows) or 1.0)
    parts = [_text(8, 20, f"{title}, {unit}", weight="bold")]
    for place, row in enumerate(rows):
        parts += _bar(row, _TOP + place * _ROW, scale)
    return _page(height, parts)


def _bar(row: Bar, top: float, scale: float) -> list[str]:
    width = max(1.0, row.value * scale)
    middle = top + _ROW / 2 - 3
    least, most = _LEFT + row.least * scale, _LEFT + row.most * scale
    colour = _OURS if row.is_ours else _OTHERS
    return [
        _text(_LEFT - 8, middle + 5, row.name, anchor="end"),
        f'<rect x="{_LEFT}" y="{top:.1f}" width="{width:.1f}" height="{_ROW - 8}" fill="{colour}"/>',
        f'<path d="M{least:.1f} {middle:.1f}H{most:.1f}" stroke="{_INK}" stroke-width="2"/>',
        _text(max(_LEFT + width, most) + 6, middle + 5, number(row.value)),
    ]


def curves(title: str, x_title: str, y_title: str, lines: Sequence[Curve]) -> str:
    """Return lines over a logarithmic x axis; y begins at 0."""
    height, bottom, left, right = 360, 310, 70, WIDTH - 150
    xs = [x for line in lines for x, _ in line.points]
    ceiling = _ceiling(max(y for line in lines for _, y in line.points))
    low, high = math.log10(min(xs)), math.log10(max(xs))

    def at(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(x) - low) / ((high - low) or 1.0)
        return left + share * (right - left), bottom - y / ceiling * (bottom - 50)

    parts = [_text(8, 20, title, weight="bold"), _text(8, 40, y_title)]
    for quarter in range(5):
        _, y = at(10**low, ceiling * quarter / 4)
        parts += [_rule(left, y, right), _text(left - 6, y + 4, number(ceiling * quarter / 4), anchor="end")]
    for x in sorted(set(xs)):
        parts.append(_text(at(x, 0)[0], bottom + 18, _count(x), anchor="middle"))
    parts.append(_text((left + right) / 2, bottom + 38, x_title, anchor="middle"))
    for place, line in enumerate(lines):
        parts += _line([at(x, y) for x, y in line.points], line.name, _COLOURS[place % len(_COLOURS)])
    return _page(height, parts)


def _line(points: Sequence[tuple[float, float]], name: str, colour: str) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    end_x, end_y = points[-1]
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *dots,
        _text(end_x + 8, end_y + 4, name, colour=colour),
    ]


def _ceiling(value: float) -> float:
    """Return the next round figure: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next((step * power for step in (1, 2, 5, 10) if step * power >= value), 10 * power)


def _count(x: float) -> str:
    if x >= 1_000_000:
        return f"{x / 1_000_000:g} M"
    return f"{x / 1_000:g} k" if x >= 1_000 else f"{x:g}"


def _rule(left: float, y: float, right: float) -> str:
    return f'<path d="M{left:.1f} {y:.1f}H{right:.1f}" stroke="{_INK}" stroke-width="0.5" opacity="0.5"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", colour: str = _INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}">'
        f"{escape(text)}</text>"
    )


def _page(height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" font-family="sans-serif" font-size="13">'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"
