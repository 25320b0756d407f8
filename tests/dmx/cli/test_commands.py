"""What commands refuse before a model is loaded, and the budgets on a device that their help shows."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from dmx.budget import Budget, Scenario, constraints
from dmx.cli import allocate, main, search, sweep
from dmx.decisions import decision_space
from dmx.errors import DmxError
from dmx.models import load_model
from dmx.sweep import Sweep, run_sweep

SHOWN = [
    shlex.split(example)
    for module in (search, allocate, sweep)
    for example in module.EXAMPLES.removeprefix("Examples: ").split(" | ")
    if "--device" in example
]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("sweep --workers 0", "--workers"),
        ("sweep --workers -1", "--workers"),
        ("sweep --engine spark", "unknown engine 'spark'"),
        ("sweep --budgets bits=5,bytes=small", "budget 'bytes=small' is not KIND=AMOUNT"),
        ("sweep --formats mxfp4_e2m1,mxfp7", "unknown block format 'mxfp7'"),
        ("search --budget bits", "budget 'bits' is not KIND=AMOUNT"),
        ("search --budget bits=5 --preset ours", "unknown preset 'ours'"),
        ("search --budget bits=5 --formats mxfp7", "unknown block format 'mxfp7'"),
        ("search --budget bits=5 --steps 0", "steps is 0"),
        ("search --budget bits=5 --seed -1", "seed is -1"),
        ("search --budget bits=5 --policy ocp --set policy=quark", "policy is given twice"),
        ("search --budget bits=5 --seed 0 --set seed=3", "seed is given twice"),
        ("search --budget bits=5 --tie --set tie=true", "tie is given twice"),
        ("allocate --budget joules=5", "joules"),
        ("allocate --budget bits=5 --method ours", "unknown method 'ours'"),
        ("allocate --budget bits=5 --formats mxfp7", "unknown block format 'mxfp7'"),
        ("allocate --budget bits=5 --phase sleep", "sleep"),
    ],
)
def test_words_are_checked_before_anything_is_loaded_or_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, given: str, said: str
) -> None:
    def loaded(*arguments: object, **settings: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("dmx.models.load_model", loaded)
    monkeypatch.setattr("dmx.sweep.load_model", loaded)
    monkeypatch.setattr("sys.argv", ["dmx", *given.split(), "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert said in re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_an_engine_that_is_not_installed_is_told_before_anything_is_loaded_or_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("dmx.sweep.load_model", lambda *arguments: pytest.fail("the model was loaded"))
    with pytest.raises(DmxError, match=r"mxsim\[ray\]"):
        run_sweep(Sweep(), tmp_path / "out", engine_name="ray")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", SHOWN, ids=lambda words: words[1])
def test_a_budget_on_a_device_that_the_help_shows_can_be_met(words: list[str]) -> None:
    given = {name: words[place + 1] for place, name in enumerate(words) if name.startswith("--")}
    model = load_model(None)
    scenario = Scenario.of_step("decode", 1, None, device=given["--device"], assume=[given["--assume"]])
    space = decision_space(model, tuple(given.get("--formats", "mxfp4_e2m1,mxfp8_e4m3").split(",")), tie=False, apart=False)
    texts = given["--budgets" if words[1] == "sweep" else "--budget"].split(",")
    assert constraints([Budget.parse(text, scenario) for text in texts], space, model.shape)


def test_every_command_shows_one() -> None:
    assert [words[1] for words in SHOWN] == ["search", "allocate", "sweep"]
