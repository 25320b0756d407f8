"""Untrained models of a shape."""

from __future__ import annotations

from typing import Any

import torch

from mxsim.shapes import ModelShape


def untrained(shape: ModelShape, *, context: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """A transformers model with random weights, on the default device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        shape.family,
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=context,
        tie_word_embeddings=shape.tied_embeddings,
    )
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=dtype)
