"""How a real number becomes a float of a given width: "rz_fp32", "rne_e8m13", "rne_fp32_ftz"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from mxsim.errors import MxsimError

MODES = {
    "rne": "to nearest, ties to even",
    "rz": "toward zero",
    "rto": "to odd: cut, then the last bit set if anything was cut off",
}
_NAMED = {"fp32": (8, 23), "tf32": (8, 10), "bf16": (8, 7), "fp16": (5, 10)}  #: exponent and significand bits
_MOST_EBITS, _MOST_MBITS = 8, 23  # what a float32 result holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """A rounding mode and the IEEE-like format it rounds to: quantum >= 2^(emin - mbits); 2^(emax + 1) and above is Inf."""

    mode: str  #: one of MODES
    ebits: int
    mbits: int
    flush: bool  #: after rounding, what is below 2^emin becomes zero

    @property
    def emax(self) -> int:
        return (1 << self.ebits - 1) - 1

    @property
    def emin(self) -> int:
        return 1 - self.emax


@lru_cache(maxsize=64)
def rounding(name: str) -> Rounding:
    """The rounding of a name: a mode of MODES, fp32 | tf32 | bf16 | fp16 | e<ebits>m<mbits>, and _ftz where subnormals are flushed.

    Raises: MxsimError with what is allowed.
    """
    match = re.fullmatch(r"([a-z]+)_(?:e(\d+)m(\d+)|([a-z]+\d+))(_ftz)?", name) if isinstance(name, str) else None
    if match:
        mode, e, m, named, flush = match.groups()
        ebits, mbits = _NAMED.get(named, (0, 0)) if named else (int(e), int(m))
        if mode in MODES and 2 <= ebits <= _MOST_EBITS and 1 <= mbits <= _MOST_MBITS:
            return Rounding(mode=mode, ebits=ebits, mbits=mbits, flush=bool(flush))
    raise MxsimError(
        f"{name!r} is no rounding: write a mode ({', '.join(MODES)}), a format ({', '.join(_NAMED)}, or e2m1 to "
        f"e{_MOST_EBITS}m{_MOST_MBITS}) and, for subnormal results that become zero, ftz: rz_fp32, rne_e8m13, rne_fp32_ftz"
    )
