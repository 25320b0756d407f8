"""The search report: the commands it shows, and that it says what its records say."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.records import Record
from reports.archive import without_folders
from reports.commands import commands, common_words
from reports.make_search import REPORT, of_folder, report


def record(method: str, budget: str, seed: int = 0, tokens: int = 64, command: str = "dmx sweep m --window 8") -> Record:
    return Record(
        key=f"{method} {budget} {seed}",
        path=Path("x.json"),
        specification={"method": method, "budget": {"text": budget} if budget else None, "seed": seed, "settings": {"tokens": tokens}},
        assignment=None,
        achieved={},
        costs=None,
        quality={},
        trajectory=None,
        timing={},
        environment={"command": f"{command} --tokens 1 --methods x --budgets y --seeds 0 -o elsewhere"},
    )


def test_records_made_in_parts_are_asked_for_by_one_command() -> None:
    parts = [record(method, budget, seed) for method in ("fisher", "dmx") for budget in ("bits=10", "bits=5") for seed in (1, 0)]
    assert commands(parts, "f") == ["dmx sweep m --window 8 --tokens 64 --methods dmx,fisher --budgets bits=5,bits=10 --seeds 0,1 -o f"]


def test_a_method_that_heeds_no_seed_joins_the_others() -> None:
    parts = [record("kl", "bits=5", 0), record("kl", "bits=5", 1), record("first_last", "bits=5", 0)]
    assert commands(parts, "f") == ["dmx sweep m --window 8 --tokens 64 --methods kl,first_last --budgets bits=5 --seeds 0,1 -o f"]


def test_what_differs_has_a_command_of_its_own() -> None:
    parts = [
        record("kl", "bits=5"),
        record("kl", "energy=0.5x"),
        record("kl", "bytes=0.5x", tokens=128),
        record("dmx", "bits=5", command="dmx sweep m --window 9"),
        record("uniform", "bits=5"),
        record("float", ""),
    ]
    assert commands(parts, "f") == [
        "dmx sweep m --window 8 --tokens 64 --methods kl,uniform --budgets bits=5 --seeds 0 -o f",
        "dmx sweep m --window 9 --tokens 64 --methods dmx --budgets bits=5 --seeds 0 -o f",
        "dmx sweep m --window 8 --tokens 128 --methods kl --budgets bytes=0.5x --seeds 0 -o f",
        "dmx sweep m --window 8 --tokens 64 --methods kl --budgets energy=0.5x --seeds 0 -o f",
    ]


def test_flags_take_no_value_and_places_come_first() -> None:
    given = "dmx sweep --tie --device b200 --assume a --seeds 0 --together --text='my notes.txt' -o x ./model"
    assert common_words(given) == [
        "dmx",
        "sweep",
        "./model",
        "--assume",
        "a",
        "--device",
        "b200",
        "--text",
        "my notes.txt",
        "--tie",
        "--together",
    ]


def test_how_a_sweep_was_called_and_how_fast_makes_no_other_command() -> None:
    called = ["dmx sweep m --window 8", "python -m dmx sweep m --window 8", "dmx sweep m --workers 2 --engine ray --window 8"]
    parts = [record("dmx", "bits=5", seed, command=command) for seed, command in enumerate(called)]
    assert commands(parts, "f") == ["dmx sweep m --window 8 --tokens 64 --methods dmx --budgets bits=5 --seeds 0,1,2 -o f"]


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("/bin/dmx sweep /a/m --text=/b/t.txt -o out/x", "dmx sweep m --text=t.txt -o x"),
        ("dmx sweep '/it'\"'\"'s/my model' -o x", "dmx sweep 'my model' -o x"),
        ("dmx sweep /it's/model -o x", "dmx sweep model -o x"),  # of a record that was written without quotes
    ],
)
def test_an_archived_command_has_no_folders(command: str, kept: str) -> None:
    assert without_folders(command) == kept


def test_a_sweep_was_scored_in_the_folder_that_is_shown() -> None:
    given = "python -m reports.rescore new --text t.txt -o new --tokens 9"
    assert of_folder(given, "m") == "python -m reports.rescore m --text t.txt -o m --tokens 9"


def test_the_report_says_what_its_records_say() -> None:
    assert REPORT.read_text(encoding="utf-8") == report()
