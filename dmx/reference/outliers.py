"""Outlier channels: what large language models have and a model this small does not grow in minutes of training.

Large models multiply some channels by far more than others before a matrix, and undo it inside the matrix; the outputs do not show it,
but a block of 32 that shares one scale then loses its small members. Here such gains are put in after training, as powers of two, so that
the float model computes the same bits as before, and only quantisation notices.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from dmx.reference.dice import Dice


def normal(dice: Dice) -> float:
    """A draw from the standard normal distribution, by Box and Muller."""
    return math.sqrt(-2 * math.log(1 - dice.share())) * math.cos(2 * math.pi * dice.share())


@torch.no_grad()
def add_outliers(model: Any, strengths: tuple[float, float], seed: int) -> dict[str, float]:
    """Multiply channels by 2^round(strength * normal) in front of every matrix of a Llama, and divide inside it.

    Four sites a layer: norm to q, k, v; v to o; norm to gate, up; up to down. Gains are clamped to 2^-6..2^6.

    Args: strengths: the least and the greatest strength, in octaves; each site draws its own between them, so that layers differ.
    Returns: site -> its strength.
    """
    dice = Dice(seed)
    drawn: dict[str, float] = {}
    for index, layer in enumerate(model.model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        heads, shared = model.config.num_attention_heads, model.config.num_key_value_heads
        for site in ("qkv", "o", "gate_up", "down"):
            low, high = strengths
            strength = drawn[f"layers.{index}.{site}"] = low + (high - low) * dice.share()
            channels = {"o": attention.v_proj.out_features, "down": mlp.down_proj.in_features}.get(site, model.config.hidden_size)
            octaves = [max(-6, min(6, round(strength * normal(dice)))) for _ in range(channels)]
            gain = torch.tensor([2.0**octave for octave in octaves])
            match site:
                case "qkv":
                    layer.input_layernorm.weight *= gain
                    for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
                        linear.weight /= gain
                case "o":  # a value head serves several query heads
                    attention.v_proj.weight *= gain[:, None]
                    attention.o_proj.weight /= gain.view(shared, -1).repeat_interleave(heads // shared, dim=0).flatten()
                case "gate_up":
                    layer.post_attention_layernorm.weight *= gain
                    for linear in (mlp.gate_proj, mlp.up_proj):
                        linear.weight /= gain
                case _:
                    mlp.up_proj.weight *= gain[:, None]
                    mlp.down_proj.weight /= gain
    return drawn
