"""What a search leaves on disk: resumed to the same result, taken by the search it is of alone, begun anew where it is damaged."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("transformers")

import torch
from safetensors import SafetensorError

import mxsim
from dmx import training
from dmx.budget import Budget, Scenario
from dmx.errors import DmxError
from dmx.models import load_model
from dmx.search_state import NOTES, SearchState
from dmx.searching import search
from dmx.secants import Secants

if TYPE_CHECKING:
    from dmx.models import LoadedModel
    from dmx.text import TokenText
    from dmx.training import TrainingState

B200 = Scenario(device="b200", assume=("b200-fp4-half-fp8",))
QUICK: dict[str, Any] = {"steps": 6, "batch_windows": 2, "refine": 3}


def layers_of(assignment: Any) -> Any:
    return assignment.to_json()["layers"]


class StoppedError(Exception):
    """As if the process had ended here."""


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("where", ["before a save", "after a save", "in refinement"])
def test_an_interrupted_search_gives_the_same_result(
    llama: LoadedModel, text: TokenText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, preset: str
) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY", 3)
    settings: dict[str, Any] = {"steps": 8, "batch_windows": 2} | ({"refine": 4} if preset == "default" else {})
    if where == "in refinement" and preset == "paper":
        settings |= {"refine": 4, "repair": True}
    whole = search(llama, "bits=6", config=preset, text=text, folder=tmp_path / "whole", **settings)
    save_training, save_measured, calls = SearchState.save_training, SearchState.save_measured, []

    def stop_training(self: SearchState, state: TrainingState) -> None:
        calls.append(state.step)
        if where == "before a save" and len(calls) == 2:
            raise StoppedError
        save_training(self, state)
        if where == "after a save" and len(calls) == 2:
            raise StoppedError

    def stop_measured(self: SearchState) -> None:
        calls.append(-1)
        save_measured(self)
        if where == "in refinement" and calls.count(-1) == 2:
            raise StoppedError

    monkeypatch.setattr(SearchState, "save_training", stop_training)
    monkeypatch.setattr(SearchState, "save_measured", stop_measured)
    with pytest.raises(StoppedError):
        search(llama, "bits=6", config=preset, text=text, folder=tmp_path / "cut", **settings)
    monkeypatch.setattr(SearchState, "save_training", save_training)
    monkeypatch.setattr(SearchState, "save_measured", save_measured)
    assert (tmp_path / "cut" / NOTES).is_file()
    monkeypatch.setattr("dmx.searching.next_token_share", lambda *_: pytest.fail("looked at the text again"))
    again = search(llama, "bits=6", config=preset, text=text, folder=tmp_path / "cut", **settings)
    assert layers_of(again) == layers_of(whole)
    assert {k: v for k, v in again.search.items() if k != "seconds"} == {k: v for k, v in whole.search.items() if k != "seconds"}
    assert (tmp_path / "cut" / "trajectory.json").read_text() == (tmp_path / "whole" / "trajectory.json").read_text()
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["assignment.json", "trajectory.json"]


def test_a_state_that_cannot_be_saved_says_where_and_what_then(
    llama: LoadedModel, text: TokenText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    def unwritable(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("dmx.search_state.save_file", full)
        with pytest.raises(DmxError, match=r"cannot be saved to .*search_state\.safetensors: .*No space.*; make room there"):
            search(llama, "bits=5", text=text, folder=tmp_path / "cut", **QUICK)
    assert not list((tmp_path / "cut").iterdir())
    monkeypatch.setattr("tempfile.TemporaryFile", unwritable)
    with pytest.raises(DmxError, match="results cannot go to"):
        search(llama, "bits=5", text=text, folder=tmp_path / "unwritable", **QUICK)


def test_a_device_file_that_was_changed_makes_another_search(
    llama: LoadedModel, text: TokenText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = Path(mxsim.__file__).parent / "devices" / "b200.toml"
    own, keys = tmp_path / "own.toml", list[str]()
    own.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr("dmx.searching.SearchState.open", lambda _, key: (keys.append(key), 1 / 0))
    scenario = Scenario(device=str(own), assume=B200.assume)
    for _ in range(2):
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                search(llama, "latency=3x", text=text, scenario=scenario, **QUICK)
        own.write_text(own.read_text(encoding="utf-8").replace('title = "', 'title = "Changed ', 1), encoding="utf-8")
    assert keys[0] == keys[1] != keys[2] == keys[3]


def test_a_search_is_resumed_only_where_all_that_it_depends_on_is_the_same(
    llama: LoadedModel, text: TokenText, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []
    monkeypatch.setattr("dmx.searching.SearchState.open", lambda _, key: (keys.append(key), 1 / 0))
    half = load_model(copy.deepcopy(llama.module).bfloat16())
    widened = load_model(copy.deepcopy(half.module).float())
    stored = replace(widened, stored_dtypes=dict.fromkeys(widened.linears, torch.bfloat16))
    scaled = copy.deepcopy(widened.module)
    scaled.config.rms_norm_eps *= 2
    asked: list[tuple[Any, Any, dict[str, Any]]] = [
        (llama, "bits=5", {}),
        *((model, "bits=5", {}) for model in (half, widened, stored, load_model(scaled))),
        (llama, "bits=5.5", {}),
        (llama, ["bits=5", "bytes=0.9x"], {}),
        (llama, Budget.parse("bits=5", bits_scales="in"), {}),
        (llama, "bits=5", {"text": text.first(2)}),
        (llama, "bits=5", {"part": "first"}),
        (llama, "bits=5", {"seed": 1}),
        (llama, "bits=5", {"config": "kl"}),
        (llama, "bits=5", {"tie": True}),
        (llama, "bits=5", {"skip": ["*up_proj"]}),
    ]
    for model, budget, how in [*asked, asked[0]]:
        with pytest.raises(ZeroDivisionError):
            search(model, budget, **{"text": text, **how})
    assert keys.pop() == keys[0]
    assert len(set(keys)) == len(asked)


def test_the_state_of_another_search_is_not_taken(llama: LoadedModel, text: TokenText, tmp_path: Path) -> None:
    state = SearchState.open(tmp_path, "another")
    state.save_training(_state_of(llama))
    assert SearchState.open(tmp_path, "another")._step == 1
    assert SearchState.open(tmp_path, "mine")._step == 0
    found = search(llama, "bits=5", text=text, folder=tmp_path, **QUICK)
    assert layers_of(found) == layers_of(search(llama, "bits=5", text=text, **QUICK))


def test_the_state_of_other_code_is_not_taken(llama: LoadedModel, text: TokenText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    opened = SearchState.open.__func__  # type: ignore[attr-defined]

    def open_and_note(cls: type[SearchState], folder: Path | None, key: str) -> SearchState:
        keys.append(key)
        return opened(cls, folder, key)  # type: ignore[no-any-return]

    monkeypatch.setattr(SearchState, "open", classmethod(open_and_note))
    for code in ("ours", "ours", "theirs"):
        monkeypatch.setattr("dmx.searching.code_sha256", lambda code=code: code)
        search(llama, "bits=5", text=text, formats=("mxfp4_e2m1",), folder=tmp_path)
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("name", [NOTES, "000001.search_state.safetensors"])
def test_a_damaged_state_is_begun_anew(llama: LoadedModel, tmp_path: Path, name: str) -> None:
    SearchState.open(tmp_path, "mine").save_training(_state_of(llama))
    (tmp_path / name).write_bytes(b"{")
    assert SearchState.open(tmp_path, "mine")._step == 0


def _state_of(model: LoadedModel) -> TrainingState:
    from dmx.training import TrainingState

    shape = (len(model.linears), 2)
    return TrainingState(
        offsets=torch.zeros(shape),
        moments=(torch.zeros(shape), torch.zeros(shape)),
        prices=torch.zeros(1),
        secants=Secants.empty(shape[0], 1),
        step=1,
    )
