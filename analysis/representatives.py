"""Which runs stand for the rest where only a few can be shown."""

from __future__ import annotations

from analysis.records import Record
from analysis.scenarios import priced_device, setting_words, step_words
from analysis.summary import Analysis, nearest_budget
from mxsim.devices import Device


def compared_runs(analysis: Analysis) -> dict[str, str]:
    """Run's key -> label: the uniform formats, and the main series at the headline's budget; for costs side by side."""
    points = analysis.points
    labels = {row.key: f"{row.series}" for row in points[points["method"] == "uniform"].itertuples()}
    own = points[(points["series"] == analysis.main_series) & points["key"].isin(analysis.frames.costs["key"])]
    if len(own):
        here = own.iloc[nearest_budget(own)]
        labels[here["key"]] = f"{here['series']}, {here['budget']}"
    return {key: label for key, label in labels.items() if key in set(analysis.frames.costs["key"])}


def trajectory_record(analysis: Analysis, method: str) -> Record | None:
    """The run of a method whose search is shown: the headline's budget, the seed of median perplexity; of the main series where that is
    the method's."""
    points = analysis.points
    own = points[points["method"] == method]
    main = own[own["series"] == analysis.main_series]
    own = main if len(main) else own
    own = own[[analysis.frames.records[key].trajectory is not None for key in own["key"]]]
    return analysis.frames.records[own.iloc[nearest_budget(own)]["key"]] if len(own) else None


def device_of(analysis: Analysis) -> tuple[Device | None, str]:
    """The device that costs are of, with the figures they are of (None where these are not known), and its name with the scenario."""
    record = analysis.frames.priced
    return (None, "no device") if record is None else (priced_device(record)[0], setting_words(record))


def step_of(analysis: Analysis) -> str:
    """The device and the one step that layers' costs are of, "no device" where none are told."""
    record = analysis.frames.priced
    return "no device" if record is None else step_words(record)
