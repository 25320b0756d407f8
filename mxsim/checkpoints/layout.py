"""What every producer's layout comes down to: which tensors hold a quantised weight, and how."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mxsim.checkpoints.packings import PACKINGS
from mxsim.checkpoints.safetensors_file import StoredTensor
from mxsim.elements import decode
from mxsim.formats import FORMATS, BlockFormat
from mxsim.tensor import MXTensor


class Severity(enum.Enum):
    """What a finding means for the verdict."""

    MISMATCH = "mismatch"  #: the checkpoint contradicts itself: not ok
    UNPROVEN = "not provable"  #: nothing at hand can confirm it
    NOTE = "note"  #: worth knowing


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something found out about a checkpoint besides its tensors' bits."""

    severity: Severity
    where: str  #: a file, a key or a tensor
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedTensor:
    """A weight in a block format, and where its parts are stored."""

    weight: str  #: the name of the float tensor that it stands for
    format: str  #: a name of mxsim.FORMATS
    shape: tuple[int, ...]  #: of the codes, blocks along the last axis
    elements: StoredTensor
    scales: StoredTensor
    packing: str = "row"  #: a key of PACKINGS
    tensor_scale: StoredTensor | None = None  #: nvfp4's float32
    divides: bool = False  #: whether that number divides rather than multiplies
    transposed: bool = False  #: whether the float tensor has its last two axes the other way round
    activation: str | None = None  #: the format of its inputs; None: left in the wide type
    scale_rule: str | None = None  #: what the config says; None: the policy's own

    @property
    def module(self) -> str:
        return self.weight.removesuffix(".weight")

    @property
    def spec(self) -> BlockFormat:
        return FORMATS[self.format]

    @property
    def rows(self) -> int:
        return int(np.prod(self.shape[:-1], dtype=np.int64))

    @property
    def columns(self) -> int:
        return self.shape[-1]

    @property
    def count(self) -> int:
        return self.rows * self.columns

    @property
    def packed_rows(self) -> npt.NDArray[np.uint8]:
        """(rows, bytes): the element bytes as stored."""
        return self.elements.raw().reshape(self.rows, -1)

    @property
    def scale_rows(self) -> npt.NDArray[np.uint8]:
        """(rows, blocks): the scale bytes as stored."""
        return self.scales.raw().reshape(self.rows, -1)

    def stored_tensor_scale(self) -> np.float32 | None:
        """The float32 as stored."""
        return None if self.tensor_scale is None else np.float32(self.tensor_scale.raw().view("<f4")[0])

    def multiplier(self) -> np.float32 | None:
        """What block scales are multiplied by."""
        stored = self.stored_tensor_scale()
        if stored is None or not self.divides:
            return stored
        with np.errstate(all="ignore"):
            return np.float32(1) / stored

    def codes(self, rows: slice) -> npt.NDArray[np.uint8]:
        """(n, columns) uint8 element codes of some rows."""
        return PACKINGS[self.packing].unpack(self.packed_rows[rows], self.spec.element, self.columns)

    def scale_codes(self, rows: slice) -> npt.NDArray[np.uint8]:
        """(n, blocks) uint8 scale codes of some rows, unbiased exponents made codes."""
        return PACKINGS[self.packing].scale_codes(self.scale_rows[rows])

    def tensor(self, rows: slice = slice(None)) -> MXTensor:
        """Some rows as an MX tensor (n, columns), which dequantises to the weight's values as this layout defines them."""
        whole = {"tensor_scale": self.multiplier(), "tensor_divisor": self.stored_tensor_scale() if self.divides else None}
        return MXTensor(codes=self.codes(rows), scales=self.scale_codes(rows), format=self.spec, axis=1, **whole)

    def scale_values(self) -> npt.NDArray[np.float32]:
        """(256,) float32: what every scale code stands for, without the tensor scale."""
        return decode(np.arange(256, dtype=np.uint8), self.spec.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A checkpoint as its producer's module reads it."""

    producer: str
    version: str = ""  #: of the producer, as the checkpoint says
    policy: str | None  #: the policy that the producer converts by; None: not known
    scale_rule_key: str = ""  #: the key of the config that names the scale rule; none where empty
    scale_rules: frozenset[str | None] = frozenset()  #: what that key can name, as QuantizedTensor.scale_rule has it
    quantized: tuple[QuantizedTensor, ...]
    calibrated: Mapping[str, str] = field(default_factory=dict)  #: tensors that follow from calibration data -> what they are
    used: frozenset[str] = frozenset()  #: every tensor that belongs to a quantised weight
    findings: tuple[Finding, ...] = ()
