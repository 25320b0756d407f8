"""The tensors that an export leaves in float: equal to the reference's by value, after widening both exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.checkpoints.checkpoint import Checkpoint
from mxsim.checkpoints.folder import CheckpointFolder
from mxsim.checkpoints.safetensors_file import StoredTensor
from mxsim.verdict import MISMATCH, PROVEN, UNPROVEN, Verdict

PIECE = 1 << 22
#: Names that stand for one another where a model ties its embeddings.
TIED = {"lm_head.weight": "model.embed_tokens.weight", "model.embed_tokens.weight": "lm_head.weight"}


def check_plain(read: Checkpoint, reference: CheckpointFolder | None, unreferenced: Callable[[str, str, int], Verdict]) -> list[Verdict]:
    """A verdict for every tensor left in float. unreferenced: makes one where there is no reference."""
    verdicts = []
    for stored in read.plain():
        if reference is None:
            verdicts.append(unreferenced(stored.name, stored.dtype, stored.elements))
            continue
        original = reference.tensors.get(stored.name)
        if original is None and read.folder.config.get("tie_word_embeddings"):
            original = reference.tensors.get(TIED.get(stored.name, ""))
        verdicts.append(_verdict(stored, original))
        stored.release()
        if original is not None:
            original.release()
    return verdicts


def _verdict(stored: StoredTensor, original: StoredTensor | None) -> Verdict:
    common: dict[str, Any] = {"name": stored.name, "format": stored.dtype, "elements": stored.elements}
    if original is None:
        return Verdict(**common, status=UNPROVEN, detail="the reference has no tensor of that name")
    if stored.shape != original.shape:
        detail = f"has shape {list(stored.shape)}, the reference {list(original.shape)}"
        return Verdict(**common, status=MISMATCH, mismatches=stored.elements, detail=detail)
    differing, first = differing_elements(stored, original)
    if differing:
        detail = f"{differing} numbers differ from the reference, the first at {list(np.unravel_index(first, stored.shape))}"
        return Verdict(**common, status=MISMATCH, mismatches=differing, detail=detail.replace("np.int64(", "").replace(")", ""))
    same = stored.dtype == original.dtype
    return Verdict(**common, status=PROVEN, detail="equals the reference" + ("" if same else f", which is {original.dtype}, by value"))


def differing_elements(a: StoredTensor, b: StoredTensor) -> tuple[int, int]:
    """How many elements differ in their bits once both are widened to the wider dtype, and the first of them."""
    same = a.dtype == b.dtype
    x, y = (a.array().reshape(-1), b.array().reshape(-1))
    count, first = 0, -1
    for start in range(0, x.size, PIECE):
        differs = _bits(x[start : start + PIECE], same) != _bits(y[start : start + PIECE], same)
        found = int(np.count_nonzero(differs))
        if found and first < 0:
            first = start + int(np.argmax(differs))
        count += found
        a.release()
        b.release()
    return count, first


def _bits(part: npt.NDArray[Any], same_dtype: bool) -> npt.NDArray[Any]:
    """Bits that are equal exactly where values and signs are."""
    if same_dtype:
        return part.view(f"u{part.itemsize}")
    return part.astype(np.float64).view(np.uint64)
