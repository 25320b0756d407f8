"""Device files: every number has its provenance, and a file without is refused."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mxsim.devices
from mxsim.costing import cost
from mxsim.devices import device_names, load_device
from mxsim.devices.reader import parse_device
from mxsim.devices.spec import KINDS
from mxsim.errors import MxsimError, UnknownNameError
from mxsim.storage_formats import STORAGE_FORMATS, FormatPair

FOLDER = Path(mxsim.devices.__file__).parent
WANTED = {
    "a100",
    "h100",
    "h200",
    "b200",
    "gb200",
    "b300",
    "rtx_5090",
    "rtx_pro_6000",
    "mi350x",
    "mi355x",
    "jetson_thor",
    "mxdotp_12nm",
    "vmxdotp_12nm",
    "snax_22nm",
    "horowitz_45nm",
    "jouppi_7nm",
}

MINIMAL: dict[str, Any] = {
    "name": "mine",
    "title": "A device",
    "wide_path": "bf16",
    "memory": {"bandwidth_bytes_per_s": {"value": 1e12, "kind": "datasheet", "source": "its sheet"}},
    "compute": {"bf16": {"pairs": ["bf16:bf16"], "peak_flop_per_s": {"value": 1e14, "kind": "datasheet", "source": "its sheet"}}},
}


def numbers(content: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every number of a file, with the table it stands in."""
    if isinstance(content, dict):
        for key, value in content.items():
            if isinstance(value, int | float):
                yield f"{path}.{key}", key, content
            yield from numbers(value, f"{path}.{key}")
    elif isinstance(content, list):
        for value in content:
            assert not isinstance(value, int | float), f"{path}: a bare number in a list"
            yield from numbers(value, path)


def test_all_devices_are_there() -> None:
    assert set(device_names()) >= WANTED


@pytest.mark.parametrize("name", device_names())
def test_every_number_stands_beside_its_source_and_kind(name: str) -> None:
    content = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    found = list(numbers(content))
    assert found
    for where, key, table in found:
        assert key == "value", where
        assert table["kind"] in KINDS, where
        assert table["source"].strip(), where
    assert content["name"] == name


@pytest.mark.parametrize("name", device_names())
def test_no_device_rests_at_more_than_its_board_may_draw(name: str) -> None:
    device = load_device(name)
    power = load_device(name, assume=[assumption.name for assumption in device.assumptions]).power
    if power.board_w is not None and power.static_w is not None:
        assert power.static_w.value < power.board_w.value


@pytest.mark.parametrize("name", device_names())
def test_paths_name_formats_that_exist_and_assumptions_apply(name: str) -> None:
    device = load_device(name)
    pairs = [FormatPair(weight, activation) for weight in STORAGE_FORMATS for activation in STORAGE_FORMATS]
    for path in device.paths:
        for pattern in path.pairs:
            from fnmatch import fnmatchcase

            assert any(fnmatchcase(str(pair), pattern) for pair in pairs), f"{name}: {pattern} matches no pair"
    assert len({assumption.name for assumption in device.assumptions}) == len(device.assumptions)
    accepted = load_device(name, assume=[assumption.name for assumption in device.assumptions])
    known = dict(accepted.figures())
    for assumption in device.assumptions:
        assert assumption.says
        for key, figure in assumption.figures.items():
            assert known[key] == figure
            assert figure.kind == "assumed"


@pytest.mark.parametrize(
    ("device", "pair", "path"),
    [
        ("b200", "mxfp4_e2m1", "mxfp4"),
        ("b200", "mxfp4_e2m1:mxfp8_e4m3", "mxf8f6f4"),
        ("b200", "mxfp6_e2m3", "mxf8f6f4"),
        ("b200", "mxfp8_e4m3:mxfp8_e5m2", "mxfp8"),
        ("b200", "nvfp4", "nvfp4"),
        ("b200", "nvfp4:mxfp8_e4m3", "bf16"),
        ("b200", "mxfp4_e2m1:bf16", "bf16"),
        ("b200", "mxint8", "bf16"),
        ("mi355x", "mxfp6_e3m2:mxfp4_e2m1", "mxfp6_mxfp4"),
        ("mi355x", "mxfp4_e2m1:mxfp8_e4m3", "mxfp8"),
        ("h100", "mxfp8_e4m3", "bf16"),
        ("h100", "fp8_e4m3", "fp8"),
        ("a100", "int4:bf16", "int4_weight_only"),
    ],
)
def test_the_rate_follows_the_pair(device: str, pair: str, path: str) -> None:
    assert load_device(device).path_for(FormatPair.parse(pair)).name == path


def test_only_fp4_by_fp4_doubles_on_nvidia_and_fp6_is_as_fast_as_fp4_on_amd() -> None:
    def peak(device: str, pair: str) -> float:
        figure = load_device(device).path_for(FormatPair.parse(pair)).peak_flop_per_s
        assert figure is not None
        return figure.value

    assert peak("b200", "mxfp4_e2m1:mxfp8_e4m3") == peak("b200", "mxfp8_e4m3") == peak("b200", "mxfp6_e2m3")
    assert peak("b200", "mxfp4_e2m1") == 2 * peak("b200", "mxfp8_e4m3") == 4 * peak("b200", "mxfp4_e2m1:bf16")
    assert peak("mi355x", "mxfp6_e2m3") == peak("mi355x", "mxfp4_e2m1") == 2 * peak("mi355x", "mxfp8_e4m3")


def test_an_unknown_device_is_told_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown device 'b2000': did you mean 'b200'\?"):
        load_device("b2000")
    with pytest.raises(MxsimError, match="cannot be read"):
        load_device("nowhere.toml")


def test_a_users_own_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\ntitle = "A device"\nwide_path = "bf16"\n[compute.bf16]\npairs = ["bf16:bf16"]\n'
        'mac_energy_pj = { value = 1.0, kind = "measured", source = "my bench" }\n'
    )
    device = load_device(path)
    assert dict(device.figures())["compute.bf16.mac_energy_pj"].source == "my bench"
    assert "buffer.energy_pj_per_bit" in cost("stories260K", device, "bf16").missing
    path.write_text("name = ")
    with pytest.raises(MxsimError, match="is not TOML"):
        load_device(str(path))


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        (1e12, "has no provenance: write { value, kind, source }"),
        ({"value": 1e12, "kind": "datasheet"}, "a source is needed"),
        ({"value": 1e12, "kind": "datasheet", "source": " "}, "a source is needed"),
        ({"value": 1e12, "source": "x"}, "kind None is none of datasheet, measured, derived, assumed"),
        ({"value": 1e12, "kind": "guessed", "source": "x"}, "kind 'guessed'"),
        ({"value": "fast", "kind": "datasheet", "source": "x"}, "value 'fast'"),
        ({"value": float("nan"), "kind": "datasheet", "source": "x"}, "value nan"),
        ({"value": 10**400, "kind": "datasheet", "source": "x"}, "must be a finite number"),
        ({"value": -1, "kind": "datasheet", "source": "x"}, "value -1"),
        ({"value": 0, "kind": "datasheet", "source": "x"}, "0 would be divided by"),
        ({"value": 1, "kind": "datasheet", "source": "x", "unit": "B"}, "unknown key in .* 'unit'"),
    ],
)
def test_a_number_without_provenance_is_refused(figure: object, message: str) -> None:
    with pytest.raises(MxsimError, match=message):
        parse_device({**MINIMAL, "memory": {"bandwidth_bytes_per_s": figure}}, where="mine.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory": {"bandwith_bytes_per_s": {}}}, "did you mean 'bandwidth_bytes_per_s'"),
        ({"speed": 3}, "unknown key in mine.toml: 'speed'"),
        ({"compute": {}}, "at least one"),
        ({"compute": {"bf16": {"pairs": "bf16"}}}, '"pairs" must be a list'),
        ({"wide_path": "fp32"}, "unknown compute path of mine 'fp32'"),
        ({"name": None}, "'name' is missing"),
        ({"notes": 5}, "notes = 5 must be a string"),
        ({"assumption": 5}, r"assumption = 5 must be a list of tables: write \[\[assumption\]\]"),
        ({"assumption": {"name": "a", "says": "b"}}, "must be a list of tables"),
        ({"assumption": [5]}, 'needs "name" and "says"'),
        ({"assumption": [{"name": "a", "says": "b", "figures": [1]}]}, r"assumption a: figures: a table is expected, got \[1\]"),
        ({"assumption": [{"name": "a"}]}, 'needs "name" and "says"'),
        (
            {
                "assumption": [
                    {"name": "a", "says": "b", "figures": {"compute.bf16.mac_pj": {"value": 1, "kind": "assumed", "source": "c"}}}
                ]
            },
            "did you mean 'mac_energy_pj'",
        ),
    ],
)
def test_bad_files_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MxsimError, match=message):
        parse_device({**MINIMAL, **change}, where="mine.toml")


def test_an_unknown_assumption_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown assumption of b200 'half': .*b200-fp4-half-fp8"):
        load_device("b200", assume=["half"])
    with pytest.raises(MxsimError, match="device jouppi_7nm offers no assumptions"):
        load_device("jouppi_7nm", assume=["half"])
