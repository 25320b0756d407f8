"""`python -m reports.rescore SWEEP -o FOLDER [--model MODEL --text FILE]`: a sweep's assignments scored again on all of the report text.

What was searched stands; perplexity and KL are measured anew, of equal assignments once. The records are those that the sweep would have
written with every window of the report text, and are named so.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from typing import Any

from tqdm import tqdm

import dmx
from analysis.records import read_results
from dmx.errors import DmxError
from dmx.evaluation import report_text
from dmx.records import Run, is_done, read_record, record_path, write_record
from mxsim.assignment import Assignment
from reports.archive import without_folders
from reports.arguments import sweep_parser

WINDOWS = "--report-windows"


def whole(specification: dict[str, Any]) -> dict[str, Any]:
    """The specification of the same run that reports on every window."""
    return {**specification, "settings": {**specification["settings"], "report_windows": None}}


def without_windows(command: str) -> str:
    words = shlex.split(command)
    if WINDOWS in words:
        at = words.index(WINDOWS)
        del words[at : at + 2]
    return shlex.join(words)


def main() -> None:
    asked = sweep_parser(__doc__).parse_args()
    model = dmx.load_model(asked.model)
    text = report_text(model, asked.text, part=asked.part, context=asked.window)
    known: dict[str, dict[str, Any]] = {}
    for record in tqdm(read_results(asked.sweep).records, desc="records", unit="record"):
        content = read_record(record.path)
        specification = whole(content["specification"])
        for what, here, there in (("model", model.sha256, specification["model"]), ("text", text.sha256, specification["text"]["report"])):
            if here != there["sha256"]:
                raise DmxError(f"{record.path.name} was made with another {what} than the one given; give that of {there['name']!r}")
        run = Run(specification=specification, places={})
        assignment = content["assignment"]
        same = json.dumps([assignment["layers"], assignment["policy"]] if assignment else None, sort_keys=True)
        if is_done(asked.output, run.key):
            known[same] = read_record(record_path(asked.output, run.key))["quality"]
            continue
        started = time.perf_counter()
        if same not in known:
            found = dmx.evaluate(model, Assignment.from_json(assignment) if assignment else None, text=text)
            known[same] = {**content["quality"], **{name: found[name] for name in ("perplexity", "tokens", "kl_to_float")}}
        timing = {**content["timing"], "seconds_evaluate": time.perf_counter() - started}
        scored_by = without_folders(shlex.join(["python", "-m", "reports.rescore", *sys.argv[1:]]))
        environment = {**content["environment"], "command": without_windows(content["environment"]["command"]), "scored_by": scored_by}
        changed = {"key": run.key, "specification": specification, "quality": known[same], "timing": timing, "environment": environment}
        write_record(asked.output, {**content, **changed})


if __name__ == "__main__":
    main()
