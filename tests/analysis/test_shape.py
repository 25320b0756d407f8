"""A record of another shape is told, whichever part it is; nothing of it reaches the tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas")

from analysis.frames import frames_of, offsets_of
from analysis.records import number, read_results
from analysis.shape import misfit
from analysis.summary import analyse, to_json
from mxsim.json_files import finite
from tests.analysis.make_records import write_folder

PARTS = [
    "specification",
    "specification.model",
    "specification.model.name",
    "specification.method",
    "specification.formats",
    "specification.policy",
    "specification.budget",
    "specification.budget.kind",
    "specification.budget.amount",
    "specification.budget.assume",
    "specification.seed",
    "specification.text",
    "specification.text.report",
    "specification.settings",
    "specification.settings.search",
    "specification.settings.scenario",
    "specification.code",
    "assignment",
    "assignment.layers",
    "achieved",
    "costs",
    "costs.phase",
    "costs.layers",
    "quality",
    "quality.tasks",
    "quality.tasks.blimp",
    "trajectory",
    "trajectory.step",
    "trajectory.offsets",
    "trajectory.offsets.first",
    "timing",
    "environment",
    "status",
    "key",
]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("sweep"), methods=("dmx", "kl"), budgets=(5.0,), seeds=1, blocks=1)


@pytest.fixture
def record(small: Path) -> tuple[Path, dict[str, Any]]:
    """That of dMX, and where it lies."""
    records = {path: json.loads(path.read_text()) for path in sorted((small / "records").glob("*.json"))}
    return next((path, content) for path, content in records.items() if content["specification"]["method"] == "dmx")


def put(content: dict[str, Any], part: str, value: Any) -> str:
    changed = json.loads(json.dumps(content))
    *way, last = part.split(".")
    inside = changed
    for name in way:
        inside = inside.setdefault(name, {})
    inside[last] = value
    return json.dumps(changed)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("value", [True, None, [None], {"a": ["x"]}], ids=str)
def test_a_part_of_another_shape_stops_nothing(small: Path, record: tuple[Path, dict[str, Any]], part: str, value: Any) -> None:
    path, content = record
    path.write_text(put(content, part, value))
    try:
        results = read_results(small)
        assert len(results.records) + len(results.problems) == 6
        for one in frames_of(results).records.values():
            offsets_of(one)
    finally:
        path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("part", "value", "told"),
    [
        ("specification.text", "x", "specification.text: an object is expected, got str"),
        ("specification.formats", ["mxfp4_e2m1", 4], "specification.formats[1]: a string is expected, got int"),
        ("specification.formats", [None], "specification.formats: a name is expected, got null"),
        ("specification.seed", 0.5, "specification.seed: a whole number is expected, got float"),
        pytest.param("specification.budget.amount", 10**400, "specification.budget.amount must be a number", id="a huge amount"),
        ("costs.layers", [{"name": "a"}, {}], "costs.layers[1].name is missing"),
        ("costs.layers", [{"name": "a", "energy_by_term_pj": []}], "costs.layers[0].energy_by_term_pj: an object is expected, got list"),
        ("trajectory.offsets", {"a": {"weight": ["x"]}}, "trajectory.offsets.a.weight[0]: a number is expected, got str"),
        ("timing", "long", "timing: an object is expected, got str"),
        ("assignment.layers", {"a": {"weight": "mxfp4_e2m1"}}, "must be"),
    ],
)
def test_what_does_not_fit_is_told(small: Path, record: tuple[Path, dict[str, Any]], part: str, value: Any, told: str) -> None:
    path, content = record
    path.write_text(put(content, part, value))
    try:
        (problem,) = read_results(small).problems
        assert problem.kind == "unreadable"
        assert told in problem.reason
    finally:
        path.write_text(json.dumps(content))


def test_a_failed_run_with_an_error_of_another_shape_is_told(small: Path, record: tuple[Path, dict[str, Any]]) -> None:
    path, content = record
    path.write_text(json.dumps({**content, "status": "failed", "error": "no memory"}))
    try:
        (problem,) = read_results(small).problems
        assert "error: an object is expected" in problem.reason
    finally:
        path.write_text(json.dumps(content))


def test_numbers_that_are_none_are_null_but_in_what_was_measured(small: Path, record: tuple[Path, dict[str, Any]]) -> None:
    path, content = record
    content = json.loads(json.dumps(content))
    content["assignment"]["search"]["loss"] = float("nan")
    content["trajectory"]["loss"][3] = float("inf")
    before = path.read_text()
    path.write_text(json.dumps({**content, "quality": {**content["quality"], "kl_to_float": float("nan")}}))
    try:
        results = read_results(small)
        found = next(one for one in results.records if one.path == path)
        assert not results.problems
        assert found.assignment is not None
        assert found.assignment["search"]["loss"] is None
        assert found.trajectory is not None
        assert found.trajectory["loss"][3] is None
        assert found.quality["kl_to_float"] != found.quality["kl_to_float"]
        json.dumps(to_json(analyse(results)), allow_nan=False)
    finally:
        path.write_text(before)


def test_absent_and_null_parts_fit() -> None:
    assert misfit({}) is None
    assert misfit({"specification": {"formats": None, "text": {"report": None}}, "trajectory": {"loss": [1, None, 2.5]}}) is None
    assert finite({"a": [float("nan"), 1.5, {"b": float("-inf")}]}) == {"a": [None, 1.5, {"b": None}]}
    assert number(10**400) != number(10**400)
