"""`mxsim units`: each unit's arithmetic, how sure it is, and where that is from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mxsim.cli.json_text import json_text
from mxsim.cli.table import table

if TYPE_CHECKING:
    from mxsim.units.spec import MatmulUnit, UnitPath

EXAMPLES = "Examples: mxsim units | mxsim units nvidia_blackwell | mxsim units my_unit.toml --json"


def command(
    name: Annotated[str | None, typer.Argument(help="One unit, or a TOML file, path by path.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The matrix units: what each takes, its arithmetic, its level of proof and the source."""
    from mxsim.units.presets import UNITS
    from mxsim.units.toml import load_unit

    chosen = [load_unit(name)] if name else list(UNITS.values())
    if as_json:
        print(json_text({"units": [describe(unit) for unit in chosen]}))
    elif name:
        print(one_unit(chosen[0]))
    else:
        print(overview(chosen))


def describe(unit: MatmulUnit) -> dict[str, Any]:
    """A unit as JSON."""
    from dataclasses import asdict

    return {
        "name": unit.name,
        "title": unit.title,
        "level": unit.level,
        "source": unit.source,
        "notes": unit.notes,
        "paths": [asdict(path) for path in unit.paths],
    }


def levels(unit: MatmulUnit) -> str:
    """How many of the unit's paths stand at which level, the surest first."""
    from mxsim.units.spec import LEVELS

    counts = [(level, sum(path.level is level for path in unit.paths)) for level in LEVELS]
    return ", ".join(f"{level} {count}" for level, count in counts if count)


def overview(units: list[MatmulUnit]) -> str:
    rows = [[unit.name, unit.level, levels(unit), unit.title] for unit in units]
    notes = (
        "level: of the least sure path. vectors: reproduces captures of the hardware, every one; silicon-tested: a published model\n"
        "that its authors tested on silicon; documented: the vendor's manual, RTL or machine code, or our own definition; assumed: the\n"
        "facts stop short, and what was chosen is written down.\n"
        "mxsim units NAME lists a unit's paths."
    )
    return f"{table(['unit', 'level', 'paths at each level', 'what it is'], rows)}\n\n{notes}"


def one_unit(unit: MatmulUnit) -> str:
    """Every path of a unit."""
    rows = [[path.name, operands(path), path.out, path.level, arithmetic(path), path.source] for path in unit.paths]
    parts = [
        f"{unit.name}: {unit.title}",
        table(["path", "operands", "out", "level", "arithmetic", "source"], rows),
        f"The first path that takes both operands is used. Level of the unit, that of its least sure path: {unit.level}.",
        f"Source: {unit.source}",
        unit.notes,
    ]
    return "\n\n".join(part for part in parts if part)


def operands(path: UnitPath) -> str:
    return ("any two of " if path.pairs == "any" and len(path.formats) > 1 else "") + ", ".join(path.formats)


def arithmetic(path: UnitPath) -> str:
    """The path's arithmetic in a line: every field that is not its default, in the order things happen."""
    words = []
    if path.denormals != "keep" or path.c_denormals != "keep":
        words.append(f"subnormal operands {path.denormals}, C {path.c_denormals}")
    if path.exponents != "own":
        words.append(f"operands widen to {path.exponents}")
    if path.int8_fraction != 6:
        words.append(f"INT8 with {path.int8_fraction} fraction bits")
    if path.scaled:
        words.append(f"scales of {path.block} {'place groups' if path.scaling == 'group' else 'multiply exactly'}")
    if path.presum > 1:
        words.append(f"groups of {path.presum} exact")
    if path.product_limit is not None:
        words.append(f"products from 2^{path.product_limit} are Inf")
    length = f"{path.chunk} of K" if path.chunk else "all of K"
    if path.within:
        length += f" within {path.within}"
    if path.order != "ascending":
        length += f" in order {path.order}"
    words.append(f"{length}: {reduction(path)}")
    if path.c == "late":
        words.append(f"from zero{f' every {path.instruction}' if path.instruction else ''}, C added {path.late}")
    elif path.floored_c is not None:
        f = path.floored_c
        dropped = f", dropped below E'-{f.drop_below}" if f.drop_below is not None else ""
        words.append(f"sum floored to {f.sum_bits} bits, C to {f.c_bits}{dropped}, normalised to {f.norm_bits}")
    else:
        words.append("C in the sum")
    words.append(f"rounded {path.step}")
    if path.zero == "positive":
        words.append("zeros are +0")
    words.append(f"NaN {path.nan:#x}")
    if path.promote_every is not None:
        words.append(f"every {path.promote_every} of K added to a separate accumulator, {path.promote}")
    return "; ".join(words)


def reduction(path: UnitPath) -> str:
    if path.reduce == "align":
        bound = "" if path.e_zero is None else f", e_zero {path.e_zero}"
        return f"aligned ({path.align}), F = {path.F}{bound}"
    return {"exact": "exact", "pairwise": "pairwise tree", "fma": f"FMA chain{'s, two' if path.chains == 2 else ''}"}[path.reduce]
