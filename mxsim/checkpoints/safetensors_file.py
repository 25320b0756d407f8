"""Safetensors files, read without trust: every offset is checked before a byte of a tensor is touched, and nothing is ever written.

Layout: https://github.com/huggingface/safetensors, "Format": 8 bytes of header length, a JSON header, the tensors' bytes.
"""

from __future__ import annotations

import gc
import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mxsim.errors import MxsimError
from mxsim.files import SAFETENSORS_DTYPES
from mxsim.json_files import MOST_JSON, checked_size, parsed_json, shortened

MOST_DIMENSIONS = 16
METADATA = "__metadata__"
_ENTRY = {"dtype", "shape", "data_offsets"}
_ITEM_BYTES = {name: np.dtype(dtype).itemsize for name, dtype in SAFETENSORS_DTYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor's place in a file."""

    name: str
    dtype: str  #: as the header has it: a key of SAFETENSORS_DTYPES
    shape: tuple[int, ...]
    begin: int  #: in bytes from the file's start
    end: int
    file: SafetensorsFile = field(repr=False)

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.end - self.begin

    @property
    def is_float(self) -> bool:
        """Whether mxsim.quantize takes its dtype."""
        return self.dtype in ("F32", "F16", "BF16")

    def raw(self) -> npt.NDArray[np.uint8]:
        """(nbytes,) uint8: the bytes in the file, mapped and read-only."""
        return self.file.bytes[self.begin : self.end]

    def release(self) -> None:
        """Let the memory of its bytes go once they have been used."""
        self.file.release(self.begin, self.end)

    def array(self) -> npt.NDArray[Any]:
        """The elements in their own dtype, of the tensor's shape; mapped and read-only."""
        typed: npt.NDArray[Any] = self.raw().view(SAFETENSORS_DTYPES[self.dtype])
        return typed.reshape(self.shape)


class SafetensorsFile:
    """A file whose header has been checked against the file itself.

    Raises: MxsimError for whatever the format forbids: a header that is too long, is no JSON or names a key twice; unknown dtypes; offsets
        out of the file, overlapping, leaving holes, or not those of shape and dtype.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        size = checked_size(path)
        with path.open("rb") as file:
            head = file.read(8)
            if len(head) < 8:
                raise MxsimError(f"{path} is no safetensors file: it has {size} bytes, and the header's length alone takes 8")
            (length,) = struct.unpack("<Q", head)
            if length > MOST_JSON:
                raise MxsimError(f"{path}: its header claims {length} bytes: at most {MOST_JSON} are read")
            if length > size - 8:
                raise MxsimError(f"{path} is cut short: its header claims {length} bytes, and {size - 8} follow")
            text = file.read(length)
        self._start = 8 + length
        self._size = size
        with _no_collection():
            header = parsed_json(text, str(path))
            if not isinstance(header, dict):
                raise MxsimError(f"{path}: its header is a JSON {type(header).__name__}: an object is expected")
            self.metadata = self._metadata(header.pop(METADATA, {}))
            self._check_cover(sorted((*self._span(name, entry), name) for name, entry in header.items()))
        self.tensors: Mapping[str, StoredTensor] = _Tensors(header, self, self._start)
        self._map: mmap.mmap | None = None
        self._bytes: npt.NDArray[np.uint8] | None = None

    @property
    def bytes(self) -> npt.NDArray[np.uint8]:
        """The file, mapped on first use."""
        if self._bytes is None:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if len(self._map) != self._size:
                raise MxsimError(f"{self.path} had {self._size} bytes when it was opened and has {len(self._map)} now")
            self._bytes = np.frombuffer(self._map, np.uint8)
        return self._bytes

    def release(self, begin: int, end: int) -> None:
        """Let the memory of a range go: what was read is no longer counted, and is read from the file again when asked for."""
        if self._map is not None and hasattr(self._map, "madvise"):
            first, last = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
            if last > first:
                self._map.madvise(mmap.MADV_DONTNEED, first, last - first)

    def _metadata(self, metadata: Any) -> Mapping[str, str]:
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise MxsimError(f"{self.path}: {METADATA} must be an object of strings")
        return metadata

    def _span(self, name: str, entry: Any) -> tuple[int, int]:
        """Where an entry of the header lies, from the first tensor's byte, once it has been checked."""
        if not isinstance(entry, dict) or entry.keys() != _ENTRY:
            raise self._refused(name, "must have exactly dtype, shape and data_offsets")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
            raise self._refused(name, f"has dtype {shortened(str(dtype))}: known are {', '.join(SAFETENSORS_DTYPES)}")
        if not _whole_numbers(shape) or len(shape) > MOST_DIMENSIONS:
            raise self._refused(name, f"has no shape: a list of at most {MOST_DIMENSIONS} whole numbers is expected")
        if not _whole_numbers(offsets) or len(offsets) != 2:
            raise self._refused(name, "has no data_offsets: two whole numbers are expected")
        begin, end = offsets
        room = self._size - self._start
        if not begin <= end <= room:
            raise self._refused(name, f"lies at {begin} to {end}: the file holds {room} bytes of tensors")
        needed = math.prod(shape) * _ITEM_BYTES[dtype]
        if end - begin != needed:
            raise self._refused(name, f"takes {end - begin} bytes: {dtype} {shape} needs {needed}")
        return begin, end

    def _refused(self, name: str, why: str) -> MxsimError:
        return MxsimError(f"{self.path}: tensor {shortened(name)!r} {why}")

    def _check_cover(self, spans: list[tuple[int, int, str]]) -> None:
        """The tensors must fill the file: neither overlaps nor holes, in which unseen bytes could hide."""
        at = 0
        for begin, end, name in spans:
            if begin != at:
                what = "overlaps the one before it" if begin < at else f"leaves {begin - at} bytes before it unused"
                raise self._refused(name, what)
            at = end
        if at != self._size - self._start:
            raise MxsimError(f"{self.path} has {self._size - self._start - at} bytes after its last tensor")


class _Tensors(Mapping[str, StoredTensor]):
    """A checked header as tensors, each made when it is asked for: a header may hold a hundred thousand."""

    def __init__(self, header: Mapping[str, Any], file: SafetensorsFile, start: int) -> None:
        self._header, self._file, self._start = header, file, start

    def __getitem__(self, name: str) -> StoredTensor:
        entry = self._header[name]
        begin, end = entry["data_offsets"]
        return StoredTensor(
            name=name,
            dtype=entry["dtype"],
            shape=tuple(entry["shape"]),
            begin=self._start + begin,
            end=self._start + end,
            file=self._file,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)


@contextmanager
def _no_collection() -> Iterator[None]:
    """No search for garbage cycles while a header of a hundred thousand tensors is read: it finds none, and takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and {*map(type, value)} <= {int} and (not value or 0 <= min(value) <= max(value) < 1 << 62)
