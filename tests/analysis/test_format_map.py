"""Format maps tell what the layers of a cell have, also where several layers, experts say, share one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from analysis.page import page
from analysis.page.assignments import map_cells
from analysis.plots.format_map import cells_of, format_maps, shares
from analysis.plots.style import shade
from analysis.records import read_results
from analysis.summary import Analysis, analyse
from tests.analysis.make_records import write_folder

TOLD = "down_proj, block 0: weights 1 × MXFP4 E2M1, 3 × MXFP8 E4M3, activations 4 × MXFP8 E4M3"


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """One of four experts has weights of four bits in every down_proj; everything else is as it was."""
    folder = write_folder(tmp_path_factory.mktemp("experts"), methods=("dmx",), budgets=(5.0,), seeds=1)
    for path in (folder / "records").iterdir():
        record = json.loads(path.read_text())
        layers = (record["assignment"] or {"layers": {}})["layers"]
        for name in [name for name in layers if name.endswith("down_proj")]:
            del layers[name]
            for index in range(4):
                weight = "mxfp8_e4m3" if index else "mxfp4_e2m1"
                layers[name.replace("mlp.", f"mlp.experts.{index}.")] = {"weight": weight, "activation": "mxfp8_e4m3"}
        path.write_text(json.dumps(record))
    return analyse(read_results(folder))


def cells(analysis: Analysis) -> list[tuple[object, ...]]:
    key = analysis.points[analysis.points["series"] == "dMX"].iloc[0]["key"]
    return map_cells(cells_of(analysis.frames, key))


def test_a_cell_of_several_layers_tells_each_format_and_its_count(experts: Analysis) -> None:
    found = {(cell[0], cell[1]): cell for cell in cells(experts)}
    assert len(found) == 4 * 7
    assert found["down_proj", 0][2:5] == (8, 8, TOLD)
    assert "var(--b4) 0% 25%,var(--b8) 25% 100%" in str(found["down_proj", 0][5])
    assert found["q_proj", 0][4] in ("q_proj, block 0: MXFP4 E2M1", "q_proj, block 0: MXFP8 E4M3")
    assert len(found["q_proj", 0]) == 5


def test_the_page_tells_it_too(experts: Analysis) -> None:
    text = page(experts, [])
    assert f'title="{TOLD}"' in text
    assert "stripes: the shares of a cell's layers" in text


def test_no_shade_is_drawn_that_no_layer_has(experts: Analysis, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, methods=("dmx",), budgets=(5.0,), seeds=1)
    same = analyse(read_results(folder))
    plain = format_maps(same.points, same.frames, "dMX", "maps")
    striped = format_maps(experts.points, experts.frames, "dMX", "maps")
    assert "stripes: the shares" not in page(same, [])
    assert plain is not None
    assert striped is not None
    for figure in (plain, striped):
        patches = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle) and patch.get_fill()]
        assert {to_hex(patch.get_facecolor()) for patch in patches} == {shade(4)[0].lower(), shade(8)[0].lower()}
    assert "stripes" in str(striped.get_suptitle())
    assert "stripes" not in str(plain.get_suptitle())


def test_shares_add_up() -> None:
    assert shares({"mxfp4_e2m1": 1, "mxfp8_e4m3": 2, "mxfp8_e5m2": 1}) == [(4.0, 0.25), (8.0, 0.75)]
    assert shares({"bf16": 3}) == [(16.0, 1.0)]
