"""Units from TOML files: what is read, and that what is refused is refused with the remedy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mxsim
from mxsim.units.spec import FlooredC, Level
from mxsim.units.toml import load_unit

NARROW = """
name = "narrow_adder"
title = "a narrower Blackwell"
base = "nvidia_blackwell"
promote_every = 128

[[path]]
name = "mxfp8, 21 bits"
like = "mxf8f6f4"
F = 21
step = "rne_e8m15"
"""
WHOLE = """
source = "our RTL"

[[path]]
name = "dot"
formats = ["e4m3", "e5m2"]
pairs = "any"
chunk = 16
F = 24
c = "floored"
step = "rne_fp32"
level = "documented"
source = "our RTL, page 3"
floored_c = { sum_bits = 32, c_bits = 24, norm_bits = 31 }

[[path]]
name = "dot to fp16"
formats = ["e4m3"]
out = "fp16"
reduce = "exact"
chunk = 4
step = "rne_fp16"
"""


def written(folder: Path, text: str, name: str = "my_unit.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_base_with_one_path_changed(tmp_path: Path) -> None:
    unit, base = load_unit(written(tmp_path, NARROW)), mxsim.UNITS["nvidia_blackwell"]
    assert (unit.name, unit.title, unit.level) == ("narrow_adder", "a narrower Blackwell", Level.ASSUMED)
    changed, before = (u.path_for("mxfp8_e4m3", "mxfp8_e4m3") for u in (unit, base))
    expected = replace(before, name="mxfp8, 21 bits", F=21, step="rne_e8m15", promote_every=128)
    assert changed == replace(expected, level=Level.ASSUMED, source="derived from nvidia_blackwell", vectors=())
    kept = unit.path_for("fp16", "fp16")
    assert kept == replace(
        base.path_for("fp16", "fp16"), promote_every=128, level=Level.ASSUMED, vectors=()
    )  # a GEMM that no capture shows
    assert list(unit.pairs()) != list(base.pairs())
    assert [pair[:3] for pair in unit.pairs()] != []


def test_the_base_alone_keeps_its_levels(tmp_path: Path) -> None:
    unit, base = load_unit(written(tmp_path, 'base = "nvidia_volta"')), mxsim.UNITS["nvidia_volta"]
    assert (unit.name, unit.title, unit.paths) == ("my_unit", f"{base.title}, changed", base.paths)


def test_paths_from_nothing(tmp_path: Path) -> None:
    unit = load_unit(str(written(tmp_path, WHOLE)))
    first, second = unit.paths
    assert (unit.name, unit.source, unit.level) == ("my_unit", "our RTL", Level.ASSUMED)
    assert (first.level, first.formats, first.floored_c) == (
        Level.DOCUMENTED,
        ("e4m3", "e5m2"),
        FlooredC(sum_bits=32, c_bits=24, norm_bits=31),
    )
    assert (second.level, second.out, second.nan) == (Level.ASSUMED, "fp16", 0x7E00)


def test_like_takes_every_path_of_the_name(tmp_path: Path) -> None:
    """f8f6f4 stands for two outputs and two sets of pairs; out and formats narrow it."""
    base = mxsim.UNITS["nvidia_blackwell"]
    named = [path for path in base.paths if path.name == "f8f6f4"]
    head = 'base = "nvidia_blackwell"\n[[path]]\nlike = "f8f6f4"\n'
    every = load_unit(written(tmp_path, head + "F = 20"))
    assert [path.F for path in every.paths[: len(named)]] == [20] * len(named)
    half = load_unit(written(tmp_path, head + 'F = 20\nout = "fp16"'))
    assert {path.out for path in half.paths if path.F == 20} == {"fp16"}


def test_what_is_like_a_captured_path_was_not_captured(tmp_path: Path) -> None:
    unit = load_unit(written(tmp_path, 'base = "nvidia_volta"\n[[path]]\nlike = "T-FDPA"\n'))
    own = unit.paths[: len(unit.paths) // 2]
    assert [(path.level, path.vectors) for path in own] == [(Level.ASSUMED, ())] * 2
    assert unit.paths[2:] == mxsim.UNITS["nvidia_volta"].paths


def test_its_bits(tmp_path: Path) -> None:
    """The file's unit computes what it says: the preset's bits with the preset's numbers, others with others."""
    random = np.random.default_rng(0)
    a, b = (mxsim.quantize(random.standard_normal((20, 96)).astype(np.float32), "mxfp8_e4m3") for _ in range(2))
    same = written(tmp_path, 'base = "nvidia_blackwell"\n[[path]]\nlike = "mxf8f6f4"\nF = 25\n', "same.toml")
    want = mxsim.matmul(a, b.T, unit="nvidia_blackwell")
    np.testing.assert_array_equal(mxsim.matmul(a, b.T, unit=same), want)
    narrow = mxsim.matmul(a, b.T, unit=written(tmp_path, NARROW))
    assert (narrow != want).any()
    np.testing.assert_allclose(narrow, want, atol=1e-2)


def test_promotion_is_a_separate_accumulator(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    a, b = (mxsim.quantize(random.standard_normal((8, 320)).astype(np.float32), "mxfp8_e4m3") for _ in range(2))
    unit = load_unit(written(tmp_path, NARROW))
    plain = replace(unit, paths=tuple(replace(path, promote_every=None) for path in unit.paths))
    total = np.zeros((8, 8), np.float32)
    for first in (0, 128, 256):
        x, y = (
            mxsim.from_codes(q.codes[:, first : first + 128], q.scales[:, first // 32 : first // 32 + 4], "mxfp8_e4m3", axis=1)
            for q in (a, b)
        )
        total += mxsim.matmul(x, y.T, unit=plain)
    np.testing.assert_array_equal(mxsim.matmul(a, b.T, unit=unit), total)


PATH = '[[path]]\nname = "p"\nformats = ["e4m3"]\nchunk = 32\nF = 25\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = narrow", "is not TOML"),
        ("", "no path: write at least one .*path.*base"),
        ('nane = "x"', "unknown key in the file: 'nane': did you mean 'name'"),
        ('name = 3\nbase = "nvidia_volta"', "name is 3: write it in quotes"),
        ('base = "nvidia_blackwel"', "did you mean 'nvidia_blackwell'"),
        ('base = "nvidia_volta"\npromote_every = 0', "promote_every is 0: write a whole number"),
        ('base = "nvidia_volta"\npromote_every = true', "promote_every is True: write a whole number"),
        ('base = "nvidia_volta"\npromote_every = 6', "promote_every is 6: give a multiple of 4"),
        ('base = "nvidia_volta"\npath = 3', r"begin each with \[\[path\]\]"),
        (PATH.replace("F =", "f ="), "unknown key in path 'p': 'f': did you mean 'F'"),
        (PATH + "Chunk = 3", "unknown key in path 'p': 'Chunk': did you mean 'chunk'"),
        (PATH + 'vectors = ["V100"]', "unknown key in path 'p': 'vectors'"),
        (PATH + 'level = "vectors"', "a file may say documented or assumed"),
        (PATH + 'level = "documented"', "source is missing: say where"),
        ('[[path]]\nformats = ["e4m3"]', "name is missing: write it, or like"),
        ('[[path]]\nname = "p"', "formats is missing: write it, or like"),
        ('[[path]]\nname = "p"\nformats = "e4m3"', r"write a list of names, such as \[fp32"),
        ('[[path]]\nname = "p"\nformats = []', "write a list of names"),
        ('[[path]]\nname = "p"\nformats = ["e4m4"]', "did you mean 'e4m3'"),
        ('[[path]]\nlike = "mxf4"', "like needs a base: write base"),
        ('base = "nvidia_blackwell"\n[[path]]\nlike = "mxf5"', "unknown path of nvidia_blackwell 'mxf5': did you mean"),
        (PATH.replace("25", "99"), "F is 99: fraction bits kept below the largest exponent, 1 to 48"),
        (PATH.replace("25", "25.5"), "F is 25.5: write a whole number, or leave the key out"),
        (PATH.replace("25", "true"), "F is True: write a whole number"),
        (PATH.replace("32", "0"), "chunk is 0: write a whole number, at least 1"),
        (PATH.replace("32", "4194304").replace("25", "48"), "lower F or chunk until it is 62"),
        (PATH + 'reduce = "sum"', r"reduce is 'sum': write align \| exact \| pairwise \| fma"),
        (PATH + 'step = "rz_fp99"', "step: 'rz_fp99' is no rounding: write a mode"),
        (PATH + 'step = "rz_e8m0"', "step: 'rz_e8m0' is no rounding"),
        (PATH + 'step = "rz_e1m3"', "step: 'rz_e1m3' is no rounding"),
        (PATH + 'step = "rz_e9m3"', "step: 'rz_e9m3' is no rounding"),
        (PATH + 'step = "rz_e8m24"', "step: 'rz_e8m24' is no rounding"),
        (PATH + "step = 3", "step is 3: write it in quotes"),
        (PATH + 'scaling = "exact"', "scaling is 'exact': exact or group for block formats, none for others"),
        (PATH + "floored_c = 3", "write a table with sum_bits, c_bits, norm_bits"),
        (PATH + "floored_c = { sum_bits = 32 }", "floored_c needs sum_bits, c_bits, norm_bits"),
        (PATH + "floored_c = { sum_bits = 32, c_bits = 24, norm_bits = -1 }", "each from 0 to 48"),
        (PATH + "floored_c = { sum_bits = 49, c_bits = 24, norm_bits = 31 }", "each from 0 to 48"),
        (PATH + "floored_c = { sum_bits = 32, c_bits = 24, norm_bits = true }", "each from 0 to 48"),
        (PATH + 'c = "floored"', "floored_c is missing: give its bits"),
        (
            PATH + 'c = "floored"\nfloored_c = { sum_bits = 20, c_bits = 24, norm_bits = 31 }',
            "floored_c has c_bits = 24 and sum_bits = 20: C's fraction bits are at most the sum's",
        ),
        (PATH + "floored_c = { sum_bits = 32, bits = 2 }", "unknown key in path 'p', floored_c: 'bits'"),
    ],
)
def test_refused_with_the_remedy(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(mxsim.MxsimError, match=message) as caught:
        load_unit(written(tmp_path, text))
    assert "my_unit.toml" in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(mxsim.MxsimError, match=r"none\.toml cannot be read: No such file"):
        load_unit(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(mxsim.MxsimError, match=r"binary\.toml is not TOML"):
        load_unit(tmp_path / "binary.toml")
    with pytest.raises(mxsim.MxsimError, match=r"did you mean 'nvidia_volta'.*path of a \.toml file"):
        load_unit("nvidia_volt")


def test_a_path_that_adds_all_of_k_at_once_has_nothing_to_promote() -> None:
    path = next(path for unit in mxsim.UNITS.values() for path in unit.paths if path.chunk is None and path.instruction_length is None)
    with pytest.raises(mxsim.MxsimError, match="promote_every is 32: leave it out: the path adds all of K at once"):
        replace(path, promote_every=32)
