"""Policies against the bytes that the libraries they are named after wrote, and the tables themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import mxsim
from mxsim import elements, scaling
from mxsim.arrays import DTYPES
from mxsim.formats import ELEMENTS, BlockFormat, ElementFormat
from mxsim.plan import conversion_plan
from mxsim.policies import EVERY_DTYPE, Conversion, Policy, Scale, ScaleRule
from tests.exactness import policies
from tests.exactness.policies import Case

CASES = [case for library in policies.LIBRARIES for case in policies.cases_of(library)]

# How many results stand outside a comparison, where Policy.limits says so: scale bytes, codes or values, amax steps.
LEFT_OUT = {
    ("quark", "float32/mxfp8_e4m3/even"): [191, 0, 2],
    ("quark", "float32/mxfp8_e5m2/even"): [335, 0, 2],
    ("quark", "float32/mxint8/even"): [210, 0],
    ("quark", "bfloat16/mxfp8_e4m3/even"): [188, 0, 2],
    ("quark", "bfloat16/mxfp8_e5m2/even"): [332, 0, 2],
    ("quark", "bfloat16/mxint8/even"): [211, 0],
    ("quark", "float16/mxint8/even"): [37, 0],
    ("auto-round", "float32/mxfp4_e2m1/mx_fp"): [0, 105, 0],
    ("auto-round", "float32/mxfp4_e2m1/mx_fp_rceil"): [0, 119, 0],
    ("auto-round", "float32/mxfp4_e2m1/mx_fp4_rceil_v2"): [0, 114, 0],
    ("auto-round", "float32/mxfp8_e4m3/mx_fp"): [0, 102, 0],
    ("auto-round", "float32/mxfp8_e4m3/mx_fp_rceil"): [0, 491, 0],
    ("auto-round", "float32/mxfp6_e2m3/mx_fp"): [44, 0, 5],
    ("auto-round", "float32/mxfp6_e2m3/mx_fp_rceil"): [54, 7],
    ("auto-round", "float32/mxfp6_e3m2/mx_fp"): [44, 0, 5],
    ("auto-round", "float32/mxfp6_e3m2/mx_fp_rceil"): [56, 7],
    ("auto-round", "float32/mxint8/mx_fp"): [44, 0, 5],
    ("auto-round", "float32/mxint8/mx_fp_rceil"): [44, 5],
    ("auto-round", "bfloat16/mxfp4_e2m1/mx_fp_rceil"): [0, 82, 0],
    ("auto-round", "bfloat16/mxfp4_e2m1/mx_fp4_rceil_v2"): [0, 78, 0],
    ("auto-round", "bfloat16/mxfp8_e4m3/mx_fp_rceil"): [0, 26, 0],
    ("auto-round", "bfloat16/mxfp6_e2m3/mx_fp"): [44, 0, 5],
    ("auto-round", "bfloat16/mxfp6_e2m3/mx_fp_rceil"): [44, 5],
    ("auto-round", "bfloat16/mxfp6_e3m2/mx_fp"): [44, 0, 5],
    ("auto-round", "bfloat16/mxfp6_e3m2/mx_fp_rceil"): [44, 5],
    ("auto-round", "bfloat16/mxint8/mx_fp"): [44, 0, 5],
    ("auto-round", "bfloat16/mxint8/mx_fp_rceil"): [44, 5],
    ("auto-round", "float16/mxfp4_e2m1/mx_fp"): [0, 224, 0],
    ("auto-round", "float16/mxfp4_e2m1/mx_fp_rceil"): [0, 355, 0],
    ("auto-round", "float16/mxfp4_e2m1/mx_fp4_rceil_v2"): [0, 339, 0],
    ("auto-round", "float16/mxfp8_e4m3/mx_fp"): [0, 416, 0],
    ("auto-round", "float16/mxfp8_e4m3/mx_fp_rceil"): [0, 513, 0],
    ("auto-round", "float16/mxfp6_e2m3/mx_fp"): [44, 5],
    ("auto-round", "float16/mxfp6_e2m3/mx_fp_rceil"): [44, 5],
    ("auto-round", "float16/mxfp6_e3m2/mx_fp"): [44, 5],
    ("auto-round", "float16/mxfp6_e3m2/mx_fp_rceil"): [44, 5],
    ("auto-round", "float16/mxint8/mx_fp"): [44, 5],
    ("auto-round", "float16/mxint8/mx_fp_rceil"): [44, 5],
    ("microxcaling", "float32/mxfp6_e3m2/floor"): [11],
    ("microxcaling", "float32/mxfp8_e4m3/floor"): [18],
    ("microxcaling", "float32/mxfp8_e5m2/floor"): [34],
    ("microxcaling", "bfloat16/mxfp6_e3m2/floor"): [44],
    ("microxcaling", "bfloat16/mxfp8_e4m3/floor"): [96],
    ("microxcaling", "bfloat16/mxfp8_e5m2/floor"): [190],
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.producer}-{case.key}")
def test_bytes_of_the_library(case: Case) -> None:
    rows = list(policies.case_comparisons(case))
    for row in rows:
        row.require_equal()
    left_out = [row.left_out for row in rows]
    assert left_out == LEFT_OUT.get((case.producer, case.key), [0] * len(rows))


def test_every_golden_mode_is_known() -> None:
    # what the files hold: every library's default for every format, and each of its other modes
    assert len(CASES) == 198
    assert {case.producer for case in CASES} == set(policies.LIBRARIES)
    assert {case.dtype for case in CASES} == set(EVERY_DTYPE)
    assert {case.format for case in CASES} == set(mxsim.FORMATS)


def test_contract_names() -> None:
    assert list(mxsim.POLICIES) == ["ocp", "torchao", "compressed-tensors", "modelopt", "quark", "auto-round", "microxcaling"]
    assert all(policy.name == name for name, policy in mxsim.POLICIES.items())


def test_every_row_has_a_source() -> None:
    for row in (*mxsim.FORMATS.values(), *mxsim.ELEMENTS.values(), *mxsim.POLICIES.values()):
        assert len(row.source) > 10, row.name
    for policy in mxsim.POLICIES.values():
        assert any(character.isdigit() for character in policy.version), policy.version
        for conversion in policy.conversions:
            assert (conversion.two_level is None) == (conversion.formats != ("nvfp4",))
            assert conversion.two_level is None or conversion.two_level.source
            assert conversion.two_level is not None or conversion.scale_rule in conversion.scale_rules


def test_conversions_do_not_overlap() -> None:
    for policy in mxsim.POLICIES.values():
        served = [(format, dtype) for c in policy.conversions for format in c.formats for dtype in c.dtypes]
        assert len(served) == len(set(served)), policy.name
        assert {format for format, _ in served} <= set(mxsim.FORMATS)
        assert {dtype for _, dtype in served} <= set(EVERY_DTYPE)


def test_limits_are_told() -> None:
    # a policy whose library is not reproduced somewhere says where
    assert {library for library, _ in LEFT_OUT} <= {policy.name for policy in mxsim.POLICIES.values() if policy.limits}
    assert not mxsim.POLICIES["ocp"].limits
    assert not mxsim.POLICIES["compressed-tensors"].limits
    assert not mxsim.POLICIES["modelopt"].limits


def test_ocp_serves_everything() -> None:
    for format in mxsim.FORMATS:
        for dtype in policies.DTYPES.values():
            assert mxsim.quantize(np.ones((2, 32), dtype), format).codes.shape == (2, 32)


@pytest.mark.parametrize(
    ("policy", "format", "dtype", "message"),
    [
        ("torchao", "mxfp4_e2m1", "float16", r"'torchao' does not take float16 to mxfp4_e2m1.*takes float32, bfloat16; widen"),
        ("torchao", "nvfp4", "float16", r"does not take float16 to nvfp4"),
        ("torchao", "mxint8", "float32", r"'torchao' has no mxint8.*policy 'ocp' has all"),
        ("compressed-tensors", "mxfp6_e3m2", "float32", r"has no mxfp6_e3m2: compressed-tensors 0.20.0 converts to mxfp4_e2m1"),
        ("compressed-tensors", "mxint8", "bfloat16", r"has no mxint8"),
        ("modelopt", "mxfp6_e2m3", "float32", r"has no mxfp6_e2m3: nvidia-modelopt 0.47.0"),
        ("quark", "nvfp4", "bfloat16", r"'quark' has no nvfp4: amd-quark 0.13"),
        ("auto-round", "nvfp4", "float32", r"'auto-round' has no nvfp4"),
        ("microxcaling", "mxfp4_e2m1", "float16", r"does not take float16"),
    ],
)
def test_what_a_library_cannot_do(policy: str, format: str, dtype: str, message: str) -> None:
    with pytest.raises(mxsim.MxsimError, match=message):
        mxsim.quantize(np.ones((2, 32), policies.DTYPES[dtype]), format, policy=policy)


def test_unknown_policy_names_the_nearest() -> None:
    with pytest.raises(mxsim.UnknownNameError, match=r"did you mean 'torchao'\?"):
        mxsim.quantize(np.ones(32, np.float32), "mxfp4_e2m1", policy="torch-ao")


def test_one_s_own_policy_is_one_literal() -> None:
    # half a binade of head room, and the code of an all-zero block that a device might want
    mine = Policy(
        name="mine",
        version="1",
        conversions=(
            Conversion(
                formats=("mxfp4_e2m1",),
                scale_rule="ceil",
                scale_rules={"ceil": ScaleRule(exponent=scaling.ceil, zero=Scale(code=127))},
                rounding="toward_zero",
                zero_sign="plus",
            ),
        ),
        source="this test",
    )
    x = np.float32([[0.0] * 32, [5.9, -2.9, -0.0, -0.4] + [0.0] * 28])
    q = mxsim.quantize(x, "mxfp4_e2m1", policy=mine)
    # ceil: 5.9 = 1.475 * 2^2 -> scale 2^(2 + 1 - 2) = 2; 2.95 -> 2 (code 4), -1.45 -> -1 (0xA), -0.0 -> +0, -0.2 -> -0 (0x8)
    assert q.scales.ravel().tolist() == [127, 128]
    assert q.codes[1, :4].tolist() == [4, 0xA, 0, 0x8]
    assert mxsim.fake_quantize(x, "mxfp4_e2m1", policy=mine)[1, :2].tolist() == [4.0, -2.0]
    with pytest.raises(mxsim.MxsimError, match="'mine' has no nvfp4"):
        mxsim.quantize(x, "nvfp4", policy=mine)


def test_a_changed_policy_changes_its_bytes() -> None:
    # a policy object is what counts, not its name
    torchao = mxsim.POLICIES["torchao"]
    signless = replace(torchao, conversions=tuple(replace(c, zero_sign="plus") for c in torchao.conversions))
    x = np.full((1, 32), -0.0, np.float32)
    assert set(mxsim.quantize(x, "mxfp4_e2m1", policy=torchao).codes.ravel()) == {8}
    assert set(mxsim.quantize(x, "mxfp4_e2m1", policy=signless).codes.ravel()) == {0}


@pytest.mark.parametrize("policy", [name for name in mxsim.POLICIES if name != "ocp"])
def test_a_rule_the_library_lacks_is_the_exact_one(policy: str) -> None:
    x = np.random.default_rng(0).standard_normal((16, 32)).astype(np.float32)
    own = mxsim.POLICIES[policy].conversion("mxfp4_e2m1", "float32").scale_rules
    for rule in {"floor", "ceil", "rceil", "even"} - set(own):
        ours = mxsim.quantize(x, "mxfp4_e2m1", policy=policy, scale_rule=rule)
        assert np.array_equal(ours.scales, mxsim.quantize(x, "mxfp4_e2m1", scale_rule=rule).scales)


def test_only_rounding_to_nearest_slips() -> None:
    # 1/4 less an ulp under a scale of 1 is rounded up by microxcaling and AutoRound, but never truncated up
    x = np.zeros((1, 32), np.float32)
    x[0, :2] = np.nextafter(np.float32(0.25), np.float32(0)), 4
    slipped = mxsim.quantize(x, "mxfp4_e2m1", policy="microxcaling").codes[0, 0]
    truncated = mxsim.quantize(x, "mxfp4_e2m1", policy="microxcaling", rounding="toward_zero").codes[0, 0]
    assert (slipped, truncated) == (1, 0)
    drawn = [
        int(mxsim.quantize(x, "mxfp4_e2m1", policy="microxcaling", rounding="stochastic", seed=seed).codes[0, 0]) for seed in range(40)
    ]
    assert 0 < sum(drawn) < 40


def test_a_stored_divisor_loses_nothing() -> None:
    # compressed-tensors multiplies amax / 6 by what it stores: here to 17, half way between the E4M3 numbers 16 and 18
    divisors = np.random.default_rng(2).uniform(100, 200, 2000).astype(np.float32)
    inverted_twice = np.float32(1) / (np.float32(1) / divisors)
    amax = np.float32(17) / divisors * np.float32(6)
    found = (divisors * (amax / np.float32(6)) == 17) & (inverted_twice * (amax / np.float32(6)) > 17)
    assert found.any()
    for divisor, largest in zip(divisors[found], amax[found], strict=True):
        x = np.full((1, 16), largest)
        q = mxsim.quantize(x, "nvfp4", policy="compressed-tensors", tensor_scale=1 / float(divisor))
        assert q.tensor_scale == np.float32(1) / divisor
        assert elements.decode(q.scales, "e4m3").item() == 16


def test_a_stored_divisor_divides_the_scales() -> None:
    # as compressed-tensors dequantises: scale / divisor, rounded, times the element; the product with 1 / divisor is another number
    x = np.random.default_rng(3).standard_normal((64, 256)).astype(np.float32)
    q = mxsim.quantize(x, "nvfp4", policy="compressed-tensors")
    assert q.tensor_divisor is not None
    assert q.tensor_scale == np.float32(1) / q.tensor_divisor
    scales, codes = elements.decode(q.scales, "e4m3").astype(np.float32), elements.decode(q.codes, "e2m1").astype(np.float32)
    expected = codes * np.repeat(scales / q.tensor_divisor, 16, axis=1)
    np.testing.assert_array_equal(q.dequantize(), expected)
    np.testing.assert_array_equal(q.T.dequantize(), expected.T)
    np.testing.assert_array_equal(mxsim.fake_quantize(x, "nvfp4", policy="compressed-tensors"), expected)
    assert (expected != codes * np.repeat(scales * q.tensor_scale, 16, axis=1)).any()


def require_same_bits_whatever_is_beside(x: npt.NDArray[np.float32], **how: Any) -> None:
    """Each 64 blocks (64, 32) of x: together, and after a block of zeros, beside which nothing is converted in a shortened way."""
    apart = x.copy()
    apart[:, 0] = 0
    together, others = (mxsim.quantize(blocks, **how) for blocks in (x, apart))
    np.testing.assert_array_equal(together.codes[:, 1:], others.codes[:, 1:])
    np.testing.assert_array_equal(together.scales[:, 1:], others.scales[:, 1:])
    at_once, others_at_once = (mxsim.fake_quantize(blocks, **how).view(np.uint32) for blocks in (x, apart))
    np.testing.assert_array_equal(at_once[:, 1:], others_at_once[:, 1:])


def groups_of_all_sizes() -> npt.NDArray[np.float32]:
    """(253, 64, 32): each 64 blocks have their largest magnitude in one binade of normal float32 numbers."""
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, (253, 64, 32)) * np.exp2(-rng.integers(0, 12, (253, 64, 32)))
    x[..., 5] = 1 + rng.integers(0, 16, (253, 64)) / 16
    return np.ldexp(x, np.arange(-126, 127)[:, None, None]).astype(np.float32)


@pytest.mark.parametrize("policy", mxsim.POLICIES)
@pytest.mark.parametrize("format", [name for name in mxsim.FORMATS if name != "nvfp4"])
def test_blocks_are_converted_alike_whatever_is_beside_them(policy: str, format: str) -> None:
    producer = mxsim.POLICIES[policy]
    if not any(format in conversion.formats for conversion in producer.conversions):
        with pytest.raises(mxsim.MxsimError, match=f"has no {format}"):
            producer.conversion(format, "float32")
        return
    x = groups_of_all_sizes()
    for rule in {*producer.conversion(format, "float32").scale_rules, "floor", "ceil", "rceil", "even"}:
        require_same_bits_whatever_is_beside(x, format=format, policy=policy, scale_rule=rule)


def e4m3_scales_about_to_change(tensor_scale: np.float32) -> npt.NDArray[np.float32]:
    """(n, 64, 16): blocks whose largest magnitude lies within 3 float32 steps of where an E4M3 scale becomes the next."""
    scales = elements.decode(np.arange(127, dtype=np.uint8), "e4m3")
    halfway = (scales[:-1] + scales[1:]) / 2 * 6 * np.float64(tensor_scale)
    amaxes = np.sort((halfway.astype(np.float32).view(np.int32)[:, None] + np.arange(-3, 4)).reshape(-1)).astype(np.int32)
    amaxes = amaxes[-(len(amaxes) // 64 * 64) :].view(np.float32).reshape(-1, 64)
    x = np.random.default_rng(5).uniform(-1, 1, (*amaxes.shape, 16)).astype(np.float32) * amaxes[..., None]
    x[..., 5] = amaxes
    return x


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tensor_scale", [1e-38, 0.0019903672, 0.3, 1e30])
@pytest.mark.parametrize(("policy", "unsteady"), [("ocp", 1), ("torchao", 9), ("compressed-tensors", 1), ("modelopt", 2)])
def test_nvfp4_blocks_are_converted_alike_whatever_is_beside_them(policy: str, unsteady: int, tensor_scale: float, dtype: str) -> None:
    x = e4m3_scales_about_to_change(np.float32(tensor_scale)).astype(DTYPES[dtype])
    require_same_bits_whatever_is_beside(x, format="nvfp4", policy=policy, tensor_scale=tensor_scale)
    plan = conversion_plan(mxsim.FORMATS["nvfp4"], policy, None, None, dtype, tensor_scale, lambda finite_only: np.float32(0))
    if tensor_scale > 1e-38 and not (policy == "compressed-tensors" and dtype == "bfloat16"):
        # otherwise nothing here would be converted in a shortened way
        assert plan.scaling.steady_from == plan.scaling.first[unsteady]


@pytest.mark.parametrize("policy", ["ocp", "torchao", "compressed-tensors", "modelopt"])
def test_nvfp4_blocks_are_converted_alike_beside_nan(policy: str) -> None:
    # NaN makes the tensor scale of some producers NaN, and then every block's
    x = np.random.default_rng(6).standard_normal((3, 64, 16)).astype(np.float32)
    x[0, 1, 0] = np.nan
    require_same_bits_whatever_is_beside(x, format="nvfp4", policy=policy)
    q, slow = (mxsim.quantize(x, "nvfp4", policy=policy, rounding=rounding) for rounding in ("nearest_even", "nearest_away"))
    np.testing.assert_array_equal(q.scales, slow.scales)
    assert (q.tensor_scale != q.tensor_scale) == (policy in ("torchao", "modelopt"))


@pytest.mark.parametrize("instead", [Scale(code=120, factor=3.0), Scale(code=121)])
def test_a_scale_of_another_factor_or_code_is_taken(instead: Scale) -> None:
    # in the midst of scales that are powers of two: under code 120, 2^-7, elements are divided by 3; or 121 is stored for it
    rule = ScaleRule(exponent=scaling.floor, instead={120: instead})
    conversion = Conversion(formats=("mxfp8_e4m3",), scale_rule="odd", scale_rules={"odd": rule})
    mine = Policy(name="mine", version="1", conversions=(conversion,), source="this test")
    x = groups_of_all_sizes()
    require_same_bits_whatever_is_beside(x, format="mxfp8_e4m3", policy=mine)
    block = np.zeros((64, 32), np.float32)
    block[:, 0] = 2.0  # floor: 2^(1 - 8)
    q = mxsim.quantize(block, "mxfp8_e4m3", policy=mine)
    factor = instead.factor or 2.0 ** (instead.code - 127)
    assert set(q.scales.ravel()) == {instead.code}
    assert set(elements.decode(q.codes[:, 0], "e4m3")) == {
        float(elements.decode(elements.encode(np.float32([2 / factor]), "e4m3"), "e4m3")[0])
    }


@pytest.mark.parametrize(("ebits", "mbits"), [(6, 1), (7, 0)])
def test_elements_of_a_wide_range(ebits: int, mbits: int) -> None:
    # so wide that the scale of a usual block makes quanta subnormal, or the number whose ulp is the largest quantum infinite
    element = ElementFormat(name="wide", ebits=ebits, mbits=mbits, source="this test")
    wide = BlockFormat(name="mxwide", element=element, scale=ELEMENTS["e8m0"], block_size=32, source="this test")
    conversion = Conversion(formats=("mxwide",), scale_rule="floor", scale_rules={"floor": ScaleRule(exponent=scaling.floor)})
    mine = Policy(name="mine", version="1", conversions=(conversion,), source="this test")
    x = groups_of_all_sizes() * np.exp2(-np.random.default_rng(4).integers(0, 60, (253, 64, 32))).astype(np.float32)
    x[..., 5] = groups_of_all_sizes()[..., 5]
    require_same_bits_whatever_is_beside(x, format=wide, policy=mine)


@pytest.mark.parametrize("rounding", ["nearest_even", "nearest_away", "toward_zero", "stochastic"])
@pytest.mark.parametrize("block_size", [16, 12])
def test_what_modelopt_divides_by_zero_is_six(block_size: int, rounding: str) -> None:
    # x / (scale * scale_2), the product 0 in float32: Inf is cast to 6, and so is 0 / 0; ocp makes zeros of such blocks
    x = np.zeros((2, 3 * block_size), np.float32)
    x[:, 0], x[:, 1], x[1, 2] = 1e-41, -1e-41, -0.0  # a scale above 1/2 times the least float32 is not 0
    x[0, block_size : block_size + 3] = [1e-45, -1e-45, 1e-45]
    how: dict[str, Any] = {"policy": "modelopt", "rounding": rounding, "block_size": block_size, "seed": 0}
    q = mxsim.quantize(x, "nvfp4", **how)
    assert q.tensor_scale is not None
    assert 0 < q.tensor_scale < 1e-44
    assert q.codes[0, block_size : block_size + 4].tolist() == [7, 15, 7, 7]
    assert set(q.codes[0, block_size:].tolist()) == {0, 7, 15}  # the block of zeros has a scale of 1
    assert set(q.codes[1, 2:].tolist()) == {0}
    values = q.dequantize()
    np.testing.assert_array_equal(np.abs(values[0, block_size:]), 0)
    np.testing.assert_array_equal(mxsim.fake_quantize(x, "nvfp4", **how).view(np.uint32), values.view(np.uint32))
    np.testing.assert_array_equal(mxsim.fake_quantize(x.T, "nvfp4", axis=0, **how).T.view(np.uint32), values.view(np.uint32))
    np.testing.assert_array_equal(mxsim.unpack(q.packed()[0], "e2m1"), q.codes)
    assert not (mxsim.quantize(x, "nvfp4", **how | {"policy": "ocp"}).codes[0, block_size:] & 7).any()


def test_a_tensor_whose_scale_vanishes_under_modelopt() -> None:
    # amax / 2688 is 0, and every block scale 448
    x = np.float32([[1e-42, -1e-42, 0.0, -0.0] * 4] * 64)
    q = mxsim.quantize(x, "nvfp4", policy="modelopt")
    assert q.tensor_scale == 0
    assert set(q.scales.ravel()) == {0x7E}
    np.testing.assert_array_equal(q.codes, [[7, 15, 7, 7] * 4] * 64)
