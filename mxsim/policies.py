"""Policies: everything that the standard leaves open, as each producer settled it. To add one, add one literal to the table below.

What a policy says was read in the library of the version it names and is held against bytes that this version wrote:
see tests/golden/policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mxsim import nvfp4, scaling
from mxsim.errors import MxsimError, unknown_name
from mxsim.nvfp4 import TwoLevelScale
from mxsim.registry import Registry
from mxsim.scaling import ScaleExponent

INF = float("inf")
NAN = float("nan")
KEEP, PLUS, MINUS = "keep", "plus", "minus"

EVERY_DTYPE = ("float32", "float16", "bfloat16")
FLOATING = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4_e2m1")
EVERY_MX = (*FLOATING, "mxint8")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scale:
    """A stored E8M0 code, and what the block's elements are divided by, where that is not what the code stands for."""

    code: int
    factor: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpecialCodes:
    """Element codes for what is not a number, which no element format but FP8 can hold."""

    inf: int | None = None  #: magnitude code of Inf; None: the largest number's
    nan: int | None = None  #: NaN with its sign clear; None: the format's own NaN
    negative_nan: int | None = None  #: NaN with its sign set; None: the same with the sign bit
    invalid: int = 0  #: Inf divided by Inf
    nan_scale: int = 0  #: a number under a scale of NaN
    negative_nan_scale: int | None = None  #: under a NaN with its sign set; None: the same
    nan_nan: int | None = None  #: NaN, sign clear, under a scale of NaN; None: as a number
    negative_nan_nan: int | None = None  #: NaN, sign set, under a scale of NaN; None: as with the sign clear


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScaleRule:
    """How an E8M0 scale follows from a block's largest magnitude."""

    exponent: ScaleExponent
    lowest: int = 0  #: codes are clamped from here
    highest: int = 254  #: to here
    zero: Scale = Scale(code=0)  #: of an all-zero block
    inf: Scale | None = None  #: of a block with Inf and no NaN; None: as the rule has it, Inf being 2^128
    nan: Scale = Scale(code=255)  #: of a block with NaN
    overflow: Scale | None = None  #: where the scale comes out infinite though the block is finite
    vanished: Scale | None = None  #: where the scale comes out zero though the block is not; None: it is clamped
    specials: SpecialCodes | None = None  #: None: the conversion's
    instead: Mapping[int, Scale] = field(default_factory=dict)  #: what stands in for a code; those below 0 are exponents below -127


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conversion:
    """How one producer converts some formats from some dtypes."""

    formats: tuple[str, ...]
    dtypes: tuple[str, ...] = EVERY_DTYPE
    scale_rule: str | None = None  #: the rule used unless another is asked for; None for nvfp4
    scale_rules: Mapping[str, ScaleRule] = field(default_factory=dict)
    two_level: TwoLevelScale | None = None  #: for nvfp4
    arithmetic: str = "float32"  #: the dtype that scaled elements are held in: float32, or that of the input
    rounding: str = "nearest_even"
    zero_sign: str = KEEP  #: keep | plus | minus: the sign of an element that is zero once scaled
    underflow_sign: str = KEEP  #: the sign of one that only rounds to zero
    slips: bool = False  #: whether rounding to nearest takes the number just below half the smallest element up: adding 1/2 carried it to 1
    specials: SpecialCodes = field(default_factory=SpecialCodes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Policy:
    """What one producer does where the standard is silent."""

    name: str
    version: str
    conversions: tuple[Conversion, ...]
    source: str
    limits: str = ""  #: where the producer's bytes are not reproduced

    def conversion(self, format: str, dtype: str) -> Conversion:
        """The conversion of a format from a dtype; MxsimError where the producer has none."""
        offered = [c for c in self.conversions if format in c.formats]
        if not offered:
            formats = dict.fromkeys(f for c in self.conversions for f in c.formats)
            raise MxsimError(f"policy {self.name!r} has no {format}: {self.version} converts to {', '.join(formats)}; policy 'ocp' has all")
        for conversion in offered:
            if dtype in conversion.dtypes:
                return conversion
        dtypes = dict.fromkeys(d for c in offered for d in c.dtypes)
        raise MxsimError(
            f"policy {self.name!r} does not take {dtype} to {format}: {self.version} takes {', '.join(dtypes)}; widen to float32"
        )


def _exact_rules(**common: object) -> Mapping[str, ScaleRule]:
    """The four rules in their exact form."""
    rules = {"floor": scaling.floor, "ceil": scaling.ceil, "rceil": scaling.rceil, "even": scaling.even}
    return MappingProxyType({name: ScaleRule(exponent=rule, **common) for name, rule in rules.items()})  # type: ignore[arg-type]


EXACT_RULES = _exact_rules(inf=Scale(code=255))

POLICIES: Registry[Policy] = Registry(
    "policy",
    [
        Policy(
            name="ocp",
            version="OCP MX v1.0",
            conversions=(
                Conversion(formats=EVERY_MX, scale_rule="floor", scale_rules=EXACT_RULES),
                Conversion(
                    formats=("nvfp4",),
                    two_level=TwoLevelScale(
                        tensor=nvfp4.amax_over_range_or_one,
                        finite_only=True,
                        block=nvfp4.block_over_tensor,
                        factor=nvfp4.product_or_inf,
                        inf_code=0x7F,
                        source="NVIDIA: the tensor scale maps the largest magnitude to 448 * 6",
                    ),
                ),
            ),
            source="OCP MX v1.0, 6.3, and mxsim's choices where it is silent: nothing finite is lost, nothing non-finite is hidden",
        ),
        Policy(
            name="torchao",
            version="torchao 0.18.0",
            conversions=tuple(
                Conversion(
                    formats=(name,),
                    dtypes=("float32", "bfloat16"),
                    scale_rule="floor",
                    scale_rules={
                        **_exact_rules(nan=Scale(code=255, factor=INF), instead={0: Scale(code=0, factor=2.0**-126)}),
                        "rceil": ScaleRule(exponent=scaling.log2_rceil, inf=Scale(code=254), instead={0: Scale(code=0, factor=1.0)}),
                    },
                    specials=SpecialCodes(nan=nan, invalid=nan | sign, nan_scale=nan),
                )
                for name, nan, sign in (
                    ("mxfp8_e4m3", 0x7F, 0x80),
                    ("mxfp8_e5m2", 0x7F, 0x80),
                    ("mxfp6_e3m2", 0x0E, 0x20),
                    ("mxfp6_e2m3", 0x0C, 0x20),
                    ("mxfp4_e2m1", 0x03, 0x08),
                )
            )
            + (
                Conversion(
                    formats=("nvfp4",),
                    dtypes=("float32", "bfloat16"),
                    two_level=TwoLevelScale(
                        tensor=nvfp4.amax_over_range,
                        block=nvfp4.block_over_tensor,
                        lowest=2.0**-6,
                        factor=nvfp4.reciprocal,
                        multiply=True,
                        source="torchao/prototype/mx_formats/nvfp4_tensor.py",
                    ),
                    specials=SpecialCodes(nan=0x3, nan_scale=0x3, negative_nan_scale=0xC, invalid=0xB),
                ),
            ),
            source="torchao/prototype/mx_formats/mx_tensor.py, prototype/custom_fp_utils.py",
            limits="NaN codes of FP6 and FP4 are those of the default NaN: other payloads may give others",
        ),
        Policy(
            name="compressed-tensors",
            version="compressed-tensors 0.20.0",
            conversions=tuple(
                Conversion(
                    formats=(name,),
                    dtypes=(dtype,),
                    scale_rule="even",
                    scale_rules={
                        "even": ScaleRule(
                            exponent=scaling.carried_in(bits, dtype),
                            zero=Scale(code=127, factor=1.0) if dtype == "float16" else Scale(code=0),
                            inf=Scale(code=127, factor=INF),
                            nan=Scale(code=127, factor=1.0) if dtype == "float16" else Scale(code=0),
                            overflow=Scale(code=127, factor=INF),
                            instead={c: Scale(code=127, factor=1.0) for c in range(103)} if dtype == "float16" else {},
                        )
                    },
                    arithmetic="input",
                    zero_sign=PLUS if name == "mxfp4_e2m1" else KEEP,
                    specials=codes,
                )
                for name, bits, by_dtype in (
                    (
                        "mxfp4_e2m1",
                        1,
                        {
                            "float32": SpecialCodes(nan=0x0, negative_nan=0x0, invalid=0x0),
                            "float16": SpecialCodes(nan=0x0, negative_nan=0x0, invalid=0x0),
                            "bfloat16": SpecialCodes(nan=0x8, negative_nan=0x8, invalid=0x8),
                        },
                    ),
                    (
                        "mxfp6_e2m3",
                        3,
                        dict.fromkeys(EVERY_DTYPE, SpecialCodes(nan=0x20, negative_nan=0x20, invalid=0x20)),
                    ),
                    (
                        "mxfp8_e4m3",
                        1,
                        {
                            "float32": SpecialCodes(nan=0x7F, negative_nan=0xFF, invalid=0xFF),
                            "float16": SpecialCodes(nan=0x7F, negative_nan=0xFF, invalid=0xFF),
                            "bfloat16": SpecialCodes(nan=0x7F, negative_nan=0x7F, invalid=0x7F),
                        },
                    ),
                )
                for dtype, codes in by_dtype.items()
            )
            + tuple(
                Conversion(
                    formats=("nvfp4",),
                    dtypes=(dtype,),
                    two_level=TwoLevelScale(
                        tensor=nvfp4.range_times_reciprocal,
                        divides=True,
                        block=nvfp4.tensor_times_block,
                        zero=0.125,
                        zero_after_cast=True,
                        factor=nvfp4.quotient,
                        nan_code=nan_code,
                        source="compressed_tensors/quantization/utils/helpers.py, generate_gparam",
                    ),
                    zero_sign=PLUS,
                    specials=SpecialCodes(nan=code, negative_nan=code, invalid=code, nan_scale=code),
                )
                for dtype, nan_code, code in (("float32", 0xFF, 0x0), ("float16", 0x7F, 0x0), ("bfloat16", 0xFF, 0x8))
            ),
            source="compressed_tensors/quantization/utils/mxfp_utils.py, helpers.py",
        ),
        Policy(
            name="modelopt",
            version="nvidia-modelopt 0.47.0",
            conversions=(
                Conversion(
                    formats=("mxfp4_e2m1",),
                    scale_rule="rceil",
                    scale_rules={
                        "rceil": ScaleRule(exponent=scaling.log2_rceil, inf=Scale(code=0, factor=INF), nan=Scale(code=0, factor=NAN))
                    },
                    rounding="nearest_zero",
                    zero_sign=MINUS,
                    specials=SpecialCodes(nan=0x8, negative_nan=0x8, invalid=0x8, nan_scale=0x8),
                ),
                Conversion(
                    formats=("mxfp8_e4m3",),
                    scale_rule="rceil",
                    scale_rules={"rceil": ScaleRule(exponent=scaling.log2_rceil, inf=Scale(code=254), nan=Scale(code=0))},
                    specials=SpecialCodes(),
                ),
                *(
                    Conversion(
                        formats=("nvfp4",),
                        dtypes=dtypes,
                        two_level=TwoLevelScale(
                            tensor=nvfp4.amax_over_range,
                            block=nvfp4.block_over_six_tensor,
                            lowest=2.0**-9,
                            zero=1.0,
                            factor=nvfp4.product,
                            nan_code=nan_code,
                            source="modelopt/torch/quantization/qtensor/nvfp4_tensor.py",
                        ),
                        zero_sign=PLUS,
                        specials=SpecialCodes(nan=0x7, negative_nan=0x7, invalid=0x7, nan_scale=0x7),
                    )
                    for dtypes, nan_code in ((("float32",), 0xFF), (("float16", "bfloat16"), 0x7F))
                ),
            ),
            source="modelopt/torch/quantization/qtensor/mxfp4_tensor.py, mxfp8_tensor.py, nvfp4_tensor.py",
        ),
        Policy(
            name="quark",
            version="amd-quark 0.13",
            conversions=tuple(
                Conversion(
                    formats=(name,),
                    dtypes=(dtype,),
                    scale_rule="even",
                    scale_rules={
                        "even": ScaleRule(
                            exponent=scaling.carried_in(bits, "float32"),
                            lowest=7 if name == "mxint8" else 0,
                            zero=Scale(code=1, factor=2.0**-127),
                            nan=Scale(code=255 if name == "mxint8" else 127, factor=NAN),
                            instead={0: Scale(code=1, factor=2.0**-127)} if exported else {},
                        ),
                        **{
                            rule: ScaleRule(
                                exponent=scaling.log2_in(rule, dtype),
                                lowest=-22,
                                zero=Scale(code=104, factor=2.0**-23),
                                vanished=Scale(code=104, factor=2.0**-23),
                                inf=Scale(code=127, factor=INF),
                                nan=Scale(code=127, factor=-NAN),
                                specials=SpecialCodes(
                                    invalid=nan | sign, negative_nan_scale=2 * sign - 1, nan_nan=nan, negative_nan_nan=nan | sign
                                ),
                                instead={code: Scale(code=1, factor=2.0 ** (code - 127)) for code in range(-22, 1)},
                            )
                            for rule in ("floor", "ceil")
                        },
                    },
                    zero_sign=zero_sign,
                    underflow_sign=zero_sign,
                    specials=SpecialCodes(
                        inf=inf, invalid=nan | sign, nan_scale=nan, negative_nan_scale=nan | sign, nan_nan=nan, negative_nan_nan=nan | sign
                    ),
                )
                for name, exported, bits, inf, nan, sign, zero_sign in (
                    ("mxfp8_e4m3", False, 3, None, 0x7F, 0x80, KEEP),
                    ("mxfp8_e5m2", False, 2, None, 0x7E, 0x80, KEEP),
                    ("mxfp6_e3m2", True, 2, 0x1C, 0x1E, 0x20, PLUS),
                    ("mxfp6_e2m3", True, 3, 0x18, 0x1C, 0x20, PLUS),
                    ("mxfp4_e2m1", True, 1, 0x06, 0x07, 0x08, PLUS),
                    ("mxint8", False, 8, None, 0x00, 0x00, KEEP),
                )
                for dtype in EVERY_DTYPE
            ),
            source="quark/torch/quantization/utils.py, observer/observer.py, kernel/hw_emulation, export/nn/modules/realquantizer.py",
            limits="MXFP8 and MXINT8 are fake quantisation there: their scale bytes and element codes are mxsim's",
        ),
        Policy(
            name="auto-round",
            version="auto-round 0.16.1",
            conversions=tuple(
                Conversion(
                    formats=(name,),
                    scale_rule="floor",
                    scale_rules={
                        rule: ScaleRule(
                            exponent=exponent,
                            zero=Scale(code=zero),
                            vanished=None if rule == "floor" else Scale(code=nan_scale, factor=NAN),
                            inf=Scale(code=nan_scale, factor=NAN),
                            nan=Scale(code=nan_scale, factor=NAN),
                        )
                        for rule, exponent, zero in (
                            ("floor", scaling.log2_in("floor", "float32"), floor_zero),
                            ("rceil", scaling.log2_rceil, 128),
                            *([("rceil_v2", scaling.log2_rceil_of(7.25), 128)] if name == "mxfp4_e2m1" else []),
                        )
                    },
                    zero_sign=PLUS,
                    slips=True,
                    specials=SpecialCodes(nan_scale=nan),
                )
                for name, floor_zero, nan_scale, nan in (
                    ("mxfp8_e4m3", 120, 0, 0xFF),
                    ("mxfp8_e5m2", 113, 0, 0xFE),
                    ("mxfp6_e3m2", 124, 255, 0x20),
                    ("mxfp6_e2m3", 126, 255, 0x20),
                    ("mxfp4_e2m1", 126, 0, 0x08),
                    ("mxint8", 128, 255, 0x00),
                )
            ),
            source="auto_round/data_type/mxfp.py, export/export_to_autoround/qlinear_fp.py",
            limits="the rounding that it tunes, and opt_rtn_mx_fp, which tries three scales and keeps that of least error, are not a "
            "function of one block's largest magnitude; nor is the export of blocks whose scale or values the weight's dtype cannot hold "
            "(float16 below 2^-24 and above 65504, float32 and bfloat16 close to 2^128), which it multiplies out and divides again. "
            "MXFP6, E5M2 and MXINT8 are fake quantisation there: their codes are mxsim's",
        ),
        Policy(
            name="microxcaling",
            version="microxcaling, CPU path, commit 4adf988d",
            conversions=tuple(
                Conversion(
                    formats=formats,
                    dtypes=(dtype,),
                    scale_rule="floor",
                    scale_rules={
                        "floor": ScaleRule(
                            exponent=scaling.log2_in("floor", dtype),
                            highest=255,
                            zero=Scale(code=zero),
                            inf=Scale(code=255),
                            instead={255: Scale(code=255)},
                        )
                    },
                    arithmetic="input",
                    rounding="nearest_away",
                    zero_sign=PLUS,
                    slips=True,
                )
                for formats, zero in ((FLOATING, 0), (("mxint8",), 1))
                for dtype in ("float32", "bfloat16")
            ),
            source="microxcaling: mx/mx_ops.py, mx/elemwise_ops.py",
            limits="read, not run: the golden values come from its functions typed anew. Its rounding 'floor' truncates numbers just below "
            "a power of two in the wrong binade; toward_zero is exact here. It only fake quantises: codes are mxsim's, and zeros of MXINT8 "
            "have no sign",
        ),
    ],
)


def policy_of(policy: str | Policy) -> Policy:
    """The policy of a name."""
    if isinstance(policy, Policy):
        return policy
    if policy not in POLICIES:
        raise unknown_name("policy", policy, POLICIES)
    return POLICIES[policy]
