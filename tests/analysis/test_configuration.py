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
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(AnalysisError, match=said.replace("[", r"\[")):
        read_configuration(written(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="cannot be read"):
        read_configuration(tmp_path / "none.yaml")
