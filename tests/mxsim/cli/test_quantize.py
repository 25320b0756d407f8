"""mxsim quantize: the same bits as mxsim.quantize, in pieces, with what was lost; and a file that is whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import typer
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import mxsim
from mxsim import files
from mxsim.cli import quantize
from mxsim.plan import ROUNDINGS
from mxsim.quantize_file import QuantizationError, Request, quantize_file
from mxsim.units.files import read_operand

FORMATS = tuple(mxsim.FORMATS)
app = typer.Typer()
app.command("quantize")(quantize.command)


def run(*arguments: str) -> str:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False).stdout


def weights(shape: tuple[int, ...], seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def saved(folder: Path, array: npt.NDArray[Any], name: str = "w") -> Path:
    np.save(folder / f"{name}.npy", array)
    return folder / f"{name}.npy"


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("format_name", FORMATS)
def test_pieces_give_the_bits_of_the_whole(format_name: str, axis: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PIECE", 1 << 10)
    x = weights((100, 70))
    request = Request(format=format_name, axis=axis, rounding="stochastic", seed=3)
    told: list[tuple[int, int]] = []
    quantize_file(saved(tmp_path, x), tmp_path / "q.safetensors", request, lambda count, total: told.append((count, total)))
    whole = mxsim.quantize(x, format_name, axis=axis, rounding="stochastic", seed=3)
    got = load_file(tmp_path / "q.safetensors")
    np.testing.assert_array_equal(got["w.codes"], whole.codes)
    np.testing.assert_array_equal(got["w.scales"], whole.scales)
    if whole.tensor_scale is not None:
        assert got["w.tensor_scale"] == whole.tensor_scale
    assert len(told) > 3
    assert sum(count for count, _ in told) == x.size
    assert {total for _, total in told} == {x.size}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_npy_of_any_order_and_dtype(order: Any, dtype: Any, tmp_path: Path) -> None:
    x = np.asarray(weights((33, 40)), dtype, order=order)
    run(str(saved(tmp_path, x)), "-f", "mxfp6_e2m3", "-o", str(tmp_path / "q.safetensors"))
    np.testing.assert_array_equal(load_file(tmp_path / "q.safetensors")["w.codes"], mxsim.quantize(x, "mxfp6_e2m3").codes)


def test_safetensors_in_with_metadata_out(tmp_path: Path) -> None:
    tensors = {
        "a.weight": weights((8, 64)).astype(ml_dtypes.bfloat16),
        "b.weight": weights((4, 32), 1),
        "norm": weights((64,), 2),
        "step": np.array(7, np.int64),
    }
    save_file(tensors, tmp_path / "m.safetensors")
    text = run(str(tmp_path / "m.safetensors"), "-f", "nvfp4", "--policy", "modelopt", "-o", str(tmp_path / "q.safetensors"))
    assert "copied as they are: norm, step" in text
    got = load_file(tmp_path / "q.safetensors")
    assert set(got) == {f"{n}.weight.{part}" for n in "ab" for part in ("codes", "scales", "tensor_scale")} | {"norm", "step"}
    np.testing.assert_array_equal(got["norm"], tensors["norm"])
    assert got["step"] == 7
    for name in ("a.weight", "b.weight"):
        want = mxsim.quantize(tensors[name], "nvfp4", policy="modelopt")
        np.testing.assert_array_equal(got[f"{name}.codes"], want.codes)
        np.testing.assert_array_equal(got[f"{name}.scales"], want.scales)
    with safe_open(tmp_path / "q.safetensors", framework="np") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["axis"], metadata["policy"], metadata["block_size"]) == ("nvfp4", "-1", "modelopt", "16")


def test_a_stored_divisor_is_kept_so_that_the_file_holds_the_values_that_were_counted(tmp_path: Path) -> None:
    x = weights((64, 256))
    save_file({"w": x}, tmp_path / "m.safetensors")
    quantize_file(tmp_path / "m.safetensors", tmp_path / "q.safetensors", Request(format="nvfp4", policy="compressed-tensors"))
    want, got = mxsim.quantize(x, "nvfp4", policy="compressed-tensors"), read_operand(tmp_path / "q.safetensors")
    assert isinstance(got, mxsim.MXTensor)
    assert (got.tensor_divisor, got.tensor_scale) == (want.tensor_divisor, want.tensor_scale)
    np.testing.assert_array_equal(got.dequantize(), want.dequantize())
    with pytest.raises(mxsim.MxsimError, match="tensor_scale and tensor_divisor are both given"):
        mxsim.from_codes(want.codes, want.scales, "nvfp4", tensor_scale=1.0, tensor_divisor=1.0)
    with pytest.raises(mxsim.MxsimError, match=r"tensor_divisor is -1\.0: pass a number that is finite and above 0"):
        mxsim.from_codes(want.codes, want.scales, "nvfp4", tensor_divisor=-1.0)


def test_what_was_lost(tmp_path: Path) -> None:
    # one block of scale 1: 7 saturates at 6, 0.2 is flushed to 0, 1 is exact; NaN spoils a second block of its own
    x = np.array([[7, 0.2, 1, 0], [1, np.nan, 1, 1]], np.float32)
    call = (str(saved(tmp_path, x)), "-f", "mxfp4_e2m1", "--block-size", "4", "-o", str(tmp_path / "q.safetensors"), "--json")
    (told,) = json.loads(run(*call))["tensors"]
    assert (told["saturated"], told["flushed"], told["nonfinite"]) == (1 / 8, 1 / 8, 1)
    assert (told["max_error"], told["lost"]) == (1, 3)  # a NaN's finite neighbours are lost with it, and counted apart
    error = QuantizationError(name="w", shape=(1, 4))
    error.add(x[:1], mxsim.quantize(x[:1], "mxfp4_e2m1", block_size=4))
    assert error.max_error == 1
    signal, noise = 49 + np.float32(0.2).astype(float) ** 2 + 1, 1 + np.float32(0.2).astype(float) ** 2
    assert error.snr_db == pytest.approx(10 * np.log10(signal / noise))


@pytest.mark.parametrize("format_name", FORMATS)
def test_counts_against_numpy(format_name: str) -> None:
    x = weights((64, 1000)) * np.float32(3)
    q = mxsim.quantize(x, format_name)
    error = QuantizationError(name="x", shape=x.shape)
    error.add(x, q)
    wide, y = x.astype(np.float64), q.dequantize().astype(np.float64)
    assert error.signal == pytest.approx(np.sum(wide**2), rel=1e-12)
    assert error.noise == pytest.approx(np.sum((wide - y) ** 2), rel=1e-12)
    assert error.max_error == np.abs(wide - y).max()
    assert error.flushed == np.count_nonzero((y == 0) & (wide != 0))
    element = q.format.element
    top = np.isin(q.codes, [element.max_code, element.max_code | element.sign_mask])
    if element.is_fixed_point:
        top = np.isin(q.codes, [0x7F, 0x81])
    assert error.saturated == np.count_nonzero(top & (np.abs(wide) > np.abs(y)))


def test_exact_input_says_so(tmp_path: Path) -> None:
    text = run(str(saved(tmp_path, np.ones((2, 32), np.float32))), "-f", "mxfp8_e4m3", "-o", str(tmp_path / "q.safetensors"))
    assert "exact" in text


def test_a_tensor_of_which_nothing_is_left_is_not_exact(tmp_path: Path) -> None:
    source = saved(tmp_path, np.array([[1, np.nan, 2, 3]], np.float32))
    call = (str(source), "-f", "mxfp4_e2m1", "-o", str(tmp_path / "q.safetensors"))
    text = run(*call)
    assert "exact" not in text
    assert text.splitlines()[2].split()[-6:-4] == ["-", "-"]
    (told,) = json.loads(run(*call, "--json"))["tensors"]
    assert (told["counted"], told["lost"], told["nonfinite"], told["snr_db"], told["max_error"]) == (0, 3, 1, None, None)


def broken(folder: Path) -> Path:
    path = saved(folder, weights((64, 64)), "short")
    path.write_bytes(path.read_bytes()[:-100])
    return path


def pickled(folder: Path) -> Path:
    path = folder / "pickled.npy"
    np.save(path, np.array([{}], object), allow_pickle=True)
    return path


def archive(folder: Path) -> Path:
    with (folder / "archive.npy").open("wb") as file:
        np.savez(file, x=weights((2, 32)))
    return folder / "archive.npy"


def not_safetensors(folder: Path) -> Path:
    path = folder / "no.safetensors"
    path.write_bytes(b"\xff" * 64)
    return path


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (lambda folder: folder / "none.npy", {}, "does not exist"),
        (lambda folder: folder, {}, "is not a file"),
        (broken, {}, "not a .npy file"),
        (pickled, {}, "not a .npy file"),
        (archive, {}, "archive of arrays"),
        (not_safetensors, {}, "not a safetensors file"),
        (lambda folder: saved(folder, np.ones((2, 3))), {}, "nothing to quantise"),
        (lambda folder: saved(folder, weights((2, 32))), {"tensors": ["b*"]}, "no tensor matches"),
        (lambda folder: saved(folder, weights((2, 32))), {"format": "mxfp4"}, "did you mean 'mxfp4_e2m1'"),
        (lambda folder: saved(folder, weights((2, 32))), {"policy": "quarks"}, "did you mean 'quark'"),
        (lambda folder: saved(folder, weights((2, 32))), {"axis": 2}, "axis 2 does not exist"),
        (lambda folder: saved(folder, weights((2, 32))), {"rounding": "stochastic"}, "needs a seed"),
    ],
)
def test_refused_and_nothing_left_behind(source: Any, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    target = tmp_path / "q.safetensors"
    with pytest.raises(mxsim.MxsimError, match=message):
        quantize_file(source(tmp_path), target, Request(**{"format": "mxfp4_e2m1", **options}))
    assert not target.exists()
    assert not list(tmp_path.glob(".*part"))


def test_a_file_that_was_there_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "q.safetensors"
    target.write_bytes(b"before")

    def interrupted(count: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_file(saved(tmp_path, weights((4, 64))), target, Request(format="mxint8"), interrupted)
    assert target.read_bytes() == b"before"
    assert not list(tmp_path.glob(".*part"))


@pytest.mark.parametrize("other", ["a.codes", "a.scales"])
def test_a_copied_tensor_is_not_overwritten_by_a_quantised_one(other: str, tmp_path: Path) -> None:
    save_file({"a": weights((4, 32)), other: weights((4, 32), 1)}, tmp_path / "m.safetensors")
    with pytest.raises(mxsim.MxsimError, match=rf"tensor 'a' writes '{other}', .* rename .*--tensors"):
        quantize_file(tmp_path / "m.safetensors", tmp_path / "q.safetensors", Request(format="mxfp4_e2m1", tensors=["a"]))
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize(("name", "message"), [("q.npy", "must end in .safetensors"), ("no/q.safetensors", "folder .* does not exist")])
def test_refused_outputs(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(mxsim.MxsimError, match=message):
        quantize_file(saved(tmp_path, weights((2, 32))), tmp_path / name, Request(format="mxfp4_e2m1"))


def test_every_rounding_is_named_in_the_help() -> None:
    text = run("--help")
    assert all(name in text and name in (mxsim.quantize.__doc__ or "") for name in ROUNDINGS)


def test_a_name_with_brackets_is_itself(tmp_path: Path) -> None:
    save_file({"w[0]": weights((2, 32)), "w0": weights((2, 32)), "v": weights((2, 32))}, tmp_path / "m.safetensors")
    for patterns, chosen in ((["w[0]"], {"w0", "w[0]"}), (["w[[]0]"], {"w[0]"}), (["v"], {"v"})):
        errors, _ = quantize_file(tmp_path / "m.safetensors", tmp_path / "q.safetensors", Request(format="mxfp4_e2m1", tensors=patterns))
        assert {error.name for error in errors} == chosen
    save_file({"w[0]": weights((2, 32)), "v": weights((2, 32))}, tmp_path / "n.safetensors")
    errors, copied = quantize_file(tmp_path / "n.safetensors", tmp_path / "q.safetensors", Request(format="mxfp4_e2m1", tensors=["w[0]"]))
    assert ([error.name for error in errors], copied) == (["w[0]"], ["v"])
