"""Real exports of one small bf16 model, byte for byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.exactness import checkpoints
from tests.exactness.checkpoints import Export

DATA = os.environ.get("MXSIM_SHARED_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="MXSIM_SHARED_DATA is not set: the checkpoints are not at hand")
LINEARS = 4 * 64 * 64 + 3 * 64 * 128  #: weights of the one decoder layer's linears
BYTES = {"mxfp4_e2m1": (LINEARS // 2, LINEARS // 32), "mxfp6_e3m2": (LINEARS * 3 // 4, LINEARS // 32),
         "mxfp8_e4m3": (LINEARS, LINEARS // 32), "nvfp4": (LINEARS // 2, LINEARS // 16)}  # fmt: skip


@pytest.mark.parametrize("export", checkpoints.EXPORTS, ids=lambda export: export.folder.partition("/")[0])
def test_export(export: Export) -> None:
    assert DATA is not None
    rows = {row.what.removeprefix(f"{export.format} "): row for row in checkpoints.export_comparisons(Path(DATA) / "checkpoints", export)}
    calibrated = rows.pop("input scales", None)
    for row in rows.values():
        row.require_equal()
    assert (rows["elements"].cases, rows["scales"].cases) == BYTES[export.format]
    assert ("tensor scales" in rows) == (export.format == "nvfp4")
    assert rows["not quantised"].cases == 2 * 256 * 64 + 3 * 64
    assert (calibrated is not None) == (export.folder == "mo_NVFP4_DEFAULT_CFG")


def test_every_export_is_known() -> None:
    assert DATA is not None
    root = Path(DATA) / "checkpoints"
    held = {str(config.parent.relative_to(root)) for config in root.rglob("config.json")}
    assert held == {export.folder for export in checkpoints.EXPORTS} | {checkpoints.FLOAT_CHECKPOINT}
