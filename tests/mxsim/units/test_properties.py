"""What must hold for any operands: metamorphic tests of mxsim.matmul, unit by unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numba
import numpy as np
import numpy.typing as npt
import pytest

import mxsim
from mxsim.units.operands import OPERANDS
from tests.oracles.test_unit_oracle import PROBE

Ints = npt.NDArray[np.int64]
#: where a path adds exactly, or with one cut for all: k -> the group that k belongs to
Groups = Callable[[Ints], Ints]
seeded = hypothesis.settings(max_examples=6, derandomize=True, deadline=None, database=None)
seeds = st.integers(0, 2**32 - 1)


def every(n: int) -> Groups:
    return lambda k: k // n


@dataclass(frozen=True)
class Case:
    """A path, what order means nothing to it in, and after how much of K its D is the next C."""

    unit: str
    format: str
    groups: Groups | None  #: None: a chain, in which every place counts
    step: int  #: 0: never
    out: str = "fp32"

    def __str__(self) -> str:
        return f"{self.unit}-{self.format}-{self.out}"


CASES = (
    Case("nvidia_volta", "fp16", every(4), 4),
    Case("nvidia_turing", "fp16", every(8), 8, "fp16"),
    Case("nvidia_ampere", "bf16", every(8), 8),
    Case("nvidia_ampere", "tf32", every(4), 4),
    Case("nvidia_ada", "e4m3", every(16), 16),
    Case("nvidia_hopper_wgmma", "e5m2", every(32), 32),
    Case("nvidia_hopper_wgmma", "e4m3", every(32), 32, "fp16"),
    Case("nvidia_hopper_mma", "e4m3", lambda k: k // 32 * 2 + k % 4 // 2, 32),
    Case("nvidia_blackwell_mma", "e5m2", lambda k: k // 32 * 2 + k % 4 // 2, 32, "fp16"),
    Case("nvidia_blackwell", "fp16", every(16), 16),
    Case("nvidia_blackwell", "e5m2", every(32), 32),
    Case("nvidia_blackwell", "mxfp8_e4m3", every(32), 32),
    Case("nvidia_blackwell", "mxfp6_e3m2", every(32), 32),
    Case("nvidia_blackwell", "mxfp4_e2m1", every(16), 64),
    Case("nvidia_blackwell", "nvfp4", every(16), 64),
    Case("amd_cdna1", "fp16", every(4), 4),
    Case("amd_cdna1", "bf16", every(2), 2),
    Case("amd_cdna2", "bf16", every(2), 4),  # a tree: only the leaves of a pair change places
    Case("amd_cdna3", "fp16", every(8), 8),
    Case("amd_cdna3", "e4m3fnuz", lambda k: k // 16 * 2 + k % 2, 16),
    Case("pulp_mxdotp", "mxfp8_e5m2", every(8), 32),
    Case("pulp_mxdotp", "mxfp6_e2m3", lambda k: k // 32 * 3 + k % 32 // 11, 32),
    Case("pulp_mxdotp", "mxint8", every(8), 32),
    Case("riscv_bulknorm", "bf16", every(16), 16),
    Case("riscv_bulknorm", "e4m3", every(32), 32),
    Case("arm_fp8_fdot", "e4m3", every(4), 4),
    Case("arm_fp8_fdot", "e5m2", every(2), 2, "fp16"),
    Case("intel_amx", "bf16", None, 32),
    Case("intel_amx", "tf32", None, 16),
    Case("mx_exact", "e4m3", lambda k: 0 * k, 0),
    Case("mx_exact", "mxfp4_e2m1", every(32), 0),
    Case("mx_fp32_chain", "mxfp8_e4m3", every(32), 32),
    Case("mx_fp32_chain", "mxint8", every(32), 32),
    Case("mx_fp32_chain", "nvfp4", every(16), 16),
)
cases = pytest.mark.parametrize("case", CASES, ids=str)


@dataclass(frozen=True)
class Problem:
    """Codes and scales of A (M, K) and of B's columns (N, K), and C; all numbers within a few binades of 1, so that nothing overflows."""

    case: Case
    a: npt.NDArray[Any]
    b: npt.NDArray[Any]
    c: npt.NDArray[Any]
    sa: npt.NDArray[np.uint8] | None = None
    sb: npt.NDArray[np.uint8] | None = None

    @property
    def block(self) -> int:
        return OPERANDS[self.case.format].scale_block or 1

    def matmul(self, c: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        f = OPERANDS[self.case.format]
        if self.sa is not None and self.sb is not None:
            left: Any = mxsim.from_codes(self.a, self.sa, f.name, axis=1)
            right: Any = mxsim.from_codes(self.b, self.sb, f.name, axis=1).T
        else:
            left, right = self.a.view(f.dtype), self.b.view(f.dtype).T
        addend = self.c if c is None else c
        in_format = "tf32" if f.name == "tf32" else None
        return mxsim.matmul(left, right, unit=self.case.unit, c=addend, out=self.case.out, in_format=in_format)

    def part(self, first: int, last: int) -> Problem:
        """Elements first to last of K, which begin a block."""
        scales = slice(first // self.block, -(-last // self.block))
        sa, sb = (None if s is None else s[:, scales] for s in (self.sa, self.sb))
        return replace(self, a=self.a[:, first:last].copy(), b=self.b[:, first:last].copy(), sa=sa, sb=sb)


def numbers(rng: np.random.Generator, format: str, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Codes: normal numbers of -2..2 as exponents, one in eight a zero; all finite codes of block formats, subnormals among them."""
    f = OPERANDS[format]
    if f.scale is None:
        x = np.ldexp(rng.choice([-1, 1], shape) * (1 + rng.random(shape)), rng.integers(-2, 3, shape))
        return np.where(rng.random(shape) < 1 / 8, 0, x).astype(f.dtype).view(f.code)
    codes = rng.integers(0, 1 << (1 + f.ebits + f.mbits if f.ebits else 8), shape).astype(np.uint8)
    finite = {"ieee": codes & 0x7C != 0x7C, "nan": codes & 0x7F != 0x7F}.get(f.specials, True)
    return np.where(finite, codes, 0).astype(np.uint8)


def problem(case: Case, seed: int, K: int, M: int = 3, N: int = 5) -> Problem:
    rng = np.random.default_rng(seed)
    f = OPERANDS[case.format]
    c = np.ldexp(1 + rng.random((M, N)), rng.integers(-2, 3, (M, N))).astype(np.float16 if case.out == "fp16" else np.float32)
    if case.out == "fp32":
        c = (c * np.float32(1 + 2.0**-20)).astype(np.float32)
    p = Problem(case, numbers(rng, f.name, (M, K)), numbers(rng, f.name, (N, K)), c)
    if f.scale is None:
        return p
    centre, reach = (127, 4) if f.scale == "e8m0" else (0x38, 16)
    sa, sb = (rng.integers(centre - reach, centre + reach, (rows, -(-K // f.scale_block))).astype(np.uint8) for rows in (M, N))
    return replace(p, sa=sa, sb=sb)


def assert_same(got: npt.NDArray[Any], want: npt.NDArray[Any]) -> None:
    words = np.uint16 if want.dtype == np.float16 else np.uint32
    np.testing.assert_array_equal(got.view(words), want.view(words))
    assert np.isfinite(want).all()


@pytest.mark.parametrize("case", [case for case in CASES if case.groups], ids=str)
@seeded
@hypothesis.given(seed=seeds, K=st.integers(1, 140))
def test_order_within_an_exact_group_means_nothing(case: Case, seed: int, K: int) -> None:
    p = problem(case, seed, K)
    assert case.groups is not None
    labels = case.groups(np.arange(K))
    places, shuffled = np.lexsort((np.arange(K), labels)), np.lexsort((np.random.default_rng(seed).random(K), labels))
    order = np.empty(K, np.int64)
    order[places] = shuffled
    assert_same(replace(p, a=p.a[:, order].copy(), b=p.b[:, order].copy()).matmul(), p.matmul())


@pytest.mark.parametrize("unit", ["nvidia_volta", "amd_cdna2", "intel_amx", "pulp_mxdotp"])
def test_order_across_groups_does_mean_something(unit: str) -> None:
    """The test above can fail: K turned round changes bits."""
    case = next(case for case in CASES if case.unit == unit)
    p = problem(case, 1, 128, M=16, N=16)
    turned = replace(
        p,
        a=p.a[:, ::-1].copy(),
        b=p.b[:, ::-1].copy(),
        sa=None if p.sa is None else p.sa[:, ::-1].copy(),
        sb=None if p.sb is None else p.sb[:, ::-1].copy(),
    )
    assert (turned.matmul() != p.matmul()).any()


@cases
@seeded
@hypothesis.given(seed=seeds, K=st.integers(1, 140), power=st.integers(-3, 3), wide=st.integers(-6, 6))
def test_powers_of_two_pass_through(case: Case, seed: int, K: int, power: int, wide: int) -> None:
    """A row of A and its C times 2^p: its D times 2^p, as long as nothing leaves the range of normal numbers."""
    p = problem(case, seed, K)
    f = OPERANDS[case.format]
    if f.scale == "e8m0" and p.sa is not None:
        power *= 4
        moved = replace(p, sa=(p.sa.astype(int) + power).astype(np.uint8))
    elif p.sa is not None:
        moved = replace(p, sa=(p.sa.astype(int) + 8 * power).astype(np.uint8))  # UE4M3: a step of its exponent field
    else:
        power = wide if f.ebits == 8 else power
        moved = replace(p, a=np.ldexp(p.a.view(f.dtype).astype(np.float32), power).astype(f.dtype).view(f.code))
    moved = replace(moved, c=np.ldexp(p.c, power))
    assert_same(moved.matmul(), np.ldexp(p.matmul(), power))


@cases
@seeded
@hypothesis.given(seed=seeds, K=st.integers(1, 100), more=st.integers(1, 80))
def test_zeros_behind_change_nothing(case: Case, seed: int, K: int, more: int) -> None:
    p, filler = problem(case, seed, K), problem(case, seed + 1, K + more)
    padded = []
    for x, s, other in ((p.a, p.sa, filler.sa), (p.b, p.sb, filler.sb)):
        codes = np.pad(x, ((0, 0), (0, more)))
        padded += [codes, None if s is None or other is None else np.concatenate([s, other[:, s.shape[1] :]], axis=1)]
    a, sa, b, sb = padded
    assert a is not None
    assert b is not None
    assert_same(replace(p, a=a, b=b, sa=sa, sb=sb).matmul(), p.matmul())


@pytest.mark.parametrize("case", [case for case in CASES if case.step], ids=str)
@seeded
@hypothesis.given(seed=seeds, first=st.integers(1, 3), more=st.integers(1, 100))
def test_the_next_chunks_c_is_d(case: Case, seed: int, first: int, more: int) -> None:
    """K in two calls, the first's D as the second's C: one call's bits."""
    cut = first * max(case.step, OPERANDS[case.format].scale_block)
    p = problem(case, seed, cut + more)
    assert_same(p.part(cut, cut + more).matmul(p.part(0, cut).matmul()), p.matmul())


@cases
@seeded
@hypothesis.given(seed=seeds, K=st.integers(1, 100), row=st.integers(0, 2), column=st.integers(0, 4))
def test_an_output_is_its_row_and_column(case: Case, seed: int, K: int, row: int, column: int) -> None:
    p = problem(case, seed, K)
    rows, columns = slice(row, None), slice(None, column + 1)
    sa, sb = (None if s is None else s[at] for s, at in ((p.sa, rows), (p.sb, columns)))
    part = replace(p, a=p.a[rows].copy(), b=p.b[columns].copy(), c=p.c[rows, columns].copy(), sa=sa, sb=sb)
    assert_same(part.matmul(), p.matmul()[rows, columns].copy())


@cases
def test_thread_count_changes_nothing(case: Case) -> None:
    p = problem(case, 4, 200, M=70, N=90)
    results = []
    for threads in sorted({1, min(2, numba.config.NUMBA_NUM_THREADS), numba.config.NUMBA_NUM_THREADS}):
        numba.set_num_threads(threads)
        results.append(p.matmul())
    for got in results:
        assert_same(got, results[0])


@pytest.mark.parametrize(
    ("unit", "answer"),
    [
        ("nvidia_volta", 0),
        ("nvidia_ampere", 0),
        ("amd_cdna2", 0),
        ("amd_cdna1", 255.875),
        ("nvidia_hopper_wgmma", 191.875),
    ],
)
def test_fttns_matmul(unit: str, answer: float) -> None:
    """V100, A100, MI250X, MI100, H100: FTTN's answers (arXiv 2403.00232), from operands of our own, in every place of D."""
    a, b = np.array(PROBE).T.astype(np.float16)
    got = mxsim.matmul(np.tile(a, (8, 1)), np.tile(b, (16, 1)).T, unit=unit)
    np.testing.assert_array_equal(got, np.full((8, 16), answer, np.float32))


def test_integers_of_a_group() -> None:
    """INT8 without OCP's factor is 2^12 times INT8 with it, also where only the scales place a group."""
    case = Case("mx_exact", "mxint8", every(32), 0)
    p = problem(case, 7, 96)
    ours = mxsim.UNITS["mx_exact"].path_for("mxint8", "mxint8")
    grouped = {"scaling": "group", "reduce": "align", "presum": 16, "chunk": 64, "F": 35, "step": "rz_fp32", "name": "grouped"}
    for fields in ({}, grouped):
        d = []
        for fraction in (6, 0):
            path = replace(ours, formats=("mxint8",), int8_fraction=fraction, **fields)  # type: ignore[arg-type]
            unit = replace(mxsim.UNITS["mx_exact"], paths=(path,))
            assert p.sa is not None
            assert p.sb is not None
            a, b = mxsim.from_codes(p.a, p.sa, "mxint8", axis=1), mxsim.from_codes(p.b, p.sb, "mxint8", axis=1)
            d.append(mxsim.matmul(a, b.T, unit=unit))
        assert_same(d[1], np.ldexp(d[0], 12))
        assert d[0].any()
