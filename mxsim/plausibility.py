"""What a checkpoint's codes show by themselves, with no float weights at hand: codes that are no numbers, and scales that no rule gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mxsim.checkpoints.checkpoint import Checkpoint
from mxsim.checkpoints.layout import Finding, QuantizedTensor, Severity
from mxsim.checkpoints.safetensors_file import StoredTensor
from mxsim.elements import decode
from mxsim.explanation import row_slices
from mxsim.formats import ELEMENTS

TOO_SMALL = 0.35  #: a median weight below this share of what the model was initialised with: an offset of two steps makes it a quarter


@dataclass(slots=True, kw_only=True)
class CodeStatistics:
    """Counts over one weight's codes."""

    nan_scales: int = 0
    negative_scales: int = 0  #: nvfp4's E4M3 scales with their sign set
    lowest_scales: int = 0  #: E8M0 0 over elements that are not all zero
    highest_scales: int = 0  #: E8M0 254
    reserved: int = 0  #: element codes that are no numbers, and MXINT8's unused 0x80
    slack: int = 0  #: blocks whose largest element leaves more than a binade unused, which no scale rule does
    blocks: int = 0
    square_sum: float = 0.0
    elements: int = 0

    @property
    def rms(self) -> float:
        return math.sqrt(self.square_sum / self.elements) if self.elements else 0.0


def code_statistics(weight: QuantizedTensor) -> CodeStatistics:
    """One pass over a weight's codes."""
    element, block = weight.spec.element, weight.spec.block_size
    values = np.abs(decode(np.arange(element.codes, dtype=np.uint8), element)).astype(np.float64)
    scale_values = decode(np.arange(256, dtype=np.uint8), weight.spec.scale).astype(np.float64)
    multiplier = weight.multiplier()
    found = CodeStatistics()
    for rows in row_slices(weight):
        codes, scales = weight.codes(rows), weight.scale_codes(rows)
        magnitudes = values[codes]
        finite = np.isfinite(magnitudes)
        found.reserved += int(np.count_nonzero(~finite))
        if element.is_fixed_point:
            found.reserved += int(np.count_nonzero(codes == element.sign_mask))
        magnitudes = np.where(finite, magnitudes, 0.0)
        length = -(-weight.columns // block) * block - weight.columns
        padded = np.pad(magnitudes, ((0, 0), (0, length))) if length else magnitudes
        blocks = padded.reshape(len(codes), -1, block)
        largest = blocks.max(axis=-1)
        _count_scales(found, weight, scales, largest)
        scale = np.nan_to_num(scale_values[scales]) * (1.0 if multiplier is None else float(multiplier))
        with np.errstate(all="ignore"):
            found.square_sum += float(np.nan_to_num(np.sum(np.square(blocks).sum(axis=-1) * np.square(scale)), posinf=0.0))
        found.elements += codes.size
        found.blocks += scales.size
    return found


def _count_scales(found: CodeStatistics, weight: QuantizedTensor, scales: npt.NDArray[np.uint8], largest: npt.NDArray[np.float64]) -> None:
    element = weight.spec.element
    used = largest > 0
    if weight.spec.tensor_scale:
        found.nan_scales += int(np.count_nonzero(scales & 0x7F == ELEMENTS["e4m3"].nan_code))
        found.negative_scales += int(np.count_nonzero(scales >= 0x80))
        return
    found.nan_scales += int(np.count_nonzero(scales == 255))
    found.lowest_scales += int(np.count_nonzero((scales == 0) & used))
    found.highest_scales += int(np.count_nonzero(scales == 254))
    # Every rule puts the largest magnitude above half the largest power of two; rounding can only lower it to that half.
    found.slack += int(np.count_nonzero(used & (scales > 1) & (largest < 2.0 ** (element.emax - 1))))


def code_findings(weight: QuantizedTensor, found: CodeStatistics) -> list[Finding]:
    """What the counts say of one weight."""
    said = [
        (found.nan_scales, Severity.MISMATCH, "scale codes are NaN"),
        (found.negative_scales, Severity.MISMATCH, "scale codes are negative"),
        (found.reserved, Severity.MISMATCH, "element codes are reserved: NaN, Inf or unused"),
        (found.highest_scales, Severity.NOTE, "scale codes are 254, the largest"),
        (found.lowest_scales, Severity.NOTE, "scale codes are 0, the smallest, over elements that are not zero"),
        (found.slack, Severity.NOTE, f"of {found.blocks} scales are larger than any known rule gives for elements so small"),
    ]
    return [Finding(severity=severity, where=weight.weight, says=f"{count} {text}") for count, severity, text in said if count]


def scale_distribution(checkpoint: Checkpoint, statistics: dict[str, CodeStatistics]) -> list[Finding]:
    """Whether the weights are implausibly small as a whole.

    A scale offset applied twice makes every weight 4 times too small, and nothing in the codes shows it but the weights' size: so the
    median over the layers is held against the smallest of initializer_range and the matrices left in float (embedding, lm_head).
    """
    measured = [found.rms for found in statistics.values() if found.rms > 0]
    expected = [_rms(t) for t in checkpoint.plain() if t.is_float and len(t.shape) == 2 and t.elements]
    expected = [rms for rms in expected if rms > 0 and math.isfinite(rms)]
    initial = checkpoint.folder.config.get("initializer_range")
    if isinstance(initial, (int, float)) and not isinstance(initial, bool) and 0 < initial < 1:
        expected.append(float(initial))
    if not measured or len(expected) < 2:
        return []
    median, least = float(np.median(measured)), min(expected)
    if median >= TOO_SMALL * least:
        return []
    says = (
        f"implausible: the median layer's root mean square is {median:.3g}, {least / median:.1f} times below the smallest of "
        f"initializer_range and the float matrices ({least:.3g}); an offset of 2 applied twice to the scales does that"
    )
    return [Finding(severity=Severity.MISMATCH, where="scale distribution", says=says)]


def _rms(tensor: StoredTensor) -> float:
    flat = tensor.array().reshape(-1)
    step = max(flat.size // (1 << 18), 1)  # a sample of a quarter million is plenty
    with np.errstate(all="ignore"):
        return float(np.sqrt(np.mean(np.square(flat[::step].astype(np.float64)))))
