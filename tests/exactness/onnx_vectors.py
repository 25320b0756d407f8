"""The node tests of onnx for FP4, FP8 and E8M0, as far as saturating conversion can express them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

import mxsim
from mxsim import elements
from tests.exactness.comparison import Comparison, compare, float32_bits

REFERENCE = "onnx node tests"
TYPES = {
    onnx.TensorProto.FLOAT4E2M1: "e2m1",
    onnx.TensorProto.FLOAT8E4M3FN: "e4m3",
    onnx.TensorProto.FLOAT8E5M2: "e5m2",
    onnx.TensorProto.FLOAT8E8M0: "e8m0",
}
FORMATS = {"e2m1": "mxfp4_e2m1", "e4m3": "mxfp8_e4m3", "e5m2": "mxfp8_e5m2"}
CASES = (
    *(f"test_cast_{source}_to_{element}" for source in ("FLOAT", "FLOAT16") for element in
      ("FLOAT4E2M1", "FLOAT8E4M3FN", "FLOAT8E5M2")),
    *(f"test_cast_{element}_to_{target}" for target in ("FLOAT", "FLOAT16") for element in
      ("FLOAT4E2M1", "FLOAT8E4M3FN", "FLOAT8E5M2")),
    *(f"test_cast_e8m0_{source}_to_FLOAT8E8M0" for source in ("FLOAT", "FLOAT16")),
    *(f"test_cast_e8m0_FLOAT8E8M0_to_{target}" for target in ("FLOAT", "FLOAT16")),
    "test_dequantizelinear_e4m3fn",
    "test_dequantizelinear_e4m3fn_float16",
    "test_dequantizelinear_e4m3fn_zero_point",
    "test_dequantizelinear_e5m2",
    "test_dequantizelinear_float4e2m1",
    "test_quantizelinear_e4m3fn",
    "test_quantizelinear_e5m2",
    "test_quantizelinear_float4e2m1",
)  # fmt: skip


def tensors_of(folder: Path) -> tuple[list[onnx.TensorProto], onnx.TensorProto]:
    """The inputs and the output of a node test."""
    data = folder / "test_data_set_0"
    return [onnx.load_tensor(path) for path in sorted(data.glob("input_*.pb"))], onnx.load_tensor(data / "output_0.pb")


def codes_of(tensor: onnx.TensorProto) -> npt.NDArray[np.uint8]:
    """The element codes of an FP4, FP8 or E8M0 tensor."""
    codes: npt.NDArray[np.uint8] = numpy_helper.to_array(tensor).view(np.uint8)
    return codes & np.uint8(0x0F) if tensor.data_type == onnx.TensorProto.FLOAT4E2M1 else codes


def comparison(root: Path, case: str) -> Comparison:
    """One node test."""
    inputs, output = tensors_of(root / case)
    if case.startswith("test_dequantizelinear"):
        return _dequantize_linear(case, inputs, output)
    if output.data_type not in TYPES:
        decoded = elements.decode(codes_of(inputs[0]), TYPES[inputs[0].data_type])
        target = numpy_helper.to_array(output)
        got = float32_bits(decoded.astype(target.dtype).astype(np.float32))
        return compare(case, REFERENCE, got, float32_bits(target.astype(np.float32)))
    values = numpy_helper.to_array(inputs[0]).astype(np.float32)
    if case.startswith("test_quantizelinear"):
        scale, zero_point = (numpy_helper.to_array(tensor).astype(np.float32) for tensor in inputs[1:])
        per_row = scale.shape and (-1, 1)
        values = values / scale.reshape(per_row or ()) + zero_point.reshape(per_row or (-1,))
    element = TYPES[output.data_type]
    if element == "e8m0":
        # a cast that rounds up is the ceil rule where the element's emax is 0
        got = mxsim.quantize(values[..., None], "mxint8", scale_rule="ceil", block_size=1).scales[..., 0]
        return compare(case, REFERENCE, got, codes_of(output))
    # OCP MX v1.0, 5.3.3 leaves NaN to FP4 open: onnx takes -0 and mxsim +0
    numeric = ~np.isnan(values) if element == "e2m1" else np.full(values.shape, True)
    got_values, want_values = (elements.decode(codes, element) for codes in
                               (elements.encode(values[numeric], element), codes_of(output)[numeric]))  # fmt: skip
    return compare(case, REFERENCE, float32_bits(got_values), float32_bits(want_values))


def _dequantize_linear(case: str, inputs: list[onnx.TensorProto], output: onnx.TensorProto) -> Comparison:
    """A scale of 2 for all is the E8M0 code 128 of a partial block."""
    if (scale := float(numpy_helper.to_array(inputs[1]))) != 2.0:
        raise ValueError(f"{case}: the scale is {scale}, this check is written for 2")
    name = FORMATS[TYPES[inputs[0].data_type]]
    decoded = mxsim.from_codes(codes_of(inputs[0]), np.array([128], np.uint8), name).dequantize()
    target = numpy_helper.to_array(output)
    got = float32_bits(decoded.astype(target.dtype).astype(np.float32))
    return compare(case, REFERENCE, got, float32_bits(target.astype(np.float32)))


def comparisons(root: Path) -> Iterator[Comparison]:
    for case in CASES:
        yield comparison(root, case)
