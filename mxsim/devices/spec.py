"""What a device is to the cost model. Units stand in the names; a figure that is not known is None."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from mxsim.errors import MxsimError, unknown_name
from mxsim.storage_formats import FormatPair

KINDS = ("datasheet", "measured", "derived", "assumed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number and where it comes from."""

    value: float
    kind: str  #: one of KINDS
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputePath:
    """One way through the matrix unit: the pairs of operand formats that take it, its rate and its energy.

    The three fitted figures make the roofline: see mxsim.roofline.
    """

    name: str
    pairs: tuple[str, ...]  #: "weight:activation" patterns, as in a shell
    peak_flop_per_s: Figure | None = None  #: dense; a multiply-accumulate is two
    compute_efficiency: Figure | None = None  #: of the peak rate, when compute-bound
    memory_efficiency: Figure | None = None  #: of the bandwidth, when memory-bound
    launch_s: Figure | None = None  #: each matmul's fixed time
    mac_energy_pj: Figure | None = None

    def takes(self, pair: FormatPair) -> bool:
        text = str(pair)
        return any(fnmatchcase(text, pattern) for pattern in self.pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Off-chip memory."""

    bandwidth_bytes_per_s: Figure | None = None
    capacity_bytes: Figure | None = None
    energy_pj_per_bit: Figure | None = None
    write_energy_pj_per_bit: Figure | None = None  #: None: a written bit costs what a read one does


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """The on-chip buffer between memory and matrix unit."""

    weight_share_bytes: Figure | None = None  #: None: weights always fit
    activation_share_bytes: Figure | None = None  #: None: activations always fit
    weight_reuse: Figure | None = None  #: multiply-accumulates a weight read serves; None: weights pass it by
    activation_reuse: Figure | None = None  #: multiply-accumulates an activation read serves
    accumulator_bits: Figure | None = None  #: written and read once an output element; None: outputs pass it by
    energy_pj_per_bit: Figure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """What the matrix unit works on at a time: M, N and K are rounded up to it."""

    m: Figure | None = None
    n: Figure | None = None
    k: Figure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What is drawn beside the traffic and the multiply-accumulates."""

    board_w: Figure | None = None
    static_w: Figure | None = None  #: drawn while the device works, whatever it does


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiser:
    """The pass that turns bf16 activations into the operand's format."""

    energy_pj_per_element: Figure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """Figures that nobody measured; a user accepts them by name."""

    name: str
    says: str
    figures: Mapping[str, Figure] = field(hash=False)  #: "compute.fp4.mac_energy_pj" -> figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One machine. Which of its figures are known says which costs can be told."""

    name: str
    title: str
    wide_path: str  #: the path of a pair that no path takes: both operands are widened first
    notes: str = ""
    paths: tuple[ComputePath, ...]  #: the first that takes a pair is the one
    memory: Memory = Memory()
    buffer: Buffer = Buffer()
    tile: Tile = Tile()
    power: Power = Power()
    quantiser: Quantiser = Quantiser()
    assumptions: tuple[Assumption, ...] = ()
    accepted: tuple[str, ...] = ()  #: assumptions in force

    def native_path(self, pair: FormatPair) -> ComputePath | None:
        """The path made for a pair, None where there is none."""
        return next((path for path in self.paths if path.takes(pair)), None)

    def path_for(self, pair: FormatPair) -> ComputePath:
        """The path a pair takes: its own, or the wide one after both operands have been widened."""
        return self.native_path(pair) or self.path(self.wide_path)

    def path(self, name: str) -> ComputePath:
        for path in self.paths:
            if path.name == name:
                return path
        raise unknown_name(f"compute path of {self.name}", name, [path.name for path in self.paths])

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Every figure that is known, under its dotted name: the provenance of all that follows."""
        for part in _PARTS:
            yield from _known(part, getattr(self, part))
        for path in self.paths:
            yield from _known(f"compute.{path.name}", path)

    def assuming(self, names: tuple[str, ...] | list[str]) -> Device:
        """The device with the figures of the assumptions so named. Raises: UnknownNameError for another name."""
        known = {assumption.name: assumption for assumption in self.assumptions}
        device = self
        for name in names:
            if name not in known:
                if not known:
                    raise MxsimError(f"device {self.name} offers no assumptions, so {name!r} cannot be accepted")
                raise unknown_name(f"assumption of {self.name}", name, known)
            for key, figure in known[name].figures.items():
                device = device.with_figure(key, figure)
            device = replace(device, accepted=(*device.accepted, name))
        return device

    def with_figure(self, key: str, figure: Figure) -> Device:
        """The device with one figure replaced, named as `figures` names it."""
        part, _, rest = key.partition(".")
        if part == "compute":
            name, _, leaf = rest.rpartition(".")
            old = self.path(name)
            _check_leaf(key, old, leaf)
            figures: dict[str, Any] = {leaf: figure}
            new = replace(old, **figures)
            return replace(self, paths=tuple(new if path.name == name else path for path in self.paths))
        if part not in _PARTS:
            raise unknown_name("figure", key, [f"{name}.*" for name in (*_PARTS, "compute")])
        _check_leaf(key, getattr(self, part), rest)
        changed: dict[str, Any] = {part: replace(getattr(self, part), **{rest: figure})}
        return replace(self, **changed)


_PARTS = ("memory", "buffer", "tile", "power", "quantiser")


def _known(prefix: str, part: Any) -> Iterator[tuple[str, Figure]]:
    for entry in fields(part):
        value = getattr(part, entry.name)
        if isinstance(value, Figure):
            yield f"{prefix}.{entry.name}", value


def _check_leaf(key: str, part: Any, leaf: str) -> None:
    known = [entry.name for entry in fields(part) if entry.name not in ("name", "pairs")]
    if leaf not in known:
        raise unknown_name(f"figure {key!r}: key", leaf, known)
