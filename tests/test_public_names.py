"""Public names of the packages."""

from __future__ import annotations

import importlib
import importlib.util

import pytest


@pytest.mark.parametrize("package", ["mxsim", "dmx"])
def test_no_submodule_bears_a_public_name(package: str) -> None:
    """Else whoever imports that submodule puts it in the name's place: dmx.search(...) would call a module."""
    names = importlib.import_module(package).__all__
    assert names
    assert [name for name in names if importlib.util.find_spec(f"{package}.{name}")] == []
