"""From a transformers config.json, or the name of a model, to its shape."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from mxsim.errors import MxsimError, unknown_name
from mxsim.shapes import SHAPES, ModelShape

T = TypeVar("T", int, str)

#: Dense decoders whose blocks are q, k, v, o and gate, up, down.
_DENSE = ("llama", "mistral", "qwen2", "qwen3")
_MOE = ("qwen3_moe", "gpt_oss")
FAMILIES = (*_DENSE, *_MOE)
_QWEN = ("qwen2", "qwen3", "qwen3_moe")
#: What transformers 5.23 puts in for a key that a config leaves out, in each family's configuration class. A null stays null.
_LEFT_OUT: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"num_key_value_heads": 8, "sliding_window": 4096},
    "qwen2": {"num_key_value_heads": 32, "sliding_window": 4096},
    "qwen3": {"num_key_value_heads": 32, "sliding_window": 4096, "head_dim": 128},
    "qwen3_moe": {"num_key_value_heads": 4, "sliding_window": 4096},
    "gpt_oss": {"num_key_value_heads": 8, "sliding_window": 128, "head_dim": 64, "attention_bias": True},
}


def resolve_shape(model: str | Path | Mapping[str, Any] | ModelShape) -> ModelShape:
    """The shape of a model however it is named.

    Args: model: a ModelShape; a config as a mapping; a folder or file with config.json; a name in SHAPES, in any case, alone or
        as ORGANISATION/NAME; or a hub name whose config.json lies in the local hub cache or can be fetched.
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
        folder = path if path.is_dir() else path.parent
        is_config = path.is_dir() or path.name == "config.json"
        return _read_config(folder / "config.json" if is_config else path, name=(folder if is_config else path).resolve().name)
    name = str(model)
    if not _is_name(name):
        raise MxsimError(f"model {name!r}: there is no such file or folder, and it is not NAME or ORGANISATION/NAME")
    shipped = {shape.lower(): shape for shape in SHAPES}
    known = shipped.get(name.rpartition("/")[2].lower())
    if known is not None:
        return SHAPES[known]
    if "/" in name:
        return _hub_config(name)
    if path.suffix:
        raise MxsimError(f"model {name!r}: there is no such file or folder, and no shape of that name is shipped")
    raise unknown_name("model", name, SHAPES)


def _is_name(text: str) -> bool:
    """NAME or ORGANISATION/NAME; what else there is can only be a path."""
    parts = text.split("/")
    return len(parts) <= 2 and all(parts) and not text.startswith((".", "~"))


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
    """config.json of a hub model: from the local cache, there the revision that refs/main names, else over the network."""
    cache = _hub_cache()
    folder = cache / f"models--{name.replace('/', '--')}"
    cached = sorted(folder.glob("snapshots/*/config.json"))
    if cached:
        main = folder / "snapshots" / _main_revision(folder) / "config.json"
        return _read_config(main if main in cached else cached[0], name=name)
    refused = f"model {name!r} is no shape that is shipped, and its config.json is not in the hub cache {str(cache)!r}"
    offline = "HF_HUB_OFFLINE" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"
    if os.environ.get(offline, "").upper() in ("1", "ON", "YES", "TRUE"):
        raise MxsimError(f"{refused}; {offline} forbids fetching it")
    from http.client import HTTPException
    from urllib.request import urlopen

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        with urlopen(f"{endpoint}/{name}/resolve/main/config.json", timeout=10) as reply:
            content = json.load(reply)
    except (OSError, HTTPException, ValueError) as error:
        raise MxsimError(f"{refused}; fetching it failed ({error}): pass a folder with config.json") from error
    if not isinstance(content, Mapping):
        raise MxsimError(f"{refused}; what {endpoint} sends is {type(content).__name__}, no JSON object: pass a folder with config.json")
    return shape_from_config(content, name=name)


def _hub_cache() -> Path:
    """Where huggingface_hub keeps what it has fetched, by the same variables as there."""
    variables = os.environ
    home = variables.get("HF_HOME") or os.path.join(variables.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    cache = variables.get("HF_HUB_CACHE") or variables.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(os.path.expanduser(cache)))


def _main_revision(folder: Path) -> str:
    try:
        return (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def shape_from_config(config: Mapping[str, Any], *, name: str | None = None) -> ModelShape:
    """The shape that a transformers config describes.

    Raises: MxsimError naming the missing key, the unknown architecture with those that are known, or the bad value.
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
    head_dim = keys.config.get("head_dim")
    if head_dim is None and hidden % heads:
        raise MxsimError(f"{label}: head_dim is missing, and {heads} heads do not divide hidden_size = {hidden}")
    bias = family == "qwen2" or (family != "mistral" and keys.flag("attention_bias"))
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
        "tied_embeddings": keys.flag("tie_word_embeddings"),
        "max_context": _max_context(keys),
        "attention_bias": bias,
        "output_bias": bias and family != "qwen2",
        "mlp_bias": family == "gpt_oss" or (family == "llama" and keys.flag("mlp_bias")),
        "attention_sinks": family == "gpt_oss",
        "qk_norm": family in ("qwen3", "qwen3_moe"),
        "source": "config.json",
    }
    if family in _MOE:
        fields |= _expert_fields(family, keys, layers)
    return ModelShape(**fields, **_window_fields(family, keys, layers))


def _max_context(keys: _Keys) -> int:
    """max_position_embeddings, or what YaRN stretches the original context to where that is more."""
    longest = keys.count("max_position_embeddings")
    rope = keys.config.get("rope_scaling") or keys.config.get("rope_parameters")
    if isinstance(rope, Mapping) and rope.get("rope_type", rope.get("type")) == "yarn":
        factor, original = rope.get("factor"), rope.get("original_max_position_embeddings")
        if isinstance(factor, (int, float)) and isinstance(original, int) and 1 <= factor < sys.maxsize:
            return max(longest, int(factor * original))
    return longest


def _expert_fields(family: str, keys: _Keys, layers: int) -> dict[str, Any]:
    if family == "gpt_oss":
        return {"experts": keys.count("num_local_experts"), "experts_per_token": keys.count("num_experts_per_tok")}
    fields: dict[str, Any] = {
        "experts": keys.count("num_experts", keys.config.get("num_local_experts")),
        "experts_per_token": keys.count("num_experts_per_tok"),
    }
    step, dense = keys.count("decoder_sparse_step", 1), keys.list_of(int, "mlp_only_layers") or []
    dense_layers = tuple(i for i in range(layers) if i in dense or (i + 1) % step)
    if dense_layers:
        return {**fields, "dense_layers": dense_layers, "dense_intermediate": keys.count("intermediate_size")}
    return fields


def _window_fields(family: str, keys: _Keys, layers: int) -> dict[str, Any]:
    """Sliding windows: on the layers that layer_types names, where the architecture heeds it, else on those that it gives one."""
    if family == "llama" or keys.config.get("sliding_window") is None or (family in _QWEN and not keys.flag("use_sliding_window")):
        return {}
    types = None if family == "qwen3_moe" else keys.list_of(str, "layer_types")
    window = keys.count("sliding_window")
    if types is not None:
        if len(types) != layers:
            raise MxsimError(f"{keys.label}: layer_types names {len(types)} layers, but num_hidden_layers = {layers}")
        windowed = tuple(i for i, kind in enumerate(types) if kind == "sliding_attention")
    elif family == "gpt_oss":
        windowed = tuple(range(0, layers, 2))
    elif family in ("qwen2", "qwen3"):
        windowed = tuple(range(keys.count("max_window_layers", 28, least=0), layers))
    else:
        windowed = tuple(range(layers))
    return {"sliding_window": window, "windowed_layers": windowed} if windowed else {}


class _Keys:
    """A config's values, checked, with errors that name the key. A key that is left out is what transformers puts in for it."""

    def __init__(self, config: Mapping[str, Any], label: str) -> None:
        self.config = {**_LEFT_OUT[config["model_type"]], **config}
        self.label = label

    def count(self, key: str, default: Any = None, *, least: int = 1) -> int:
        value = self.config.get(key)
        value = default if value is None else value
        if value is None:
            raise MxsimError(f"{self.label}: config has no {key!r}, which its {self.config['model_type']} layers need")
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise MxsimError(f"{self.label}: {key} = {value!r} must be a whole number of at least {least}")
        return value

    def flag(self, key: str) -> bool:
        """False where it is left out or null."""
        value = self.config.get(key)
        if value is not None and not isinstance(value, bool):
            raise MxsimError(f"{self.label}: {key} = {value!r} must be true or false")
        return bool(value)

    def list_of(self, kind: type[T], key: str) -> list[T] | None:
        """A list of whole numbers or of strings, None where it is left out or null."""
        value = self.config.get(key)
        if value is None:
            return None
        if not isinstance(value, (list, tuple)) or not all(isinstance(entry, kind) and not isinstance(entry, bool) for entry in value):
            raise MxsimError(f"{self.label}: {key} = {value!r} must be a list of {'whole numbers' if kind is int else 'strings'}")
        return list(value)
