"""`mxsim formats`: what each format can represent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mxsim.cli.json_text import json_text
from mxsim.cli.table import table

if TYPE_CHECKING:
    from mxsim.formats import BlockFormat, ElementFormat

EXAMPLES = "Examples: mxsim formats | mxsim formats mxfp4_e2m1 | mxsim formats --json"


def command(
    name: Annotated[str | None, typer.Argument(help="One format, with every positive value that its elements have.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What each format can represent: range, precision, bits with scales, special codes."""
    from mxsim.formats import FORMATS

    chosen = [FORMATS[name]] if name else list(FORMATS.values())
    if as_json:
        print(json_text({"formats": [describe(f) for f in chosen]}, indent=2))
    elif name:
        print(one(chosen[0]))
    else:
        print(overview(chosen))


def describe(format: BlockFormat) -> dict[str, Any]:
    """A format as JSON."""
    element, scale = format.element, format.scale
    return {
        "name": format.name,
        "bits_per_element": format.bits_per_element,
        "block_size": format.block_size,
        "tensor_scale": format.tensor_scale,
        "element": describe_element(element),
        "scale": describe_element(scale),
        "source": format.source,
    }


def describe_element(element: ElementFormat) -> dict[str, Any]:
    return {
        "name": element.name,
        "bits": element.bits,
        "ebits": element.ebits,
        "mbits": element.mbits,
        "bias": element.bias if element.ebits else None,
        "emin": element.emin,
        "emax": element.emax,
        "max": element.max,
        "min_normal": element.min_normal,
        "smallest": element.smallest,
        "inf_code": element.inf_code,
        "nan_code": element.nan_code,
        "source": element.source,
    }


def special_codes(element: ElementFormat) -> str:
    """What the codes that are not numbers mean."""
    parts = []
    if element.inf_code is not None:
        parts.append(f"Inf 0x{element.inf_code:02X}")
    if element.nan_code is not None:
        last = element.codes - 1 & ~element.sign_mask
        first = (element.max_code if element.inf_code is None else element.inf_code) + 1
        parts.append(f"NaN 0x{first:02X}" + (f"-0x{last:02X}" if last > first else ""))
    if element.is_fixed_point:
        parts.append("0x80 (-2) unused")
    return ", ".join(parts) or "none"


def steps(element: ElementFormat) -> str:
    """Relative precision within a binade, or the step of fixed point."""
    return f"step 2^-{element.mbits}" if element.is_fixed_point else f"2^-{element.mbits + 1}"


def power(value: float) -> str:
    mantissa, exponent = math.frexp(value)
    return f"2^{exponent - 1}" if mantissa == 0.5 else f"{value:g}"


def overview(formats: list[BlockFormat]) -> str:
    rows = [
        [
            f.name,
            f"{f.bits_per_element:g}",
            f"{f.block_size}",
            f.scale.name + (" + fp32" if f.tensor_scale else ""),
            "1 + 1 + 6" if f.element.is_fixed_point else f"1 + {f.element.ebits} + {f.element.mbits}",
            f"{f.element.max:g}",
            "-" if f.element.min_normal is None else power(f.element.min_normal),
            power(f.element.smallest),
            steps(f.element),
            f"{20 * math.log10(f.element.max / f.element.smallest):.0f}",
            special_codes(f.element),
        ]
        for f in formats
    ]
    head = [
        "format",
        "bits",
        "block",
        "scale",
        "sign+exp+sig",
        "max",
        "min normal",
        "smallest",
        "rounding error",
        "range dB",
        "special codes",
    ]
    notes = (
        "bits: per element, its share of the scale included. A block's numbers are scale * element.\n"
        "e8m0 scales are 2^(code - 127): code 0 is 2^-127, code 255 is NaN. Rounding error: the largest, relative, of a normal number.\n"
        "mxsim formats NAME lists a format's values."
    )
    return f"{table(head, rows, right=range(1, 3))}\n\n{notes}"


def one(format: BlockFormat) -> str:
    """Everything about a format, its values included."""
    element, scale = format.element, format.scale
    values = [element.value_of(code) for code in range(element.max_code + 1)]
    shown = values if len(values) <= 32 else [*values[:16], *values[-8:]]
    listed = [f"{v:g}" for v in shown]
    if len(values) > 32:
        listed.insert(16, f"... {len(values) - 24} more ...")
    facts = [
        ["bits per element", f"{format.bits_per_element:g} ({element.bits} + {scale.bits}/{format.block_size} of the scale)"],
        [
            "block",
            f"{format.block_size} elements to one {scale.name} scale" + (", one float32 for the tensor" if format.tensor_scale else ""),
        ],
        ["element", f"{element.name}: {element.source}"],
        ["largest", f"{element.max:g} (code 0x{element.max_code:02X})"],
        ["smallest normal", "-" if element.min_normal is None else f"{element.min_normal:g} = {power(element.min_normal)}"],
        ["smallest", f"{element.smallest:g} = {power(element.smallest)}"],
        ["special codes", special_codes(element)],
        ["scale", f"{scale.smallest:g} to {scale.max:g}, NaN 0x{scale.nan_code or 0:02X}"],
        ["source", format.source],
    ]
    return f"{format.name}\n{table(None, facts)}\n\nvalues from code 0 (negatives mirror them): {'  '.join(listed)}"
