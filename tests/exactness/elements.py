"""Element codes: every decode, and encode over chosen or over all float32 bit patterns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import gfloat
import gfloat.formats
import ml_dtypes
import numpy as np
import numpy.typing as npt

import mxsim
from mxsim import elements
from tests.exactness.comparison import Comparison, compare, float32_bits
from tests.oracles import conversion, numbers

Bits = npt.NDArray[np.uint32]
Codes = npt.NDArray[np.uint8]

ML_DTYPES = {
    "e5m2": ml_dtypes.float8_e5m2,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e8m0": ml_dtypes.float8_e8m0fnu,
}
GFLOAT = {name: getattr(gfloat.formats, f"format_info_ocp_{name}") for name in (*ML_DTYPES, "int8")}
GFLOAT_ROUNDINGS = {
    "nearest_even": gfloat.RoundMode.TiesToEven,
    "nearest_away": gfloat.RoundMode.TiesToAway,
    "toward_zero": gfloat.RoundMode.TowardZero,
}
ENCODED = tuple(numbers.ELEMENTS)
INF_BITS = 0x7F800000
CHUNK = 1 << 20  #: patterns at a time: small enough to stay in cache


def code_count(name: str) -> int:
    return 256 if name in ("e8m0", "int8") else 1 << numbers.ELEMENTS[name].bits


def decode_comparisons(name: str) -> Iterator[Comparison]:
    """Every code of an element (or e8m0) against the exact oracle, ml_dtypes and gfloat."""
    codes = np.arange(code_count(name), dtype=np.uint8)
    got = float32_bits(elements.decode(codes, name))
    exact = np.array([numbers.to_float32(numbers.decode(int(code), name)) for code in codes], np.uint32)
    yield compare(f"{name} decode", "exact oracle", got, exact, hex)
    yield compare(f"{name} decode", "gfloat", got, float32_bits(_gfloat_values(codes, name)), hex)
    if name in ML_DTYPES:
        library = codes.view(ML_DTYPES[name]).astype(np.float32)
        yield compare(f"{name} decode", "ml_dtypes", got, float32_bits(library), hex)


def _gfloat_values(codes: Codes, name: str) -> npt.NDArray[np.float32]:
    values = [gfloat.decode_float(GFLOAT[name], int(code)).fval for code in codes]
    return np.array(values, np.float64).astype(np.float32)  # exact: every code fits float32


@cache
def first_patterns(name: str, rounding: str) -> Bits:
    """For each magnitude code above zero, the smallest float32 bit pattern that rounds to it or beyond.

    Rounding is monotone and positive floats are ordered as their bits, so these patterns are the whole function.
    """
    firsts = []
    for code in range(1, max(numbers.magnitude_codes(name).values()) + 1):
        below, reached = 0, INF_BITS
        while reached - below > 1:
            middle = (below + reached) // 2
            if numbers.encode(numbers.from_float32(middle), name, rounding) >= code:
                reached = middle
            else:
                below = middle
        firsts.append(reached)
    return np.array(firsts, np.uint32)


def with_sign(magnitudes: Codes, negative: npt.NDArray[np.bool_] | bool, name: str) -> Codes:
    """Codes of signed numbers from codes of their magnitudes."""
    if name == "int8":
        return np.where(negative, (256 - magnitudes.astype(np.int32)) & 0xFF, magnitudes).astype(np.uint8)
    sign = np.uint8(1 << (numbers.ELEMENTS[name].bits - 1))
    return np.where(negative, magnitudes | sign, magnitudes)


def expected_magnitudes(magnitudes: npt.NDArray[np.float64], name: str, rounding: str) -> Codes:
    """The exact oracle's magnitude codes of non-negative numbers with no more significant bits than a float32."""
    boundaries = first_patterns(name, rounding).view(np.float32).astype(np.float64)
    return np.searchsorted(boundaries, magnitudes, side="right").astype(np.uint8)


def expected_codes(bits: Bits, name: str, rounding: str) -> Codes:
    """The exact oracle's codes for finite and infinite patterns."""
    magnitudes = np.abs(bits.view(np.float32).astype(np.float64))
    return with_sign(expected_magnitudes(magnitudes, name, rounding), bits >> 31 != 0, name)


def sampled_patterns() -> Bits:
    """Numeric float32 patterns: one at random in each of 2^22 strata; every exponent with telling mantissas."""
    rng = np.random.default_rng(20)
    strata = (np.arange(1 << 22, dtype=np.uint32) << 10) + rng.integers(0, 1 << 10, 1 << 22, dtype=np.uint32)
    # mantissas with at most five leading bits are every element's codes and ties; beside them their neighbours
    leading = np.arange(32, dtype=np.uint32) << 18
    mantissas = np.unique(np.concatenate([leading, leading + 1, (leading - 1) & 0x7FFFFF]))
    upper = np.arange(512, dtype=np.uint32) << 23
    chosen = (upper[:, None] | mantissas[None, :]).ravel()
    patterns = np.concatenate([strata, chosen, np.array([INF_BITS, INF_BITS | 1 << 31], np.uint32)])
    return patterns[(patterns & 0x7FFFFFFF) <= INF_BITS]


def encode_sampled(name: str) -> Iterator[Comparison]:
    """Sampled patterns under every rounding: exact oracle, gfloat (a part), ml_dtypes (nearest even)."""
    patterns = sampled_patterns()
    few = np.concatenate([patterns[: 1 << 22 : 32], patterns[1 << 22 :]])
    for rounding in numbers.ROUNDINGS:
        what = f"{name} encode {rounding}"
        got = elements.encode(patterns.view(np.float32), name, rounding=rounding)
        yield compare(what, "exact oracle", got, expected_codes(patterns, name, rounding), _pattern(patterns))
        got_few = np.concatenate([got[: 1 << 22 : 32], got[1 << 22 :]])
        yield compare(what, "gfloat", got_few, _gfloat_codes(few, name, rounding), _pattern(few))
        if rounding == "nearest_even" and name in ML_DTYPES:
            yield compare(what, "ml_dtypes", got, _ml_dtypes_codes(patterns, name), _pattern(patterns))


def encode_exhaustive(name: str, rounding: str) -> Iterator[Comparison]:
    """All 2^32 float32 patterns, NaN included: exact oracle, and ml_dtypes for nearest even."""
    exact_wrong = library_wrong = library_cases = nan_wrong = nan_cases = 0
    example = ""
    chunk = np.arange(CHUNK, dtype=np.uint32)
    for start in range(0, 1 << 32, CHUNK):
        patterns = chunk + np.uint32(start)
        numeric = patterns[(patterns & 0x7FFFFFFF) <= INF_BITS]
        nan = patterns[numeric.size :]  # the NaN patterns stand at the end of a chunk or fill it
        got = elements.encode(patterns.view(np.float32), name, rounding=rounding)
        if numeric.size:
            want = _expected_run(int(numeric[0]), numeric.size, name, rounding)
            result = compare("", "", got[: numeric.size], want, _pattern(numeric))
            exact_wrong, example = exact_wrong + result.mismatches, example or result.example
            if rounding == "nearest_even" and name in ML_DTYPES:
                library_wrong += int(np.count_nonzero(_ml_dtypes_codes(numeric, name) != got[: numeric.size]))
                library_cases += numeric.size
        nan_cases += nan.size
        nan_wrong += int(np.count_nonzero(~np.isin(got[numeric.size :], nan_codes(name))))
    what = f"{name} encode {rounding}, all patterns"
    exact_cases = (1 << 32) - nan_cases
    yield Comparison(what=what, reference="exact oracle", cases=exact_cases, mismatches=exact_wrong, example=example)
    yield Comparison(what=what + ": NaN", reference="OFP8, OCP MX", cases=nan_cases, mismatches=nan_wrong)
    if library_cases:
        yield Comparison(what=what, reference="ml_dtypes", cases=library_cases, mismatches=library_wrong)


def block_codes_exhaustive(name: str, exponent: int) -> Iterator[Comparison]:
    """All float32 patterns that an element format spans, in blocks of 32 under a scale of 2^exponent: codes and values of whole blocks.

    The last element of each block is the largest number times the scale, which makes the floor rule choose it.
    """
    format_name = next(block_format for block_format, (element, _) in conversion.BLOCK_FORMATS.items() if element == name)
    largest = np.float32(numbers.ELEMENTS[name].max)
    values = elements.decode(np.arange(code_count(name), dtype=np.uint8), name)
    cases = wrong_codes = wrong_values = 0
    chunk, step = np.arange(CHUNK, dtype=np.uint32), np.ldexp(np.float32(1), exponent)
    for start in range(0, 1 << 32, CHUNK):
        patterns = chunk + np.uint32(start)
        inside = patterns[(patterns & 0x7FFFFFFF) <= largest.view(np.uint32)]  # of ascending magnitude, so a chunk's beginning
        if not inside.size:
            continue
        blocks = np.full((-(-inside.size // 31), 32), largest * step, np.float32)
        padded = np.zeros(blocks.shape[0] * 31, np.float32)
        padded[: inside.size] = inside.view(np.float32) * step
        blocks[:, :31] = padded.reshape(-1, 31)
        want = _expected_run(int(inside[0]), inside.size, name, "nearest_even")
        quantized = mxsim.quantize(blocks, format_name)
        at_once = mxsim.fake_quantize(blocks, format_name)[:, :31].reshape(-1)[: inside.size]
        cases += inside.size
        wrong_codes += int(np.count_nonzero(quantized.codes[:, :31].reshape(-1)[: inside.size] != want))
        wrong_codes += int(np.count_nonzero(quantized.scales != 127 + exponent))
        wrong_values += int(np.count_nonzero(at_once.view(np.uint32) != (values[want] * step).view(np.uint32)))
    what = f"{format_name} blocks, scale 2^{exponent}, all patterns up to the largest number"
    yield Comparison(what=f"{what}: codes", reference="exact oracle", cases=cases, mismatches=wrong_codes)
    yield Comparison(what=f"{what}: values", reference="exact oracle", cases=cases, mismatches=wrong_values)


def nan_codes(name: str) -> list[int]:
    """The codes that NaN may become: the element's NaNs, and +0 where it has none."""
    if name == "int8":
        return [0]
    return [code for code in range(code_count(name)) if numbers.decode(code, name).special == numbers.NAN] or [0]


def _expected_run(start: int, count: int, name: str, rounding: str) -> Codes:
    """The exact oracle's codes for `count` consecutive patterns of one sign."""
    first = start & 0x7FFFFFFF
    starts = np.clip(first_patterns(name, rounding).astype(np.int64) - first, 0, count)
    lengths = np.diff(starts, prepend=0, append=count)
    magnitudes = np.repeat(np.arange(lengths.size, dtype=np.uint8), lengths)
    return with_sign(magnitudes, bool(start >> 31), name)


def _clipped(bits: Bits, name: str) -> npt.NDArray[np.float32]:
    """Saturation made explicit, for libraries whose overflow is NaN or Inf."""
    largest = np.float32(numbers.ELEMENTS[name].max)
    return np.clip(bits.view(np.float32), -largest, largest)


def _ml_dtypes_codes(bits: Bits, name: str) -> Codes:
    codes: Codes = _clipped(bits, name).astype(ML_DTYPES[name]).view(np.uint8)
    return codes & np.uint8(code_count(name) - 1)


def _gfloat_codes(bits: Bits, name: str, rounding: str) -> Codes:
    values = _clipped(bits, name).astype(np.float64)
    rounded = gfloat.round_ndarray(GFLOAT[name], values, GFLOAT_ROUNDINGS[rounding], True)
    return gfloat.encode_ndarray(GFLOAT[name], rounded).astype(np.uint8)


def _pattern(patterns: Bits) -> Callable[[int], str]:
    return lambda i: f"float32 {int(patterns[i]):#010x}"
