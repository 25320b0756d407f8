"""Random transformers models of a few thousand weights, saved as folders, with a tokenizer of words."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

WORDS = [f"w{i}" for i in range(63)]
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 32,
}


def random_model(kind: str, **changes: Any) -> torch.nn.Module:
    """A seeded model with weights large enough that quantising them changes its predictions."""
    torch.manual_seed(7)
    sizes = {**SIZES, "initializer_range": 0.2, **changes}
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=False))
    return Qwen3ForCausalLM(Qwen3Config(**sizes, head_dim=8, tie_word_embeddings=True))


def save(model: torch.nn.Module, folder: Path) -> Path:
    """The model with its tokenizer, in the hub's layout."""
    model.save_pretrained(folder)  # type: ignore[operator]
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(["?", *WORDS])}, unk_token="?"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(folder)
    return folder


def random_text(words: int = 32 * 12, seed: int = 3) -> str:
    """Words drawn by a seed."""
    drawn = torch.randint(len(WORDS), (words,), generator=torch.Generator().manual_seed(seed)).tolist()
    return " ".join(WORDS[i] for i in drawn)


class _Lost(torch.autograd.Function):
    """The same values, and no number for a gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0] * float("nan")


def with_nan_gradient(model: torch.nn.Module, name: str) -> torch.nn.Module:
    """A copy in which what comes back to the output of a module is NaN; its values are the same."""
    changed = copy.deepcopy(model)
    changed.get_submodule(name).register_forward_hook(lambda _, __, output: _Lost.apply(output))
    return changed


def with_nan_weight(model: torch.nn.Module, name: str) -> torch.nn.Module:
    """A copy with NaN for one parameter."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.get_parameter(name).fill_(float("nan"))
    return changed
