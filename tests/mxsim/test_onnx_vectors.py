"""onnx's own node tests: casts to and from FP4, FP8 and E8M0, (de)quantisation with a power of two."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("onnx")
from tests.exactness import onnx_vectors

DATA = os.environ.get("MXSIM_SHARED_DATA")


@pytest.mark.skipif(DATA is None, reason="MXSIM_SHARED_DATA is not set: onnx-vectors are not at hand")
@pytest.mark.parametrize("case", onnx_vectors.CASES)
def test_onnx_node(case: str) -> None:
    assert DATA is not None
    onnx_vectors.comparison(Path(DATA) / "onnx-vectors", case).require_equal()
