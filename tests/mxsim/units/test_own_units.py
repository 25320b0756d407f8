"""Units that no preset is: values at the edges of what UnitPath allows, by hand; and what no kernel computes is refused."""

from __future__ import annotations

import math
import tomllib
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

import mxsim
from mxsim.units.spec import FlooredC, MatmulUnit, UnitPath
from mxsim.units.toml import unit_from


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def of(path: UnitPath) -> MatmulUnit:
    return MatmulUnit(name="own", title="own", paths=(path,), source="a test")


def told(text: str) -> MatmulUnit:
    return unit_from(tomllib.loads(text))


def tensor(format: str, codes: list[int], scale: int, K: int) -> mxsim.MXTensor:
    """(1, K): a block's first codes; its scale; zeros else."""
    block = 16 if format == "nvfp4" else 32
    elements = np.zeros((1, K), np.uint8)
    elements[0, : len(codes)] = codes
    return mxsim.from_codes(elements, np.full((1, K // block), scale, np.uint8), format)


def like(base: str, path: str, **changes: str) -> MatmulUnit:
    lines = "\n".join(f"{key} = {value}" for key, value in changes.items())
    return told(f'base = "{base}"\n[[path]]\nlike = "{path}"\n{lines}')


@pytest.mark.parametrize(
    ("unit", "path", "changes", "message"),
    [
        ("amd_cdna1", "fp32 FMA chain", {"within": "32"}, "within is 32: leave it out: a chain"),
        ("intel_amx", "TDPBF16PS", {"order": '"mod4_pairs"'}, "order is 'mod4_pairs': leave it out: a chain"),
        ("nvidia_blackwell", "mxf4", {"exponents": '"fp16"'}, "exponents is 'fp16': leave it out"),
        ("nvidia_blackwell", "mxf4", {"formats": '["mxfp6_e3m2"]', "F": "45"}, "needs a sum of 63 bits"),
        ("nvidia_blackwell", "mxf4", {"within": "72"}, "presum 16 does not divide within 72"),
        (
            "nvidia_blackwell",
            "mxf8f6f4",
            {"floored_c": "{ sum_bits = 32, c_bits = 24, norm_bits = 31 }"},
            "floored_c is given and c is 'in_sum'",
        ),
    ],
)
def test_what_no_kernel_computes_is_refused(unit: str, path: str, changes: dict[str, str], message: str) -> None:
    with pytest.raises(mxsim.MxsimError, match=message):
        like(unit, path, **changes)


LATE, FMA, EXACT = {"c": "late"}, {"reduce": "fma", "F": None}, {"reduce": "exact", "F": None}
FLOORED = {"c": "floored", "floored_c": FlooredC(sum_bits=32, c_bits=24, norm_bits=31)}
MX = {"formats": ("mxfp6_e3m2",), "scaling": "exact", "block": 32}
GROUPED = MX | {"scaling": "group", "presum": 16, "chunk": 64}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"out": "fp16"}, "nan is 0x7fc00000: give the bits of an fp16 NaN"),
        ({"formats": ("fp16", "mxint8")}, "formats mixes scaled and unscaled operands: give each kind a path of its own"),
        ({"block": 32}, "block is 32: say how many elements share a scale, for block formats only"),
        (MX | {"block": None}, "block is None: say how many elements share a scale"),
        ({"chunk": True}, "chunk is True: write a whole number"),
        (EXACT | {"F": 24}, "F or e_zero is given: leave them out, or write reduce = align"),
        (EXACT | {"e_zero": -133}, "F or e_zero is given"),
        (EXACT | {"align": "floor"}, "align is 'floor': leave it out, or write reduce = align"),
        (EXACT | FLOORED, "floored_c is missing: give its bits, with reduce = align"),
        (EXACT | {"reduce": "pairwise"}, "reduce is pairwise and c is 'in_sum': write c = late"),
        (EXACT | LATE | {"reduce": "pairwise", "chunk": 6}, "chunk is 6: a tree needs 2, 4, 8, 16, 32 or 64 products"),
        (FMA | {"chunk": None}, "chunk is missing: say how many products one instruction chains"),
        (FMA | LATE | {"chains": 3}, "chains is 3: write 1 or 2"),
        (FMA | {"chains": 2}, "two chains start from zero: write c = late"),
        (FMA | LATE | {"instruction": 32}, "instruction is 32: leave it out: chunk is the instruction"),
        (FMA | {"product_limit": 128}, "product_limit is given: leave it out"),
        (LATE | {"chains": 2}, "chains is 2: leave it out, or write reduce = fma"),
        ({"order": "even_odd"}, "order is even_odd: write c = floored"),
        (FLOORED | {"order": "even_odd", "chunk": 15}, "chunk is 15: two halves need an even number"),
        (LATE | {"order": "mod4_pairs", "chunk": 6}, "order is mod4_pairs over 6: give an instruction that 4 divides"),
        ({"order": "mod4_pairs"}, "order is mod4_pairs over 16: give an instruction that 4 divides, and c = late"),
        (GROUPED | LATE, "scaling is group: write reduce = align and c = in_sum"),
        (GROUPED | {"block": 24}, "presum 16 does not divide block 24: a group has one scale"),
        (GROUPED | {"formats": ("mxfp8_e4m3",), "F": 9}, "products are too wide to be added exactly: use FP4 or FP6 operands"),
        (MX | {"presum": 16}, "presum is 16: leave it out, or write scaling = group"),
        ({"within": 8}, "within is 8: give a chunk that fits into it"),
        (LATE | {"within": 32, "order": "mod4_pairs"}, "within is 32: leave it out, or write order = ascending"),
        ({"instruction": 32}, "instruction is given: leave it out, or write c = late"),
        (LATE | {"instruction": 24}, "instruction is 24: give a multiple of 16"),
        (LATE | {"instruction": 32, "promote_every": 48}, "promote_every is 48: give a multiple of 32"),
        (
            {"formats": ("nvfp4",), "scaling": "exact", "block": 16, "chunk": 512, "F": 48},
            "F = 48 with chunks of 512 needs a sum of 63 bits",
        ),
        (GROUPED | {"formats": ("nvfp4",), "block": 16, "F": 47}, "F = 47 with chunks of 64 needs a sum of 63 bits"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(mxsim.MxsimError, match=message):
        UnitPath(**({"name": "p", "formats": ("fp16",), "chunk": 16, "F": 24} | fields))


@pytest.mark.parametrize(
    "fields",
    [{"scaling": "exact", "chunk": 256, "F": 48}, {"scaling": "group", "presum": 16, "chunk": 64, "F": 46}],
    ids=["exact", "group"],
)
def test_the_largest_products_of_nvfp4_fit_their_sum(fields: dict[str, Any]) -> None:
    """6 x 6 under two scales of 1.875, in every place of the longest chunk."""
    path = UnitPath(name="p", formats=("nvfp4",), block=16, **fields)
    a = tensor("nvfp4", [7] * 256, 0x3F, 256)
    assert mxsim.matmul(a, a.T, unit=of(path)) == 256 * (6 * 1.875) ** 2


def test_what_a_unit_takes_is_listed_once() -> None:
    """A path of equal formats says nothing beside one of any two."""
    halves = "fp16 x fp16 -> fp32 or fp16; bf16 x bf16 -> fp32; tf32 x tf32 -> fp32"
    for unit in ("nvidia_hopper_wgmma", "nvidia_hopper_mma"):
        assert mxsim.UNITS[unit].listed() == f"{halves}; any two of e4m3, e5m2 -> fp32 or fp16"


def test_the_widest_groups_fit_their_sum() -> None:
    """E3M2's largest product is 28 x 28; 64 of them under F = 44 fill the accumulator, and nothing overflows."""
    a = tensor("mxfp6_e3m2", [0x1F] * 64, 127, 64)
    assert mxsim.matmul(a, a.T, unit=like("nvidia_blackwell", "mxf4", formats='["mxfp6_e3m2"]', F="44")) == 64 * 28 * 28


def test_c_given_as_another_step_leaves_the_floored_one(rng: np.random.Generator) -> None:
    changed = like("amd_cdna3", "MFMA", formats='["fp16"]', c='"in_sum"')
    written = UnitPath(name="whole", formats=("fp16",), chunk=changed.paths[0].chunk, F=24, step="rne_fp32", nan=changed.paths[0].nan)
    a, b = (rng.standard_normal((16, 64)).astype(np.float16) for _ in range(2))
    c = rng.standard_normal((16, 16)).astype(np.float32)
    found = mxsim.matmul(a, b.T, unit=changed, c=c)
    np.testing.assert_array_equal(found, mxsim.matmul(a, b.T, unit=of(written), c=c))
    assert (found != mxsim.matmul(a, b.T, unit="amd_cdna3", c=c)).any()


def test_a_paths_own_promotion_stands_before_the_files() -> None:
    unit = told('base = "nvidia_blackwell"\npromote_every = 128\n[[path]]\nlike = "mxf8f6f4"\npromote_every = 64')
    assert [path.promote_every for path in unit.paths] == [64, *[128] * len(mxsim.UNITS["nvidia_blackwell"].paths)]
    assert "every 128 of K" in unit.notes


def test_a_files_promotion_makes_its_paths_assumed_and_leaves_out_a_base_that_has_none() -> None:
    path = '[[path]]\nname = "p"\nformats = ["e4m3"]\nchunk = 16\nF = 25\nlevel = "documented"\nsource = "a page"\n'
    unit = told(f'base = "mx_exact"\npromote_every = 128\n{path}')
    assert [(one.name, one.promote_every, one.level) for one in unit.paths] == [("p", 128, "assumed")]
    assert told(f'base = "mx_exact"\n{path}').paths[0].level == "documented"


def test_promotion_leaves_out_the_paths_that_do_not_end_there() -> None:
    kept = {path.formats for path in mxsim.UNITS["nvidia_blackwell"].promoted(32).paths}
    assert ("fp16",) in kept
    assert not any("nvfp4" in formats for formats in kept)
    with pytest.raises(mxsim.MxsimError, match="the path adds all of K at once"):
        mxsim.UNITS["mx_exact"].promoted(128)


def test_where_chunks_restart_promotion_goes_by_that(rng: np.random.Generator) -> None:
    """PULP's chunks of 11 start anew every 32: 128 elements of K end where a chunk does."""
    promoted = mxsim.UNITS["pulp_mxdotp"].promoted(128)
    a = mxsim.quantize(rng.standard_normal((4, 256)).astype(np.float32), "mxfp6_e2m3")
    halves = [mxsim.from_codes(a.codes[:, k : k + 128], a.scales[:, k // 32 : k // 32 + 4], "mxfp6_e2m3", axis=1) for k in (0, 128)]
    first, second = (mxsim.matmul(half, half.T, unit="pulp_mxdotp") for half in halves)
    np.testing.assert_array_equal(mxsim.matmul(a, a.T, unit=promoted), first + second)


@pytest.mark.parametrize("c", [1e-22, 1e-24, 1e-25, 1e-40])
def test_a_small_c_of_a_narrow_floored_step_is_rounded_away(c: float) -> None:
    unit, zeros = like("amd_cdna3", "MFMA", formats='["fp16"]', step='"rne_fp16"'), np.zeros((1, 8), np.float16)
    assert mxsim.matmul(zeros, zeros.T, unit=unit, c=np.array([[c]], np.float32)) == 0


@pytest.mark.parametrize("how", [{"chunk": 16, "F": 25}, {"reduce": "exact"}])
@pytest.mark.parametrize(
    ("format", "code", "scale", "limit"),
    [("nvfp4", 7, 0x3F, 6), ("mxint8", 0x80, 127, 2), ("mxfp8_e4m3", 0x3F, 127, 1)],  # products 11.25 squared, 4, 1.875 squared
)
def test_products_at_the_limit_are_infinite(format: str, code: int, scale: int, limit: int, how: dict[str, Any]) -> None:
    a = tensor(format, [code], scale, 32)
    for bound, expected in ((limit, np.inf), (limit + 1, np.float32(a.dequantize()[0, 0]) ** 2)):
        path = UnitPath(name="p", formats=(format,), scaling="exact", block=16 if format == "nvfp4" else 32, product_limit=bound, **how)
        assert mxsim.matmul(a, a.T, unit=of(path)) == expected


def test_a_positive_zero_is_positive_in_a_narrower_output_too() -> None:
    unit = like("nvidia_blackwell", "mxf8f6f4", out='"fp16"', nan="0x7fff")
    a, b = tensor("mxfp8_e4m3", [0x38], 127, 32), tensor("mxfp8_e4m3", [0xB8], 101, 32)  # 1 x -2^-26
    assert mxsim.matmul(a, b.T, unit=unit, out="fp16").view(np.uint16) == 0


def test_subnormals_of_the_callers_c_are_those_of_its_own_type() -> None:
    unit, zeros = like("amd_cdna2", "MFMA", out='"fp16"', nan="0x7e00"), np.zeros((1, 8), np.float16)
    for power, kept in ((-14, 2.0**-14), (-15, 0.0), (-20, 0.0)):
        assert mxsim.matmul(zeros, zeros.T, unit=unit, out="fp16", c=np.array([[2.0**power]], np.float16)) == kept


@pytest.mark.parametrize("path", [{"F": 30, "step": "rz_fp32"}, {"reduce": "exact", "step": "rne_fp16"}])
def test_a_chunk_longer_than_k_is_all_of_k(path: dict[str, Any], rng: np.random.Generator) -> None:
    a, b = (rng.standard_normal((3, 70)).astype(np.float16) for _ in range(2))
    exact, long = (UnitPath(name="p", formats=("fp16",), chunk=chunk, **path) for chunk in (70, 65536))
    np.testing.assert_array_equal(mxsim.matmul(a, b.T, unit=of(exact)), mxsim.matmul(a, b.T, unit=of(long)))


def test_the_exact_product_takes_blocks_of_any_size(rng: np.random.Generator) -> None:
    from mxsim.units.matmul import exact_product

    x: npt.NDArray[Any] = rng.standard_normal((4, 96)).astype(ml_dtypes.bfloat16)
    a = mxsim.quantize(x, "mxfp8_e4m3", block_size=16)
    found = exact_product(a, a.T)
    assert found is not None
    exact = [[math.fsum((x * y).tolist()) for y in a.dequantize().astype(float)] for x in a.dequantize().astype(float)]
    np.testing.assert_array_equal(found, np.float32(exact))


@pytest.mark.parametrize("x", [-0.0, -(2.0**-24)])
@pytest.mark.parametrize(("denormals", "negative"), [("flush", False), ("flush_signed", True)])
def test_flushed_operands_lose_their_signs_or_keep_them(denormals: str, negative: bool, x: float) -> None:
    """The product of a zero and 1, added to C = -0: -0 only where the zero is negative."""
    path = UnitPath(name="p", formats=("fp16",), denormals=denormals, reduce="fma", chunk=1, step="rne_fp32")
    d = mxsim.matmul(np.float16([[x]]), np.float16([[1]]), unit=of(path), c=np.float32([[-0.0]]))
    assert d == 0
    assert np.signbit(d).all() == negative


@pytest.mark.parametrize(("c_denormals", "negative"), [("flush", False), ("flush_signed", True)])
def test_a_flushed_c_loses_its_sign_or_keeps_it(c_denormals: str, negative: bool) -> None:
    path = UnitPath(name="p", formats=("fp16",), c_denormals=c_denormals, reduce="fma", chunk=1, step="rne_fp32")
    d = mxsim.matmul(np.float16([[-0.0]]), np.float16([[1]]), unit=of(path), c=np.float32([[-(2.0**-130)]]))
    assert d == 0
    assert np.signbit(d).all() == negative


@pytest.mark.parametrize(
    "fields",
    [
        {"chunk": 16, "F": 24},
        {"reduce": "exact"},
        {"reduce": "fma", "chunk": 1},
        {"reduce": "pairwise", "chunk": 4, "c": "late"},
        {"scaling": "group", "presum": 16, "chunk": 64, "F": 35},
    ],
)
@pytest.mark.parametrize(("format", "code"), [("mxfp4_e2m1", 0xFF), ("nvfp4", 0x7F), ("nvfp4", 0xFF)])
def test_a_scale_that_is_no_number_makes_nan_of_zeros_too(format: str, code: int, fields: dict[str, Any]) -> None:
    path = UnitPath(name="p", formats=(format,), block=16 if format == "nvfp4" else 32, **({"scaling": "exact"} | fields))
    zeros, ones = tensor(format, [], code, 64), tensor(format, [2] * 64, 0x38 if format == "nvfp4" else 127, 64)
    assert np.isnan(mxsim.matmul(zeros, ones.T, unit=of(path)))
    assert np.isnan(mxsim.matmul(ones, zeros.T, unit=of(path)))
    assert mxsim.matmul(ones, ones.T, unit=of(path)) == 64
