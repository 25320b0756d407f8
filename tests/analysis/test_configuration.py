"""The configuration file: what is refused, and that every key is documented."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pydantic")

from analysis.configuration import Configuration, read_configuration, reference
from analysis.errors import AnalysisError

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "configuration.md"


def written(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key_is_documented_with_its_default() -> None:
    assert reference() in DOCUMENT.read_text(encoding="utf-8")


def test_the_documents_example_is_a_configuration(tmp_path: Path) -> None:
    example = DOCUMENT.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    asked = read_configuration(written(tmp_path, example))
    assert asked.seeds == [0, 1, 2]
    assert asked.search == {"steps": 96}


def test_nothing_said_is_the_defaults(tmp_path: Path) -> None:
    assert read_configuration(None) == read_configuration(written(tmp_path, "")) == Configuration()


def test_flags_go_before_the_file(tmp_path: Path) -> None:
    assert read_configuration(written(tmp_path, "model: one"), {"model": "two"}).model == "two"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("buget: [bits=5]", "unknown key 'buget'"),
        ("hardware: {devise: b200}", "unknown key 'hardware.devise'"),
        ("tokens: many", "tokens is 'many'"),
        ("tokens: 0", "tokens is 0"),
        ("budgets: bits=5", "budgets is 'bits=5'"),
        ("export: {target: gguf}", "export.target is 'gguf'"),
        ("- tokens", "holds a list"),
        ("tokens: [", "cannot be read as YAML"),
        ("tokens: 1\ntokens: 2", "the key 'tokens' twice, the second time in line 2"),
        ("hardware: {batch: 1, batch: 2}", "the key 'batch' twice"),
        ("output: 2020-13-45", "cannot be read as YAML: month must be in 1..12"),
        ("tokens: !!int abc", "cannot be read as YAML: invalid literal"),
        ("tokens: !!timestamp abc", "cannot be read as YAML"),
        (f"tokens: {'[' * 2000}{']' * 2000}", "cannot be read as YAML: maximum recursion depth"),
        ('output: ""', "output is '': a place has a name"),
        ('output: "a\\0b"', "a place has a name"),
        ('model: ""', "model is ''"),
        ("hardware: {kv_format: nosuch}", "hardware.kv_format is 'nosuch': unknown format 'nosuch'"),
        ("hardware: {scenario: ['decode:1:16'], phase: prefill, batch: 2}", "scenario says the steps itself: leave out batch, phase"),
        ("export: {bits: .inf}", "export.bits is inf: input should be a finite number"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(AnalysisError, match=said.replace("[", r"\[")):
        read_configuration(written(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="cannot be read"):
        read_configuration(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "assume"),
    [
        ("hardware: {phase: prefill}", ["b200-fp4-half-fp8"]),
        ("hardware: {device: b200}", ["b200-fp4-half-fp8"]),
        ("hardware: {device: h100}", []),
        ("hardware: {device: null}", []),
        ("hardware: {device: h100, assume: [one]}", ["one"]),
    ],
)
def test_an_assumption_that_goes_without_saying_is_the_usual_devices(tmp_path: Path, text: str, assume: list[str]) -> None:
    assert read_configuration(written(tmp_path, text)).hardware.assume == assume


@pytest.mark.parametrize("flag", ["--model", "--text", "--output"])
def test_an_empty_flag_is_refused(flag: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from analysis.cli import main

    monkeypatch.setattr("sys.argv", ["analysis", "job", flag, ""])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert f"{flag.removeprefix('--')} is ''" in capsys.readouterr().err


def test_a_configuration_is_read_back(tmp_path: Path) -> None:
    asked = read_configuration(written(tmp_path, "hardware: {scenario: ['decode:1:16'], context: null}"))
    assert read_configuration(written(tmp_path, asked.model_dump_json())) == asked
