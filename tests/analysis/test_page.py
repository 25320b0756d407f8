"""The commands write what they say; the page holds its numbers, its download is the assignment, and it looks right in a browser."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from typer.testing import CliRunner

from analysis.cli import app, main
from analysis.errors import AnalysisError, NothingToDrawError
from analysis.experiments import read_experiments
from analysis.figures import figures
from analysis.page import page
from analysis.page.browser import Browser, chromium, find_chromium, inspect
from analysis.plots.cost import save
from analysis.plots.format_map import format_maps
from analysis.plots.front import front_plot
from analysis.records import read_results
from analysis.summary import Analysis, analyse, sentences
from tests.analysis.make_records import write_folder, write_hardware
from tests.analysis.test_comparable import changed

CHROMIUM = find_chromium()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_folder(tmp_path_factory.mktemp("sweep"), methods=("dmx", "kl", "fisher"), budgets=(4.5, 5.0, 6.0), seeds=2)
    write_hardware(made)
    return made


@pytest.fixture(scope="module")
def analysis(folder: Path) -> Analysis:
    return analyse(read_results(folder))


@pytest.fixture(scope="module")
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("page")
    result = CliRunner().invoke(app, ["report", str(folder), "-o", str(target)], catch_exceptions=False)
    assert result.exit_code == 0
    return target / "index.html"


class Tags(HTMLParser):
    """Counts tags, keeps ids and targets, and finds what is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given[name] or "" for name in ("src", "href") if name in given]
        if tag not in ("meta", "link", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    assert len(text) < 5_000_000
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert len(tags.ids) == len(set(tags.ids))
    for link in tags.links:
        assert link.startswith("data:") or (link.startswith("#") and link[1:] in tags.ids)
    assert not re.search(r"https?://", text.split("<main>")[0])  # sources of device figures name addresses, further down
    assert "@import" not in text
    assert "nan" not in re.findall(r">(nan|inf|None)<", text)


def test_the_page_says_what_the_summary_says(written: Path, analysis: Analysis) -> None:
    text = written.read_text(encoding="utf-8").replace("\u00a0", " ").replace("&#39;", "'")
    for sentence in (analysis.headline, *sentences(analysis)):
        assert sentence in text
    assert re.fullmatch(r"dMX at 5\.0 bits loses \d+\.\d+ %(, exactly as KL does| against \d+\.\d+ % for KL)", analysis.headline)
    for section in ("fronts", "budgets", "hypervolume", "assignment", "maps", "search", "cost", "hardware", "runs", "provenance"):
        assert f'<section id="{section}">' in text


def test_the_page_says_what_moves_along_with_a_property(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    assert "one property at a time" not in text
    assert "a narrower accumulator is aligned less finely too" in text
    assert "scale rule and block size change the conversion alone: no unit computes there." in text


def test_the_same_records_give_the_same_page(folder: Path, analysis: Analysis) -> None:
    experiments, _ = read_experiments(folder)
    assert page(analysis, experiments) == page(analyse(read_results(folder)), experiments)


def test_a_large_model_still_fits(tmp_path: Path) -> None:
    methods = ("dmx", "dmx_paper", "kl", "kl_per_bit", "first_order", "fisher", "first_last")
    folder = write_folder(tmp_path, methods=methods, budgets=(4.3, 4.6, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5), seeds=1, blocks=32)
    assert len(page(analyse(read_results(folder)), [])) < 5_000_000


def test_pareto_writes_tables_and_figures(folder: Path, analysis: Analysis, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["pareto", str(folder), "-o", str(tmp_path), "--tables-only", "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert summary["headline"] == analysis.headline
    assert {row["series"] for row in summary["hypervolume"]} == {"dMX", "KL", "Fisher"}
    with (tmp_path / "points.csv").open(newline="") as file:
        points = list(csv.DictReader(file))
    assert len(points) == 3 * 3 + 4
    for name in summary["files"]:
        assert (tmp_path / name).stat().st_size > 0


def test_every_figure_is_drawn_with_units(folder: Path, analysis: Analysis, tmp_path: Path) -> None:
    experiments, _ = read_experiments(folder)
    drawn = dict(figures(analysis, experiments))
    fronts = [name for name in drawn if name.startswith("front_")]
    assert len(fronts) == 3 * 4
    assert {"format_maps", "roles", "trajectory_dmx", "cost_energy", "roofline", "hardware"} <= set(drawn)
    axes = drawn["front_perplexity_by_energy"].axes[0]
    assert re.search(r"energy per step, [munpµkM]?J$", axes.get_xlabel())
    assert axes.get_ylabel() == "perplexity"
    save(drawn["front_perplexity_by_bits"], tmp_path / "front")
    save(drawn["format_maps"], tmp_path / "maps")
    for stem in ("front", "maps"):
        ElementTree.parse(tmp_path / f"{stem}.svg")
        assert (tmp_path / f"{stem}.png").read_bytes().startswith(b"\x89PNG")


def test_dollars_in_names_are_dollars(tmp_path: Path) -> None:
    model, text = "costs $a_b$", "costs_$5_to_$10.txt"
    folder = write_folder(tmp_path / "sweep", methods=("dmx",), budgets=(5.0,), seeds=1, blocks=2, model=model)
    write_hardware(folder, model)

    def renamed(record: dict[str, Any]) -> None:
        record["specification"]["text"]["report"]["name"] = text
        for layer in record["costs"]["layers"]:
            layer["name"] = layer["name"].replace("q_proj", "$q_$")

    changed(folder, "", renamed)
    drawn = dict(figures(analyse(read_results(folder)), read_experiments(folder)[0]))
    assert {"front_perplexity_by_bits", "format_maps", "roles", "trajectory_dmx", "cost_energy", "roofline", "hardware"} <= set(drawn)
    for name, figure in drawn.items():
        save(figure, tmp_path / name, ("svg",))
        told = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
        assert model in told
        assert "math" not in told
    assert text in (tmp_path / "roles.svg").read_text(encoding="utf-8")
    assert "$q_$" in (tmp_path / "cost_energy.svg").read_text(encoding="utf-8")


def test_a_legend_of_many_series_is_whole_and_clear_of_the_title(analysis: Analysis) -> None:
    title = "stories260K, tinystories_val.txt (second half)"
    (few, *_) = analysis.views
    assert tuple(front_plot(few, title).get_size_inches()) == (7.2, 4.6)
    (line, *_) = few.lines
    many = tuple(replace(line, label=f"dMX, loss KL (budgets in latency on b200, tokens {count})") for count in range(31))
    for lines in (many, many[:1], many[:12]):
        figure = front_plot(replace(few, lines=lines), title)
        figure.draw_without_rendering()
        (legend,) = figure.legends
        extent = legend.get_window_extent()
        assert extent.x0 >= 0
        assert extent.y0 >= 0
        assert extent.x1 <= figure.bbox.x1
        assert extent.y1 <= figure.bbox.y1
        (axes,) = figure.axes
        assert not extent.overlaps(axes.get_tightbbox())


def test_one_single_point_is_drawn_with_a_note(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, methods=("dmx",), budgets=(5.0,), seeds=1, references=False, energy=False)
    analysis = analyse(read_results(folder))
    assert any("one single point" in note for note in analysis.notes)
    assert any("float model's run is missing" in note for note in analysis.notes)
    assert any("energy" in note for note in analysis.notes)
    assert next(figures(analysis, []))[0] == "front_perplexity_by_bits"
    assert '<section id="fronts">' in page(analysis, [])


def test_references_alone_are_drawn(tmp_path: Path) -> None:
    analysis = analyse(read_results(write_folder(tmp_path, methods=())))
    assert "no result" in analysis.headline
    assert any("only reference runs" in note for note in analysis.notes)
    assert next(figures(analysis, []))[0] == "front_perplexity_by_bits"
    assert "<h2>Fronts</h2>" in page(analysis, [])


def test_budgets_in_energy_and_bits_are_series_of_their_own(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, methods=("dmx", "kl"), budgets=(5.0, 6.0), seeds=1)
    write_folder(folder, methods=("dmx",), budgets=(5.5,), seeds=1, kind="energy", references=False)
    analysis = analyse(read_results(folder))
    assert {"dMX (budgets in bits)", "dMX (budgets in energy)"} <= set(analysis.points["series"])
    assert analysis.headline.startswith("dMX (budgets in bits) at 5.0 bits")
    assert page(analysis, [])


def test_the_headline_compares_what_had_the_same_formats(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, methods=("dmx", "kl"), budgets=(5.0, 6.0), seeds=1, apart=True)
    write_folder(folder, methods=("dmx",), budgets=(5.0, 5.5, 6.0), seeds=1, references=False, formats=("mxfp4_e2m1", "mxfp6_e2m3"))
    analysis = analyse(read_results(folder))
    assert re.match(r"dMX \(MXFP4/MXFP8, operands apart\) at 5\.0 bits .* KL \(MXFP4/MXFP8\)", analysis.headline)
    text = page(analysis, [])
    assert "upper half: weights" in text
    assert "offset of each layer: weights, then activations" in text
    maps = format_maps(analysis.points, analysis.frames, str(analysis.main_series), "maps")
    assert maps is not None
    assert "weight above, activation below" in str(maps.get_suptitle())


def test_the_uniform_format_that_fits_a_budget_is_a_baseline(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, methods=("dmx",), budgets=(5.0, 6.0), seeds=1)
    for path in sorted((folder / "records").iterdir()):
        record = json.loads(path.read_text())
        if record["specification"]["method"] == "dmx":
            record["specification"] |= {"method": "uniform", "apart": True}
            record["key"] = f"{record['key'][:-4]}fits"
            (folder / "records" / f"{record['key']}.json").write_text(json.dumps(record))
    analysis = analyse(read_results(folder))
    assert {"dMX", "best uniform that fits", "uniform MXFP4"} <= set(analysis.points["series"])
    assert analysis.headline.endswith("exactly as best uniform that fits does")


def test_a_legend_s_button_means_the_same_series_in_every_view(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, methods=("dmx", "kl", "fisher"), budgets=(5.0, 6.0), seeds=1)
    for path in (folder / "records").iterdir():
        record = json.loads(path.read_text())
        lost = {"dmx": "kl_to_float", "fisher": "perplexity"}.get(record["specification"]["method"])
        record["quality"] |= {lost: None} if lost else {}
        path.write_text(json.dumps(record))
    text = page(analyse(read_results(folder)), [])
    buttons = {}
    for number, svg, label in re.findall(r'data-toggle="(\d+)"[^>]*>(<svg.*?</svg>)(.*?)</button>', text):
        buttons[number] = re.search(r"--l:#\w+", svg)[0]  # type: ignore[index]
        assert label in ("dMX", "KL", "Fisher")
    assert len(buttons) == 3
    for quality, present in (("perplexity", 2), ("kl", 2), ("blimp_accuracy", 3)):
        (drawn,) = re.findall(rf'data-quality="{quality}" data-cost="bits">(.*?)</figure>', text, re.DOTALL)
        series = re.findall(r'data-series="(\d+)" style="(--l:#\w+)', drawn)
        assert len(set(series)) == present
        assert all(buttons[number] == colour for number, colour in series)


def test_mixed_models_are_drawn_apart(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sweep", methods=("kl",), budgets=(5.0, 6.0), blocks=2)
    write_folder(folder, methods=("kl",), budgets=(5.0,), blocks=2, model="org/another")
    result = CliRunner().invoke(app, ["report", str(folder), "-o", str(tmp_path / "out")], catch_exceptions=False)
    assert result.exit_code == 0
    assert "--model NAME" in result.stderr
    assert (tmp_path / "out" / "org-another" / "index.html").exists()
    assert (tmp_path / "out" / "synthetic-28" / "index.html").exists()
    one = CliRunner().invoke(
        app, ["report", str(folder), "-o", str(tmp_path / "one.html"), "--model", "org/another"], catch_exceptions=False
    )
    assert one.exit_code == 0
    assert "org/another" in (tmp_path / "one.html").read_text()


def test_strict_exits_1_where_a_record_is_broken(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sweep", methods=("kl",), budgets=(5.0,), blocks=2)
    next((folder / "records").iterdir()).write_text("{")
    arguments = ["report", str(folder), "-o", str(tmp_path / "out")]
    plain = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert plain.exit_code == 0
    assert "unreadable" in plain.stderr
    assert "not whole JSON" in (tmp_path / "out" / "index.html").read_text()
    assert CliRunner().invoke(app, [*arguments, "--strict"], catch_exceptions=False).exit_code == 1


@pytest.mark.parametrize(("error", "status"), [(AnalysisError("no folder"), 2), (NothingToDrawError("all failed"), 1)])
def test_exit_statuses(error: AnalysisError, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("analysis.cli.app", fail)
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == status
    assert capsys.readouterr().err == f"analysis: {error}\n"


def test_help_has_examples() -> None:
    for name in ("pareto", "report"):
        told = subprocess.run([sys.executable, "-m", "analysis", name, "--help"], check=True, capture_output=True, text=True).stdout
        assert f"python -m analysis {name} out/sweep" in " ".join(told.split())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium installed")
    with chromium(CHROMIUM) as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_in_a_browser(browser: Browser, written: Path, width: int, scheme: str, tmp_path: Path) -> None:
    assert inspect(browser, written, width, scheme, tmp_path / "page.png") == []
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    dark = browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 21, 24)"
    assert dark == (scheme == "dark")
    shown = browser.evaluate("[...document.querySelectorAll('.view')].filter(view => view.offsetHeight).length")
    assert shown == 1
    assert browser.evaluate("document.querySelector('.view.on .chart.narrow').getBoundingClientRect().width > 0") == (width == 390)


def test_a_page_that_is_wrong_is_found_out(browser: Browser, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.html"
    wrong.write_text('<!doctype html><body><div style="width:3000px">wide</div><script>console.error("told"); missing()</script>')
    problems = " ".join(inspect(browser, wrong, 390, "light"))
    assert "wider than the screen" in problems
    assert "console: told" in problems
    assert "missing is not defined" in problems


def test_the_download_is_the_assignment(browser: Browser, written: Path, folder: Path) -> None:
    inspect(browser, written, 1400, "light")
    for series, budget in (("KL", "bits=6.0"), ("dMX", "bits=5.0"), ("uniform MXFP6", "everywhere")):
        link = browser.evaluate(
            f"""(() => {{ const set = (id, value) => {{ const select = document.getElementById(id); select.value = value;
            select.dispatchEvent(new Event("change")); }}; set("series", {json.dumps(series)}); set("budget", {json.dumps(budget)});
            return document.getElementById("download").href; }})()"""
        )
        content = json.loads(unquote(link.partition(",")[2]))
        known = [json.loads(path.read_text())["assignment"] for path in (folder / "records").iterdir()]
        assert content in known
        asked = {} if series.startswith("uniform") else {"text": budget}
        assert {key: content["budget"].get(key) for key in asked} == asked


def test_tables_sort_and_points_tell(browser: Browser, written: Path) -> None:
    inspect(browser, written, 1400, "light")
    column = """(() => {{ const table = document.querySelector('#runs table'); const heads = [...table.tHead.rows[0].cells];
        const at = heads.findIndex(head => head.textContent === 'perplexity'); heads[at].querySelector('button').click();
        return [...table.tBodies[0].rows].map(row => Number(row.cells[at].dataset.v)); }})()""".replace("{{", "{").replace("}}", "}")
    up, down = browser.evaluate(column), browser.evaluate(column)
    assert up == sorted(up)
    assert down == sorted(down, reverse=True)
    tip = browser.evaluate(
        """(() => { const mark = document.querySelector('.view.on .chart.wide .mark'); const box = mark.getBoundingClientRect();
        const at = {clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, bubbles: true};
        mark.closest('svg').dispatchEvent(new PointerEvent('pointermove', at)); return document.getElementById('tip').textContent; })()"""
    )
    assert "perplexity: " in tip
    assert "mean over linears of weight and input bits, scales included: " in tip


def test_points_are_reached_by_keyboard(browser: Browser, written: Path) -> None:
    inspect(browser, written, 1400, "light")
    press = """(key => {{ const chart = document.querySelector('.view.on .chart.wide'); chart.focus({{preventScroll: true}});
        chart.dispatchEvent(new KeyboardEvent('keydown', {{key, bubbles: true}})); const tip = document.getElementById('tip');
        return [document.activeElement === chart, tip.classList.contains('on'), tip.textContent]; }})({!r})"""
    first, second = (browser.evaluate(press.format("ArrowRight")) for _ in range(2))
    assert first[:2] == second[:2] == [True, True]
    assert "perplexity: " in first[2]
    assert "perplexity: " in second[2]
    assert first[2] != second[2]
    assert browser.evaluate(press.format("ArrowLeft")) == first
    browser.evaluate(press.format("Enter"))
    series, budget = (browser.evaluate(f"document.getElementById('{name}').value") for name in ("series", "budget"))
    assert first[2].splitlines()[0] == (series if budget == "everywhere" else f"{series}, {budget}")
    assert browser.evaluate(press.format("Escape"))[1] is False
