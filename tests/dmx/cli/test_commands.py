"""`dmx sweep`: what is refused before a model is loaded; and the budgets on a device that the help shows, of every command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from dmx.budget import Budget, Scenario, constraints
from dmx.cli import allocate, main, search, sweep
from dmx.decisions import decision_space
from dmx.models import load_model

SHOWN = [
    shlex.split(example)
    for module in (search, allocate, sweep)
    for example in module.EXAMPLES.removeprefix("Examples: ").split(" | ")
    if "--device" in example
]


@pytest.mark.parametrize(
    ("given", "said"),
    [(("--workers", "0"), "--workers"), (("--workers", "-1"), "--workers"), (("--engine", "spark"), "unknown engine 'spark'")],
)
def test_workers_and_engine_are_checked_before_anything_is_loaded_or_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, given: tuple[str, str], said: str
) -> None:
    def loaded(*arguments: object, **settings: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("dmx.sweep.load_model", loaded)
    monkeypatch.setattr("sys.argv", ["dmx", "sweep", "-o", str(tmp_path / "out"), *given])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert said in re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().err)
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
