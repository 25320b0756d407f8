"""Device files: TOML in, Device out; a number without provenance is refused."""

from __future__ import annotations

import hashlib
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from mxsim.devices.spec import (
    KINDS,
    Assumption,
    Buffer,
    ComputePath,
    Device,
    Figure,
    Memory,
    Power,
    Quantiser,
    Tile,
)
from mxsim.errors import MxsimError, unknown_name

_FOLDER = Path(__file__).parent
_SECTIONS: dict[str, type[Any]] = {
    "memory": Memory,
    "buffer": Buffer,
    "tile": Tile,
    "power": Power,
    "quantiser": Quantiser,
}
_TOP_LEVEL = ("name", "title", "wide_path", "notes", "compute", "assumption", *_SECTIONS)
_SHARES = ("compute_efficiency", "memory_efficiency")  # of something: at most 1

P = TypeVar("P")


def device_names() -> tuple[str, ...]:
    """The devices that come with mxsim, in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_device(device: str | Path | Device, *, assume: tuple[str, ...] | list[str] = ()) -> Device:
    """A device by its name, or from a user's own file.

    Args: device: a name in device_names(), or the path of a TOML file; a Device is passed on.  assume: assumptions accepted.
    Raises: UnknownNameError for a name that is neither; MxsimError for a file with an unknown key or a number without
        provenance.
    """
    if isinstance(device, Device):
        found = device
    elif not isinstance(device, (str, Path)):
        raise MxsimError(f"hardware is {device!r}: pass a device's name such as 'b200', a TOML file, or a Device")
    elif Path(device).suffix == ".toml":
        found = _read(Path(device))
    elif str(device) in device_names():
        found = _shipped(str(device))
    else:
        raise unknown_name("device", str(device), device_names())
    return found.assuming(list(assume)) if assume else found


def figures_sha256(device: str | Path) -> str:
    """The hash of a device's figures, which neither a name nor a file's place tells. Args and raises: as load_device."""
    return hashlib.sha256(repr(load_device(device)).encode()).hexdigest()


@lru_cache(maxsize=32)
def _shipped(name: str) -> Device:
    return _read(_FOLDER / f"{name}.toml")


def _read(path: Path) -> Device:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MxsimError(f"device file {str(path)!r} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise MxsimError(f"device file {str(path)!r} is not TOML: {error}") from error
    return parse_device(content, where=path.name)


def parse_device(content: Mapping[str, Any], *, where: str) -> Device:
    """Check a device file's content and take it. Args: where: what error messages call the file."""
    _only(content, _TOP_LEVEL, where)
    for key in ("name", "title", "wide_path"):
        if not isinstance(content.get(key), str):
            raise MxsimError(f"{where}: {key!r} is missing or no string")
    notes, assumptions = content.get("notes", ""), content.get("assumption", [])
    if not isinstance(notes, str):
        raise MxsimError(f"{where}: notes = {notes!r} must be a string")
    if not isinstance(assumptions, list):
        raise MxsimError(f"{where}: assumption = {assumptions!r} must be a list of tables: write [[assumption]]")
    compute = content.get("compute")
    if not isinstance(compute, Mapping) or not compute:
        raise MxsimError(f"{where}: at least one [compute.NAME] is needed: a device without one multiplies nothing")
    device = Device(
        name=content["name"],
        title=content["title"],
        wide_path=content["wide_path"],
        notes=notes,
        paths=tuple(_path(name, entry, f"{where}: compute.{name}") for name, entry in compute.items()),
        assumptions=tuple(_assumption(entry, where) for entry in assumptions),
        **{key: kind(**_figures(content.get(key, {}), kind, f"{where}: {key}")) for key, kind in _SECTIONS.items()},
    )
    device.path(device.wide_path)
    for assumption in device.assumptions:
        device.assuming([assumption.name])
    return device


def _path(name: str, entry: Any, where: str) -> ComputePath:
    if not isinstance(entry, Mapping):
        raise MxsimError(f"{where}: a table is expected, got {entry!r}")
    pairs = entry.get("pairs")
    if not isinstance(pairs, list) or not all(isinstance(pair, str) and pair.count(":") == 1 for pair in pairs):
        raise MxsimError(f'{where}: "pairs" must be a list of "weight:activation" patterns, got {pairs!r}')
    rest = {key: value for key, value in entry.items() if key != "pairs"}
    return ComputePath(name=name, pairs=tuple(pairs), **_figures(rest, ComputePath, where))


def _assumption(entry: Any, where: str) -> Assumption:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str) or not isinstance(entry.get("says"), str):
        raise MxsimError(f'{where}: each [[assumption]] needs "name" and "says"')
    label = f"{where}: assumption {entry['name']}"
    _only(entry, ("name", "says", "figures"), label)
    named = entry.get("figures", {})
    if not isinstance(named, Mapping):
        raise MxsimError(f"{label}: figures: a table is expected, got {named!r}")
    figures = {key: read_figure(value, key, label) for key, value in named.items()}
    return Assumption(name=entry["name"], says=entry["says"], figures=figures)


def _figures(table: Any, kind: type[Any], where: str) -> dict[str, Figure]:
    """A section's figures, under the names of the fields of the type they go to."""
    if not isinstance(table, Mapping):
        raise MxsimError(f"{where}: a table is expected, got {table!r}")
    _only(table, [entry.name for entry in fields(kind) if entry.name not in ("name", "pairs")], where)
    return {key: read_figure(value, key, where) for key, value in table.items()}


def read_figure(entry: Any, key: str, where: str) -> Figure:
    """{value, kind, source}, all three, as a Figure."""
    if not isinstance(entry, Mapping):
        raise MxsimError(f"{where}: {key} = {entry!r} has no provenance: write {{ value, kind, source }}")
    _only(entry, ("value", "kind", "source"), f"{where}: {key}")
    value, kind, source = entry.get("value"), entry.get("kind"), entry.get("source")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        raise MxsimError(f"{where}: {key}: value {value!r} must be a finite number of at least 0")
    if kind not in KINDS:
        raise MxsimError(f"{where}: {key}: kind {kind!r} is none of {', '.join(KINDS)}")
    if not isinstance(source, str) or not source.strip():
        raise MxsimError(f"{where}: {key}: a source is needed beside the number")
    if "energy" not in key and not key.endswith(("launch_s", "static_w")) and value == 0:
        raise MxsimError(f"{where}: {key}: 0 would be divided by: leave the key out where it is not known")
    if key.endswith(_SHARES) and value > 1:
        raise MxsimError(f"{where}: {key}: {value} must be at most 1, a share of the peak")
    return Figure(value=float(value), kind=kind, source=source)


def _only(table: Mapping[str, Any], known: tuple[str, ...] | list[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise unknown_name(f"key in {where}:", key, known)
