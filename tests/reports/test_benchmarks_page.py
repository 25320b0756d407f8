"""The page of benchmarks: what is not measured again keeps the machine that it was measured on."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

import benchmarks.__main__ as page


def test_a_section_keeps_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "reports" / "benchmarks.md"
    report.parent.mkdir()
    report.write_text("# Speed\n\n## Costing\n\nOn another machine.\n\n1 s\n\n## Start\n\nOn another machine.\n\n2 s\n", encoding="utf-8")
    monkeypatch.setattr(page, "REPORT", report)
    monkeypatch.setattr(page, "HERE", tmp_path / "benchmarks")
    monkeypatch.setattr(page, "machine", lambda: "this machine")
    monkeypatch.setattr(subprocess, "run", lambda *given, **settings: SimpleNamespace(stdout="## Start\n\n3 s\n"))
    monkeypatch.setattr("sys.argv", ["benchmarks", "start"])
    page.main()
    sections = report.read_text(encoding="utf-8").split("## ")
    assert sections[1:] == ["Costing\n\nOn another machine.\n\n1 s\n\n", "Start\n\nOn this machine.\n\n3 s\n"]
    assert "machine that it names" in sections[0]
