"""The oracle's numbers against numpy and ml_dtypes, and its documented units against sums done by hand."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.oracles.units import UNITS, dot
from tests.oracles.units.numbers import FLOATS, decode, encode, floor_log2, pow2, round_to

NAN = 0x7FC00000
INF = 0x7F800000
ONE = {"fp16": 0x3C00, "bf16": 0x3F80, "tf32": 0x3F800000, "fp32": 0x3F800000, "e4m3": 0x38, "e5m2": 0x3C, "e2m1": 2}
DTYPES = {
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "e8m0": ml_dtypes.float8_e8m0fnu,
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
}


def bits(x: float, format: str = "fp32") -> int:
    return encode(Fraction(x), format)


def value(code: int, format: str = "fp32") -> float:
    return float(decode(format, code).value)


@pytest.mark.parametrize("format", DTYPES)
def test_every_code_decodes_as_ml_dtypes_says(format: str) -> None:
    width = 8 if format == "e8m0" else FLOATS[format].width
    codes = np.arange(1 << width, dtype=np.uint16 if width == 16 else np.uint8)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        expected = codes.view(DTYPES[format]).astype(np.float64)
    for code, x in zip(codes.tolist(), expected.tolist(), strict=True):
        number = decode(format, code)
        if number.kind == "finite":
            assert (float(number.value), number.negative) == (x, bool(np.signbit(x)))
        else:
            assert np.isnan(x) if number.kind == "nan" else x == (-np.inf if number.negative else np.inf)


def random_doubles(count: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(7)
    halves = rng.integers(0, 1 << 25, count).astype(np.float64)  # one bit more than fp32 holds: ties among them
    return np.ldexp(halves * rng.choice([-1, 1], count), rng.integers(-180, 110, count))


@pytest.mark.parametrize(("format", "dtype"), [("fp32", np.float32), ("fp16", np.float16)])
def test_rounding_to_nearest_is_numpys(format: str, dtype: type[np.floating]) -> None:
    x = random_doubles(4000) if format == "fp32" else np.ldexp(random_doubles(4000), 30)
    with np.errstate(over="ignore", under="ignore"):
        expected = x.astype(dtype).view(np.uint32 if format == "fp32" else np.uint16)
    got = [encode(Fraction(v), format, "rne", negative_zero=v < 0) for v in x.tolist()]
    assert got == expected.tolist()


def test_rounding_toward_zero_and_to_odd() -> None:
    x = Fraction(0b1011, 8)
    assert round_to(x, 2, -126, "rz") == Fraction(0b101, 4)
    assert round_to(-x, 2, -126, "rz") == -Fraction(0b101, 4)
    assert round_to(x, 2, -126, "rto") == Fraction(0b101, 4)
    assert round_to(Fraction(0b1001, 8), 2, -126, "rto") == Fraction(0b101, 4)
    assert round_to(Fraction(0b1000, 8), 2, -126, "rto") == 1
    assert round_to(pow2(-200), 23, -126, "rz") == 0
    assert round_to(pow2(-200), 23, -126, "rto") == pow2(-149)


@pytest.mark.parametrize("x", [Fraction(1), Fraction(3, 4), Fraction(1, 3), Fraction(2**70 - 1), Fraction(1, 2**70 + 1)])
def test_floor_log2(x: Fraction) -> None:
    e = floor_log2(x)
    assert pow2(e) <= x < pow2(e + 1)


def one_product(unit: str) -> tuple[str, dict[str, object]]:
    """A format the unit takes, and scales if it wants them."""
    scales = {"a_scales": [127], "b_scales": [127]}
    if unit in ("pulp_mxdotp", "mx_fp32_chain"):
        return "e4m3", scales
    return {"riscv_bulknorm": "bf16", "arm_fp8_fdot": "e5m2", "intel_amx": "bf16"}.get(unit, "fp16"), {}


@pytest.mark.parametrize("unit", UNITS)
def test_one_times_one_plus_two(unit: str) -> None:
    format, scales = one_product(unit)
    assert dot(unit, [ONE[format]], format, [ONE[format]], format, c_bits=bits(2.0), **scales) == bits(3.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", UNITS)
def test_nan_and_infinity_of_c(unit: str) -> None:
    format, scales = one_product(unit)
    ones = ([ONE[format]], format, [ONE[format]], format)
    nan = 0x7FFFFFFF if unit.startswith("nvidia") or unit == "amd_cdna3" else NAN
    assert dot(unit, *ones, c_bits=0xFF800001, **scales) == nan  # type: ignore[arg-type]
    assert dot(unit, *ones, c_bits=INF | 1 << 31, **scales) == INF | 1 << 31  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", [u for u in UNITS if u not in ("mx_fp32_chain", "intel_amx")])
def test_exact_zero_is_positive(unit: str) -> None:
    """-0 * 1 + -0; the two left out add as IEEE does, where that is -0."""
    format, scales = one_product(unit)
    sign = 1 << FLOATS[format].width - 1
    assert dot(unit, [sign], format, [ONE[format]], format, c_bits=1 << 31, **scales) == 0  # type: ignore[arg-type]


class TestScales:
    """Block scales: NaN, the ends of E8M0, and UE4M3's ignored sign."""

    @pytest.mark.parametrize("unit", ["nvidia_blackwell", "pulp_mxdotp", "mx_exact", "mx_fp32_chain"])
    def test_nan_scale_over_zeros(self, unit: str) -> None:
        nan = 0x7FFFFFFF if unit.startswith("nvidia") else NAN
        assert dot(unit, [0] * 32, "e4m3", [0] * 32, "e4m3", [0xFF], [127]) == nan

    @pytest.mark.parametrize("unit", ["nvidia_blackwell", "pulp_mxdotp", "mx_exact", "mx_fp32_chain"])
    def test_code_zero_is_a_number(self, unit: str) -> None:
        got = dot(unit, [ONE["e4m3"]], "e4m3", [ONE["e4m3"]], "e4m3", [0], [127])
        assert decode("fp32", got).value == pow2(-127)

    @pytest.mark.parametrize("unit", ["nvidia_blackwell", "mx_exact", "mx_fp32_chain"])
    def test_ue4m3_sign_is_ignored(self, unit: str) -> None:
        one, minus_one = ONE["e4m3"], ONE["e4m3"] | 0x80
        a = [ONE["e2m1"]] * 16
        assert dot(unit, a, "e2m1", a, "e2m1", [one], [minus_one], "ue4m3", 16) == bits(16.0)

    def test_two_halves_of_the_scale_range_meet(self) -> None:
        assert dot("mx_exact", [0x38], "e4m3", [0x38], "e4m3", [254], [0]) == bits(1.0)
        assert dot("mx_exact", [0x38], "e4m3", [0x38], "e4m3", [254], [254]) == INF


class TestReferences:
    """mx_exact rounds once, mx_fp32_chain once a block and once an addition."""

    def test_they_differ_where_a_block_is_shadowed(self) -> None:
        a = [0x38] + [0] * 31 + [0x38] + [0] * 31  # 2^30, then 1, then C = -2^30
        codes, c = (a, "e4m3", a, "e4m3"), bits(-(2.0**30))
        assert dot("mx_exact", *codes, [157, 127], [127, 127], c_bits=c) == bits(1.0)
        assert dot("mx_fp32_chain", *codes, [157, 127], [127, 127], c_bits=c) == bits(1.0)
        assert dot("mx_fp32_chain", *codes, [157, 127], [127, 127]) == bits(2.0**30)
        assert dot("mx_exact", *codes, [127, 157], [127, 127], c_bits=c) == bits(1.0)
        assert dot("mx_fp32_chain", *codes, [127, 157], [127, 127], c_bits=c) == bits(0.0)

    def test_fp16_output_rounds_c_first(self) -> None:
        c = bits(1 + 2.0**-11 + 2.0**-13)  # RNE16: 1 + 2^-10
        a = [0x38], "e4m3", [0x38 | 0x80], "e4m3"
        for unit in ("mx_exact", "mx_fp32_chain"):
            assert dot(unit, *a, [127], [127], c_bits=c, out="fp16") == bits(2.0**-10, "fp16")

    def test_int8_elements_have_six_fraction_bits(self) -> None:
        assert dot("mx_exact", [64, 0x80], "int8", [64, 64], "int8", [127], [127]) == bits(-1.0)


class TestDocumented:
    """Hand-made sums for the units no silicon stands behind."""

    def test_mxdotp_rounds_every_eight(self) -> None:
        c = bits(2.0**24)
        a = [0x38] + [0] * 7 + [0x38] + [0] * 7  # two ones, in two instructions: both ties go to even
        codes = (a, "e4m3", [0x38] * 16, "e4m3", [127], [127])
        assert dot("pulp_mxdotp", *codes, c_bits=c) == c
        assert dot("mx_exact", *codes, c_bits=c) == bits(2.0**24 + 2)

    def test_mxdotp_lanes(self) -> None:
        c, fp6_one, fp4_one = bits(2.0**24), 0x0C, 0x02
        for element, one, lanes in (("e3m2", fp6_one, 11), ("e2m1", fp4_one, 16)):
            for second, expected in ((lanes - 1, 2.0**24 + 2), (lanes, 2.0**24)):
                a = [0] * 32
                a[0] = a[second] = one
                assert dot("pulp_mxdotp", a, element, [one] * 32, element, [127], [127], c_bits=c) == bits(expected)

    def test_mxdotp_int8_counts_integers(self) -> None:
        assert dot("pulp_mxdotp", [3], "int8", [0xFB], "int8", [127], [127]) == bits(-15.0)

    def test_mxdotp_bf16(self) -> None:
        codes = ([0x38], "e4m3", [0x38], "e4m3", [127], [127])
        assert dot("pulp_mxdotp", *codes, c_bits=bits(256.0), out="bf16") == encode(Fraction(256), "bf16")

    def test_bulknorm_jams_what_is_cut(self) -> None:
        tiny, one = encode(pow2(-60), "bf16"), ONE["bf16"]
        just_above_one = encode(1 + pow2(-23), "fp32")
        assert dot("riscv_bulknorm", [one, tiny], "bf16", [one, one], "bf16") == just_above_one
        # A negative tail is jammed as a magnitude: 1 - 2^-27, to odd.
        assert dot("riscv_bulknorm", [one, tiny | 0x8000], "bf16", [one, one], "bf16") == encode(1 - pow2(-24), "fp32")

    def test_bulknorm_never_loses_a_sign_of_life(self) -> None:
        least, small = 0x0001, encode(pow2(-100), "bf16")
        assert dot("riscv_bulknorm", [least], "bf16", [small], "bf16") == 1
        huge = encode(pow2(127), "bf16")
        assert dot("riscv_bulknorm", [huge], "bf16", [huge], "bf16") == INF

    def test_fdot_ways(self) -> None:
        one = ONE["e5m2"]
        c32, c16 = bits(2.0**24), bits(2.0**11)
        for out, ways, c, top in (("fp32", 4, c32, 2.0**24), ("fp16", 2, c16, 2.0**11)):
            for second, expected in ((ways - 1, top + 2), (ways, top)):
                a = [0] * (2 * ways)
                a[0] = a[second] = one
                got = dot("arm_fp8_fdot", a, "e5m2", [one] * (2 * ways), "e5m2", c_bits=c, out=out)
                assert got == bits(expected, out)

    def test_amx_two_chains(self) -> None:
        one, big = ONE["bf16"], encode(pow2(24), "bf16")
        # Even chain: 2^24, then +1 lost; odd chain: +1 lives; the sum rounds 2^24 + 1 back to 2^24.
        assert dot("intel_amx", [big, 0, one, 0], "bf16", [one] * 4, "bf16") == bits(2.0**24)
        assert dot("intel_amx", [big, one, 0, one], "bf16", [one] * 4, "bf16") == bits(2.0**24 + 2)

    def test_amx_subnormals(self) -> None:
        one, half = ONE["bf16"], encode(Fraction(1, 2), "bf16")
        assert dot("intel_amx", [0x0001], "bf16", [one], "bf16") == 0
        least_normal = encode(pow2(-126), "bf16")
        assert dot("intel_amx", [least_normal], "bf16", [half], "bf16") == 0
        assert dot("intel_amx", [0x0001], "fp16", [ONE["fp16"]], "fp16") == encode(pow2(-24), "fp32")
        assert dot("intel_amx", [one], "bf16", [one], "bf16", c_bits=0x007FFFFF) == bits(1.0)


@pytest.mark.parametrize(
    ("unit", "format", "out"),
    [
        ("nvidia_volta", "bf16", "fp32"),
        ("nvidia_ampere", "e4m3", "fp32"),
        ("nvidia_ampere", "bf16", "fp16"),
        ("nvidia_hopper_mma", "e2m1", "fp32"),
        ("amd_cdna3", "fp16", "fp16"),
        ("amd_cdna3", "e4m3", "fp32"),
        ("intel_amx", "e4m3", "fp32"),
        ("mx_fp32_chain", "fp16", "fp32"),
    ],
)
def test_what_a_unit_does_not_take(unit: str, format: str, out: str) -> None:
    with pytest.raises(ValueError, match=unit):
        dot(unit, [0], format, [0], format, out=out)
