"""Records: what identifies a run, and that a record is there whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from dmx.errors import DmxError
from dmx.records import DONE, FAILED, SCHEMA, Run, code_sha256, is_done, read_record, record_path, write_record

SPECIFICATION: dict[str, Any] = {"method": "dmx", "formats": ["mxfp4_e2m1"], "budget": {"text": "bits=5"}, "seed": 1}


def record(key: str, status: str = DONE) -> dict[str, Any]:
    return {"schema": SCHEMA, "key": key, "status": status}


def test_the_key_is_of_what_goes_in_and_not_of_where_it_lies() -> None:
    here, there = Run(specification=SPECIFICATION, places={"model": "a"}), Run(specification=SPECIFICATION, places={"model": "b"})
    assert here.key == there.key
    assert here.key != Run(specification={**SPECIFICATION, "seed": 2}, places={}).key
    assert Run(specification=dict(reversed(SPECIFICATION.items())), places={}).key == here.key
    assert here.label == "dmx bits=5 seed 1"


def test_a_run_survives_json() -> None:
    run = Run(specification=SPECIFICATION, places={"model": None, "text": "b"})
    assert Run.from_json(json.loads(json.dumps(run.to_json()))) == run


def test_the_code_is_part_of_a_run() -> None:
    assert len(code_sha256()) == 64
    assert code_sha256() == code_sha256()


def test_a_record_comes_back(tmp_path: Path) -> None:
    path = write_record(tmp_path, record("k"))
    assert path == record_path(tmp_path, "k")
    assert read_record(path) == record("k")
    assert is_done(tmp_path, "k")
    assert not is_done(tmp_path, "other")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_lacks_is_null(tmp_path: Path, number: float) -> None:
    told = {"loss": [0.5, number]}
    assert read_record(write_record(tmp_path, {**record("k"), "trajectory": told}))["trajectory"] == {"loss": [0.5, None]}


def test_a_stop_while_writing_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(tmp_path, {**record("k"), "value": "old"})

    def stop(*paths: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_record(tmp_path, {**record("k"), "value": "new"})
    assert read_record(record_path(tmp_path, "k"))["value"] == "old"


def test_a_failed_run_is_not_done(tmp_path: Path) -> None:
    write_record(tmp_path, record("k", FAILED))
    assert not is_done(tmp_path, "k")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 0}'])
def test_a_broken_record_is_told_and_done_again(tmp_path: Path, content: str) -> None:
    path = write_record(tmp_path, record("k"))
    path.write_text(content)
    assert not is_done(tmp_path, "k")
    with pytest.raises(DmxError, match=r"k\.json .* makes it again"):
        read_record(path)
