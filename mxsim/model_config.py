"""From a transformers config.json, or the name of a model, to its shape."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mxsim.errors import MxsimError, unknown_name
from mxsim.shapes import SHAPES, ModelShape

#: Dense decoders whose blocks are q, k, v, o and gate, up, down.
_DENSE = ("llama", "mistral", "qwen2", "qwen3")
_MOE = ("qwen3_moe", "gpt_oss")
FAMILIES = (*_DENSE, *_MOE)


def resolve_shape(model: str | Path | Mapping[str, Any] | ModelShape) -> ModelShape:
    """The shape of a model however it is named.

    Args: model: a ModelShape; a config as a mapping; a folder or file with config.json; a name in SHAPES, in any case, with
        or without its organisation; or a hub name whose config.json lies in the local hub cache or can be fetched.
    Raises: MxsimError where none of these holds, or the config is not one mxsim can read.
    """
    if isinstance(model, ModelShape):
        return model
    if isinstance(model, Mapping):
        return shape_from_config(model)
    if not isinstance(model, (str, Path)):
        raise MxsimError(f"model is {model!r}: pass a name such as 'Llama-3.1-8B', a folder or file with config.json, or a ModelShape")
    path = Path(model)
    if path.is_dir() or path.is_file():
        return _read_config(path / "config.json" if path.is_dir() else path, name=path.resolve().name)
    name = str(model)
    shipped = {shape.lower(): shape for shape in SHAPES}
    known = shipped.get(name.rsplit("/", 1)[-1].lower())
    if known is not None:
        return SHAPES[known]
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _hub_config(name)
    if path.suffix or len(path.parts) > 1:
        raise MxsimError(f"model {name!r}: there is no such file or folder, and no shape of that name is shipped")
    raise unknown_name("model", name, SHAPES)


def _read_config(path: Path, *, name: str) -> ModelShape:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MxsimError(f"config {str(path)!r} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise MxsimError(f"config {str(path)!r} is not JSON that can be read: {error}") from error
    if not isinstance(content, Mapping):
        raise MxsimError(f"config {str(path)!r}: a JSON object is expected, got {type(content).__name__}")
    return shape_from_config(content, name=name)


def _hub_config(name: str) -> ModelShape:
    """config.json of a hub model: from the local cache, else over the network."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    for path in sorted(cache.glob(f"models--{name.replace('/', '--')}/snapshots/*/config.json")):
        return _read_config(path, name=name)
    refused = f"model {name!r} is no shape that is shipped, and its config.json is not in the hub cache {str(cache)!r}"
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        raise MxsimError(f"{refused}; HF_HUB_OFFLINE forbids fetching it")
    from urllib.error import URLError
    from urllib.request import urlopen

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        with urlopen(f"{endpoint}/{name}/resolve/main/config.json", timeout=10) as reply:
            return shape_from_config(json.load(reply), name=name)
    except (URLError, TimeoutError, OSError) as error:
        raise MxsimError(f"{refused}; fetching it failed ({error}): pass a folder with config.json") from error


def shape_from_config(config: Mapping[str, Any], *, name: str | None = None) -> ModelShape:
    """The shape that a transformers config describes.

    Raises: MxsimError naming the missing key, the unknown architecture with those that are known, or the bad dimension.
    """
    family = config.get("model_type")
    if family is None:
        raise MxsimError(f"config has no model_type: known are {', '.join(FAMILIES)}")
    if family not in FAMILIES:
        raise MxsimError(
            f"architecture {family!r} is unknown: its list of linears is missing from mxsim/workload.py and its keys from "
            f"mxsim/model_config.py; known are {', '.join(FAMILIES)}"
        )
    label = name or str(config.get("_name_or_path") or family)
    keys = _Keys(config, label)
    heads, hidden, layers = (
        keys.count("num_attention_heads"),
        keys.count("hidden_size"),
        keys.count("num_hidden_layers"),
    )
    head_dim = config.get("head_dim")
    if head_dim is None and hidden % heads:
        raise MxsimError(f"{label}: head_dim is missing, and {heads} heads do not divide hidden_size = {hidden}")
    bias = bool(config.get("attention_bias", False)) or family == "qwen2"
    fields: dict[str, Any] = {
        "name": label,
        "family": family,
        "hidden": hidden,
        "intermediate": keys.count("moe_intermediate_size" if family == "qwen3_moe" else "intermediate_size"),
        "layers": layers,
        "heads": heads,
        "kv_heads": keys.count("num_key_value_heads", heads),
        "head_dim": hidden // heads if head_dim is None else keys.count("head_dim"),
        "vocab": keys.count("vocab_size"),
        "tied_embeddings": bool(config.get("tie_word_embeddings", False)),
        "max_context": keys.count("max_position_embeddings"),
        "attention_bias": bias,
        "output_bias": bias and family != "qwen2",
        "mlp_bias": bool(config.get("mlp_bias", False)) or family == "gpt_oss",
        "attention_sinks": family == "gpt_oss",
        "qk_norm": family in ("qwen3", "qwen3_moe"),
        "source": "config.json",
    }
    if family in _MOE:
        fields |= _expert_fields(family, keys, layers)
    return ModelShape(**fields, **_window_fields(family, config, layers))


def _expert_fields(family: str, keys: _Keys, layers: int) -> dict[str, Any]:
    if family == "gpt_oss":
        fields = {"experts": keys.count("num_local_experts")}
    else:
        fields = {"experts": keys.count("num_experts", keys.config.get("num_local_experts"))}
    fields["experts_per_token"] = keys.count("num_experts_per_tok")
    step, dense = keys.config.get("decoder_sparse_step", 1), keys.config.get("mlp_only_layers") or []
    dense_layers = tuple(i for i in range(layers) if i in dense or (i + 1) % step)
    if dense_layers:
        return {**fields, "dense_layers": dense_layers, "dense_intermediate": keys.count("intermediate_size")}
    return fields


def _window_fields(family: str, config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Sliding windows: all of Mistral's layers where it has one; elsewhere those that layer_types names."""
    window = config.get("sliding_window")
    if not window or config.get("use_sliding_window") is False:
        return {}
    types = config.get("layer_types")
    if types:
        windowed = tuple(i for i, kind in enumerate(types) if kind == "sliding_attention")
    elif family == "gpt_oss":
        windowed = tuple(range(0, layers, 2))
    elif family == "mistral":
        windowed = tuple(range(layers))
    else:
        windowed = tuple(range(int(config.get("max_window_layers", 0)), layers))
    return {"sliding_window": int(window), "windowed_layers": windowed} if windowed else {}


class _Keys:
    """A config's positive whole numbers, with errors that name the key."""

    def __init__(self, config: Mapping[str, Any], label: str) -> None:
        self.config = config
        self.label = label

    def count(self, key: str, default: Any = None) -> int:
        value = self.config.get(key)
        value = default if value is None else value
        if value is None:
            raise MxsimError(f"{self.label}: config has no {key!r}, which its {self.config['model_type']} layers need")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise MxsimError(f"{self.label}: {key} = {value!r} must be a whole number of at least 1")
        return value
