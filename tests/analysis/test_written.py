"""Tables, figures and pages are written whole or not at all, and a folder used again holds the new analysis alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from analysis.cli import app
from analysis.errors import AnalysisError
from analysis.figures import write_figures, write_tables
from analysis.page import write_page
from analysis.records import read_results
from analysis.summary import Analysis, analyse
from tests.analysis.make_records import write_folder


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyse(read_results(write_folder(tmp_path_factory.mktemp("sweep"), methods=("dmx", "kl"), budgets=(5.0, 6.0), seeds=1)))


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyse(read_results(write_folder(tmp_path_factory.mktemp("references"), methods=())))


LIMITED = """
import resource, sys
from pathlib import Path
from analysis.errors import AnalysisError
from analysis.figures import write_figures, write_tables
from analysis.page import write_page
from analysis.records import read_results
from analysis.summary import analyse
kind, source, target = sys.argv[1], sys.argv[2], Path(sys.argv[3])
analysis = analyse(read_results(source))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    if kind == "page":
        write_page(analysis, [], target / "front.html")
    elif kind == "tables":
        write_tables(analysis, target)
    else:
        next(write_figures(analysis, [], target))
except AnalysisError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on a file's size is set")
@pytest.mark.parametrize(
    ("kind", "name"), [("page", "front.html"), ("tables", "points.csv"), ("figures", "front_perplexity_by_bits.svg")], ids=str
)
def test_a_full_disk_leaves_the_file_that_was_there(kind: str, name: str, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "sweep", methods=("dmx", "kl"), budgets=(5.0, 6.0), seeds=1)
    target = tmp_path / "out"
    target.mkdir()
    (target / name).write_text("whole\n")
    command = [sys.executable, "-c", LIMITED, kind, str(source), str(target)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "cannot be written: File too large; give another place with -o" in told
    assert (target / name).read_text() == "whole\n"
    assert not list(target.glob(".*"))


def test_an_earlier_analysis_leaves_nothing_behind(analysis: Analysis, references: Analysis, tmp_path: Path) -> None:
    write_tables(analysis, tmp_path)
    earlier = ["front_perplexity_by_bits.png", "front_blimp_accuracy_by_latency.svg", "format_maps.svg", "trajectory_dmx_kl.png"]
    earlier += ["hardware.svg", "hardware_2.svg", "roofline.png", "cost_energy.svg", "roles.svg"]
    foreign = ["front_embedded.svg", "index.html", "notes.csv", "front.csv", "my_runs.csv", "hardware.json", "summary.json.bak"]
    for name in (*earlier, *foreign):
        (tmp_path / name).write_text("earlier")
    assert (tmp_path / "dominance.csv").exists()
    written = {path.name for path in write_tables(references, tmp_path)}
    assert "dominance.csv" not in written
    assert {path.name for path in tmp_path.iterdir()} == written | set(foreign)


def test_every_figure_has_a_name_that_is_removed_another_time(analysis: Analysis, references: Analysis, tmp_path: Path) -> None:
    write_tables(analysis, tmp_path)
    assert list(write_figures(replace(analysis, views=analysis.views[3::4]), [], tmp_path))
    written = {path.name for path in write_tables(references, tmp_path)}
    assert {path.name for path in tmp_path.iterdir()} == written


def test_a_folder_in_the_file_s_place_is_told(references: Analysis, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").mkdir()
    with pytest.raises(AnalysisError, match=r"runs\.csv.* is a folder.*give another place with -o"):
        write_tables(references, tmp_path)
    with pytest.raises(AnalysisError, match=r"runs\.csv.* is a folder.*give another place with -o"):
        write_page(references, [], tmp_path / "runs.csv")


def test_a_folder_that_comes_to_hold_two_models_keeps_no_table_of_the_first(tmp_path: Path) -> None:
    folder, output = write_folder(tmp_path / "sweep", methods=("kl",), budgets=(5.0,), blocks=2), tmp_path / "out"
    assert CliRunner().invoke(app, ["pareto", str(folder), "-o", str(output), "--tables-only"]).exit_code == 0
    assert (output / "points.csv").exists()
    write_folder(folder, methods=("kl",), budgets=(5.0,), blocks=2, model="another")
    assert CliRunner().invoke(app, ["pareto", str(folder), "-o", str(output), "--tables-only"]).exit_code == 0
    assert all(path.is_dir() for path in output.iterdir())
    assert len(list(output.glob("*/points.csv"))) == 2
