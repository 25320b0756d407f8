"""mxsim formats: every format with its numbers, as a table, alone, and as JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import mxsim
from mxsim.cli import formats

app = typer.Typer()
app.command("formats")(formats.command)


def run(*arguments: str) -> str:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False).stdout


def row(name: str) -> list[str]:
    return next(line for line in run().splitlines() if line.startswith(name)).split()


def test_the_table_has_every_format_and_fits() -> None:
    text = run()
    assert all(name in text for name in mxsim.FORMATS)
    assert max(map(len, text.splitlines())) <= 150


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mxfp8_e4m3", ["8.25", "448", "2^-6", "2^-9", "0x7F"]),  # OCP MX v1.0, 5.3.1
        ("mxfp8_e5m2", ["8.25", "57344", "2^-14", "2^-16", "0x7C,"]),
        ("mxfp6_e3m2", ["6.25", "28", "none"]),
        ("mxfp6_e2m3", ["6.25", "7.5", "none"]),
        ("mxfp4_e2m1", ["4.25", "6", "none"]),
        ("mxint8", ["8.25", "2^-6", "0x80"]),
        ("nvfp4", ["4.5", "16", "e4m3", "fp32"]),
    ],
)
def test_a_row_says_what_the_standard_says(name: str, words: list[str]) -> None:
    assert set(words) <= set(row(name))


def test_one_format_lists_its_values() -> None:
    assert run("mxfp4_e2m1").rstrip().endswith("0  0.5  1  1.5  2  3  4  6")
    assert "more" in run("mxfp8_e4m3")


@pytest.mark.parametrize("name", mxsim.FORMATS)
def test_json_agrees_with_python(name: str) -> None:
    (told,) = json.loads(run(name, "--json"))["formats"]
    format = mxsim.FORMATS[name]
    assert (told["name"], told["bits_per_element"], told["block_size"]) == (name, format.bits_per_element, format.block_size)
    element: dict[str, Any] = told["element"]
    assert element["max"] == format.element.max
    assert math.isfinite(element["smallest"])
    assert told["source"]
    assert element["source"]


def test_unknown_names_meet_the_nearest() -> None:
    with pytest.raises(mxsim.MxsimError, match="did you mean 'nvfp4'"):
        run("nvfp5")
