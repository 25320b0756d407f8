"""The experiments for a GPU, with mxsim's own models in its place: operands are the same everywhere, and what differs is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mxsim
from benchmarks.silicon import capture, compare, gemm
from benchmarks.silicon.capture import LAUNCHES, digest, key
from benchmarks.silicon.device import FORMATS, INSTRUCTIONS, paths
from benchmarks.silicon.operands import CASES, ELEMENTS, tiles_of, whole_numbers

SMALL = tuple(replace(launch, tiles=len(CASES)) for launch in LAUNCHES)


class Modelled:
    """In the place of device.TensorCores. wrong: (path, launch's steps) whose first output has one bit turned."""

    wrong: tuple[Any, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def disassembly(self) -> str:
        return ""

    def products(self, path: Any, tiles: Any, steps: int, *, with_c: bool) -> Any:
        d = compare.modelled(path, tiles, with_c=with_c)
        if (path, steps) == self.wrong:
            d.reshape(-1).view(np.uint16)[0] ^= 1
        return d


@pytest.fixture
def in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    one = {pair: number for pair, number in FORMATS.items() if pair in (("e4m3", "e5m2"), ("tf32", "tf32"))}
    for module in (capture, compare):
        monkeypatch.setattr(module, "LAUNCHES", SMALL)
        monkeypatch.setattr(module, "FORMATS", one)
        monkeypatch.setattr(module, "paths", lambda: [path for path in paths() if path[1:3] in one])
    monkeypatch.setattr(capture, "TensorCores", Modelled)
    monkeypatch.setattr(capture, "described", lambda: "none")


@pytest.mark.parametrize("path", paths(), ids=" ".join)
def test_whole_numbers_are_exact(path: Any) -> None:
    for steps in capture.STEPS:
        tiles, expected = whole_numbers(*path[1:3], 2, steps)
        assert np.array_equal(compare.modelled(path, tiles, with_c=True), expected)


def test_every_machine_makes_the_same_operands() -> None:
    tiles = tiles_of("e4m3", "e5m2", len(CASES), 1, seed=1), tiles_of("tf32", "tf32", len(CASES), 4, seed=3)
    assert [digest(t, with_c=True)[:16] for t in tiles] == ["2d80431e71145166", "6f5126acda33597a"]


@pytest.mark.parametrize("name", ELEMENTS)
def test_every_finite_case_is_finite(name: str) -> None:
    element = ELEMENTS[name]
    tiles = tiles_of(name, name, 4 * len(CASES), 1, seed=0)
    plain = tiles.case > 0
    assert np.isfinite(element.values(tiles.a[plain])).all()
    assert np.isfinite(element.values(tiles.b[plain])).all()
    assert np.isnan(element.values(tiles.a[~plain])).any()


@pytest.mark.usefixtures("in_its_place")
def test_what_differs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = ("mma", "e4m3", "e5m2", "fp32")
    monkeypatch.setattr(Modelled, "wrong", (turned, 4))
    capture.capture(tmp_path)
    for path in capture.paths():
        for launch in SMALL:
            found = compare.compared(tmp_path, path, launch)
            assert found.dots == len(CASES) * 512
            assert found.mismatches == (path == turned and launch.steps == 4), key(path, launch)
            assert len(found.examples) == found.mismatches
    compare.golden(tmp_path, tmp_path / "golden.npz")
    with np.load(tmp_path / "golden.npz") as golden:
        assert golden["e4m3/e5m2/c/wgmma/fp32"].shape == (1400,)
        assert golden["tf32/tf32/chain/a"].shape == (200, 32)


@pytest.mark.usefixtures("in_its_place")
def test_operands_made_otherwise_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture.capture(tmp_path)
    other = replace(SMALL[0], seed=9)
    with pytest.raises(SystemExit, match="not those captured"):
        compare.compared(tmp_path, capture.paths()[0], other)


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (("wgmma", "e4m3", "e5m2", "fp32"), {"F": 14}),
        (("wgmma", "e4m3", "e5m2", "fp32"), {"step": "rne_e8m13"}),
        (("wgmma", "e5m2", "e5m2", "fp16"), {"chunk": 16}),
        (("wgmma", "bf16", "bf16", "fp32"), {"F": 24}),
        (("wgmma", "bf16", "bf16", "fp32"), {"align": "nearest"}),
        (("mma", "e4m3", "e4m3", "fp32"), {"order": "ascending"}),
        (("mma", "e4m3", "e4m3", "fp32"), {"F": 26}),
    ],
)
def test_the_operands_tell_one_parameter_changed(path: Any, change: dict[str, Any]) -> None:
    unit = mxsim.UNITS[INSTRUCTIONS[path[0]]]
    changed = replace(unit, paths=(replace(unit.path_for(*path[1:]), **change),))
    tiles = tiles_of(*path[1:3], len(CASES), 1, seed=1)
    ours, theirs = (compare.modelled(path, tiles, with_c=True, unit=u).view(np.uint16) for u in (unit, changed))
    assert (ours != theirs).sum() > 20


def test_a_product_tells_how_it_was_promoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "SHAPES", [(16, 32, 576)])
    kept: dict[str, Any] = {}
    digests = {product.name: product.digest for product in gemm.products()}
    (tmp_path / "gemm_kernels.json").write_text(json.dumps({"digests": digests}))
    for product in gemm.products():
        a, b = product.kept
        kept[f"{product.name}/tensor fp32 fast"] = gemm.modelled("tensor fp32 fast", a, b)["chain"]
        kept[f"{product.name}/row bf16 exact"] = gemm.modelled("row bf16 exact", a, b)["promoted 128"]
    np.savez(tmp_path / "gemm.npz", **kept)
    found = gemm.compared(tmp_path)
    assert len(found) == 14
    for name, differing in found.items():
        right = "chain" if name.endswith("fast") else "promoted 128"
        assert differing[right] == 0, name
        assert name.endswith("exact") or "taken" in name or min(count for model, count in differing.items() if model != right) > 0, (
            name,
            differing,
        )
    assert found["16x32x576/row bf16 exact"]["chain"] > 0
    assert min(n for model, n in found["probe 0 taken away/row bf16 exact"].items() if model != "promoted 128") > 0


def test_a_probe_survives_in_an_interval_of_its_own() -> None:
    product = gemm.probe(1000)
    one = gemm.modelled("tensor fp32 exact", product.a, product.b[:1])
    place = np.arange(256) * 16 + 1
    for every in gemm.PROMOTED:
        assert np.array_equal(one[f"promoted {every}"][:, 0] > 256, place // every != 1000 // every)
    assert (one["chain"] == 256).all()
