"""dMX: a differentiable search for the MX format of every layer of a language model.

    assignment = dmx.search("./model", "bits=5.0", text="calibration.txt")
    print(dmx.evaluate("./model", assignment, text="report.txt")["perplexity"])

The names below are loaded when first used: importing the package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dmx.allocators import allocate as allocate
    from dmx.errors import DmxError as DmxError
    from dmx.evaluation import evaluate as evaluate
    from dmx.exporters import export as export
    from dmx.models import LoadedModel as LoadedModel
    from dmx.models import load_model as load_model
    from dmx.quantised_linear import apply as apply
    from dmx.searching import search as search

_HOME = {
    "DmxError": "dmx.errors",
    "LoadedModel": "dmx.models",
    "allocate": "dmx.allocators",
    "apply": "dmx.quantised_linear",
    "evaluate": "dmx.evaluation",
    "export": "dmx.exporters",
    "load_model": "dmx.models",
    "search": "dmx.searching",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'dmx' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
