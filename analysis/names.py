"""What the columns and methods of a report are called, in words, with their units and directions."""

from __future__ import annotations

from dataclasses import dataclass

from mxsim.errors import MxsimError
from mxsim.storage_formats import STORAGE_FORMATS

#: in the order of every table and legend: what this project makes first, references last
METHOD_TITLES = {
    "dmx": "dMX",
    "dmx_kl": "dMX, loss KL",
    "dmx_paper": "dMX as published, no rotations",
    "kl": "KL",
    "kl_per_bit": "KL per bit",
    "first_order": "first-order",
    "fisher": "Fisher",
    "first_last": "first/last high",
    "uniform_fit": "best uniform that fits",
    "uniform": "uniform",
    "float": "float",
}
METHOD_ORDER = tuple(METHOD_TITLES)
OWN_METHODS = ("dmx", "dmx_kl", "dmx_paper")
REFERENCES = ("uniform", "float")
TEXTLESS = ("first_last", "uniform_fit", *REFERENCES)  #: what chooses without a look at the search text


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A column that can be an axis."""

    column: str
    title: str  #: with its unit, as an axis says it; "{unit}" is where a scaled unit goes, "{steps}" whether it is of one step
    short: str  #: in a sentence or a file's name
    higher_is_better: bool = False
    unit: str = ""  #: what is scaled by SI prefixes, "" for a pure number
    chance: float | None = None  #: what guessing gets

    def axis(self, prefix: str = "", *, is_one_step: bool = True) -> str:
        return self.title.format(unit=f"{prefix}{self.unit}", steps="per step" if is_one_step else "of all steps of the scenario")


COSTS = (
    Metric(column="bits_with_scales", title="mean over linears of weight and input bits, scales included", short="bits"),
    Metric(column="bytes", title="stored weights of the whole model, {unit}", short="bytes", unit="B"),
    Metric(column="energy_pj", title="modelled energy {steps}, {unit}", short="energy", unit="J"),
    Metric(column="latency_s", title="modelled latency {steps}, {unit}", short="latency", unit="s"),
)
PERPLEXITY = Metric(column="perplexity", title="perplexity", short="perplexity")
KL = Metric(column="kl_to_float", title="KL divergence from float, nats per token", short="kl")

#: column's unit -> the unit that its axis title scales
TO_UNIT = {"energy_pj": 1e-12}
PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))


def task_metric(name: str, chance: float | None = None) -> Metric:
    """The accuracy of one zero-shot task, percent."""
    title = {"blimp": "BLiMP"}.get(name, name)
    return Metric(
        column=f"accuracy:{name}",
        title=f"{title} accuracy, %",
        short=f"{name}_accuracy",
        higher_is_better=True,
        chance=None if chance is None else 100 * chance,
    )


def scaling(metric: Metric, largest: float) -> tuple[float, str]:
    """Factor and SI prefix that bring a column's values to between 1 and 1000. (1, "") for a pure number."""
    if not metric.unit:
        return 1.0, ""
    base = TO_UNIT.get(metric.column, 1.0)
    for size, prefix in PREFIXES:
        if abs(largest) * base >= size:
            return base / size, prefix
    return base, ""


def scaled(metric: Metric, value: float) -> str:
    """A value with its unit, three or four digits: "1.23 mJ"."""
    factor, prefix = scaling(metric, value)
    return f"{value * factor:.4g} {prefix}{metric.unit}".strip()


def element_bits(name: str) -> float:
    """Bits of one element, its scale left out; NaN for a format that this version does not know."""
    try:
        return float(STORAGE_FORMATS[name].element_bits)
    except MxsimError:
        return float("nan")


def format_title(name: str) -> str:
    """MXFP8 E4M3 for mxfp8_e4m3."""
    return name.replace("_", " ").upper()


def format_titles(names: tuple[str, ...] | list[str]) -> dict[str, str]:
    """The shortest titles that keep the names apart: MXFP6 where there is one kind, MXFP6 E2M3 where there are two."""
    short = {name: name.partition("_")[0].upper() for name in names}
    repeated = {title for title in short.values() if list(short.values()).count(title) > 1}
    return {name: format_title(name) if title in repeated else title for name, title in short.items()}
