"""Models: from a name, a folder or a live module to what a search needs to know of it.

Weights are read from safetensors alone and code that comes with a checkpoint is never run.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn

from dmx.errors import DmxError
from dmx.tracing import ROUTERS, traced_shape
from mxsim.checkpoints.folder import INDEX, WEIGHTS
from mxsim.checkpoints.safetensors_file import SafetensorsFile
from mxsim.errors import MxsimError
from mxsim.name_patterns import is_named
from mxsim.shapes import ModelShape

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: A window no longer than this where the model allows more.
LONGEST_WINDOW = 2048
#: What an error says of a checkpoint that is quantised.
TAKES_FLOAT = "a search and an evaluation take the float model (mxsim validate checks a checkpoint)"
#: Of tensors: float dtypes in a safetensors file.
STORED = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
#: What weights are converted from.
CONVERTED = (torch.float32, torch.float16, torch.bfloat16)
#: Of a configuration: what changes no result.
BOOKKEEPING = ("architectures", "dtype", "torch_dtype", "transformers_version")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedModel:
    """A causal language model with what identifies it."""

    module: nn.Module  #: in eval mode, its parameters frozen
    tokenizer: PreTrainedTokenizerBase | None
    name: str
    source: str  #: "embedded", "hub", "live module", or the folder's name
    sha256: str  #: of every parameter's name, shape and values: see content_hash
    config_sha256: str  #: of its configuration, as far as that decides what it computes
    context: int  #: tokens of a window where nothing else is asked for: the model's longest, at most LONGEST_WINDOW
    stored_dtypes: dict[str, torch.dtype]  #: linear -> the dtype its weight was stored in

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def longest(self) -> int:
        """How many tokens it has positions for."""
        return longest_window(self.module)

    @property
    def dtypes(self) -> list[str]:
        """What it computes in, which its hash does not say."""
        return sorted({str(parameter.dtype) for parameter in self.module.parameters()})

    @property
    def stored_sha256(self) -> str:
        """Of the dtypes that weights were stored in, from which they are converted: their values' hash does not say."""
        told = sorted(f"{name} {dtype}" for name, dtype in self.stored_dtypes.items())
        return hashlib.sha256("\n".join(told).encode()).hexdigest()

    @property
    def linears(self) -> dict[str, nn.Linear]:
        """The linears whose formats are searched, by name."""
        return searched_linears(self.module)

    @property
    def skipped(self) -> tuple[str, ...]:
        """The linears that stay as they are."""
        searched = self.linears
        return tuple(name for name, module in self.module.named_modules() if isinstance(module, nn.Linear) and name not in searched)

    def need_tokenizer(self) -> PreTrainedTokenizerBase:
        if self.tokenizer is None:
            raise DmxError(f"model {self.name!r} has no tokenizer: pass token ids, or load it from a folder with tokenizer.json")
        return self.tokenizer

    def need_gradients(self) -> None:
        """Raises: DmxError where torch takes no gradient through its parameters."""
        if any(parameter.is_inference() for parameter in self.module.parameters()):
            raise DmxError(f"model {self.name!r} was made under torch.inference_mode, so no gradient passes through it: make it outside")

    @property
    def shape(self) -> ModelShape | None:
        """The shape that costs are computed from; None for architectures that mxsim does not describe, and where its config tells other
        linears than the module has."""
        if getattr(self.module, "config", None) is None:
            return None
        try:
            return traced_shape(self.module, self.name)
        except MxsimError:
            return None


def load_model(model: str | Path | nn.Module | LoadedModel | None = None, *, tokenizer: Any = None, device: str = "cpu") -> LoadedModel:
    """Load a causal language model, in float32.

    Args:
        model: None for the embedded reference model; a local folder in the hub's layout; a hub name; a live transformers module
            (used as it is, its dtype too, but put in evaluation mode and frozen); or what this function returned.
        tokenizer: for a live module; a folder or name brings its own.
        device: where the module goes, "cpu" or "cuda"; a live module stays where it is.
    Raises: DmxError where there is no such model, it has no linears, or its weights are not safetensors.
    """
    if isinstance(model, LoadedModel):
        return model
    if isinstance(model, nn.Module):
        return _describe(model, tokenizer, type(model).__name__, "live module", _stored(model))
    if model is None:
        from dmx import reference

        return _from_pretrained(str(reference.folder()), "embedded", "embedded", device)
    path = Path(model)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise DmxError(f"folder {str(model)!r} holds no config.json: pass a folder in the hub's layout, as save_pretrained writes it")
        return _from_pretrained(str(path), path.resolve().name, path.resolve().name, device)
    name = str(model)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise DmxError(f"model {name!r}: there is no such folder, and a hub name has the form organisation/model")
    return _from_pretrained(name, name, "hub", device)


def _from_pretrained(place: str, name: str, source: str, device: str) -> LoadedModel:
    from transformers import AutoConfig, AutoTokenizer

    from dmx.quiet import quiet_transformers

    _need_device(device)
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(place, trust_remote_code=False)
            _need_float(config, name)
            module, loading = _read(place)
            stored = _stored_in_files(place, module)
        except DmxError:
            raise
        except (OSError, ValueError, KeyError, RuntimeError, AttributeError, ImportError, SafetensorError) as error:
            raise DmxError(f"model {name!r} cannot be loaded: {_first_line(error)}") from error
        missing = sorted(loading["missing_keys"])
        if missing:
            raise DmxError(
                f"model {name!r} lacks {len(missing)} tensors, such as {missing[0]!r}: its files are not whole, or hold a quantised "
                f"checkpoint; {TAKES_FLOAT}"
            )
        try:
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        except Exception as error:  # the tokenizers library raises bare ones
            if (Path(place) / "tokenizer.json").is_file():
                raise DmxError(f"the tokenizer of model {name!r} cannot be read: {_first_line(error)}") from error
            tokenizer = None
    # of what the files have under another name: what the config says, else as their first tensor
    told = config.dtype if isinstance(config.dtype, torch.dtype) else next(iter(stored.values()), torch.float32)
    linears = {linear: stored.get(f"{linear}.weight", told) for linear in _stored(module)}
    return _describe(module.float().to(device), tokenizer, name, source, linears)


def _read(place: str) -> Any:
    """A module, and what transformers says of its loading. In a narrower dtype, constants that it computes would be rounded to that."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        place, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
    )


def _stored_in_files(place: str, module: Any) -> dict[str, torch.dtype]:
    """Of every float tensor in a checkpoint's safetensors files, its dtype, under the module's name for it where they have the same."""
    from transformers.utils.hub import cached_file, get_checkpoint_shard_files

    quiet = {"_raise_exceptions_for_missing_entries": False}
    whole = cached_file(place, WEIGHTS, **quiet)
    index = None if whole else cached_file(place, INDEX, **quiet)
    files = [whole] if whole else get_checkpoint_shard_files(place, index)[0] if index else []
    tensors = {name: tensor.dtype for file in files for name, tensor in SafetensorsFile(Path(file)).tensors.items()}
    base, known = f"{module.base_model_prefix}.", set(module.state_dict())
    names = {name: base + name if name not in known and base + name in known else name for name in tensors}
    return {names[name]: STORED[dtype] for name, dtype in tensors.items() if dtype in STORED}


def _need_float(config: Any, name: str) -> None:
    """Refuse a checkpoint that is quantised already. Of gpt-oss's, transformers makes floats."""
    quantised = getattr(config, "quantization_config", None) or {}
    method = quantised.get("quant_method", "unnamed") if isinstance(quantised, dict) else quantised.quant_method
    if quantised and method != "mxfp4":
        raise DmxError(f"model {name!r} is quantised already (quantization_config, quant_method {str(method)!r}): {TAKES_FLOAT}")


def _need_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise DmxError(f"nothing can run on {name!r} here: {_first_line(error)}; cpu always can, cuda where PyTorch sees a GPU") from error


def longest_window(module: nn.Module) -> int:
    """How many tokens a model has positions for; sys.maxsize where its configuration sets no bound."""
    return int(getattr(getattr(module, "config", None), "max_position_embeddings", 0) or sys.maxsize)


def _describe(module: nn.Module, tokenizer: Any, name: str, source: str, stored: dict[str, torch.dtype]) -> LoadedModel:
    if any(parameter.is_meta for parameter in module.parameters()):
        raise DmxError(f"model {name!r} has parameters without values, on the meta device: load its weights first")
    module.train(False)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    config = getattr(module, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        raise DmxError(f"model {name!r} is an encoder with a decoder, not a causal language model: pass a decoder-only one")
    if not searched_linears(module):
        raise DmxError(
            f"model {name!r} has no torch.nn.Linear in its decoder, so there is nothing to assign formats to: "
            "fused or custom linear classes are not supported"
        )
    for linear in searched_linears(module):
        if stored[linear] not in CONVERTED:
            raise DmxError(
                f"the weight of {linear!r} of model {name!r} is stored in {stored[linear]}, which no policy converts: "
                "save it in float32, float16 or bfloat16"
            )
    return LoadedModel(
        module=module,
        tokenizer=tokenizer,
        name=name,
        source=source,
        sha256=content_hash(module),
        config_sha256=config_hash(config),
        context=min(longest_window(module), LONGEST_WINDOW),
        stored_dtypes=stored,
    )


def _stored(module: nn.Module) -> dict[str, torch.dtype]:
    return {name: part.weight.dtype for name, part in module.named_modules() if isinstance(part, nn.Linear)}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def searched_linears(module: nn.Module) -> dict[str, nn.Linear]:
    """The decoder's linears: every torch.nn.Linear but the output head and routers."""
    output: Any = getattr(module, "get_output_embeddings", None)
    head = output() if output is not None else None
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and part is not head and name != "lm_head" and name.rpartition(".")[2] not in ROUTERS
    }


def select(names: Iterable[str], only: Iterable[str] = (), skip: Iterable[str] = ()) -> list[str]:
    """The names that match a pattern of `only` (all where there is none) and none of `skip`; patterns as in a shell, or names.

    Raises: DmxError for a pattern that matches nothing.
    """
    known, wanted, unwanted = list(names), list(only), list(skip)
    for pattern in (*wanted, *unwanted):
        if not any(is_named(name, [pattern]) for name in known):
            raise DmxError(f"pattern {pattern!r} matches none of the {len(known)} linears, such as {known[0]}")
    chosen = [name for name in known if (not wanted or is_named(name, wanted)) and not is_named(name, unwanted)]
    if not chosen:
        raise DmxError("the patterns leave no linear to search: loosen --only or --skip")
    return chosen


def config_hash(config: Any) -> str:
    """SHA-256 over a transformers configuration without what only says where it came from; of nothing for a module that has none."""
    content = config.to_dict() if config is not None else {}
    kept = {name: value for name, value in content.items() if name not in BOOKKEEPING and not name.startswith("_")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def content_hash(module: nn.Module) -> str:
    """SHA-256 over every parameter's and buffer's name, dtype, shape and bytes in the state dict, narrower floats as float32.

    A model in bfloat16 has then the hash of the same model widened, as folders are; one tensor at a time is.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().cpu()
        if values.is_floating_point() and values.element_size() < 4:
            values = values.float()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if values.numel() else b"")
    return digest.hexdigest()
