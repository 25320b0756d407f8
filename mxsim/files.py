"""Arrays in .npy and .safetensors files: read slice by slice, written piece by piece under a temporary name and renamed when whole."""

from __future__ import annotations

import errno
import glob
import json
import math
import os
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
LONGEST_NAME = 255  #: bytes, on the file systems in use
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  #: what writing fails with, and reading never
PIECE = 1 << 22  #: elements at a time: a piece with what is made of it takes some 60 MB
ABANDONED_S = 3600  #: a temporary file that nobody has written to for so long may be removed


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArray:
    """An array in a file, of which no more is read than is asked for. Read, not mapped: mapped pages count as the reader's memory."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    path: Path
    offset: int  #: bytes before its first element
    mapped: npt.NDArray[Any] | None = None  #: the array itself, where its rows do not lie one after the other

    def __getitem__(self, index: slice) -> npt.NDArray[Any]:
        """Rows of the first axis. Raises: MxsimError where the file ends early."""
        if self.mapped is not None:
            return self.mapped[index]
        start, stop, _ = index.indices(self.shape[0])
        return self._read(start * self._row_bytes, (max(stop - start, 0), *self.shape[1:]))

    def read(self) -> npt.NDArray[Any]:
        """The whole array."""
        return self._read(0, self.shape) if self.mapped is None else np.asarray(self.mapped)

    @property
    def _row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def _read(self, start: int, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        size = self.dtype.itemsize * math.prod(shape)
        raw = np.fromfile(self.path, np.uint8, size, offset=self.offset + start)
        if raw.size != size:
            raise MxsimError(f"{self.path} ends inside {self.name!r}: it is shorter than its header says")
        return raw.view(self.dtype).reshape(shape)


@contextmanager
def open_arrays(path: Path) -> Iterator[tuple[list[StoredArray], dict[str, str]]]:
    """The arrays of a file and its metadata. A .npy file holds one, named as the file is; raw elements of two bytes are bfloat16, as which
    numpy saves it.

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
            offsets = _offsets(path)
            arrays = [_stored(name, file, path, offsets[name]) for name in sorted(file.keys())]
            metadata = dict(file.metadata() or {})
        yield arrays, metadata
    else:
        raise MxsimError(f"{path} ends in {path.suffix or 'nothing'}: .npy and .safetensors files can be read")


def _npy(path: Path) -> StoredArray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise MxsimError(f"{path} is not a .npy file that can be read: {error}") from None
    if not isinstance(array, np.memmap):
        raise MxsimError(f"{path} is an archive of arrays: save the array by itself with numpy.save")
    if not array.dtype.itemsize:
        raise MxsimError(f"{path} holds {array.dtype}, elements of no bytes")
    offset = int(array.offset)  # which a view of no elements forgets
    if array.dtype == np.dtype("V2"):
        array = array.view(ml_dtypes.bfloat16)
    if array.dtype == np.dtype("V1"):
        raise MxsimError(
            f"{path} holds bytes of one of ml_dtypes' narrow types, and a .npy file does not say which: store them as .safetensors, with "
            "safetensors.numpy.save_file"
        )
    rows = bool(array.flags.c_contiguous and array.dtype.isnative)
    return StoredArray(name=path.stem, shape=array.shape, dtype=array.dtype, path=path, offset=offset, mapped=None if rows else array)


def _offsets(path: Path) -> dict[str, int]:
    """Where each tensor of a safetensors file that the library has checked begins."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return {name: 8 + length + entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"}


def _stored(name: str, file: Any, path: Path, offset: int) -> StoredArray:
    view = file.get_slice(name)
    stored = view.get_dtype()
    if stored not in SAFETENSORS_DTYPES:
        raise MxsimError(f"tensor {name!r} has dtype {stored}: known are {', '.join(SAFETENSORS_DTYPES)}")
    return StoredArray(name=name, shape=tuple(view.get_shape()), dtype=np.dtype(SAFETENSORS_DTYPES[stored]), path=path, offset=offset)


def parts(array: StoredArray, multiple: int = 1) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Slices of about PIECE elements along the first axis with where they start, a multiple of `multiple`."""
    if not array.shape:
        yield 0, array.read()
        return
    inner = math.prod(array.shape[1:])
    step = max(PIECE // max(inner, 1) // multiple, 1) * multiple
    for start in range(0, array.shape[0], step):
        yield start, array[start : min(start + step, array.shape[0])]


def check_output(path: Path) -> None:
    """Refuse a place that no file can be written to, before any work is done for it. Raises: MxsimError."""
    if not path.parent.is_dir():
        raise MxsimError(f"the folder {path.parent} does not exist: make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise MxsimError(f"the folder {path.parent} may not be written: name another one for {path.name}")
    excess = len(os.fsencode(_temporary(path).name)) - LONGEST_NAME
    if excess > 0:
        raise MxsimError(f"the name {path.name} is too long to be written: shorten it by {excess} bytes")
    if path.is_dir():
        raise MxsimError(f"the output {path} is a folder: name a file in it")


@contextmanager
def renamed_when_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it at the end; removed if anything goes wrong.

    Raises: MxsimError as check_output; OSError, which names `path`, where the disk is full, say.
    """
    check_output(path)
    _remove_abandoned(path)
    temporary = _temporary(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename == str(temporary) or (error.filename is None and error.errno in FULL):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _remove_abandoned(path: Path) -> None:
    """Remove what a process that was killed left of the same output: long ago, as other machines write to a shared folder too."""
    if os.name != "posix":
        return
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        process = part.name.removeprefix(f".{path.name}.").removesuffix(".part")
        with suppress(OSError):
            if process.isdecimal() and time.time() - part.stat().st_mtime > ABANDONED_S and not _lives(int(process)):
                part.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


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
        self._places = {name: (start + header[name]["data_offsets"][0], *tensors[name]) for name in tensors}
        self._file = path.open("r+b")

    def write(self, name: str, part: npt.NDArray[Any], start: int = 0) -> None:
        """Put rows of a tensor's first axis in their place, from row `start` on; or a tensor without axes."""
        offset, dtype, shape = self._places[name]
        if part.dtype != dtype or part.shape[1:] != shape[1:] or (shape and start + len(part) > shape[0]):
            raise ValueError(f"{name} is {dtype} {shape}: {part.dtype} {part.shape} at row {start} does not fit")
        self._file.seek(offset + start * dtype.itemsize * math.prod(shape[1:]))
        self._file.write(np.ascontiguousarray(part).view(np.uint8).data if part.size and part.ndim else part.tobytes())

    def __enter__(self) -> SafetensorsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
