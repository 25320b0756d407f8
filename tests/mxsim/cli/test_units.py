"""mxsim units and mxsim matmul: every path with its level and source; files in, the unit's bits and their errors out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import mxsim
from mxsim.cli import app
from mxsim.units.spec import LEVELS

UNIT = 'base = "nvidia_blackwell"\n[[path]]\nname = "narrow"\nlike = "mxf8f6f4"\nF = 12\n'


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def normal(shape: tuple[int, int], seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def halves(tmp_path: Path) -> tuple[Path, Path]:
    for name, shape in (("a", (6, 40)), ("b", (40, 9))):
        np.save(tmp_path / f"{name}.npy", normal(shape, len(shape)).astype(np.float16))
    return tmp_path / "a.npy", tmp_path / "b.npy"


def test_overview_names_every_unit_with_its_level() -> None:
    lines = run("units").splitlines()
    for unit in mxsim.UNITS.values():
        (line,) = [line for line in lines if line.split()[:1] == [unit.name]]
        assert line.split()[1] == unit.level


@pytest.mark.parametrize("name", mxsim.UNITS)
def test_one_unit_shows_every_path_with_its_level_and_source(name: str) -> None:
    text, unit = run("units", name), mxsim.UNITS[name]
    lines = [line for line in text.splitlines() if any(f" {level} " in line for level in LEVELS)]
    assert len(lines) >= len(unit.paths)
    for path in unit.paths:
        assert path.source
        assert any(f" {path.level} " in line and path.source in line and f" {path.step}" in line for line in lines), path
    assert unit.source in text


def test_json_is_the_description(tmp_path: Path) -> None:
    told = {unit["name"]: unit for unit in json.loads(run("units", "--json"))["units"]}
    assert list(told) == list(mxsim.UNITS)
    for name, unit in mxsim.UNITS.items():
        assert told[name]["level"] == unit.level
        assert [(p["name"], p["level"], p["F"]) for p in told[name]["paths"]] == [(p.name, p.level, p.F) for p in unit.paths]
    (tmp_path / "mine.toml").write_text(UNIT)
    (mine,) = json.loads(run("units", tmp_path / "mine.toml", "--json"))["units"]
    assert (mine["name"], mine["level"], mine["paths"][0]["F"]) == ("mine", "assumed", 12)
    assert "narrow" in run("units", tmp_path / "mine.toml")


def test_unknown_unit() -> None:
    with pytest.raises(mxsim.MxsimError, match="did you mean 'nvidia_volta'"):
        run("units", "nvidia_volt")


@pytest.mark.parametrize("out", ["fp32", "fp16"])
def test_npy(halves: tuple[Path, Path], out: str, tmp_path: Path) -> None:
    a, b = (np.load(path) for path in halves)
    text = run("matmul", *halves, "--unit", "nvidia_volta", "--out", out, "-o", tmp_path / "d.npy")
    got, want = np.load(tmp_path / "d.npy"), mxsim.matmul(a, b, unit="nvidia_volta", out=out)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)
    exact = mxsim.matmul(a, b, unit="mx_exact", out=out)
    assert f"nvidia_volta (vectors): fp16 x fp16 -> {out}" in text
    assert f"{np.count_nonzero(want != exact)} of {want.size}" in text


def test_json_with_c_and_a_transpose(halves: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = (np.load(path) for path in halves)
    c = normal((6, 9), 5)
    np.save(tmp_path / "c.npy", c)
    np.save(tmp_path / "bt.npy", b.T)
    call = ("matmul", halves[0], tmp_path / "bt.npy", "--transpose-b", "--c", tmp_path / "c.npy", "-u", "nvidia_ampere", "--json")
    told = json.loads(run(*call, "-o", tmp_path / "d.safetensors"))
    want, exact = (mxsim.matmul(a, b, unit=unit, c=c) for unit in ("nvidia_ampere", "mx_exact"))
    np.testing.assert_array_equal(load_file(tmp_path / "d.safetensors")["output"], want)
    assert (told["unit"], told["level"], told["shape"], told["K"], told["formats"]) == (
        "nvidia_ampere",
        "vectors",
        [6, 9],
        40,
        ["fp16", "fp16"],
    )
    assert told["errors"]["differing"] == np.count_nonzero(want != exact)
    assert told["errors"]["elements"] == want.size


@pytest.mark.parametrize("format_name", ["mxfp4_e2m1", "nvfp4", "mxfp8_e4m3"])
def test_files_of_mxsim_quantize(format_name: str, tmp_path: Path) -> None:
    x, w = normal((5, 70), 1), normal((8, 70), 2)
    for name, array in (("x", x), ("w", w)):
        np.save(tmp_path / f"{name}.npy", array)
        run("quantize", tmp_path / f"{name}.npy", "-f", format_name, "-o", tmp_path / f"{name}.safetensors")
    run("matmul", tmp_path / "x.safetensors", tmp_path / "w.safetensors", "--transpose-b", "-o", tmp_path / "d.npy")
    want = mxsim.matmul(mxsim.quantize(x, format_name), mxsim.quantize(w, format_name).T)
    np.testing.assert_array_equal(np.load(tmp_path / "d.npy"), want)


@pytest.mark.parametrize(
    ("said", "scale", "message"),
    [
        ({"axis": "last"}, [1.0], "metadata axis = 'last' must be a whole number"),
        ({"axis": "7"}, [1.0], "tensor 'q': axis"),
        ({"block_size": "16.0"}, [1.0], "metadata block_size = '16.0' must be a whole number"),
        ({"block_size": "0"}, [1.0], "tensor 'q': block_size"),
        ({"format": "nvfp5"}, [1.0], "tensor 'q': unknown .*did you mean 'nvfp4'"),
        ({}, [], r"q\.tensor_scale has shape \(0,\): one number is expected"),
        ({}, [1.0, 2.0], r"q\.tensor_scale has shape \(2,\): one number is expected"),
        ({}, [np.nan], "tensor 'q': tensor_scale is nan"),
    ],
)
def test_a_file_that_does_not_describe_its_tensor_is_named(said: dict[str, str], scale: list[float], message: str, tmp_path: Path) -> None:
    tensors = {
        "q.codes": np.zeros((2, 32), np.uint8),
        "q.scales": np.zeros((2, 2), np.uint8),
        "q.tensor_scale": np.array(scale, np.float32),
    }
    save_file(tensors, tmp_path / "q.safetensors", {"format": "nvfp4", "axis": "-1", "block_size": "16", **said})
    with pytest.raises(mxsim.MxsimError, match=rf"q\.safetensors: .*{message}"):
        run("matmul", tmp_path / "q.safetensors", tmp_path / "q.safetensors", "--transpose-b", "-o", tmp_path / "d.npy")


def test_bfloat16_and_tf32(tmp_path: Path) -> None:
    a, b = normal((4, 32), 1), normal((32, 4), 2)
    for name, array in (("a", a), ("b", b)):
        np.save(tmp_path / f"{name}.npy", array)
        np.save(tmp_path / f"{name}16.npy", array.astype(ml_dtypes.bfloat16))
    run("matmul", tmp_path / "a16.npy", tmp_path / "b16.npy", "-u", "intel_amx", "-o", tmp_path / "d.npy")
    want = mxsim.matmul(a.astype(ml_dtypes.bfloat16), b.astype(ml_dtypes.bfloat16), unit="intel_amx")
    np.testing.assert_array_equal(np.load(tmp_path / "d.npy"), want)
    run("matmul", tmp_path / "a.npy", tmp_path / "b.npy", "-u", "nvidia_ampere", "--in-format", "tf32", "-o", tmp_path / "d.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "d.npy"), mxsim.matmul(a, b, unit="nvidia_ampere", in_format="tf32"))


def test_a_unit_of_ones_own_and_promotion(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(UNIT)
    x = normal((6, 256), 3)
    np.save(tmp_path / "x.npy", x)
    run("quantize", tmp_path / "x.npy", "-f", "mxfp8_e4m3", "-o", tmp_path / "q.safetensors")
    call: tuple[Any, ...] = ("matmul", tmp_path / "q.safetensors", tmp_path / "q.safetensors", "--transpose-b", "-o", tmp_path / "d.npy")
    q = mxsim.quantize(x, "mxfp8_e4m3")
    assert "mine (assumed)" in run(*call, "--unit", tmp_path / "mine.toml")
    mine = np.load(tmp_path / "d.npy")
    np.testing.assert_array_equal(mine, mxsim.matmul(q, q.T, unit=tmp_path / "mine.toml"))
    assert (mine != mxsim.matmul(q, q.T)).any()
    run(*call, "--unit", "pulp_mxdotp", "--promote-every", 128)  # which its FP6 path, of chunks of 11, has no part in
    np.testing.assert_array_equal(np.load(tmp_path / "d.npy"), mxsim.matmul(q, q.T, unit=mxsim.UNITS["pulp_mxdotp"].promoted(128)))
    run(*call, "--promote-every", 128)
    np.testing.assert_array_equal(np.load(tmp_path / "d.npy"), mxsim.matmul(q, q.T, unit=mxsim.UNITS["nvidia_blackwell"].promoted(128)))


def test_blocks_of_another_size_and_one_c_of_several(tmp_path: Path) -> None:
    (tmp_path / "b16.toml").write_text(
        '[[path]]\nname = "blocks of 16"\nformats = ["mxfp8_e4m3"]\nscaling = "exact"\nblock = 16\nchunk = 16\nF = 25\n'
    )
    x = normal((4, 64), 3)
    np.save(tmp_path / "x.npy", x)
    run("quantize", tmp_path / "x.npy", "-f", "mxfp8_e4m3", "--block-size", 16, "-o", tmp_path / "q.safetensors")
    addends = {"c": normal((4, 4), 4), "d": normal((4, 4), 5)}
    save_file(addends, tmp_path / "c.safetensors")
    call: tuple[Any, ...] = ("matmul", tmp_path / "q.safetensors", tmp_path / "q.safetensors", "--transpose-b", "-o", tmp_path / "d.npy")
    call = (*call, "-u", tmp_path / "b16.toml", "--c", tmp_path / "c.safetensors")
    with pytest.raises(mxsim.MxsimError, match="say which with --tensor-c"):
        run(*call)
    assert "against the exact sum" in run(*call, "--tensor-c", "d")
    q = mxsim.quantize(x, "mxfp8_e4m3", block_size=16)
    want = mxsim.matmul(q, q.T, unit=tmp_path / "b16.toml", c=addends["d"])
    np.testing.assert_array_equal(np.load(tmp_path / "d.npy"), want)


def test_the_unit_of_the_documentation_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "units.md").read_text(encoding="utf-8")
    described, commands = (page.split(f"```{kind}\n")[1].split("```")[0] for kind in ("toml", "console"))
    monkeypatch.chdir(tmp_path)
    Path("narrow_adder.toml").write_text(described)
    x, w = normal((4, 256), 1), normal((8, 256), 2)
    np.save("x.npy", x)
    np.save("w.npy", w)
    for line in commands.splitlines():
        told = run(*line.removeprefix("$ mxsim ").split())
    assert told.startswith("narrow_adder (assumed): mxfp8_e4m3 x mxfp8_e4m3")
    want = mxsim.matmul(mxsim.quantize(x, "mxfp8_e4m3"), mxsim.quantize(w, "mxfp8_e4m3").T, unit="narrow_adder.toml")
    np.testing.assert_array_equal(np.load("d.npy"), want)


def test_refused_and_nothing_written(halves: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "d.npy"
    for arguments, message in (
        ((*halves, "-u", "pulp_mxdotp", "-o", target), "no path for fp16 x fp16 -> fp32: it takes mxfp8_e4m3"),
        ((*halves, "--transpose-b", "-u", "nvidia_volta", "-o", target), "or b.T"),
        ((*halves, "-u", "nvidia_volta", "-o", tmp_path / "d.txt"), "must end in .npy or .safetensors"),
        ((*halves, "-u", "nvidia_volta", "--out", "fp8", "-o", target), "no path for .* -> fp8: it takes fp16 x fp16 -> fp32 or fp16"),
        ((*halves, "-u", "nvidia_volta", "--promote-every", 3, "-o", target), "give a multiple of 4"),
    ):
        with pytest.raises(mxsim.MxsimError, match=message):
            run("matmul", *arguments)
    assert not list(tmp_path.glob("d.*"))
