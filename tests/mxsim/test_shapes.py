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
    assert resolve_shape(tmp_path / "config.json") == resolve_shape(str(tmp_path / "config.json")) == resolve_shape(tmp_path)
    assert resolve_shape(tmp_path / "config.json").name == tmp_path.name
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


@pytest.mark.parametrize(
    ("variables", "hub"),
    [
        ({}, "home/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "{}/xdg"}, "xdg/huggingface/hub"),
        ({"HF_HOME": "~/own", "XDG_CACHE_HOME": "{}/xdg"}, "home/own/hub"),
        ({"HF_HOME": "$HOME/own"}, "home/own/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "{}/old", "HF_HOME": "~/own"}, "old"),
        ({"HF_HUB_CACHE": "~/new", "HUGGINGFACE_HUB_CACHE": "{}/old"}, "home/new"),
    ],
)
def test_the_cache_is_where_huggingface_hub_keeps_it(
    variables: dict[str, str], hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HOME", "XDG_CACHE_HOME", "HUGGINGFACE_HUB_CACHE", "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    snapshot = tmp_path / hub / "models--someone--tiny" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(LLAMA))
    assert resolve_shape("someone/tiny").layers == 5
    with pytest.raises(MxsimError, match="TRANSFORMERS_OFFLINE forbids"):
        resolve_shape("someone/else")


def test_yarn_stretches_the_longest_context() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    config = {**LLAMA, "max_position_embeddings": 40960}
    assert resolve_shape({**config, "rope_scaling": yarn}).max_context == 131072
    assert resolve_shape({**config, "rope_parameters": yarn}).max_context == 131072
    assert resolve_shape({**config, "rope_scaling": {**yarn, "rope_type": "llama3"}}).max_context == 40960
    assert resolve_shape({**config, "max_position_embeddings": 131072, "rope_scaling": yarn}).max_context == 131072


@pytest.mark.parametrize(
    "path",
    [
        "./models/Qwen3-8B",
        "../Qwen3-8B",
        "/nowhere/Llama-3.1-8B",
        "/Qwen3-8B",
        "~/models/qwen3-8b",
        "~/Qwen3-8B",
        "me/mine/Qwen3-8B",
        "Qwen3-8B/",
    ],
)
def test_a_path_that_is_not_there_is_no_shipped_shape(path: str) -> None:
    with pytest.raises(MxsimError, match="there is no such file or folder"):
        resolve_shape(path)


def test_of_several_cached_revisions_main_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--someone--tiny"
    for revision, layers in (("0aaa", 3), ("1bbb", 4), ("2ccc", 5)):
        (folder / "snapshots" / revision).mkdir(parents=True)
        (folder / "snapshots" / revision / "config.json").write_text(json.dumps({**LLAMA, "num_hidden_layers": layers}))
    assert resolve_shape("someone/tiny").layers == 3
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("1bbb\n")
    assert resolve_shape("someone/tiny").layers == 4
    (folder / "refs" / "main").write_text("gone")
    assert resolve_shape("someone/tiny").layers == 3


@pytest.mark.parametrize("reply", [b"<html>", b"[]"])
def test_a_hub_that_sends_no_config_is_told(reply: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "someone/tiny/resolve/main").mkdir(parents=True)
    (tmp_path / "someone/tiny/resolve/main/config.json").write_bytes(reply)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", tmp_path.as_uri())
    with pytest.raises(MxsimError, match="pass a folder with config"):
        resolve_shape("someone/tiny")


#: What a config may say of its windows, beside the dimensions.
WINDOWS: list[dict[str, Any]] = [
    {},
    {"use_sliding_window": True},
    {"use_sliding_window": False},
    {"sliding_window": 64},
    {"sliding_window": None, "use_sliding_window": True},
    {"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 2},
    {"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 0},
    {"sliding_window": 64, "max_window_layers": 2},
]
CLASSES = {
    "llama": "LlamaConfig",
    "mistral": "MistralConfig",
    "qwen2": "Qwen2Config",
    "qwen3": "Qwen3Config",
    "qwen3_moe": "Qwen3MoeConfig",
    "gpt_oss": "GptOssConfig",
}


@pytest.mark.parametrize("family", CLASSES)
@pytest.mark.parametrize("said", WINDOWS, ids=str)
def test_a_config_is_read_as_transformers_reads_it(family: str, said: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    dimensions = {"hidden_size": 2048, "intermediate_size": 64, "num_hidden_layers": 30, "num_attention_heads": 32, "vocab_size": 512}
    dimensions |= {"max_position_embeddings": 512, "moe_intermediate_size": 64, "num_experts": 8, "num_local_experts": 8}
    dimensions |= {"num_experts_per_tok": 2}
    shape = shape_from_config({"model_type": family, **dimensions, **said})
    theirs = getattr(transformers, CLASSES[family])(**dimensions, **said)
    assert shape.kv_heads == theirs.num_key_value_heads
    assert shape.head_dim == getattr(theirs, "head_dim", 2048 // 32)
    assert shape.attention_bias == (family == "qwen2" or getattr(theirs, "attention_bias", False))
    window = None if family == "llama" else theirs.sliding_window  # see the next test
    types = getattr(theirs, "layer_types", None) or ["sliding_attention"] * 30
    assert shape.windowed_layers == tuple(i for i in range(30) if window is not None and types[i] == "sliding_attention")
    assert shape.sliding_window == ((window or 0) if shape.windowed_layers else 0)


def test_layer_types_name_the_windowed_layers() -> None:
    types = ["full_attention", "sliding_attention"] * 2 + ["full_attention"]
    said = {"sliding_window": 64, "layer_types": types}
    assert shape_from_config({**LLAMA, **said}).windowed_layers == ()  # Llama's mask knows none, whatever a config says
    assert shape_from_config({**LLAMA, **said, "model_type": "mistral"}).windowed_layers == (1, 3)
    assert shape_from_config({**LLAMA, **said, "model_type": "qwen3"}).windowed_layers == ()
    assert shape_from_config({**LLAMA, **said, "model_type": "qwen3", "use_sliding_window": True}).windowed_layers == (1, 3)
    assert shape_from_config({**LLAMA, **SPARSE, **said, "use_sliding_window": True}).windowed_layers == tuple(range(5))  # all or none


@pytest.mark.parametrize(
    ("family", "biases"),
    [("llama", (True, True, True)), ("mistral", (False,) * 3), ("qwen2", (True, False, False)), ("qwen3", (True, True, False))],
)
def test_biases_are_those_that_the_architecture_has(family: str, biases: tuple[bool, ...]) -> None:
    shape = shape_from_config({**LLAMA, "model_type": family, "attention_bias": True, "mlp_bias": True})
    assert (shape.attention_bias, shape.output_bias, shape.mlp_bias) == biases


WINDOWED = {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 64}
SPARSE = {"model_type": "qwen3_moe", "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({**WINDOWED, "sliding_window": -5}, "sliding_window = -5"),
        ({**WINDOWED, "sliding_window": 0}, "sliding_window = 0"),
        ({**WINDOWED, "sliding_window": "abc"}, "sliding_window = 'abc'"),
        ({"model_type": "mistral", "sliding_window": 1.5}, "sliding_window = 1.5"),
        ({**WINDOWED, "use_sliding_window": "false"}, "use_sliding_window = 'false' must be true or false"),
        ({**WINDOWED, "max_window_layers": "2"}, "max_window_layers = '2'"),
        ({**WINDOWED, "max_window_layers": -1}, "max_window_layers = -1"),
        ({**WINDOWED, "layer_types": 5}, "layer_types = 5 must be a list of strings"),
        ({**WINDOWED, "layer_types": [1] * 5}, "layer_types = .* must be a list of strings"),
        ({**WINDOWED, "layer_types": ["sliding_attention"]}, "layer_types names 1 layers, but num_hidden_layers = 5"),
        ({**SPARSE, "decoder_sparse_step": 0}, "decoder_sparse_step = 0"),
        ({**SPARSE, "mlp_only_layers": 3}, "mlp_only_layers = 3 must be a list of whole numbers"),
        ({**SPARSE, "mlp_only_layers": ["1"]}, "mlp_only_layers = .* must be a list of whole numbers"),
        ({"attention_bias": "no"}, "attention_bias = 'no' must be true or false"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings = 1 must be true or false"),
    ],
)
def test_a_bad_key_is_named(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(MxsimError, match=named):
        shape_from_config({**LLAMA, **keys})


def test_a_null_is_what_is_left_out() -> None:
    assert shape_from_config({**LLAMA, **WINDOWED, "max_window_layers": None}).windowed_layers == ()  # 28 of 5 layers
    assert shape_from_config({**LLAMA, **SPARSE, "decoder_sparse_step": None, "mlp_only_layers": None}).dense_layers == ()
    assert shape_from_config({**LLAMA, **SPARSE, "mlp_only_layers": [0, 3]}).dense_layers == (0, 3)


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
