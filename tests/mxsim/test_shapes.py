"""Shapes: the shipped table, configs, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mxsim.errors import MxsimError, UnknownNameError
from mxsim.model_config import resolve_shape, shape_from_config
from mxsim.shapes import SHAPES, ModelShape
from mxsim.workload import Phase, build_workload

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}

#: parameters as published, in billions
PUBLISHED = {
    "Llama-3.2-1B": 1.24,
    "Llama-3.2-3B": 3.21,
    "Llama-3.1-8B": 8.03,
    "Llama-3.3-70B": 70.55,
    "Qwen3-0.6B": 0.6,
    "Qwen3-1.7B": 1.72,
    "Qwen3-4B": 4.02,
    "Qwen3-8B": 8.19,
    "Qwen3-30B-A3B": 30.53,
    "SmolLM2-135M": 0.135,
    "SmolLM2-360M": 0.362,
    "SmolLM2-1.7B": 1.71,
    "TinyLlama-1.1B": 1.10,
    "stories260K": 0.00026,
    "Mistral-7B-v0.3": 7.25,
    "gpt-oss-20b": 20.91,
    "gpt-oss-120b": 116.83,
}


@pytest.mark.parametrize("name", SHAPES)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    parameters = build_workload(SHAPES[name], Phase(context=1)).parameters
    assert parameters / 1e9 == pytest.approx(PUBLISHED[name], rel=0.01)
    assert SHAPES[name].source


def test_a_config_gives_the_shipped_shape() -> None:
    shape = shape_from_config(LLAMA, name="stories260K")
    shipped = SHAPES["stories260K"]
    for field in ("hidden", "intermediate", "layers", "heads", "kv_heads", "head_dim", "vocab", "tied_embeddings", "max_context"):
        assert getattr(shape, field) == getattr(shipped, field), field


def test_a_folder_a_file_and_a_name_in_any_case_are_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert resolve_shape(tmp_path).vocab == 512
    assert resolve_shape(tmp_path / "config.json") == resolve_shape(str(tmp_path / "config.json"))
    assert resolve_shape("meta-llama/llama-3.1-8b") is SHAPES["Llama-3.1-8B"]


def test_a_hub_name_is_read_from_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(LLAMA))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve_shape("someone/tiny").layers == 5
    with pytest.raises(MxsimError, match="not in the hub cache"):
        resolve_shape("someone/else")


@pytest.mark.parametrize("key", [key for key in LLAMA if key not in ("num_key_value_heads", "tie_word_embeddings")])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(MxsimError, match=key):
        shape_from_config({name: value for name, value in LLAMA.items() if name != key})


@pytest.mark.parametrize("value", [0, -1, "64", 1.5, True])
def test_a_bad_dimension_is_named(value: object) -> None:
    with pytest.raises(MxsimError, match=r"hidden_size = .* must be a whole number"):
        shape_from_config({**LLAMA, "hidden_size": value})


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(MxsimError, match="8 heads do not share 3 KV heads"):
        shape_from_config({**LLAMA, "num_key_value_heads": 3})
    with pytest.raises(MxsimError, match="head_dim is missing"):
        shape_from_config({**LLAMA, "num_attention_heads": 7, "num_key_value_heads": 7})


def test_unknown_architectures_say_what_is_missing() -> None:
    with pytest.raises(MxsimError, match=r"'mamba' is unknown: its list of linears is missing from mxsim/workload\.py"):
        shape_from_config({**LLAMA, "model_type": "mamba"})


def test_an_unknown_model_is_told_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'Qwen3-8B'"):
        resolve_shape("Qwen3-8b-x")
    with pytest.raises(MxsimError, match="there is no such file or folder"):
        resolve_shape("./nowhere/config.json")


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MxsimError, match="cannot be read"):
        resolve_shape(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(MxsimError, match="is not JSON"):
        resolve_shape(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(MxsimError, match="a JSON object is expected"):
        resolve_shape(tmp_path)


def test_impossible_shapes_are_refused() -> None:
    fields: dict[str, Any] = {key: getattr(SHAPES["gpt-oss-20b"], key) for key in ModelShape.__dataclass_fields__}
    with pytest.raises(MxsimError, match="layers = 0"):
        ModelShape(**{**fields, "layers": 0})
    with pytest.raises(MxsimError, match="experts_per_token = 33"):
        ModelShape(**{**fields, "experts_per_token": 33})
