"""Outputs: refused before any work where they cannot be written, whole or not there, and nothing left of a process that was killed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from mxsim.errors import MxsimError
from mxsim.files import ABANDONED_S, open_arrays, renamed_when_whole
from mxsim.units.files import check_product, write_output


@pytest.mark.parametrize(
    ("name", "says"),
    [("folder.npy", "is a folder: name a file in it"), ("none/d.npy", "does not exist"), ("n" * 250 + ".npy", r"shorten it by \d+ bytes")],
)
def test_a_place_that_cannot_be_written_is_refused_before_work_begins(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(MxsimError, match=says):
        check_product(tmp_path / name)
    with pytest.raises(MxsimError, match=says), renamed_when_whole(tmp_path / name):
        pytest.fail("work has begun")


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(MxsimError, match=r"may not be written: name another one for d\.npy"), renamed_when_whole(tmp_path / "d.npy"):
        pytest.fail("work has begun")


def test_what_goes_wrong_names_the_target(tmp_path: Path) -> None:
    target = tmp_path / "d.npy"
    with pytest.raises(OSError, match="No such file") as caught, renamed_when_whole(target) as part:
        assert not part.exists()  # so that nothing can be renamed
    assert (caught.value.filename, caught.value.filename2) == (str(target), None)
    with pytest.raises(OSError, match="No space left") as caught, renamed_when_whole(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(target)


@pytest.mark.parametrize("shape", [(0, 3), (1, 4), (5, 7)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_an_output_is_written_as_numpy_writes_it(dtype: type[np.generic], shape: tuple[int, int], tmp_path: Path) -> None:
    d = np.arange(shape[0] * shape[1]).reshape(shape).astype(dtype)
    write_output(tmp_path / "d.npy", d, {})
    np.save(tmp_path / "n.npy", d)
    assert (tmp_path / "d.npy").read_bytes() == (tmp_path / "n.npy").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="processes are asked after as POSIX has it")
def test_what_a_killed_process_left_long_ago_is_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    dead, alive = f".d[1].npy.{ended.pid}.part", f".d[1].npy.{os.getppid()}.part"
    for name in (dead, alive, ".d[1].npy.x.part", f".other.npy.{ended.pid}.part"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, time.time() - 2 * ABANDONED_S))
    young = tmp_path / f".d[1].npy.{2**70}.part"
    young.touch()
    with renamed_when_whole(tmp_path / "d[1].npy") as part:
        part.touch()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"d[1].npy", alive, ".d[1].npy.x.part", f".other.npy.{ended.pid}.part", young.name}


def test_npy_files_of_narrow_types_are_told_what_holds_them(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 32), np.float32).astype(ml_dtypes.float8_e4m3fn))
    with (
        pytest.raises(MxsimError, match=r"a\.npy holds bytes of one of ml_dtypes' narrow types.*as \.safetensors"),
        open_arrays(tmp_path / "a.npy"),
    ):
        pass
