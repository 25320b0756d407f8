"""Units that users describe in a TOML file: the fields of MatmulUnit and UnitPath under their own names.

    name = "narrow_adder"
    base = "nvidia_blackwell"      # optional: a preset whose paths stand behind the ones below

    [[path]]
    name = "mxfp8, 21 bits"
    like = "mxf8f6f4"              # optional: a path of the base, whose fields hold where none is given
    F = 21
    step = "rne_e8m15"

A path of the file comes before those of the base. What no capture has shown stays "assumed": a file may say "documented", with a source.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from mxsim.errors import MxsimError, unknown_name
from mxsim.units.operands import OPERANDS
from mxsim.units.presets import UNITS
from mxsim.units.spec import FlooredC, Level, MatmulUnit, UnitPath, promoted_notes

_UNIT_KEYS = ("name", "title", "base", "source", "notes", "promote_every", "path")
_PATH_KEYS = ("like", *(f.name for f in fields(UnitPath) if f.name != "vectors"))
_FLOORED_KEYS = tuple(f.name for f in fields(FlooredC))
_CLAIMED = (Level.DOCUMENTED, Level.ASSUMED)  #: what a file may say of itself
_KINDS = {f.name: str(f.type) for f in fields(UnitPath)}  #: "int", "str", "int | None" ...


def load_unit(unit: str | Path | MatmulUnit) -> MatmulUnit:
    """A unit by its name, or from a file of one's own.

    Args: unit: a name of mxsim.UNITS, or the path of a file that ends in .toml; a MatmulUnit is passed on.
    Raises: UnknownNameError for a name that is neither; MxsimError for a file that describes no unit, with the remedy.
    """
    if isinstance(unit, MatmulUnit):
        return unit
    if isinstance(unit, (str, Path)) and Path(unit).suffix == ".toml":
        return _read(Path(unit))
    if isinstance(unit, str) and unit in UNITS:
        return UNITS[unit]
    raise unknown_name("matrix unit", str(unit), [*UNITS, "(or the path of a .toml file)"])


def _read(path: Path) -> MatmulUnit:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MxsimError(f"{path} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MxsimError(f"{path} is not TOML: {error}") from None
    try:
        return unit_from(content, default_name=path.stem)
    except MxsimError as error:
        raise MxsimError(f"{path}: {error}") from None


def unit_from(content: Mapping[str, Any], default_name: str = "unit") -> MatmulUnit:
    """The unit that a parsed TOML file describes."""
    _known(content, _UNIT_KEYS, "the file")
    for key in ("name", "title", "base", "source", "notes"):
        if not isinstance(content.get(key, ""), str):
            raise MxsimError(f"{key} is {content[key]!r}: write it in quotes")
    base = UNITS[content["base"]] if "base" in content else None
    tables = content.get("path", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise MxsimError("path is no list of tables: begin each with [[path]]")
    if not tables and base is None:
        raise MxsimError("it has no path: write at least one [[path]], or base = the name of a preset")
    every = content.get("promote_every")
    if every is not None and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
        raise MxsimError(f"promote_every is {every!r}: write a whole number of elements of K, at least 1")
    paths = [path for table in tables for path in _paths(table, base, every)]
    behind = base.paths if base else ()
    if base is not None and every is not None:
        try:
            behind = base.promoted(every).paths
        except MxsimError:
            if not paths:
                raise
            behind = ()
    name = content.get("name", default_name)
    return MatmulUnit(
        name=name,
        title=content.get("title", f"{base.title}, changed" if base else name),
        paths=(*paths, *behind),
        source=content.get("source", f"derived from {base.name}" if base else "a user's file"),
        notes=content.get("notes", "") if every is None else promoted_notes(content.get("notes", ""), every),
    )


def _paths(table: Mapping[str, Any], base: MatmulUnit | None, promote_every: int | None) -> list[UnitPath]:
    """One path, or as many as `like` names of the base (a name may stand for several formats and outputs).

    Args: promote_every: the file's, where the table has none of its own.
    """
    named = f"path {table.get('name', table.get('like', '?'))!r}"
    _known(table, _PATH_KEYS, named)
    given = {key: _value(key, value, named) for key, value in table.items() if key != "like"}
    level = given.get("level", Level.ASSUMED)
    if level not in _CLAIMED:
        raise MxsimError(f"{named}: level is {level!r}: a file may say {' or '.join(_CLAIMED)}; captures are shown by tests, in a preset")
    if level == Level.DOCUMENTED and not given.get("source"):
        raise MxsimError(f"{named}: level is documented and source is missing: say where")
    given["level"] = Level(level)
    if promote_every is not None and "promote_every" not in given:
        given |= {"promote_every": promote_every, "level": Level.ASSUMED}
    if given.get("c", "floored") != "floored":
        given.setdefault("floored_c", None)  # of a path that it is like; TOML has no word for nothing
    if "like" not in table:
        for key in ("name", "formats"):
            if key not in given:
                raise MxsimError(f"{named}: {key} is missing: write it, or like = the name of a path of the base")
        if given.get("out") == "fp16":
            given.setdefault("nan", 0x7E00)
        return [UnitPath(**given)]
    if base is None:
        raise MxsimError(f"{named}: like needs a base: write base = the name of a preset above the paths")
    like = [path for path in base.paths if path.name == table["like"]]
    if not like:
        raise unknown_name(f"path of {base.name}", table["like"], dict.fromkeys(path.name for path in base.paths))
    if "out" in given:
        like = [path for path in like if path.out == given["out"]] or like
    if "formats" in given:
        like = [path for path in like if set(given["formats"]) <= set(path.formats)] or like
    given.setdefault("source", f"derived from {base.name}")
    return [replace(path, **({"vectors": ()} | given)) for path in like]


def _known(table: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in keys:
            raise unknown_name(f"key in {where}:", key, keys)


def _value(key: str, value: Any, named: str) -> Any:
    """A field's value with the type that UnitPath gives it."""
    if key == "formats":
        if not isinstance(value, list) or not value:
            raise MxsimError(f"{named}: formats is {value!r}: write a list of names, such as [{', '.join(OPERANDS)}]")
        return tuple(OPERANDS[name].name for name in value)
    if key == "floored_c":
        if not isinstance(value, dict):
            raise MxsimError(f"{named}: floored_c is {value!r}: write a table with {', '.join(_FLOORED_KEYS)}")
        _known(value, _FLOORED_KEYS, f"{named}, floored_c")
        missing = [k for k in _FLOORED_KEYS[:3] if k not in value]
        if missing or not all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= 48 for v in value.values()):
            raise MxsimError(f"{named}: floored_c needs {', '.join(_FLOORED_KEYS[:3])} and may have {_FLOORED_KEYS[3]}, each from 0 to 48")
        return FlooredC(**value)
    wanted = _KINDS[key]
    if "int" in wanted and (not isinstance(value, int) or isinstance(value, bool)):
        raise MxsimError(f"{named}: {key} is {value!r}: write a whole number" + (", or leave the key out" if "None" in wanted else ""))
    if "int" not in wanted and not isinstance(value, str):
        raise MxsimError(f"{named}: {key} is {value!r}: write it in quotes")
    return value
