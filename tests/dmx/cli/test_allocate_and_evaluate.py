"""The commands: what they print, write and refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from dmx.cli import main
from dmx.cli.evaluate import report
from mxsim.assignment import Assignment


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["dmx", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_allocate_writes_what_evaluate_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], llama_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    call = ("allocate", llama_folder, "--method", "fisher", "--budget", "bits=5", "--text", text_file, "-o", tmp_path)
    assert run(monkeypatch, *call) == 0
    out = capsys.readouterr().out
    assert "model.layers.1.mlp.down_proj" in out
    assert "left of bits=5" in out
    assignment = Assignment.load(tmp_path)
    assert assignment.achieved["bits"] <= 5
    assert assignment.budget["text"] == "bits=5"
    assert assignment.search["method"] == "fisher"
    assert [path.name for path in tmp_path.iterdir()] == ["assignment.json"]
    assert run(monkeypatch, *call, "--json") == 0
    assert json.loads(capsys.readouterr().out)["layers"] == assignment.to_json()["layers"]

    call = ("evaluate", llama_folder, "--assignment", tmp_path, "--text", text_file, "--windows", 2)
    assert run(monkeypatch, *call, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"perplexity", "tokens", "kl_to_float", "tasks"} <= set(found)
    assert found["tokens"] == 62
    assert run(monkeypatch, *call, "--unit", "nvidia_blackwell", "--promote-every", 128) == 0
    out = capsys.readouterr().out
    assert "nvidia_blackwell" in out
    assert "perplexity by fake quantisation" in out


@pytest.mark.parametrize(("preset", "told"), [("paper", True), ("kl", False)])
def test_what_the_papers_preset_found_says_that_it_had_no_rotations(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    llama_folder: Path,
    text_file: Path,
    tmp_path: Path,
    preset: str,
    told: bool,
) -> None:
    call = ("search", llama_folder, "--preset", preset, "--steps", 2, "--budget", "bits=6", "--text", text_file, "-o", tmp_path)
    assert run(monkeypatch, *call) == 0
    assert ("without its learned rotations" in capsys.readouterr().out) is told
    assert Assignment.load(tmp_path).search["preset"] == preset


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("allocate", "MODEL", "--budget", "bits=3", "-o", "OUT"), "reachable range"),
        (("allocate", "MODEL", "--budget", "bits=5", "-o", "OUT"), "--text"),
        (("allocate", "MODEL", "--budget", "latency=1", "-o", "OUT"), "--device"),
        (("allocate", "MODEL", "--budget", "bits=5", "--formats", "mxfp4", "-o", "OUT"), "unknown block format"),
        (("allocate", "MODEL", "--budget", "bits=5", "--only", "nothing", "-o", "OUT"), "matches none"),
        (("allocate", "MODEL", "--budget", "bits=5", "--set", "point", "-o", "OUT"), "NAME=VALUE"),
        (("allocate", "MODEL", "--budget", "bits=5", "--scenario", "decode:1:16", "--batch", "2", "-o", "OUT"), "leave out --phase"),
        (("allocate", "MODEL", "--budget", "bits=5", "--text", "TEXT", "-o", "TEXT"), "results cannot go to"),
        (("search", "MODEL", "--budget", "bits=5", "--text", "TEXT", "-o", "TEXT"), "results cannot go to"),
        (("allocate", "MODEL", "--budget", "bits=5", "--set", "budget=7", "-o", "OUT"), "budget"),
        (("allocate", "MODEL", "--budget", "bits=5", "--assume", "foo", "--device", "b200", "-o", "OUT"), "foo"),
        (("search", "MODEL", "--budget", "bits=5", "--seed", "1", "--set", "seed=2", "-o", "OUT"), "seed is given twice"),
        (("search", "MODEL", "--budget", "bits=5", "--set", "momentum=nan", "-o", "OUT"), "momentum is nan"),
        (("search", "MODEL", "--budget", "bits=5", "--set", "seed=-1", "-o", "OUT"), "seed is -1"),
        (("search", "MODEL", "--budget", "latency=0.9x", "--device", "b200", "--scenario", "decode:1:16*0", "-o", "OUT"), "0 times"),
        (("sweep", "MODEL", "--seeds", "a", "-o", "OUT"), "whole numbers"),
        (("evaluate", "MODEL"), "--text"),
        (("evaluate", "no-such-model"), "no such folder"),
        (("evaluate", "MODEL", "--text", "no-such-file"), "cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_bad_input_is_a_line_and_exit_status_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    llama_folder: Path,
    text_file: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    places = {"MODEL": str(llama_folder), "TEXT": str(text_file), "OUT": str(tmp_path / "out")}
    assert run(monkeypatch, *(places.get(word, word) for word in arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dmx: ")
    assert message in captured.err
    assert not (tmp_path / "out" / "assignment.json").exists()


def test_scores_serve_another_budget_in_another_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], llama_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    call = ("allocate", llama_folder, "--method", "fisher", "--text", text_file, "--budget")
    assert run(monkeypatch, *call, "bits=5", "-o", tmp_path / "five") == 0
    assert len(list((tmp_path / "cache" / "mxsim" / "scores").iterdir())) == 1
    monkeypatch.setattr("dmx.allocators.fisher.curvature_scores", lambda *_, **__: pytest.fail("measured again"))
    assert run(monkeypatch, *call, "bits=6", "-o", tmp_path / "six") == 0
    assert Assignment.load(tmp_path / "six").achieved["bits"] > 5
    blocked = tmp_path / "a file"
    blocked.write_text("")
    capsys.readouterr()
    assert run(monkeypatch, *call, "bits=6", "-o", tmp_path / "seven", "--cache", blocked / "scores") == 2
    assert "scores cannot go to" in (told := capsys.readouterr().err)
    assert "--cache" in told


def test_what_evaluate_prints_of_windows_and_tasks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], llama_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    questions = [{"query": "a b", "choices": [" a", " b", " c", " d"], "gold": gold % 4} for gold in range(8)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, questions)), encoding="utf-8")
    call = ("evaluate", llama_folder, "--text", text_file, "--context", 16, "--windows", 2, "--tasks", tmp_path / "mine.jsonl")
    assert run(monkeypatch, *call) == 0
    out = capsys.readouterr().out
    assert "30 in 2 windows of 16" in out
    assert "non-overlapping windows of 16 tokens" in out
    head, line = (re.split(r"  +", row.strip()) for row in out.splitlines() if row.startswith(("task", "mine")))
    assert head == ["task", "accuracy", "95 % interval", "chance", "questions"]
    assert line == ["mine", "0.2500", "0.0715 to 0.5907", "0.2500", "8"]


def test_a_task_of_unknown_chance_is_printed() -> None:
    score = {"accuracy": 0.5, "stderr": 0.1, "interval_95": [0.4, 0.6], "chance": None, "questions": 9}
    found = {"perplexity": 1.0, "tokens": 1, "windows": 1, "context": 2, "text": {"name": "t"}, "protocol": "p", "kl_to_float": None}
    assert "not known" in report({**found, "unit": None, "tasks": {"theirs": score}})


def test_a_sweep_says_how_its_budgets_count_bits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], llama_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    call = ("sweep", llama_folder, "--methods", "uniform", "--text", text_file, "--tokens", 64, "--report-windows", 1, "--device", "b200")
    call += ("--assume", "b200-fp4-half-fp8")
    told = "budgets in bits: scales out, plain mean over linears"
    for budgets, expected in (("bits=5", True), ("bytes=0.9x", False)):
        assert run(monkeypatch, *call, "--budgets", budgets, "-o", tmp_path) == 0
        assert (told in capsys.readouterr().out) is expected


def test_help_and_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith("dmx ")
    for name in ("allocate", "evaluate"):
        assert run(monkeypatch, name, "-h") == 0
        assert "Examples: dmx" in capsys.readouterr().out
