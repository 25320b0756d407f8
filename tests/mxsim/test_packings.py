"""Quark's former FP6 packing, against a known quadruple."""

from __future__ import annotations

import numpy as np

from mxsim.checkpoints.packings import PACKINGS
from mxsim.formats import ELEMENTS


def test_bit_planes() -> None:
    planes, element = PACKINGS["quark-legacy-planes"], ELEMENTS["e3m2"]
    assert planes.pack(np.array([[1, 2, 3, 4]], np.uint8), element).tobytes().hex() == "001234"
    codes = np.arange(64, dtype=np.uint8).reshape(2, 32)
    packed = planes.pack(codes, element)
    assert packed.shape[1] == planes.width(32, element)
    assert np.array_equal(planes.unpack(packed, element, 32), codes)


def test_a_signed_exponent_becomes_a_code() -> None:
    stored = np.array([-127, -1, 0, 127], np.int8).view(np.uint8)
    assert PACKINGS["quark-legacy-planes"].scale_codes(stored).tolist() == [0, 126, 127, 254]
