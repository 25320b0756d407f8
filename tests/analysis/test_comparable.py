"""What is compared with what: windows of a text, scenarios and figures of devices, settings that say nothing."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from analysis.figures import figures
from analysis.frames import frames_of
from analysis.names import COSTS
from analysis.page import page
from analysis.reading import folder_names, read
from analysis.records import choose, read_results
from analysis.representatives import device_of, step_of
from analysis.summary import analyse
from analysis.views import view
from mxsim.devices.reader import figures_sha256
from tests.analysis.make_records import write_folder

B200 = {"device": "b200", "phases": [{"phase": "decode", "batch": 1, "context": 1024, "times": 1.0}], "assume": [], "kv_format": "bf16"}


def changed(folder: Path, name: str, change: Callable[[dict[str, Any]], None], *, wanted: tuple[str, ...] = ()) -> None:
    """Every record (of the methods wanted) in place, or beside itself and newer under a key with this name."""
    for path in sorted((folder / "records").glob("*.json")):
        record = json.loads(path.read_text())
        if wanted and record["specification"]["method"] not in wanted:
            continue
        own = copy.deepcopy(record)
        change(own)
        if name:
            own["key"] = name + own["key"][len(name) :]
        target = path.with_name(f"{own['key']}.json")
        target.write_text(json.dumps(own))
        if name:
            os.utime(target, (path.stat().st_mtime + 10,) * 2)


def scenario(**parts: Any) -> Callable[[dict[str, Any]], None]:
    """Gives a record this scenario, in its settings and in its budget."""

    def change(record: dict[str, Any]) -> None:
        whole = {**B200, **parts}
        specification = record["specification"]
        specification["settings"]["scenario"] = whole
        record["costs"]["device"] = whole["device"]
        if specification["budget"]:
            specification["budget"] |= whole

    return change


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "sweep", methods=("dmx", "kl"), budgets=(5.0, 6.0), seeds=1, blocks=2)


@pytest.fixture
def in_latency(tmp_path: Path) -> Path:
    folder = write_folder(tmp_path / "latency", methods=("dmx", "kl"), budgets=(5.0,), seeds=1, blocks=2, kind="latency")
    changed(folder, "", scenario())
    return folder


def other_windows(record: dict[str, Any]) -> None:
    record["specification"]["text"]["report"]["windows_sha256"] = "f" * 64
    record["quality"] |= {"perplexity": 1.1 * record["quality"]["perplexity"], "tokens": 1024}


def test_other_windows_of_a_text_are_another_subject(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (before, _), *_ = read(small, None, None)
    changed(small, "9", other_windows, wanted=("float", "uniform", "kl"))
    analyses = [analysis for analysis, _ in read(small, None, None)]
    assert len(analyses) == 2
    assert before.headline in [analysis.headline for analysis in analyses]
    told = capsys.readouterr().err
    assert "--model" not in told
    assert "folders of their own" in told
    assert "1024 tokens" in told


def test_an_older_record_without_windows_goes_with_those_of_as_many_tokens(small: Path) -> None:
    changed(small, "", lambda record: record["specification"]["text"]["report"].update(windows_sha256="a" * 64), wanted=("dmx",))
    assert len(choose(read_results(small))) == 1
    changed(small, "", lambda record: record["quality"].update(tokens=77), wanted=("kl",))
    assert len(choose(read_results(small))) == 2


def test_names_are_counted_up_until_one_is_free(small: Path) -> None:
    for name in ("1", "2"):
        changed(
            small, name, lambda record, sha256=name: record["specification"]["text"]["report"].update(sha256=sha256), wanted=("float", "kl")
        )
    names = folder_names(analysis for analysis, _ in read(small, None, None))
    assert len(set(names)) == 3
    assert sorted(names)[1:] == [f"{sorted(names)[0]}-2", f"{sorted(names)[0]}-3"]


def test_the_hint_names_the_option_that_tells_parts_apart(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(small, methods=("kl",), budgets=(5.0,), blocks=2, model="another")
    read(small, None, None)
    assert capsys.readouterr().err.rstrip().endswith("--model NAME takes one")


def test_the_same_runs_by_other_code_for_another_device_are_one_series(small: Path) -> None:
    changed(small, "", scenario())
    changed(small, "", lambda record: record["specification"]["settings"].update(tasks=[]))

    def later(record: dict[str, Any]) -> None:
        scenario(device="h100")(record)
        record["specification"]["settings"] |= {"tasks": {}, "device_sha256": "b" * 64, "task_limit": None}
        record["specification"]["code"] = {"version": "later", "sha256": "c" * 64}

    changed(small, "9", later)
    frames = frames_of(read_results(small))
    assert sorted(set(frames.runs["series"])) == ["KL", "dMX", "float", "uniform MXFP4", "uniform MXFP6", "uniform MXFP8"]
    assert len(frames.runs) == 4 + 2 * 2
    assert frames.runs["latency_s"].notna().all()
    assert any("h100" in note for note in frames.notes)


def test_of_two_files_of_one_run_the_newest_is_told_whole(small: Path) -> None:
    (path,) = (
        path for path in (small / "records").iterdir() if '"method": "dmx"' in path.read_text() and '"text": "bits=5.0"' in path.read_text()
    )
    older = json.loads(path.read_text())
    older["quality"]["perplexity"] = 9.99
    older["assignment"]["layers"] = {name: {"weight": "bf16", "activation": "bf16"} for name in older["assignment"]["layers"]}
    for name in ("0-old.json", "zz-old.json"):
        (path.parent / name).write_text(json.dumps(older))
        os.utime(path.parent / name, (1e9, 1e9))
    analysis = analyse(read_results(small))
    own = analysis.frames.records[older["key"]]
    assert own.path == path
    assert own.quality["perplexity"] == analysis.frames.runs.set_index("key").loc[older["key"], "perplexity"] != 9.99
    assert "bf16" not in set(analysis.frames.layers[analysis.frames.layers["key"] == older["key"]]["format"])


def test_a_device_is_named_only_for_budgets_of_costs(small: Path) -> None:
    write_folder(small, methods=("dmx",), budgets=(5.0,), seeds=1, blocks=2, kind="latency", references=False)
    changed(small, "", scenario())
    series = set(frames_of(read_results(small)).runs["series"])
    assert {"dMX (budgets in bits)", "dMX (budgets in latency on b200)"} <= series


def test_settings_that_differ_are_told_in_words(small: Path) -> None:
    changed(small, "9", lambda record: record["specification"]["settings"].update(tasks={"blimp": None}), wanted=("kl",))
    assert {"KL", "KL (tasks blimp)"} <= set(frames_of(read_results(small)).runs["series"])


def test_task_files_of_other_content_are_other_tasks(small: Path) -> None:
    changed(small, "", lambda record: record["specification"]["settings"].update(tasks={"blimp": "a" * 64}), wanted=("kl",))
    changed(small, "9", lambda record: record["specification"]["settings"].update(tasks={"blimp": "b" * 64}), wanted=("kl",))
    assert {f"KL (tasks blimp {12 * hash})" for hash in "ab"} <= set(frames_of(read_results(small)).runs["series"])


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"phases": [{"phase": "decode", "batch": 64, "context": 1024, "times": 1.0}]}, "decode, batch 64, context 128"),
        ({"kv_format": "mxfp8_e4m3"}, "KV cache mxfp8_e4m3"),
        ({"assume": ["b200-fp4-half-fp8"]}, "assuming b200-fp4-half-fp8"),
    ],
)
def test_budgets_of_costs_in_other_scenarios_stay_apart(in_latency: Path, parts: dict[str, Any], words: str) -> None:
    changed(in_latency, "9", scenario(**parts), wanted=("dmx", "kl"))
    runs = frames_of(read_results(in_latency)).runs
    assert f"dMX ({words})" in set(runs["series"])
    searched = runs[runs["method"].isin(["dmx", "kl"])]
    assert len(searched) == 4
    assert searched["budget_id"].nunique() == 2


def test_budgets_of_costs_on_other_figures_of_a_device_stay_apart(in_latency: Path) -> None:
    for name, sha256 in (("8", "a" * 64), ("9", "b" * 64)):
        changed(
            in_latency, name, lambda record, told=sha256: record["specification"]["settings"].update(device_sha256=told), wanted=("kl",)
        )
    assert {"KL (figures aaaaaaaaaaaa)", "KL (figures bbbbbbbbbbbb)"} <= set(frames_of(read_results(in_latency)).runs["series"])


def test_an_older_record_without_figures_goes_with_the_only_ones_told(in_latency: Path) -> None:
    changed(in_latency, "", lambda record: record["specification"]["settings"].update(device_sha256="a" * 64), wanted=("kl",))
    frames = frames_of(read_results(in_latency))
    assert not frames.notes
    assert frames.runs["budget_id"].nunique() == 2  # none, and the one budget


def test_references_with_another_cache_replace_none(in_latency: Path) -> None:
    before = frames_of(read_results(in_latency)).runs

    def cheaper(record: dict[str, Any]) -> None:
        scenario(kv_format="mxfp8_e4m3")(record)
        record["achieved"]["latency_s"] /= 2

    changed(in_latency, "9", cheaper, wanted=("float", "uniform"))
    after = frames_of(read_results(in_latency)).runs
    assert list(after["latency_s"]) == list(before["latency_s"])


def test_what_costs_are_of_is_the_whole_scenario(small: Path) -> None:
    phases = [
        {"phase": "prefill", "batch": 1, "context": 128, "times": 1.0},
        {"phase": "decode", "batch": 1, "context": 128, "times": 100.0},
    ]
    changed(small, "", scenario(phases=phases))
    analysis = analyse(read_results(small))
    assert device_of(analysis)[1] == "b200, prefill, batch 1, context 128; decode, batch 1, context 128, 100 times"
    assert step_of(analysis) == "b200, prefill, batch 1, context 128"
    (latency,) = (cost for cost in COSTS if cost.short == "latency")
    assert "of all steps of the scenario" in view(analysis.frames, analysis.points, analysis.views[0].quality, latency).x_title
    changed(small, "", scenario(phases=phases[1:2]))
    assert not analyse(read_results(small)).frames.is_one_step
    changed(small, "", scenario(phases=phases[:1]))
    analysis = analyse(read_results(small))
    assert "per step" in view(analysis.frames, analysis.points, analysis.views[0].quality, latency).x_title


def test_figures_that_have_changed_since_are_not_shown(small: Path) -> None:
    for told, is_known in ((figures_sha256("b200"), True), ("f" * 64, False)):
        changed(small, "", lambda record, told=told: record["specification"]["settings"].update(device_sha256=told))
        analysis = analyse(read_results(small))
        device, setting = device_of(analysis)
        assert (device is not None) == is_known
        assert setting.startswith("b200, decode")
        assert any("figures of b200 have changed since the costs were modelled" in note for note in analysis.notes) != is_known
        (roofline,) = (figure for name, figure in figures(analysis, []) if name == "roofline")
        assert any(text.get_text().endswith("roof") for text in roofline.legends[0].get_texts()) == is_known
        assert ("NVIDIA Blackwell datasheet" in page(analysis, [])) == is_known


def test_the_assumption_of_the_costs_is_told_whichever_record_comes_first(small: Path) -> None:
    changed(small, "", scenario(assume=["b200-fp4-half-fp8"]))
    changed(small, "0", lambda record: None, wanted=("float",))  # a reference, without a budget, is first
    device, _ = device_of(analyse(read_results(small)))
    assert device is not None
    assert list(device.accepted) == ["b200-fp4-half-fp8"]
