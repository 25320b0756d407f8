"""`python -m reports.rescore SWEEP -o FOLDER [--model MODEL --text FILE | --tokens N]`: what a sweep found, scored on all of a report text.

What was searched stands; perplexity and KL are measured anew, of equal assignments once. The records are those that the sweep would have
written with every window of the report text, or with so much more of the embedded model's, and are named so.
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
from dmx.evaluation import FloatLogs, report_text
from dmx.records import Run, is_done, read_record, record_path, write_record
from dmx.text import TokenText
from mxsim.assignment import Assignment
from reports.archive import without_folders
from reports.arguments import add_tokens, sweep_parser

WINDOWS = "--report-windows"


def whole(specification: dict[str, Any], text: TokenText) -> dict[str, Any]:
    """The specification of the same run that reports on every window of a text."""
    texts = {**specification["text"], "report": text.identity}
    return {**specification, "text": texts, "settings": {**specification["settings"], "report_windows": None}}


def without_windows(command: str) -> str:
    words = shlex.split(command)
    if WINDOWS in words:
        at = words.index(WINDOWS)
        del words[at : at + 2]
    return shlex.join(words)


def main() -> None:
    parser = sweep_parser(__doc__)
    add_tokens(parser)
    asked = parser.parse_args()
    model = dmx.load_model(asked.model)
    records = read_results(asked.sweep).records
    window = asked.window or records[0].specification["settings"]["context"]
    swept = report_text(model, asked.text, part=asked.part, context=window)
    text = swept if asked.tokens is None else report_text(model, asked.text, part=asked.part, context=window, tokens=asked.tokens)
    known: dict[str, dict[str, Any]] = {}
    float_logs = FloatLogs()
    for record in tqdm(records, desc="records", unit="record"):
        content = read_record(record.path)
        given = content["specification"]
        reported = given["text"]["report"]
        if given["model"]["sha256"] != model.sha256:
            raise DmxError(f"{record.path.name} was made with another model than {model.name!r}: give {given['model']['name']!r}")
        if (reported["name"], reported["sha256"]) not in [(one.name, one.sha256) for one in (swept, text)]:
            raise DmxError(f"{record.path.name} was reported on another text than {text.name!r}: give {reported['name']!r}, and its part")
        specification = whole(given, text)
        run = Run(specification=specification, places={})
        assignment = content["assignment"]
        same = json.dumps([assignment["layers"], assignment["policy"]] if assignment else None, sort_keys=True)
        if is_done(asked.output, run.key):
            known[same] = read_record(record_path(asked.output, run.key))["quality"]
            continue
        started = time.perf_counter()
        if same not in known:
            found = dmx.evaluate(model, Assignment.from_json(assignment) if assignment else None, text=text, float_logs=float_logs)
            known[same] = {**content["quality"], **{name: found[name] for name in ("perplexity", "tokens", "kl_to_float")}}
        timing = {**content["timing"], "seconds_evaluate": time.perf_counter() - started}
        scored_by = without_folders(shlex.join(["python", "-m", "reports.rescore", *sys.argv[1:]]))
        environment = {**content["environment"], "command": without_windows(content["environment"]["command"]), "scored_by": scored_by}
        changed = {"key": run.key, "specification": specification, "quality": known[same], "timing": timing, "environment": environment}
        write_record(asked.output, {**content, **changed})


if __name__ == "__main__":
    main()
