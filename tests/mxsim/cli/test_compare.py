"""mxsim compare: equal bits, how far apart and where, and exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import typer
from click.testing import Result
from safetensors.numpy import save_file
from typer.testing import CliRunner

from mxsim import comparison, files
from mxsim.cli import compare
from mxsim.comparison import compare_files
from mxsim.errors import MxsimError
from mxsim.json_files import parsed_json
from mxsim.ulps import error_statistics, ulp_distance

app = typer.Typer()
app.command("compare")(compare.command)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def saved(path: Path, array: npt.NDArray[Any]) -> Path:
    np.save(path, array)
    return path


def stepped(x: npt.NDArray[Any], at: tuple[int, ...], steps: int) -> npt.NDArray[Any]:
    """x with one element some floats away from zero."""
    moved = x.copy()
    moved.view(f"u{x.dtype.itemsize}")[at] += steps
    return moved


def test_equal_files_are_equal(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((3, 5), np.float32)
    a, b = saved(tmp_path / "a.npy", x), saved(tmp_path / "b.npy", x)
    result = run(a, b)
    assert result.exit_code == 0
    assert "equal" in result.stdout
    assert json.loads(run(a, b, "--json").stdout)["equal"] is True


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_distances_and_worst_places(dtype: Any, tmp_path: Path) -> None:
    x = np.linspace(1, 1.9, 12).astype(dtype).reshape(3, 4)
    y = stepped(stepped(stepped(x, (2, 1), 5), (0, 3), 2), (1, 0), 1)
    save_file({"out": y}, tmp_path / "a.safetensors")
    save_file({"out": x}, tmp_path / "b.safetensors")
    result = run(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--worst", "2", "--json")
    assert result.exit_code == 1
    (tensor,) = json.loads(result.stdout)["tensors"]
    assert (tensor["name"], tensor["differing"], tensor["elements"], tensor["max_ulps"]) == ("out", 3, 12, 5)
    assert tensor["mean_ulps"] == pytest.approx(8 / 12)
    assert [(place["index"], place["ulps"]) for place in tensor["places"]] == [([2, 1], 5), ([0, 3], 2)]
    assert tensor["places"][0]["a"] == float(y[2, 1])
    assert tensor["places"][0]["b"] == float(x[2, 1])


def test_a_flipped_zero_sign_differs_by_no_ulp(tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a.npy", np.array([0.0, 1.0], np.float32)), saved(tmp_path / "b.npy", np.array([-0.0, 1.0], np.float32))
    (tensor,) = compare_files(a, b)
    assert not tensor.equal
    assert (tensor.differing, tensor.max_ulps) == (1, 0)
    assert run(a, b).exit_code == 1


def test_nan_beside_a_number_has_no_distance_and_comes_first(tmp_path: Path) -> None:
    x = np.array([1, 2, 3], np.float32)
    y = stepped(x, (0,), 9)
    y[2] = np.nan
    (tensor,) = compare_files(saved(tmp_path / "a.npy", y), saved(tmp_path / "b.npy", x))
    assert [(place.index, place.ulps) for place in tensor.places] == [((2,), None), ((0,), 9)]
    assert tensor.max_ulps == 9
    result = run(tmp_path / "a.npy", tmp_path / "b.npy")
    assert "[2] nan / 3" in result.stdout


def test_what_json_has_no_number_for_is_a_string(tmp_path: Path) -> None:
    x = np.array([np.nan, -np.inf, 2], np.float32)
    y = np.array([1, np.inf, np.nan], np.float32)
    result = run(saved(tmp_path / "a.npy", x), saved(tmp_path / "b.npy", y), "--json")
    (tensor,) = parsed_json(result.stdout.encode(), "--json")["tensors"]
    places = [(place["a"], place["b"], place["ulps"]) for place in tensor["places"]]
    assert places == [("nan", 1.0, None), ("-inf", "inf", None), (2.0, "nan", None)]


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.array([1j, 2]), np.array([1j, -2])),
        (np.array(["a", "bcd", ""]), np.array(["a", "bce", ""])),
        (np.array([(1, 2.0), (3, 4.0)], [("n", "i1"), ("x", "f8")]), np.array([(1, 2.0), (3, 5.0)], [("n", "i1"), ("x", "f8")])),
        (np.asfortranarray([[1j, 2], [3, 4]]), np.asfortranarray([[1j, 2], [3, 5]])),
    ],
    ids=["complex", "strings", "records", "Fortran order"],
)
def test_elements_of_any_size_are_compared_in_bits(x: npt.NDArray[Any], y: npt.NDArray[Any], tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a.npy", x), saved(tmp_path / "b.npy", y)
    assert compare_files(a, a)[0].equal
    (tensor,) = compare_files(a, b)
    assert (tensor.equal, tensor.differing, tensor.detail) == (False, 1, f"1 of {x.size} differ")


@pytest.mark.parametrize("dtype", [np.longdouble, np.clongdouble])
def test_long_doubles_are_refused(dtype: Any, tmp_path: Path) -> None:
    a = saved(tmp_path / "a.npy", np.ones(3, dtype))
    with pytest.raises(MxsimError, match="save it as float64 or complex128"):
        compare_files(a, a)


def test_a_bfloat16_npy_is_counted_in_ulps(tmp_path: Path) -> None:
    x = np.ones((2, 3), ml_dtypes.bfloat16)
    (tensor,) = compare_files(saved(tmp_path / "a.npy", stepped(x, (1, 2), 4)), saved(tmp_path / "b.npy", x))
    assert (tensor.differing, tensor.max_ulps) == (1, 4)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_a_bfloat16_npy_may_be_empty(shape: tuple[int, int], tmp_path: Path) -> None:
    x = np.ones(shape, ml_dtypes.bfloat16)
    (tensor,) = compare_files(saved(tmp_path / "a.npy", x), saved(tmp_path / "b.npy", x))
    assert (tensor.equal, tensor.elements) == (True, 0)


def test_every_tensor_is_told_as_it_is_done(tmp_path: Path) -> None:
    save_file({"a": np.ones(4, np.float32), "b": np.ones((2, 3), np.float32)}, tmp_path / "x.safetensors")
    told: list[int] = []
    compare_files(tmp_path / "x.safetensors", tmp_path / "x.safetensors", advance=told.append)
    assert told == [4, 6]


def test_tensors_that_do_not_meet_are_named(tmp_path: Path) -> None:
    one = np.ones(4, np.float32)
    save_file({"a": one, "shape": one, "kind": one}, tmp_path / "a.safetensors")
    save_file({"b": one, "shape": np.ones(5, np.float32), "kind": one.astype(np.float16)}, tmp_path / "b.safetensors")
    result = run(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--json")
    assert result.exit_code == 1
    details = {tensor["name"]: tensor["detail"] for tensor in json.loads(result.stdout)["tensors"]}
    assert details["a"] == "missing in the second file"
    assert details["b"] == "missing in the first file"
    assert details["shape"] == "float32 (4,) beside float32 (5,)"
    assert details["kind"] == "float32 (4,) beside float16 (4,)"


def test_codes_are_compared_in_bits(tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.uint8)
    (tensor,) = compare_files(saved(tmp_path / "a.npy", stepped(x, (3,), 1)), saved(tmp_path / "b.npy", x))
    assert (tensor.equal, tensor.differing, tensor.max_ulps, tensor.detail) == (False, 1, None, "1 of 6 differ")


def test_single_arrays_meet_whatever_their_names(tmp_path: Path) -> None:
    x = np.ones((2, 2), np.float32)
    save_file({"golden": x}, tmp_path / "a.safetensors")
    assert run(tmp_path / "a.safetensors", saved(tmp_path / "b.npy", x)).exit_code == 0


def test_an_empty_tensor_and_a_scalar(tmp_path: Path) -> None:
    tensors = {"empty": np.zeros((0, 3), np.float32), "scalar": np.array(2.5, np.float32)}
    save_file(tensors, tmp_path / "a.safetensors")
    save_file(tensors, tmp_path / "b.safetensors")
    assert run(tmp_path / "a.safetensors", tmp_path / "b.safetensors").exit_code == 0


@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY", b"not an array at all"])
def test_a_file_that_cannot_be_read_is_refused(content: bytes | None, tmp_path: Path) -> None:
    good, bad = saved(tmp_path / "good.npy", np.ones(3, np.float32)), tmp_path / "bad.npy"
    if content is not None:
        bad.write_bytes(content)
    with pytest.raises(MxsimError, match=r"bad\.npy"):
        compare_files(good, bad)


def test_an_unreadable_file_is_exit_status_2(tmp_path: Path) -> None:
    good = saved(tmp_path / "good.npy", np.ones(3, np.float32))
    command = [sys.executable, "-m", "mxsim", "compare", str(good), str(tmp_path / "absent.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("mxsim: ")
    assert not done.stdout


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.uint8])
@pytest.mark.parametrize("shape", [(37, 20), (740,), (1, 740), (5, 2, 74)])
def test_pieces_find_what_the_whole_has(dtype: Any, shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(1, 60, 740).astype(dtype).reshape(shape)
    y = x.copy()
    moved = y.reshape(-1).view(f"u{x.dtype.itemsize}")
    moved[rng.choice(740, 200, replace=False)] += rng.integers(1, 6, 200).astype(moved.dtype)
    if dtype is not np.uint8:
        y.reshape(-1)[[5, 700]] = np.nan, np.inf
    a, b = saved(tmp_path / "a.npy", y), saved(tmp_path / "b.npy", x)
    (whole,) = compare_files(a, b, 9)
    for module in (files, comparison):
        monkeypatch.setattr(module, "PIECE", 64)
    assert repr(compare_files(a, b, 9)) == repr([whole])  # NaN is not itself
    assert whole.differing == np.count_nonzero(x.view(moved.dtype) != y.view(moved.dtype))
    if dtype is not np.uint8:
        found = error_statistics(y, x)
        assert (whole.max_ulps, whole.mean_ulps) == (found.max_ulps, pytest.approx(found.mean_ulps, rel=1e-15))
        distance = ulp_distance(y, x).reshape(-1)
        worst = np.argsort(-distance, kind="stable")[:9].tolist()
        assert [int(np.ravel_multi_index(place.index, shape)) for place in whole.places] == worst


def test_memory_does_not_grow_with_the_tensor(tmp_path: Path) -> None:
    x = np.ones((6 * files.PIECE // 1024, 1024), np.float32)
    a, b = saved(tmp_path / "a.npy", x), saved(tmp_path / "b.npy", x)
    del x
    tracemalloc.start()
    try:
        assert compare_files(a, b)[0].equal
        assert tracemalloc.get_traced_memory()[1] < 5 * 4 * files.PIECE
    finally:
        tracemalloc.stop()
