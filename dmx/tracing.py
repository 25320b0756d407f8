"""From a live transformers model to the shapes of its linears, by looking at its modules; torch is imported only here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mxsim.errors import MxsimError
from mxsim.model_config import shape_from_config
from mxsim.workload import Kind, LinearShape, model_linears

if TYPE_CHECKING:
    from torch import nn

    from mxsim.shapes import ModelShape

#: Leaves that choose experts: small, sensitive, and kept wide by every producer.
ROUTERS = ("gate", "router")


def traced_linears(model: nn.Module) -> tuple[LinearShape, ...]:
    """Every weight matrix that tokens are multiplied with: nn.Linear, routers, and the 3-d parameters of fused experts.

    Returns: LinearShapes under the names of the live modules, in the order of the modules.
    """
    from torch import nn

    found: list[LinearShape] = []
    for name, module in model.named_modules():
        leaf = name.rpartition(".")[2]
        if isinstance(module, nn.Linear):
            kind: Kind = "lm_head" if leaf == "lm_head" else "router" if leaf in ROUTERS else "linear"
            found.append(_matrix(name, module.weight.shape, bias=module.bias is not None, kind=kind))
        elif leaf in ROUTERS and getattr(module, "weight", None) is not None:
            found.append(_matrix(name, module.weight.shape, bias=getattr(module, "bias", None) is not None, kind="router"))
        elif leaf == "experts":
            found += _fused_experts(name, module)
    return tuple(found)


def traced_shape(model: Any, name: str | None = None) -> ModelShape:
    """The shape of a live transformers model: its config's, checked against its modules.

    Args: name: what it is called; its class when None.
    Raises: MxsimError where the two differ, naming the first difference.
    """
    shape = shape_from_config(model.config.to_dict(), name=name or type(model).__name__)
    live = {linear.name: linear for linear in traced_linears(model)}
    described = {linear.name: linear for linear in model_linears(shape)}
    for layer in sorted(set(live) | set(described)):
        if live.get(layer) != described.get(layer):
            raise MxsimError(f"layer {layer!r}: the config describes {described.get(layer)}, the live model has {live.get(layer)}")
    return shape


def _matrix(name: str, shape: Any, *, bias: bool, kind: Kind) -> LinearShape:
    return LinearShape(name=name, out_features=int(shape[0]), in_features=int(shape[1]), bias=bias, kind=kind)


def _fused_experts(name: str, module: nn.Module) -> list[LinearShape]:
    """Experts held as (experts, out, in), or (experts, in, out) where the module says it is transposed."""
    transposed = bool(getattr(module, "is_transposed", False))
    parameters = dict(module.named_parameters(recurse=False))
    found = []
    for leaf, parameter in parameters.items():
        if parameter.ndim != 3:
            continue
        experts, first, second = (int(size) for size in parameter.shape)
        out_features, in_features = (second, first) if transposed else (first, second)
        found.append(
            LinearShape(
                name=f"{name}.{leaf}",
                out_features=out_features,
                in_features=in_features,
                bias=f"{leaf}_bias" in parameters,
                experts=experts,
            )
        )
    return found


def unsearched_matrices(model: nn.Module) -> tuple[str, ...]:
    """Weights that tokens are multiplied with outside of any nn.Linear, which a search cannot see: fused experts, custom linear classes.

    Embeddings, the output head, convolutions, routers and norms are none; nor are matrices by other names, such as a recurrence's decays.
    """
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    tables: tuple[Any, ...] = (getattr(model, "get_input_embeddings", None), getattr(model, "get_output_embeddings", None))
    known = [getter() for getter in tables if getter is not None]
    found = []
    for name, module in model.named_modules():
        path = name.split(".")
        if isinstance(module, nn.Linear | nn.Embedding | _ConvNd) or any(module is one for one in known) or path[-1] in ROUTERS:
            continue
        for leaf, parameter in module.named_parameters(recurse=False):
            is_matrix = sum(size > 1 for size in parameter.shape) >= 2
            is_weight = leaf.endswith("weight") or ("experts" in path and not leaf.endswith("bias"))
            if is_matrix and is_weight:
                found.append(f"{name}.{leaf}")
    return tuple(found)
