"""Bit-exact Microscaling (MX) formats, matrix units and costs.

    q = mxsim.quantize(x, "mxfp4_e2m1")
    y = mxsim.matmul(q, w.T, unit="nvidia_blackwell")

The names below are loaded when first used, so that importing the package costs nothing that is not needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mxsim.version import VERSION

if TYPE_CHECKING:
    from mxsim.assignment import Assignment as Assignment
    from mxsim.conversion import dequantize as dequantize
    from mxsim.conversion import fake_quantize as fake_quantize
    from mxsim.conversion import from_codes as from_codes
    from mxsim.conversion import quantize as quantize
    from mxsim.cost_table import CostTable as CostTable
    from mxsim.cost_table import build_cost_table as build_cost_table
    from mxsim.costing import cost as cost
    from mxsim.devices import load_device as load_device
    from mxsim.errors import MxsimError as MxsimError
    from mxsim.errors import UnknownNameError as UnknownNameError
    from mxsim.formats import ELEMENTS as ELEMENTS
    from mxsim.formats import FORMATS as FORMATS
    from mxsim.formats import BlockFormat as BlockFormat
    from mxsim.formats import ElementFormat as ElementFormat
    from mxsim.packing import pack as pack
    from mxsim.packing import unpack as unpack
    from mxsim.policies import POLICIES as POLICIES
    from mxsim.policies import Policy as Policy
    from mxsim.shapes import SHAPES as SHAPES
    from mxsim.storage_formats import FormatPair as FormatPair
    from mxsim.tensor import MXTensor as MXTensor
    from mxsim.units.matmul import matmul as matmul
    from mxsim.units.presets import UNITS as UNITS
    from mxsim.units.spec import MatmulUnit as MatmulUnit
    from mxsim.workload import Phase as Phase

__version__ = VERSION

_HOME = {
    "Assignment": "mxsim.assignment",
    "BlockFormat": "mxsim.formats",
    "ELEMENTS": "mxsim.formats",
    "ElementFormat": "mxsim.formats",
    "FORMATS": "mxsim.formats",
    "CostTable": "mxsim.cost_table",
    "FormatPair": "mxsim.storage_formats",
    "MXTensor": "mxsim.tensor",
    "MatmulUnit": "mxsim.units.spec",
    "MxsimError": "mxsim.errors",
    "POLICIES": "mxsim.policies",
    "Policy": "mxsim.policies",
    "Phase": "mxsim.workload",
    "UnknownNameError": "mxsim.errors",
    "build_cost_table": "mxsim.cost_table",
    "SHAPES": "mxsim.shapes",
    "UNITS": "mxsim.units.presets",
    "cost": "mxsim.costing",
    "dequantize": "mxsim.conversion",
    "fake_quantize": "mxsim.conversion",
    "from_codes": "mxsim.conversion",
    "load_device": "mxsim.devices",
    "matmul": "mxsim.units.matmul",
    "pack": "mxsim.packing",
    "quantize": "mxsim.conversion",
    "unpack": "mxsim.packing",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'mxsim' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
