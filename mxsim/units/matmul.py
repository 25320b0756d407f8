"""mxsim.matmul: the bits that a named matrix unit gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.errors import MxsimError
from mxsim.tensor import MXTensor
from mxsim.units import engine, fast
from mxsim.units.operands import OPERANDS, PLAIN, Operand, OperandFormat
from mxsim.units.presets import UNITS
from mxsim.units.spec import OUTPUTS, MatmulUnit, UnitPath

_OUT_DTYPES: dict[str, Any] = {"fp32": np.float32, "fp16": np.float16}
_ONE = np.float32(1)


def matmul(
    a: MXTensor | npt.NDArray[Any],
    b: MXTensor | npt.NDArray[Any],
    unit: str | Path | MatmulUnit = "nvidia_blackwell",
    c: npt.NDArray[Any] | None = None,
    out: str = "fp32",
    in_format: str | None = None,
) -> npt.NDArray[Any]:
    """D = C + A B as the unit computes it, bit for bit.

    Args:
        a: (M, K), b: (K, N): MX tensors blocked along K (axis 1 of a, axis 0 of b), or arrays of float32, float16 or ml_dtypes' bfloat16
            and float8, float6 and float4 types. Any strides. The pair of formats chooses the unit's path: `mxsim units NAME` lists them.
        unit: a name of mxsim.UNITS, a MatmulUnit, or the path of a .toml file that describes one.
        c: (M, N) float32 or float16; None is +0. For out="fp16" a float32 c is first rounded to float16, to nearest even.
        out: fp32 | fp16, where the unit has a path to it.
        in_format: what float32 arrays hold: "fp32", or "tf32", which clears the low 13 bits. None is fp32.
    Returns:
        (M, N) float32, or float16 for out="fp16". NaN has the bits that the unit gives it.
        The tensor scales of nvfp4 act after the unit: one FP32 multiplication, to nearest even, by the rounded product of both; it is
        left out where both are 1.
    Raises:
        MxsimError: for anything else; where the unit has no path for the operands it lists what it takes.
    Source: each path's own, see mxsim.UNITS[unit].paths. Exact: bit for bit, whatever the strides and the number of threads.
    """
    described = _unit(unit)
    if out not in OUTPUTS:
        raise MxsimError(f"out is {out!r}: write {' or '.join(OUTPUTS)}")
    fa, fb = operand_format(a, "a", in_format), operand_format(b, "b", in_format)
    path = described.path_for(fa.name, fb.name, out)
    M, K, N = _shape(a, b)
    left, right = _operand(a, fa, "a", 1, path), _operand(b, fb, "b", 0, path)
    addend = _addend(c, (M, N), path)
    result = np.zeros((M, N), _OUT_DTYPES[out])
    if K == 0:
        if addend is not None:
            np.copyto(result, addend)
            engine.set_nan(result, path.nan)
    elif result.size:
        fast.run(path, left, right, addend, result)
    return _tensor_scaled(result, a, b, path)


def exact_product(
    a: MXTensor | npt.NDArray[Any],
    b: MXTensor | npt.NDArray[Any],
    c: npt.NDArray[Any] | None = None,
    out: str = "fp32",
    in_format: str | None = None,
) -> npt.NDArray[Any] | None:
    """What mx_exact gives, whatever the blocks' size; None for operands that it does not take (AMD's fnuz types)."""
    exact = UNITS["mx_exact"]
    fa, fb = operand_format(a, "a", in_format), operand_format(b, "b", in_format)
    path = next((path for x, y, z, path in exact.pairs() if (x, y, z) == (fa.name, fb.name, out)), None)
    if path is None:
        return None
    block = a.block_size if isinstance(a, MXTensor) else path.block
    return matmul(a, b, replace(exact, paths=(replace(path, block=block),)), c, out, in_format)


def _unit(unit: str | Path | MatmulUnit) -> MatmulUnit:
    if isinstance(unit, MatmulUnit):
        return unit
    from mxsim.units.toml import load_unit

    return load_unit(unit)


def operand_format(x: object, name: str, in_format: str | None) -> OperandFormat:
    """What an operand's elements are; see matmul."""
    if isinstance(x, MXTensor):
        return OPERANDS[x.format.name]
    if not isinstance(x, np.ndarray):
        raise MxsimError(f"{name} is a {type(x).__name__}: pass an MXTensor (mxsim.quantize makes one) or a numpy array")
    if x.dtype not in PLAIN:
        known = ", ".join(str(dtype) for dtype in PLAIN)
        remedy = "cast it with .astype(numpy.float32)" if x.dtype == np.float64 else "quantise or cast it to one of these"
        raise MxsimError(f"{name} has dtype {x.dtype}, but a unit takes MX tensors or arrays of {known}: {remedy}")
    if in_format not in (None, "fp32", "tf32"):
        raise MxsimError(f"in_format is {in_format!r}: it says what float32 arrays hold, fp32 or tf32; other dtypes speak for themselves")
    return OPERANDS["tf32"] if x.dtype == np.float32 and in_format == "tf32" else PLAIN[x.dtype]


def _shape(a: MXTensor | npt.NDArray[Any], b: MXTensor | npt.NDArray[Any]) -> tuple[int, int, int]:
    for name, x in (("a", a), ("b", b)):
        if x.ndim != 2:
            raise MxsimError(f"{name} has {x.ndim} dimensions, shape {x.shape}: pass a matrix, reshaped to two dimensions")
    if a.shape[1] != b.shape[0]:
        remedy = ", or b.T" if a.shape[1] == b.shape[1] else ""
        raise MxsimError(f"a is {a.shape} and b is {b.shape}: pass a (M, K) and b (K, N) with one K{remedy}")
    return a.shape[0], a.shape[1], b.shape[1]


def _operand(x: MXTensor | npt.NDArray[Any], format: OperandFormat, name: str, axis: int, path: UnitPath) -> Operand:
    """Rows of A or columns of B, K innermost."""

    def rows(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.ascontiguousarray(array if axis == 1 else array.T)

    if not isinstance(x, MXTensor):
        return Operand(format=format, codes=rows(x).view(format.code))
    if x.axis != axis:
        remedy = ".T of a tensor quantised along its last axis" if name == "b" else "a tensor quantised along its last axis"
        raise MxsimError(f"{name} is blocked along axis {x.axis}, but its K is axis {axis}: pass {remedy}")
    if x.block_size != path.block:
        raise MxsimError(f"{name} has blocks of {x.block_size}, but the path {path.name} takes blocks of {path.block}: quantise it again")
    return Operand(format=format, codes=rows(x.codes), scales=rows(x.scales), block=x.block_size)


def _addend(c: object, shape: tuple[int, int], path: UnitPath) -> npt.NDArray[Any] | None:
    """C in the output's dtype, C-contiguous."""
    if c is None:
        return None
    if not isinstance(c, np.ndarray) or c.dtype not in (np.float32, np.float16) or c.shape != shape:
        got = f"{c.dtype} {c.shape}" if isinstance(c, np.ndarray) else type(c).__name__
        raise MxsimError(f"c is {got}: pass float32 or float16 of shape {shape}, or None for zeros")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(c, _OUT_DTYPES[path.out])


def _tensor_scaled(
    result: npt.NDArray[Any], a: MXTensor | npt.NDArray[Any], b: MXTensor | npt.NDArray[Any], path: UnitPath
) -> npt.NDArray[Any]:
    factors = [np.float32(x.tensor_scale) for x in (a, b) if isinstance(x, MXTensor) and x.tensor_scale is not None]
    if all(factor == _ONE for factor in factors):
        return result
    with np.errstate(all="ignore"):
        factor = np.prod(factors, dtype=np.float32)
        scaled: npt.NDArray[Any] = (result.astype(np.float32) * factor).astype(result.dtype)
    engine.set_nan(scaled, path.nan)
    return scaled
