"""Assignments: the file is read and written as it stands, and bad ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxsim.assignment import Assignment
from mxsim.errors import MxsimError
from mxsim.storage_formats import STORAGE_FORMATS, FormatPair

FORMAT = st.sampled_from(sorted(STORAGE_FORMATS))
CONTENT: dict[str, Any] = {
    "layers": {"model.layers.0.self_attn.q_proj": {"weight": "mxfp4_e2m1", "activation": "mxfp8_e4m3"}},
    "skipped": ["lm_head"],
    "policy": "ocp",
    "budget": {"bits": 5.0},
    "achieved": {"bits": 4.9},
    "search": {"seed": 3},
}


def test_the_file_is_read_and_written_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "assignment.json"
    path.write_text(json.dumps(CONTENT))
    assignment = Assignment.load(tmp_path)
    assert assignment.layers["model.layers.0.self_attn.q_proj"] == FormatPair("mxfp4_e2m1", "mxfp8_e4m3")
    assignment.save(tmp_path / "copy.json")
    assert json.loads((tmp_path / "copy.json").read_text()) == CONTENT
    assert list(json.loads((tmp_path / "copy.json").read_text())) == list(CONTENT)
    assert Assignment.load(tmp_path / "copy.json") == assignment


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.tuples(FORMAT, FORMAT), max_size=5))
def test_any_assignment_survives_json(layers: dict[str, tuple[str, str]]) -> None:
    assignment = Assignment(layers={name: FormatPair(*pair) for name, pair in layers.items()})
    assert Assignment.from_json(json.loads(json.dumps(assignment.to_json()))) == assignment


def test_uniform() -> None:
    assignment = Assignment.uniform(["a", "b"], "nvfp4:bf16")
    assert assignment.layers == {"a": FormatPair("nvfp4", "bf16"), "b": FormatPair("nvfp4", "bf16")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": None}, '"layers" is missing'),
        ({"layers": {"q": {"weight": "bf16"}}}, "layer 'q' must be"),
        ({"layers": {"q": {"weight": "mxfp4", "activation": "bf16"}}}, "layer 'q': unknown format 'mxfp4'"),
        ({"layers": {"q": {"weight": 4, "activation": "bf16"}}}, "unknown format 4"),
        ({"skipped": "lm_head"}, '"skipped" must be a list'),
        ({"policy": 1}, '"policy"'),
        ({"budget": []}, '"budget" must be an object'),
        ({"layer": {}}, "unknown key 'layer'"),
        ({"layers": {"lm_head": {"weight": "bf16", "activation": "bf16"}}}, "both assigned and skipped"),
    ],
)
def test_bad_content_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MxsimError, match=message):
        Assignment.from_json({**CONTENT, **change})


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MxsimError, match="cannot be read"):
        Assignment.load(tmp_path / "nowhere.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(MxsimError, match="is not JSON"):
        Assignment.load(tmp_path / "bad.json")
    with pytest.raises(MxsimError, match="a JSON object is expected"):
        Assignment.from_json([])
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(MxsimError, match=r"deep\.json is not JSON"):
        Assignment.load(tmp_path / "deep.json")
    layer = '"up_proj": {"weight": "mxfp4_e2m1", "activation": "mxfp4_e2m1"}'
    (tmp_path / "twice.json").write_text(f'{{"layers": {{{layer}, {layer}}}}}')
    with pytest.raises(MxsimError, match="key 'up_proj' stands there twice"):
        Assignment.load(tmp_path / "twice.json")


@pytest.mark.parametrize("text", ["", ":bf16", "bf16:", "a:b:c"])
def test_bad_pairs_are_refused(text: str) -> None:
    with pytest.raises(MxsimError, match="is not WEIGHT or WEIGHT:ACTIVATION"):
        FormatPair.parse(text)


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assignment = Assignment.uniform(["a"], "mxfp8_e4m3")
    assignment.save(tmp_path)
    before = (tmp_path / "assignment.json").read_bytes()

    def half(path: Path, text: str, **_: Any) -> None:
        path.write_bytes(text.encode()[: len(text) // 2])
        raise OSError("File too large")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="too large"):
        assignment.save(tmp_path)
    assert (tmp_path / "assignment.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
