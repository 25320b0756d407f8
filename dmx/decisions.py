"""What there is to decide: which linears choose together, and between which pairs of formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from dmx.errors import DmxError
from dmx.models import LoadedModel, select
from dmx.quantisers import checked_formats
from dmx.tracing import unsearched_matrices
from mxsim.formats import FORMATS
from mxsim.storage_formats import WIDE, FormatPair
from mxsim.workload import LinearShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Linears that take the same pair."""

    name: str  #: the linear's, or for tied ones the fused projection's: ...qkv_proj, ...gate_up_proj
    layers: tuple[str, ...]
    weights: tuple[int, ...]  #: elements of each layer's weight


@dataclass(frozen=True, kw_only=True)
class DecisionSpace:
    """Decisions, and the ladder of formats from which each chooses for its weights and for its inputs."""

    decisions: tuple[Decision, ...]
    formats: tuple[str, ...]  #: fewest bits first
    apart: bool  #: weights and inputs may take different formats
    tied: bool  #: q, k and v decide together, so do gate and up
    skipped: tuple[str, ...]  #: linears that are not searched

    @cached_property
    def pairs(self) -> tuple[FormatPair, ...]:
        """What a decision chooses from. Apart: (weight 0, input 0), (weight 0, input 1), ..."""
        if not self.apart:
            return tuple(FormatPair(name, name) for name in self.formats)
        return tuple(FormatPair(weight, activation) for weight in self.formats for activation in self.formats)

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(layer for decision in self.decisions for layer in decision.layers)

    def rungs(self, pair: int) -> tuple[int, int]:
        """The places on the ladder of a pair's weight and input format."""
        return (pair // len(self.formats), pair % len(self.formats)) if self.apart else (pair, pair)

    def pair_at(self, weight: int, activation: int) -> int:
        """The index of the pair of two places on the ladder."""
        return weight * len(self.formats) + activation if self.apart else weight

    def summed(self, per_layer: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(linears, pairs) -> (decisions, pairs): the layers of a decision together."""
        starts = np.cumsum([0, *(len(decision.layers) for decision in self.decisions)])[:-1]
        return np.asarray(np.add.reduceat(per_layer, starts, axis=0), np.float64)

    def layer_pairs(self, choice: Sequence[int] | npt.NDArray[np.int64]) -> dict[str, FormatPair]:
        """Each layer's pair when decision d takes pairs[choice[d]], in the order of the layers."""
        return {layer: self.pairs[int(index)] for decision, index in zip(self.decisions, choice, strict=True) for layer in decision.layers}


def element_bits(format: str) -> int:
    """Bits of an element, its scale left out."""
    return 16 if format == WIDE else FORMATS[format].element.bits


def scaled_bits(format: str) -> float:
    """Bits of an element with its share of the scale."""
    return 16.0 if format == WIDE else FORMATS[format].bits_per_element


def decision_space(
    model: LoadedModel,
    formats: Sequence[str],
    *,
    tie: bool = False,
    apart: bool = True,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
) -> DecisionSpace:
    """The decisions of a model.

    Args: formats: block formats, in any order.  tie: q, k and v decide together, so do gate and up, as runtimes that fuse them need.
        apart: weight and input formats are chosen each for itself.  only, skip: patterns over the names of linears.
    Linears that share one weight decide together in any case.
    Raises: DmxError for a model with weights that are in no torch.nn.Linear, which would stay wide without being listed.
    """
    hidden = unsearched_matrices(model.module)
    if hidden:
        raise DmxError(
            f"model {model.name!r} holds {len(hidden)} weights that are in no torch.nn.Linear, such as {hidden[0]!r}: a search would leave "
            "them out. Experts stored as one tensor can be priced (mxsim cost), not searched: take a model whose experts are nn.Linear"
        )
    ladder = tuple(sorted(checked_formats(tuple(formats)), key=lambda name: (scaled_bits(name), name)))
    linears = model.linears
    names = select(linears, only, skip)
    members: dict[str, list[str]] = {}
    owners: dict[torch.Tensor, str] = {}
    for name in names:
        weight = linears[name].weight
        shape = LinearShape(name=name, out_features=int(weight.shape[0]), in_features=int(weight.shape[1]))
        members.setdefault(owners.setdefault(linears[name].weight, shape.group if tie else name), []).append(name)
    chosen = set(names)
    return DecisionSpace(
        decisions=tuple(
            Decision(name=name, layers=tuple(layers), weights=tuple(linears[layer].weight.numel() for layer in layers))
            for name, layers in members.items()
        ),
        formats=ladder,
        apart=apart and len(ladder) > 1,
        tied=tie,
        skipped=(*(name for name in linears if name not in chosen), *model.skipped),
    )
