"""Pictures as SVG, written here: scales, axes, bars, boxes and lines, as many as the figures need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from statistics import median, quantiles
from typing import Final

COLOURS: Final = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00",
    "#56b4e9", "#8c6d31", "#7570b3", "#66a61e", "#a6761d",
)  # fmt: skip
"""Distinct for most eyes (after Okabe and Ito), then further ones."""
_INK: Final = "#222"
_PALE: Final = "#ddd"


class Scale:
    """From values to places along an axis, linear or logarithmic."""

    def __init__(self, low: float, high: float, start: float, end: float, is_log: bool = False) -> None:
        if is_log:
            low = max(low, 1e-9)
            high = max(high, low * 1.0001)
        self.low, self.high = low, high if high > low else low + 1
        self._start, self._end, self.is_log = start, end, is_log

    def __call__(self, value: float) -> float:
        """Return the place of a value; what lies outside is put at the edge."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        """Return round values between the ends, at most ten."""
        if self.is_log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            factors = (1, 2, 5) if len(powers) < 4 else (1,)
            found = self._within([factor * 10.0**power for power in powers for factor in factors])
            if len(found) > 1:
                return found
        step = _step(self.high - self.low)
        first = math.ceil(self.low / step)
        return self._within([step * number for number in range(first, math.floor(self.high / step) + 1)])

    def _within(self, values: Sequence[float]) -> list[float]:
        return [value for value in values if self.low <= value <= self.high * 1.0000001]


def _step(span: float) -> float:
    raw = span / 6
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)


class Drawing:
    """One picture, collected element by element."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height = width, height
        self._parts = [f'<rect width="{width}" height="{height}" fill="white"/>']
        self._title = title
        self.text(width / 2, 18, title, size=14, anchor="middle")

    def text(
        self, x: float, y: float, words: str, *, size: int = 11, anchor: str = "start", turn: float = 0
    ) -> None:
        """Write words at a place; `turn` in degrees."""
        turned = f' transform="rotate({turn:g} {x:.1f} {y:.1f})"' if turn else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{turned}'
            f' fill="{_INK}">{escape(words)}</text>'
        )

    def rect(self, x: float, y: float, width: float, height: float, colour: str, says: str = "") -> None:
        """Fill a rectangle; `says` is shown to who points at it."""
        tip = f"<title>{escape(says)}</title>" if says else ""
        self._parts.append(
            f'<rect x="{x:.2f}" y="{y:.2f}" width="{max(width, 0.4):.2f}" height="{max(height, 0.4):.2f}"'
            f' fill="{colour}">{tip}</rect>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str = _INK, width: float = 1) -> None:
        """Draw a line."""
        self._parts.append(
            f'<line x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" stroke="{colour}"'
            f' stroke-width="{width:g}"/>'
        )

    def path(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        """Draw a line through points, with a dot at each if they are few."""
        placed = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
        self._parts.append(f'<polyline points="{placed}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        for x, y in points if len(points) <= 40 else ():
            self.dot(x, y, colour)

    def dot(self, x: float, y: float, colour: str) -> None:
        """Draw a dot."""
        self._parts.append(f'<circle cx="{x:.2f}" cy="{y:.2f}" r="2.4" fill="{colour}" fill-opacity="0.75"/>')

    def svg(self) -> str:
        """Return the picture as a document."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}"'
            f' width="{self.width}" height="{self.height}" font-family="sans-serif" role="img"'
            f' aria-label="{escape(self._title)}">' + "\n".join(self._parts) + "</svg>\n"
        )


class Plot:
    """A frame with two axes inside a drawing; `box` is left, top, right, bottom."""

    def __init__(
        self,
        drawing: Drawing,
        box: tuple[float, float, float, float],
        x: tuple[float, float],
        y: tuple[float, float],
        labels: tuple[str, str],
        *,
        is_log_x: bool = False,
        is_log_y: bool = False,
        has_y_ticks: bool = True,
    ) -> None:
        left, top, right, bottom = box
        self.drawing, self.box = drawing, box
        self.x = Scale(*x, left, right, is_log_x)
        self.y = Scale(*y, bottom, top, is_log_y)
        for value in self.y.ticks() if has_y_ticks else ():
            drawing.line(left, self.y(value), right, self.y(value), _PALE)
            drawing.text(left - 5, self.y(value) + 4, short(value), anchor="end")
        drawing.line(left, bottom, right, bottom)
        drawing.line(left, top, left, bottom)
        drawing.text((left + right) / 2, bottom + 34, labels[0], anchor="middle")
        drawing.text(left - 48, (top + bottom) / 2, labels[1], anchor="middle", turn=-90)

    def mark_x(self, places: Sequence[tuple[float, str]] = ()) -> None:
        """Write along the x axis: words at places, or round values."""
        _, _, _, bottom = self.box
        for value, words in places or [(value, short(value)) for value in self.x.ticks()]:
            self.drawing.line(self.x(value), bottom, self.x(value), bottom + 4)
            self.drawing.text(self.x(value), bottom + 16, words, anchor="middle")

    def bar(self, x: float, width: float, low: float, high: float, colour: str, says: str = "") -> None:
        """Draw a bar from `low` to `high`; its width is in the picture's units."""
        top, bottom = self.y(high), self.y(low)
        self.drawing.rect(self.x(x) - width / 2, top, width, bottom - top, colour, says)

    def box_plot(self, x: float, shift: float, values: Sequence[float], colour: str) -> None:
        """Draw quartiles as a box, the median as a line in it, extremes as whiskers.

        A box without height is drawn all the same, so that its colour tells whose it is.
        """
        centre, half = self.x(x) + shift, 9.0
        lower, _, upper = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
        self.drawing.line(centre, self.y(min(values)), centre, self.y(max(values)), colour)
        height = max(self.y(lower) - self.y(upper), 7)
        top = (self.y(lower) + self.y(upper) - height) / 2
        self.drawing.rect(centre - half, top, 2 * half, height, colour)
        middle = self.y(median(values))
        self.drawing.line(centre - half - 2, middle, centre + half + 2, middle, _INK, 2)

    def line(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        """Draw a line through points in the plot's values."""
        self.drawing.path([(self.x(x), self.y(y)) for x, y in points], colour)

    def legend(self, names: Sequence[str], colours: Sequence[str] = ()) -> None:
        """Name the colours, all in their order if none are said, at the top right."""
        _, top, right, _ = self.box
        for number, name in enumerate(names):
            y = top + 14 * number
            self.drawing.rect(right + 12, y, 10, 10, colours[number] if colours else colour(number))
            self.drawing.text(right + 27, y + 9, name)


def colour(number: int) -> str:
    """Return the colour of that number."""
    return COLOURS[number % len(COLOURS)]


def shade(number: int, place: int) -> str:
    """Return a lighter or darker form of a colour: things of one kind, told apart by their place."""
    share = (0.0, 0.25, -0.2, 0.45, -0.35, 0.12, -0.1)[place % 7]
    parts = [int(colour(number)[at : at + 2], 16) for at in (1, 3, 5)]
    mixed = [round(part + share * ((255 - part) if share > 0 else part)) for part in parts]
    return "#" + "".join(f"{part:02x}" for part in mixed)


def short(value: float) -> str:
    """Return a value as an axis shows it."""
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):g}{letter}"
    return f"{value:g}"
