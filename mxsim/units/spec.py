"""One description for every matrix unit: what happens between two operands and the bits of their product.

A unit computes D = C + sum_k a_k b_k in steps. K is cut into chunks; a chunk's products are reduced to one number and rounded; that
number is the next chunk's C, or is added to it. Every way of doing so that the presets need is a combination of the fields of UnitPath,
and any other combination that passes `__post_init__` is a unit that one might build.

Notation, as in the published models: dec(x) = (s, e) with x = s * 2^e, e = max(floor(log2 |x|), emin of x's format), so that a
subnormal has |s| < 1. A product is (sa * sb, ea + eb): exact, not renormalised. A term is a product or C.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mxsim.errors import MxsimError
from mxsim.units.operands import OPERANDS, OperandFormat
from mxsim.units.rounding import Rounding, rounding


class Level(enum.StrEnum):
    """How sure a path is, the surest first."""

    VECTORS = "vectors"  #: reproduces public captures of the hardware, every one of them
    SILICON_TESTED = "silicon-tested"  #: a published model that its authors tested on silicon
    DOCUMENTED = "documented"  #: the vendor's manual, RTL or machine code, or our own definition
    ASSUMED = "assumed"  #: the facts stop short of the bits; what was chosen is written down


LEVELS = tuple(Level)
OUTPUTS = ("fp32", "fp16")
CHOICES = {
    "pairs": ("same", "any"),
    "out": OUTPUTS,
    "denormals": ("keep", "flush", "flush_signed"),
    "c_denormals": ("keep", "flush", "flush_signed"),
    "exponents": ("own", "fp16"),
    "scaling": ("none", "exact", "group"),
    "order": ("ascending", "mod4_pairs", "even_odd"),
    "reduce": ("align", "exact", "pairwise", "fma"),
    "align": ("trunc", "floor", "nearest", "jam"),
    "c": ("in_sum", "late", "floored"),
    "zero": ("positive", "signed"),
}  #: what the fields of UnitPath that are words may say
SUM_BITS = 62  #: what the fixed-point accumulator of the kernels holds beside its sign


@dataclass(frozen=True, slots=True, kw_only=True)
class FlooredC:
    """The C step of AMD's CDNA3. With E' = max(E, eC): the sum is floored to 2^(E'-sum_bits), C to 2^(E'-c_bits); their sum, normalised,
    is floored to norm_bits fraction bits, and rounded. All floors are toward minus infinity; a zero C has the exponent emin."""

    sum_bits: int
    c_bits: int
    norm_bits: int
    drop_below: int | None = None  #: C is dropped where eC < E' - drop_below


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPath:
    """One unit's arithmetic for some pairs of operand formats and one output format."""

    name: str  #: the vendor's word for it, or ours
    formats: tuple[str, ...]  #: operand formats, names of OPERANDS
    pairs: str = "same"  #: both operands in the same format | any two of `formats`
    out: str = "fp32"  #: fp32 | fp16: what D is, and what C is rounded to (RNE) before anything else

    denormals: str = "keep"  #: subnormal operands: keep | flush (zeros lose their sign too) | flush_signed
    c_denormals: str = "keep"  #: the same for the C that the caller gives
    exponents: str = "own"  #: e of dec(x): of the operand's format | of the fp16 that the operand is widened to

    scaling: str = "none"  #: none | exact (scales multiply every product) | group (the scales' exponents place whole groups)
    block: int | None = None  #: elements to a scale; None where scaling is none
    presum: int = 1  #: scaling = group: products added exactly before alignment
    int8_fraction: int = 6  #: fraction bits of an INT8 element

    chunk: int | None = None  #: products to one rounding; None: all of K
    within: int | None = None  #: a chunk never crosses a multiple of this: the last one before it is shorter
    order: str = (
        "ascending"  #: ascending | mod4_pairs (of each instruction, k mod 4 in {0,1} first) | even_odd (two sums, floored together)
    )
    product_limit: int | None = None  #: products of 2^this and above are Inf

    reduce: str = "align"  #: align (to a common quantum) | exact | pairwise (a tree, every step rounded) | fma (a chain)
    align: str = "trunc"  #: what happens to bits below the quantum: trunc (toward zero) | floor | nearest (even) | jam
    F: int | None = None  #: reduce = align: the quantum is 2^(E-F), E the largest exponent of a nonzero term
    e_zero: int | None = None  #: E is at least this: the exponent given to zero terms; None: no bound
    chains: int = 1  #: reduce = fma: accumulators that take the products in turn

    c: str = "in_sum"  #: in_sum (one of the terms) | late (added after the instruction, which starts from zero) | floored
    instruction: int | None = None  #: c = late: elements of K from zero to the addition; None: one chunk
    floored_c: FlooredC | None = None  #: c = floored

    step: str = "rz_fp32"  #: how a chunk's result is rounded: see mxsim.units.rounding
    late: str = "rne_fp32"  #: c = late: how the addition is rounded
    zero: str = "signed"  #: sign of zero: positive (always) | signed (an exact zero of a fused sum is +0, else as IEEE 754)
    nan: int = 0x7FC00000  #: bits of a NaN result in `out`

    promote_every: int | None = None  #: GEMM: every so many elements of K the unit starts from zero, and its result is added ...
    promote: str = "rne_fp32"  #: ... to a separate accumulator, rounded so

    level: Level = Level.ASSUMED
    source: str = ""
    vectors: tuple[str, ...] = ()  #: the GPUs whose captures it reproduces

    def __post_init__(self) -> None:
        _check(self)

    def takes(self, a: str, b: str, out: str) -> bool:
        """Whether the path is for operand formats a and b and this output."""
        return out == self.out and a in self.formats and b in self.formats and (a == b or self.pairs == "any")

    def promoted(self, every: int) -> UnitPath:
        """See MatmulUnit.promoted. Raises: MxsimError where the path's sums do not end at multiples of `every`."""
        return replace(self, promote_every=every, level=Level.ASSUMED, vectors=())

    @property
    def operand_formats(self) -> tuple[OperandFormat, ...]:
        return tuple(OPERANDS[name] for name in self.formats)

    @property
    def scaled(self) -> bool:
        return self.scaling != "none"

    @property
    def step_rounding(self) -> Rounding:
        return rounding(self.step)

    @property
    def late_rounding(self) -> Rounding:
        return rounding(self.late)

    @property
    def promote_rounding(self) -> Rounding:
        return rounding(self.promote)

    @property
    def instruction_length(self) -> int | None:
        """Elements of K between two additions of a late C; None where C is one of the terms."""
        return (self.instruction or self.chunk) if self.c == "late" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulUnit:
    """A named unit: a path for every pair of operand formats that it takes."""

    name: str
    title: str
    paths: tuple[UnitPath, ...]
    source: str
    notes: str = ""

    @property
    def level(self) -> Level:
        """The least sure of its paths: a unit is never shown as surer than any part of it."""
        return max((path.level for path in self.paths), key=LEVELS.index)

    def pairs(self) -> Iterator[tuple[str, str, str, UnitPath]]:
        """Everything the unit takes: (format of A, format of B, output, path)."""
        for path in self.paths:
            for a in path.formats:
                for b in path.formats:
                    if self._first(a, b, path.out) is path:
                        yield a, b, path.out, path

    def _first(self, a: str, b: str, out: str) -> UnitPath | None:
        return next((path for path in self.paths if path.takes(a, b, out)), None)

    def path_for(self, a: str, b: str, out: str = "fp32") -> UnitPath:
        """The path for operand formats a and b.

        Raises: MxsimError that lists what the unit takes.
        """
        found = self._first(a, b, out)
        if found is None:
            raise MxsimError(f"{self.name} has no path for {a} x {b} -> {out}: it takes {self.listed()}")
        return found

    def listed(self) -> str:
        """What the unit takes, in words."""
        seen: dict[tuple[tuple[str, ...], str], list[str]] = {}
        for path in self.paths:
            outputs = seen.setdefault((path.formats, path.pairs), [])
            if path.out not in outputs:
                outputs.append(path.out)
        parts = []
        for (formats, pairs), outputs in seen.items():
            if pairs == "same" and set(outputs) <= set(seen.get((formats, "any"), ())):
                continue
            names = f"any two of {', '.join(formats)}" if pairs == "any" and len(formats) > 1 else ", ".join(f"{f} x {f}" for f in formats)
            parts.append(f"{names} -> {' or '.join(outputs)}")
        return "; ".join(parts)

    def promoted(self, every: int) -> MatmulUnit:
        """The unit inside a GEMM that adds its result to a separate FP32 accumulator every so many elements of K and starts it from zero.

        CUTLASS on Hopper without fast accumulation: promoted(128) of nvidia_hopper_wgmma. Paths that do not end there are left out.
        Raises: MxsimError where none is left; it says why of the first.
        """
        found: list[UnitPath] = []
        refused: list[MxsimError] = []
        for path in self.paths:
            try:
                found.append(path.promoted(every))
            except MxsimError as error:
                refused.append(error)
        if not found:
            raise refused[0]
        return replace(
            self,
            paths=tuple(found),
            notes=promoted_notes(self.notes, every),
        )


def promoted_notes(notes: str, every: int) -> str:
    """A unit's notes, and that it is promoted."""
    return f"{notes} Promoted to a separate FP32 accumulator every {every} of K.".strip()


def _check(path: UnitPath) -> None:
    """Refuse what no kernel computes, with the remedy."""

    def need(condition: bool, problem: str, remedy: str) -> None:
        if not condition:
            raise MxsimError(f"path {path.name!r}: {problem}: {remedy}")

    for field, allowed in CHOICES.items():
        value = getattr(path, field)
        need(value in allowed, f"{field} is {value!r}", f"write {' | '.join(allowed)}")
    for field in ("step", "late", "promote"):
        try:
            rounding(getattr(path, field))
        except MxsimError as error:
            raise MxsimError(f"path {path.name!r}: {field}: {error}") from None
    for field in ("block", "presum", "chunk", "within", "instruction", "chains", "promote_every"):
        value = getattr(path, field)
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        need(value is None or whole, f"{field} is {value!r}", "write a whole number, at least 1")

    need(bool(path.formats), "it has no operand formats", f"name some of {', '.join(OPERANDS)}")
    operands = path.operand_formats
    need(len({f.scale is None for f in operands}) == 1, "formats mixes scaled and unscaled operands", "give each kind a path of its own")
    scaled = operands[0].scale is not None
    need(path.scaled == scaled, f"scaling is {path.scaling!r}", "exact or group for block formats, none for others")
    need(scaled == (path.block is not None), f"block is {path.block}", "say how many elements share a scale, for block formats only")
    need(path.nan >> (16 if path.out == "fp16" else 32) == 0, f"nan is {path.nan:#x}", f"give the bits of an {path.out} NaN")

    if path.reduce == "align":
        need(path.F is not None and 1 <= path.F <= 48, f"F is {path.F}", "fraction bits kept below the largest exponent, 1 to 48")
        need(path.chunk is not None, "chunk is missing", "say how many products are aligned together")
        ue4m3 = operands[0].scale == "ue4m3"
        fraction = 2 * max(f.mbits for f in operands) + (0 if path.presum > 1 else 3 * ue4m3)
        floored = 0 if path.floored_c is None else path.floored_c.sum_bits
        bits = max(path.F or 0, fraction, floored) + _integer_bits(path) + 1 + (path.chunk or 1).bit_length()
        need(
            bits <= SUM_BITS,
            f"F = {path.F}{f', floored_c.sum_bits = {floored}' if floored else ''} with chunks of {path.chunk} needs a sum of {bits} bits",
            f"lower F or chunk until it is {SUM_BITS}",
        )
    else:
        need(path.F is None and path.e_zero is None, "F or e_zero is given", "leave them out, or write reduce = align")
        need(path.align == "trunc", f"align is {path.align!r}", "leave it out, or write reduce = align")
    if path.reduce == "pairwise":
        need(path.c == "late", f"reduce is pairwise and c is {path.c!r}", "write c = late: the tree has no place for C")
        need(path.chunk in (2, 4, 8, 16, 32, 64), f"chunk is {path.chunk}", "a tree needs 2, 4, 8, 16, 32 or 64 products")
    if path.reduce == "fma":
        need(path.chunk is not None, "chunk is missing", "say how many products one instruction chains")
        need(path.chains in (1, 2), f"chains is {path.chains}", "write 1 or 2")
        need(path.chains == 1 or path.c == "late", "two chains start from zero", "write c = late")
        need(path.within is None, f"within is {path.within}", "leave it out: a chain has no chunks to cut")
        need(path.order == "ascending", f"order is {path.order!r}", "leave it out: a chain goes through K as it comes")
    else:
        need(path.chains == 1, f"chains is {path.chains}", "leave it out, or write reduce = fma")
    if path.reduce in ("pairwise", "fma"):
        need(path.instruction is None, f"instruction is {path.instruction}", "leave it out: chunk is the instruction")
        need(path.product_limit is None, "product_limit is given", "leave it out: products round, and overflow, to the step's format")
    if path.c == "floored":
        need(path.floored_c is not None and path.reduce == "align", "floored_c is missing", "give its bits, with reduce = align")
    if path.floored_c is not None:
        need(path.c == "floored", f"floored_c is given and c is {path.c!r}", "leave it out, or write c = floored")
        c_bits, sum_bits = path.floored_c.c_bits, path.floored_c.sum_bits
        given = f"floored_c has c_bits = {c_bits} and sum_bits = {sum_bits}"
        need(c_bits <= sum_bits, given, "C's fraction bits are at most the sum's, which holds both")
    need(path.order != "even_odd" or path.c == "floored", "order is even_odd", "write c = floored: the two sums are floored together")
    if path.order == "even_odd":
        need((path.chunk or 1) % 2 == 0, f"chunk is {path.chunk}", "two halves need an even number")
    if path.order == "mod4_pairs":
        length = path.instruction or path.chunk or 0
        need(length % 4 == 0 and path.c == "late", f"order is mod4_pairs over {length}", "give an instruction that 4 divides, and c = late")
    if path.scaling == "group":
        need(path.reduce == "align" and path.c == "in_sum", "scaling is group", "write reduce = align and c = in_sum")
        need((path.block or 0) % path.presum == 0, f"presum {path.presum} does not divide block {path.block}", "a group has one scale")
        for field in ("chunk", "within"):
            value = getattr(path, field) or 0
            need(value % path.presum == 0, f"presum {path.presum} does not divide {field} {value}", "chunks are whole groups")
        need(path.exponents == "own", f"exponents is {path.exponents!r}", "leave it out: the scales' exponents place groups")
        widths = sorted(f.fixed_point_bits for f in operands)
        need(2 * widths[-1] + path.presum.bit_length() <= 31, "products are too wide to be added exactly", "use FP4 or FP6 operands")
    else:
        need(path.presum == 1, f"presum is {path.presum}", "leave it out, or write scaling = group")
    if path.within is not None:
        need(path.chunk is not None and path.chunk <= path.within, f"within is {path.within}", "give a chunk that fits into it")
        need(path.order == "ascending", f"within is {path.within}", "leave it out, or write order = ascending")
    for field in ("instruction", "promote_every"):
        unit = path.within or ((path.instruction_length or path.chunk) if field == "promote_every" else path.chunk)
        value = getattr(path, field)
        remedy = "leave it out: the path adds all of K at once" if unit is None else f"give a multiple of {unit}"
        need(value is None or (unit is not None and value % unit == 0), f"{field} is {value}", remedy)
    need(path.instruction is None or path.c == "late", "instruction is given", "leave it out, or write c = late")


def _integer_bits(path: UnitPath) -> int:
    """How far above 2^E a product of exponent E, or a group's scaled product, may reach: it is at most 2^(E + integer bits)."""
    scales = 2 * (path.operand_formats[0].scale == "ue4m3")
    if path.scaling != "group":
        return 2 + scales
    lowest = {f: f.emin - f.mbits if f.ebits else -path.int8_fraction for f in path.operand_formats}
    return scales + 2 * max(f.fixed_point_bits + unit for f, unit in lowest.items())
