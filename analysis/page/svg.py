"""Small charts as inline SVG: scales, ticks, axes and marks. Colours come from the page's style sheet, so that light and dark both work."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels. On a logarithmic scale, what has no logarithm stands at the low end."""

    low: float
    high: float
    start: float  #: pixel of low
    end: float  #: pixel of high
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at if at > 0 else low)
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """Round values inside, about `count` of them: 1, 2 or 5 times a power of ten."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for multiples in ((1, 2, 5), (1, 3), (1,)):
                found = [m * 10.0**d for d in decades for m in multiples if self.low <= m * 10.0**d <= self.high]
                if len(found) <= count + 2:
                    return found
            return found
        step = nice_step((self.high - self.low) / max(count, 1))
        first = math.ceil(self.low / step - 1e-9)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


def nice_step(rough: float) -> float:
    """The least of 1, 2, 2.5, 5 and 10 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(multiple * power for multiple in (1, 2, 2.5, 5, 10) if multiple * power >= rough * (1 - 1e-9))


def spanned(values: Sequence[float], *, log: bool = False, margin: float = 0.06, least: float = 0.0) -> tuple[float, float]:
    """Least and largest value with some air; never an empty span. Args: log: leave out what is not above 0.  least: of a linear span."""
    known = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    low, high = (min(known), max(known)) if known else (0.1 if log else 0.0, 1.0)
    if log:
        ratio = (high / low) ** margin if high > low else 1.5
        return low / ratio, high * ratio
    air = margin * (high - low) if high > low else max(abs(high), 1.0) * 0.1
    air = max(air, (least - (high - low)) / 2)
    return low - air, high + air


def tick_texts(ticks: Sequence[float]) -> list[tuple[float, str]]:
    """Ticks with their texts, of at least four digits and as many as the step between them needs."""
    step = min((after - before for before, after in itertools.pairwise(ticks)), default=math.inf)
    texts = [[number(value, digits) for value in ticks] for digits in range(4, 13)]
    exact = (one for one in texts if all(abs(float(text) - value) <= step / 100 for text, value in zip(one, ticks, strict=True)))
    return list(zip(ticks, next(exact, texts[-1]), strict=True))


def number(value: float, digits: int = 4) -> str:
    """A tick's text."""
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    return text if "e" not in text or abs(value) >= 1e6 or abs(value) < 1e-4 else f"{value:.{max(digits, 6)}g}"


def px(value: float) -> str:
    """A coordinate, a tenth of a pixel fine."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


_SHAPES = {
    "s": "M-4-4H4V4H-4Z",
    "^": "M0-5.2L5 3.8H-5Z",
    "v": "M0 5.2L5-3.8H-5Z",
    "D": "M0-5.4L5.4 0L0 5.4L-5.4 0Z",
    "P": "M-1.7-5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5V-1.7H-1.7Z",
    "X": "M-4.6-2.8L-2.8-4.6L0-1.8L2.8-4.6L4.6-2.8L1.8 0L4.6 2.8L2.8 4.6L0 1.8L-2.8 4.6L-4.6 2.8L-1.8 0Z",
    "*": "M0-7L1.7-2.3L6.7-2.2L2.7.9L4.1 5.7L0 2.8L-4.1 5.7L-2.7.9L-6.7-2.2L-1.7-2.3Z",
    "h": "M0-5L4.3-2.5V2.5L0 5L-4.3 2.5V-2.5Z",
    "o": "M-4.6 0A4.6 4.6 0 1 0 4.6 0A4.6 4.6 0 1 0-4.6 0Z",
}


def shape(marker: str) -> str:
    """A marker's outline around (0, 0), for matplotlib's letter."""
    return _SHAPES.get(marker, _SHAPES["o"])


def ink(light: str, dark: str) -> str:
    """The style attribute that gives a group its colour in light and in dark."""
    return f'style="--l:{light};--d:{dark}"'


@dataclass(slots=True)
class Chart:
    """Axes, and what is drawn between them."""

    width: int
    height: int
    x: Scale
    y: Scale
    parts: list[str] = field(default_factory=list)

    @classmethod
    def framed(
        cls,
        width: int,
        height: int,
        x_span: tuple[float, float],
        y_span: tuple[float, float],
        x_title: str,
        y_title: str,
        *,
        log_x: bool = False,
        log_y: bool = False,
        left: int = 52,
        right: int = 14,
        top: int = 26,
        bottom: int = 46,
        x_ticks: Sequence[tuple[float, str]] | None = None,
    ) -> Chart:
        """A chart with grid, ticks and titles; the ordinate's title lies above the axis, where it can be read without turning the head."""
        x = Scale(x_span[0], x_span[1], left, width - right, log_x)
        y = Scale(y_span[0], y_span[1], height - bottom, top, log_y)
        chart = cls(width, height, x, y)
        for value, text in tick_texts(y.ticks(6)):
            at = px(y(value))
            chart.parts.append(f'<path class="grid" d="M{left} {at}H{width - right}"/>')
            chart.parts.append(f'<text class="tick" x="{left - 8}" y="{at}" dy=".32em" text-anchor="end">{text}</text>')
        ticks = x_ticks if x_ticks is not None else tick_texts(x.ticks(max(3, width // 110)))
        for value, text in ticks:
            at = px(x(value))
            chart.parts.append(f'<path class="ticks" d="M{at} {height - bottom}v5"/>')
            chart.parts.append(f'<text class="tick" x="{at}" y="{height - bottom + 18}" text-anchor="middle">{escape(text)}</text>')
        chart.parts.append(f'<path class="frame" d="M{left} {height - bottom}H{width - right}"/>')
        chart.parts.append(f'<text class="axis" x="{width - right}" y="{height - 8}" text-anchor="end">{escape(x_title)}</text>')
        chart.parts.append(f'<text class="axis" x="{left - 44 if left >= 44 else 0}" y="12">{escape(y_title)}</text>')
        return chart

    def line(self, xs: Sequence[float], ys: Sequence[float], *, dash: Sequence[int] = (), width: float = 1.5) -> str:
        path = "M" + "L".join(f"{px(self.x(a))} {px(self.y(b))}" for a, b in zip(xs, ys, strict=True))
        dashes = f' stroke-dasharray="{" ".join(map(str, dash))}"' if dash else ""
        return f'<path class="line" d="{path}" stroke-width="{width:g}"{dashes}/>'

    def mark(self, x: float, y: float, marker: str, tip: str, *, kind: str = "", data: str = "") -> str:
        """A point whose title is its tip; data: further attributes."""
        return (
            f'<g class="mark {kind}" transform="translate({px(self.x(x))} {px(self.y(y))})"{data}>'
            f'<path d="{shape(marker)}"/><title>{escape(tip)}</title></g>'
        )

    def level(self, y: float, text: str, *, dash: str = "5 4") -> str:
        """A horizontal reference line with its name at the left end."""
        at, left = px(self.y(y)), px(self.x.start + 4)
        return (
            f'<path class="level" d="M{px(self.x.start)} {at}H{px(self.x.end)}" stroke-dasharray="{dash}"/>'
            f'<text class="note" x="{left}" y="{px(self.y(y) - 6)}">{escape(text)}</text>'
        )

    def text(self, label: str, size: str = "") -> str:
        """The whole chart as an svg element. Args: label: what it shows, for who cannot see it."""
        return (
            f'<svg class="chart {size}" viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(label, quote=True)}">'
            + "".join(self.parts)
            + "</svg>"
        )
