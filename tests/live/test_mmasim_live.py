"""mxsim.matmul against mmasim, live: at least a million outputs on every path that both model.

Needs mmasim 2.1.1 beside mxsim (it brings torch and compiles a small C++ file); skipped by name without it. It takes
some half an hour on two cores; MXSIM_LIVE_OUTPUTS asks for fewer or more outputs a path. Operands are those of
tests/golden/units/make_mmasim.py, from another seed: NaN, Inf, subnormals, cancellation and extreme scales among them.
"""

import math
import os
import time
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch and its extension loader, not ours
    pytest.importorskip("mmasim", reason="mmasim is not installed: pip install mmasim==2.1.1")
    from tests.golden.units import make_mmasim

OUTPUTS = int(os.environ.get("MXSIM_LIVE_OUTPUTS", "1000000"))
CHUNKS = 2  # of the unit along K: the second meets a C that the first rounded
ROWS = 50  # of mmasim's M at once: it expands the operands to (M, N, K) in float64
SEED = 31
SIZE = math.isqrt(OUTPUTS - 1) + 1
PATHS = {path.key: path for path in make_mmasim.every_path()}
DTYPES: dict[str, Any] = {
    "fp32": np.float32,
    "tf32": np.float32,
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "e5m2": ml_dtypes.float8_e5m2,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
}

pytestmark = pytest.mark.oracle


def ours(path: make_mmasim.UnitPath, data: dict[str, np.ndarray]) -> np.ndarray:
    import mxsim

    a, b = data["a"].view(DTYPES[path.a_format]), data["b"].view(DTYPES[path.b_format])
    if path.names:
        a = mxsim.from_codes(data["a"], data["sa"], path.names[0], axis=-1)
        b = mxsim.from_codes(data["b"], data["sb"], path.names[1], axis=0)
    c = data["c"].view(DTYPES[path.out])
    in_format = "tf32" if path.a_format == "tf32" else None
    return mxsim.matmul(a, b, unit=path.unit, c=c, out=path.out, in_format=in_format).view(data["c"].dtype)


def theirs(path: make_mmasim.UnitPath, data: dict[str, np.ndarray]) -> np.ndarray:
    rows = (slice(first, first + ROWS) for first in range(0, SIZE, ROWS))
    per_row = {"a", "c", "sa"}
    return np.concatenate([make_mmasim.answers(path, {n: x[r] if n in per_row else x for n, x in data.items()}) for r in rows])


def is_nan(bits: np.ndarray) -> np.ndarray:
    sign, inf = (0x8000, 0x7C00) if bits.dtype == np.uint16 else (0x80000000, 0x7F800000)
    return (bits & (sign - 1)) > inf


@pytest.mark.parametrize("key", PATHS)
def test_every_output_is_mmasims(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = PATHS[key]
    data = make_mmasim.operands(np.random.default_rng(SEED), path, CHUNKS, SIZE)
    start = time.perf_counter()
    expected = theirs(path, data)
    between = time.perf_counter()
    got = ours(path, data)
    end = time.perf_counter()
    differs = got != expected
    if path.unit in ("amd_cdna1", "amd_cdna2") or path.a_format == "fp32":
        differs &= ~(is_nan(got) & is_nan(expected))  # mmasim carries the host's payloads there
    with capsys.disabled():
        timing = f"mmasim {between - start:6.1f} s, mxsim {end - between:6.2f} s"
        print(f"\n{key:48} {differs.sum():9,} of {differs.size:,} differ   {timing}", end="")
    first = [(int(i), int(j), hex(got[i, j]), hex(expected[i, j])) for i, j in np.argwhere(differs)[:5]]
    assert not first, f"{differs.sum()} of {differs.size} differ, first (row, column, mxsim, mmasim): {first}"
