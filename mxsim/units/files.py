"""A product of matrices in files: operands in, outputs to a .npy or .safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.conversion import from_codes
from mxsim.errors import MxsimError
from mxsim.files import SafetensorsWriter, StoredArray, check_output, open_arrays, renamed_when_whole
from mxsim.json_files import shortened
from mxsim.tensor import MXTensor

TENSOR_SCALES = (".tensor_scale", ".tensor_divisor")  #: suffixes of what nvfp4 has for a whole tensor


def read_operand(path: Path, name: str | None = None, option: str = "--tensor") -> MXTensor | npt.NDArray[Any]:
    """A matrix from a .npy file, or from a .safetensors file as `mxsim quantize` writes it.

    Args: name: of the tensor, where the file holds several; option: what says so on the command line.
    Returns: an MXTensor for NAME.codes with NAME.scales, an array otherwise.
    Raises: MxsimError where there is no such tensor, or more than one, or its metadata does not describe it.
    """
    with open_arrays(path) as (arrays, metadata):
        stored = {array.name: array for array in arrays}
        quantised = [n.removesuffix(".codes") for n in stored if n.endswith(".codes") and n.removesuffix(".codes") + ".scales" in stored]
        parts = {n + suffix for n in quantised for suffix in (".codes", ".scales", *TENSOR_SCALES)}
        names = [*quantised, *(n for n in stored if n not in parts)]
        if name is None and len(names) != 1:
            raise MxsimError(f"{path} holds {len(names)} tensors ({', '.join(names[:8])}): say which with {option}")
        chosen = name or names[0]
        if chosen not in names:
            raise MxsimError(f"{path} holds no tensor {chosen!r}: it holds {', '.join(names)}")
        if chosen not in quantised:
            return np.asarray(stored[chosen].read())
        missing = [key for key in ("format", "axis", "block_size") if key not in metadata]
        if missing:
            raise MxsimError(f"{path} has no {', '.join(missing)} in its metadata: write it with mxsim quantize")
        axis, block_size = (_whole(metadata[key], key, path) for key in ("axis", "block_size"))
        whole = {part[1:]: _number(stored[chosen + part], path) for part in TENSOR_SCALES if chosen + part in stored}
        if "tensor_divisor" in whole:  # beside it stands its reciprocal, for readers that multiply
            whole.pop("tensor_scale", None)
        codes, scales = (np.asarray(stored[f"{chosen}.{part}"].read()) for part in ("codes", "scales"))
        try:
            return from_codes(codes, scales, metadata["format"], axis=axis, block_size=block_size, **whole)
        except MxsimError as error:
            raise MxsimError(f"{path}: tensor {chosen!r}: {error}") from error


def _number(array: StoredArray, path: Path) -> float:
    held = np.asarray(array.read())
    if held.size != 1:
        raise MxsimError(f"{path}: {array.name} has shape {held.shape}: one number is expected")
    return float(held.reshape(()))


def _whole(text: str, key: str, path: Path) -> int:
    try:
        return int(text)
    except ValueError:
        raise MxsimError(f"{path}: metadata {key} = {shortened(text)!r} must be a whole number") from None


def check_product(path: Path) -> None:
    """Refuse a name that write_output could not write to. Raises: MxsimError."""
    if path.suffix not in (".npy", ".safetensors"):
        raise MxsimError(f"the output {path} must end in .npy or .safetensors")
    check_output(path)


def write_output(path: Path, d: npt.NDArray[Any], metadata: dict[str, str]) -> None:
    """D as a .npy file, or as the tensor "output" of a .safetensors file with metadata."""
    check_product(path)
    with renamed_when_whole(path) as temporary:
        if path.suffix == ".npy":
            with temporary.open("wb") as file:
                d = np.ascontiguousarray(d)
                np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(d))
                file.write(d.data)  # numpy's own writing does not say that a disk is full
        else:
            with SafetensorsWriter(temporary, {"output": (d.dtype, d.shape)}, metadata) as writer:
                writer.write("output", d, 0)
