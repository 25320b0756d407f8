"""Arrays in .npy and .safetensors files: read slice by slice, written piece by piece under a temporary name and renamed when whole."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np
import numpy.typing as npt

from mxsim.errors import MxsimError

SAFETENSORS_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


class Sliceable(Protocol):
    """Anything that gives an array for a slice of its first axis."""

    def __getitem__(self, index: slice, /) -> npt.NDArray[Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArray:
    """An array in a file, of which no more is read than is asked for."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    data: Sliceable

    def __getitem__(self, index: slice) -> npt.NDArray[Any]:
        return self.data[index]

    def read(self) -> npt.NDArray[Any]:
        """The whole array."""
        return self.data[:] if self.shape else np.asarray(self.data)


@contextmanager
def open_arrays(path: Path) -> Iterator[tuple[list[StoredArray], dict[str, str]]]:
    """The arrays of a file and its metadata. A .npy file holds one, named as the file is.

    Raises: MxsimError where the file is absent, of another kind, or broken. Nothing is unpickled.
    """
    if not path.is_file():
        raise MxsimError(f"{path} does not exist" if not path.exists() else f"{path} is not a file")
    if path.suffix == ".npy":
        yield [_npy(path)], {}
    elif path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            file: Any = safe_open(path, framework="np")
        except (SafetensorError, OSError) as error:
            raise MxsimError(f"{path} is not a safetensors file that can be read: {error}") from None
        with file:
            yield [_slice(name, file) for name in sorted(file.keys())], dict(file.metadata() or {})
    else:
        raise MxsimError(f"{path} ends in {path.suffix or 'nothing'}: .npy and .safetensors files can be read")


def _npy(path: Path) -> StoredArray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise MxsimError(f"{path} is not a .npy file that can be read: {error}") from None
    return StoredArray(name=path.stem, shape=array.shape, dtype=array.dtype, data=array)


def _slice(name: str, file: Any) -> StoredArray:
    view = file.get_slice(name)
    stored = view.get_dtype()
    if stored not in SAFETENSORS_DTYPES:
        raise MxsimError(f"tensor {name!r} has dtype {stored}: known are {', '.join(SAFETENSORS_DTYPES)}")
    return StoredArray(name=name, shape=tuple(view.get_shape()), dtype=np.dtype(SAFETENSORS_DTYPES[stored]), data=view)


@contextmanager
def renamed_when_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it at the end; removed if anything goes wrong."""
    if not path.parent.is_dir():
        raise MxsimError(f"the folder {path.parent} does not exist: make it first")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class SafetensorsWriter:
    """A safetensors file whose tensors are filled piece by piece, so that they need not fit in memory.

    Layout: https://github.com/huggingface/safetensors, "Format": 8 bytes of header length, a JSON header, the tensors.
    """

    ALIGNMENT = 8

    def __init__(self, path: Path, tensors: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], metadata: Mapping[str, str]) -> None:
        names = {np.dtype(dtype): name for name, dtype in SAFETENSORS_DTYPES.items()}
        header: dict[str, Any] = {"__metadata__": dict(metadata)}
        offset = 0
        # Widest elements first, as the library does, so that every tensor is aligned.
        for name, (dtype, shape) in sorted(tensors.items(), key=lambda item: (-item[1][0].itemsize, item[0])):
            size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
            header[name] = {"dtype": names[dtype], "shape": list(shape), "data_offsets": [offset, offset + size]}
            offset += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % self.ALIGNMENT)
        start = 8 + len(text)
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(start + offset)
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        for name, (dtype, shape) in tensors.items():
            begin, end = header[name]["data_offsets"]
            if begin == end:
                self._arrays[name] = np.empty(shape, dtype)
            else:
                raw = np.memmap(path, np.uint8, "r+", start + begin, (end - begin,))
                self._arrays[name] = raw.view(dtype).reshape(shape)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """The tensor's place in the file, to be written to."""
        return self._arrays[name]

    def close(self) -> None:
        """Hand everything to the file."""
        for array in self._arrays.values():
            base = array
            while not isinstance(base, np.memmap) and isinstance(base.base, np.ndarray):
                base = base.base
            if isinstance(base, np.memmap):
                base.flush()
        self._arrays.clear()
