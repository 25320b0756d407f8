"""What a search has done so far, on disk: safetensors and JSON, written beside and renamed, never pickled."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dmx.errors import DmxError
from dmx.files import made_folder
from dmx.secants import Secants
from mxsim.files import renamed_when_whole

if TYPE_CHECKING:
    from dmx.training import Training, TrainingState

STATE = "search_state.safetensors"
NOTES = "search_state.json"
TRAJECTORY_FILE = "trajectory.json"


class SearchState:
    """The saved state of one search; without a folder it is kept in memory alone."""

    def __init__(self, folder: Path | None, key: str) -> None:
        self.folder, self.key = folder, key
        self.path: Secants | None = None
        self.share = 1.0  #: of next-token loss in the search's loss, once path is known
        self.measured: dict[str, list[Sequence[float]]] = {}
        self.history: dict[str, list[Any]] = {}
        self.seconds_before = 0.0
        self._tensors: dict[str, torch.Tensor] = {}
        self._step = 0
        self._opened = time.perf_counter()

    @classmethod
    def open(cls, folder: Path | None, key: str) -> SearchState:
        """The state of the search that `key` names; a new one where the folder holds none of it."""
        state = cls(folder, key)
        if folder is None:
            return state
        made_folder(folder)
        try:
            notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))
            tensors = load_file(folder / f"{notes['state']}")
        except (OSError, ValueError, KeyError, SafetensorError):
            return state
        if notes.get("key") == key:
            state._tensors, state._step = tensors, int(notes["step"])
            state.history, state.measured = notes["history"], notes["measured"]
            state.share = float(notes["share"])
            state.seconds_before = float(notes["seconds"])
            state.path = Secants(tensors["path"]) if "path" in tensors else None
        return state

    def restore(self, training: Training) -> None:
        """Put a training where this state left it."""
        if not self._step:
            return
        saved, state = self._tensors, training.state
        state.offsets, state.moments = saved["offsets"], (saved["first_moment"], saved["second_moment"])
        state.prices, state.secants, state.step, state.history = saved["prices"], Secants(saved["secants"]), self._step, self.history

    def save_training(self, training: TrainingState) -> None:
        self._step, self.history = training.step, training.history
        self._tensors = {
            "offsets": training.offsets,
            "first_moment": training.moments[0],
            "second_moment": training.moments[1],
            "prices": training.prices,
            "secants": training.secants.sums,
        }
        self._write()

    def save_measured(self) -> None:
        if self.folder is not None and self._step:
            self._write_notes()

    def _write(self) -> None:
        if self.folder is None:
            return
        tensors = dict(self._tensors) if self.path is None else {**self._tensors, "path": self.path.sums}
        name = self._state_name()
        try:
            with renamed_when_whole(self.folder / name) as part:
                save_file({key: value.contiguous() for key, value in tensors.items()}, part)
        except (OSError, SafetensorError) as error:
            raise DmxError(
                f"the state of the search cannot be saved to {self.folder / name}: {error}; make room there, then run it again: it goes on "
                "from what was saved before"
            ) from error
        self._write_notes()
        for old in self.folder.glob(f"*.{STATE}"):
            if old.name != name:
                old.unlink(missing_ok=True)

    def _state_name(self) -> str:
        return f"{self._step:06}.{STATE}"

    def _write_notes(self) -> None:
        """The notes name the tensors they belong to, so that a stop between the two files loses nothing."""
        content = {
            "key": self.key,
            "state": self._state_name(),
            "step": self._step,
            "share": self.share,
            "history": self.history,
            "measured": self.measured,
            "seconds": self.seconds_before + time.perf_counter() - self._opened,
        }
        self._replace(NOTES, json.dumps(content))

    def _replace(self, name: str, text: str) -> None:
        if self.folder is None:
            return
        with renamed_when_whole(self.folder / name) as part:
            part.write_text(text, encoding="utf-8")

    def trajectory(self, decisions: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Loss, bits, cost and temperature at each step, and the offsets by layer."""
        columns = {name: values for name, values in self.history.items() if name != "offsets"}
        offsets: dict[str, dict[str, list[float]]] = {}
        for d, layers in enumerate(decisions):
            rows = [step[d] for step in self.history.get("offsets", [])]
            for layer in layers:
                offsets[layer] = {"weight": [row[0] for row in rows], "activation": [row[-1] for row in rows]}
        return {**columns, "offsets": offsets}

    def write_trajectory(self, decisions: Sequence[Sequence[str]]) -> None:
        """Beside the assignment, once there was a step; where there was none, what an earlier search left is none of it."""
        if self.history:
            self._replace(TRAJECTORY_FILE, json.dumps(self.trajectory(decisions)))
        elif self.folder is not None:
            (self.folder / TRAJECTORY_FILE).unlink(missing_ok=True)

    def finish(self) -> None:
        """The search is done: what was kept to resume it goes."""
        if self.folder is not None:
            for path in (*self.folder.glob(f"*{STATE}*"), *self.folder.glob(f"*{NOTES}*")):
                path.unlink(missing_ok=True)
