# Every target makes its own environment in .venv on a machine with Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help env test lint pareto cluster bench exactness units-report exhaustive oracles pages clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

env: $(READY) ## make the environment, nothing else

test: $(READY) ## all tests that need no third-party quantiser
	$(BIN)/python -m pytest

lint: $(READY) ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

#: make pareto MODEL=./model TEXT=mine.txt OUT=out/mine, or make pareto CONFIG=job.yaml
pareto: $(READY) ## the main job: sweep, fronts, export, validation, page; MODEL= TEXT= OUT= CONFIG= for one's own
	$(BIN)/python -m analysis job $(if $(CONFIG),--config '$(CONFIG)') $(if $(MODEL),--model '$(MODEL)') $(if $(TEXT),--text '$(TEXT)') $(if $(OUT),-o '$(OUT)')

cluster: $(READY) ## a sweep on a Ray cluster of two nodes on this machine, one of them killed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[ray]'
	$(BIN)/python -m pytest -m cluster -rA tests/dmx/engines

bench: $(READY) ## speed as ratios against peers and limits, into reports/benchmarks.md
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]' 2>/dev/null || echo 'peers could not be installed: measured without' >&2
	$(BIN)/python -m benchmarks

exactness: $(READY) ## regenerate reports/exactness.md
	$(BIN)/python -m reports.make_exactness

units-report: $(READY) ## regenerate reports/units.md
	$(BIN)/python -m reports.make_units

exhaustive: $(READY) ## every one of the 2^32 float32 patterns through every element format
	$(BIN)/python -m pytest -m exhaustive -rA

oracles: $(READY) ## live comparisons with heavy third-party packages, where they are installed
	$(BIN)/python -m pytest -m oracle -rA tests/live

#: pages to look at besides a synthetic one: make pages PAGES=out/report/index.html
PAGES ?= $(wildcard out/*/index.html)

pages: $(READY) ## screenshots of the report in headless Chromium, and what no page may have, into out/pages
	$(BIN)/python -m tests.analysis.make_records out/pages/synthetic
	$(BIN)/python -m analysis report out/pages/synthetic -o out/pages/synthetic.html
	$(BIN)/python -m analysis.page.browser out/pages/synthetic.html $(PAGES) -o out/pages

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
