"""Every setting of a search, in one place with one set of defaults; the command line, Python and configuration files all use it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from dmx.calibration import LOSSES
from dmx.continuous import field_widths
from dmx.errors import DmxError
from mxsim.errors import unknown_name
from mxsim.policies import POLICIES

#: A step draws from (1000003 seed + step), which has to fit 64 bits.
LARGEST_SEED = 2**40
#: setting -> what it may be
CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "relaxation": ("mix", "monotone", "floored"),
        "start": ("scores", "middle", "zero"),
        "loss": LOSSES,
        "steering": ("lagrangian", "two_sided", "one_sided"),
        "optimizer": ("adam", "sgd"),
    }
)
#: What a setting of a type is called in an error.
KINDS: Mapping[type, str] = MappingProxyType(
    {int: "a whole number", float: "a number", bool: "True or False", str: "a name", tuple: "a list of names"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """How a search runs. The defaults are ours; PRESETS["paper"] is the method as published, its learned rotations left out."""

    formats: tuple[str, ...] = ("mxfp4_e2m1", "mxfp8_e4m3")  #: the ladder
    policy: str = "ocp"  #: how values are converted, a name of mxsim.POLICIES
    tie: bool = False  #: q/k/v and gate/up decide together
    apart: bool = True  #: weight and input formats are chosen each for itself
    relaxation: str = "mix"  #: of neighbouring formats' values; or exponent and significand bits that slide: monotone, floored (paper)
    start: str = "scores"  #: from the loss's gradients along the way from low to high; or every layer in the middle, or at offset zero
    loss: str = "shrunk"  #: KL(float || model) and what next-token loss says beyond it that is more than chance; or kl or ce alone
    steering: str = "lagrangian"  #: to the budget: shadow prices, offsets kept at the budget; or a penalty on both sides, or above (paper)
    strength: float = 5.0  #: of the two penalties: loss per bit of excess (other budgets: per quarter of their range)
    optimizer: str = "adam"  #: of the offsets, or sgd with Nesterov momentum
    learning_rate: float = 0.05
    momentum: float = 0.9  #: sgd: Nesterov's; adam: the first moment's
    steps: int = 48
    batch_windows: int = 8  #: windows a step
    tokens: int = 32768  #: of the search text that are looked at
    context: int | None = None  #: tokens of a window; the model's longest, at most 512, when None
    level: float = 0.4  #: temperature while it is held
    hold: float = 0.5  #: share of the steps for which it is held
    rise: float = 50.0  #: how many times sharper the last step is
    gradient_clip: float = 0.0  #: largest norm of the offsets' gradient; 0 is none
    repair: bool = True  #: end with an exact choice that meets the budget; False: only where the budget is exceeded
    curvature: bool = True  #: one of the choices that a repair compares is exact by second-order scores
    refine: int = 32  #: exchanges between decisions that are measured, and kept where they measure better; 0 is none
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_kind(field.name, getattr(self, field.name), _kind(field), field.default is None)
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise unknown_name(name, getattr(self, name), allowed)
        POLICIES[self.policy]
        if self.relaxation != "mix":
            field_widths(self.formats, self.policy)
        for name in ("steps", "batch_windows", "tokens"):
            if getattr(self, name) < 1:
                raise DmxError(f"{name} is {getattr(self, name)}: pass a whole number of at least 1")
        for name in ("learning_rate", "level", "rise"):
            if not 0 < getattr(self, name) < math.inf:
                raise DmxError(f"{name} is {getattr(self, name)}: pass a finite number above 0")
        for name in ("strength", "gradient_clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise DmxError(f"{name} is {getattr(self, name)}: pass a finite number of at least 0")
        if not 0 <= self.momentum < 1:
            raise DmxError(f"momentum is {self.momentum}: pass a number of at least 0 and below 1")
        if self.context is not None and self.context < 2:
            raise DmxError(f"context is {self.context}: a window needs 2 tokens or more")
        check_seed(self.seed)
        if not 0 <= self.hold <= 1:
            raise DmxError(f"hold is {self.hold}: pass a share of the steps, 0 to 1")
        if self.refine < 0:
            raise DmxError(f"refine is {self.refine}: pass a number of measurements, 0 for none")

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "formats": list(self.formats)}

    def with_settings(self, settings: Mapping[str, Any]) -> SearchConfig:
        """The same with some settings changed. Raises: UnknownNameError for a setting that there is not."""
        known = [field.name for field in fields(self)]
        for name in settings:
            if name not in known:
                raise unknown_name("setting", name, known)
        changed = dict(settings)
        if isinstance(changed.get("formats"), list):
            changed["formats"] = tuple(changed["formats"])
        return dataclasses.replace(self, **changed)


def _kind(field: dataclasses.Field[Any]) -> type:
    """What a setting is, by its default; None stands for a whole number."""
    return int if field.default is None else type(field.default)


def _check_kind(name: str, value: object, kind: type, is_optional: bool) -> None:
    """Raises: DmxError for a setting that is of another type than its default. A whole number does for a float."""
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    if isinstance(value, tuple):
        fits = fits and all(isinstance(each, str) for each in value)
    if not fits and not (is_optional and value is None):
        raise DmxError(f"{name} is {value!r}: pass {KINDS[kind]}{' or None' if is_optional else ''}")


def check_seed(seed: int) -> None:
    """Raises: DmxError for a seed that the generators do not take."""
    if not 0 <= seed <= LARGEST_SEED:
        raise DmxError(f"seed is {seed}: pass a whole number from 0 to {LARGEST_SEED}")


#: The published method (arXiv 2606.04115), without its rotations: a scalar a layer for weights and inputs alike, from offset zero.
PAPER = SearchConfig(
    apart=False,
    relaxation="floored",
    start="zero",
    loss="ce",
    steering="one_sided",
    strength=5.0,
    optimizer="sgd",
    learning_rate=1.0,
    momentum=0.99,
    steps=400,
    batch_windows=8,
    level=0.4,
    hold=0.6,
    rise=50.0,
    gradient_clip=1.0,
    repair=False,
    curvature=False,
    refine=0,
)

PRESETS: Mapping[str, SearchConfig] = MappingProxyType({"default": SearchConfig(), "kl": SearchConfig(loss="kl"), "paper": PAPER})
#: What every table that a preset made has to say of it.
PRESET_NOTES: Mapping[str, str] = MappingProxyType({"paper": "dMX as published, without its learned rotations"})


def preset(name: str) -> SearchConfig:
    """The settings of a name. Raises: UnknownNameError."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]


def preset_of(config: SearchConfig) -> str | None:
    """The preset whose method a configuration follows: the one that agrees in all of CHOICES, whatever else was set; None without one."""
    method = [getattr(config, choice) for choice in CHOICES]
    return next((name for name, one in PRESETS.items() if [getattr(one, choice) for choice in CHOICES] == method), None)


def parse_settings(words: list[str]) -> dict[str, Any]:
    """NAME=VALUE words as settings of the right types. Raises: DmxError for another form, UnknownNameError for another name."""
    types = {field.name: _kind(field) for field in fields(SearchConfig)}
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise DmxError(f"setting {word!r} is not NAME=VALUE, such as steps=100")
        if name not in types:
            raise unknown_name("setting", name, types)
        kind = types[name]
        try:
            if kind is bool:
                found[name] = {"true": True, "false": False, "1": True, "0": False, "on": True, "off": False}[value.lower()]
            elif kind is tuple:
                found[name] = tuple(value.split(","))
            else:
                found[name] = kind(value)
        except (ValueError, KeyError) as error:
            raise DmxError(f"setting {name}={value!r}: pass {KINDS[kind]}") from error
    return found
