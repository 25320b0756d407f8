"""A model as the matmuls of one forward step: names, shapes and counts; formats and devices come later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from typing import Literal, NamedTuple

from mxsim.errors import MxsimError
from mxsim.shapes import ModelShape

#: linear: a decoder's, whose formats are chosen. The others stay in the wide type.
Kind = Literal["linear", "router", "lm_head", "attention", "embedding", "norm"]
PHASES = ("prefill", "decode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One forward step: of `batch` prompts of `context` tokens, or of one token after `context` tokens each."""

    kind: str = "decode"
    batch: int = 1
    context: int = 1024

    def __post_init__(self) -> None:
        if self.kind not in PHASES:
            raise MxsimError(f"phase {self.kind!r} is neither prefill nor decode")
        for name, value in (("batch", self.batch), ("context", self.context)):
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise MxsimError(f"{name} {value!r} must be a whole number of at least 1")
            object.__setattr__(self, name, int(value))  # numpy's, too

    @property
    def tokens(self) -> int:
        """Tokens that go through each layer."""
        return self.batch * self.context if self.kind == "prefill" else self.batch

    def __str__(self) -> str:
        return f"{self.kind}(batch={self.batch}, context={self.context})"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearShape:
    """A weight matrix (out_features, in_features), or `experts` of them, under its name in a live model."""

    name: str
    out_features: int
    in_features: int
    bias: bool = False
    experts: int = 1  #: matrices stored; a token uses experts_per_token of them
    kind: Kind = "linear"

    @property
    def weights(self) -> int:
        """Elements of the matrices, biases aside."""
        return self.experts * self.out_features * self.in_features

    @property
    def biases(self) -> int:
        return self.experts * self.out_features if self.bias else 0

    @property
    def group(self) -> str:
        """The decision this layer shares with others: q, k and v have one, gate and up have one."""
        parent, _, leaf = self.name.rpartition(".")
        fused = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj"}
        fused |= {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}
        return f"{parent}.{fused.get(leaf, leaf)}" if parent else leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class Matmul:
    """`instances` products of (rows, k) by (k, n); or, where it has no weight matrix, bytes moved in the wide type.

    Numbers are means where experts are drawn: `instances` experts see `rows` tokens each.
    """

    kind: Kind
    parameters: int  #: stored here; a tied lm_head has none
    biases: int = 0  #: of these, biases
    macs: float = 0
    rows: float = 0  #: M of each instance
    n: int = 0
    k: int = 0
    instances: float = 1
    stored_instances: int = 1  #: matrices stored: an MoE layer's experts
    quantised_rows: float = 0  #: rows of the input that a quantise pass goes over, once each
    merged: int = 1  #: linears of one input that share a launch, a quantise pass and one reading of the input; this one bears its part
    wide_elements: float = 0  #: elements read and written in the wide type beside the operands
    kv_read_vectors: float = 0  #: cached K and V vectors read, of k elements each
    kv_write_vectors: float = 0


class Operation(NamedTuple):
    """A matmul in its place in the model. Layers of one shape share the matmul."""

    name: str
    group: str  #: the decision it shares with others
    matmul: Matmul


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a model does in one phase."""

    shape: ModelShape
    phase: Phase
    operations: tuple[Operation, ...]
    merged: bool = False  #: q, k and v share a launch, so do gate and up

    @property
    def parameters(self) -> int:
        return sum(operation.matmul.parameters for operation in self.operations)

    @property
    def linears(self) -> tuple[str, ...]:
        """Names of the layers whose formats are chosen."""
        return tuple(operation.name for operation in self.operations if operation.matmul.kind == "linear")


def expected_active_experts(experts: int, per_token: int, tokens: int) -> float:
    """How many experts a batch wakes when each token draws `per_token` of them evenly: E (1 - (1 - k/E)^T)."""
    return experts * (1 - (1 - per_token / experts) ** tokens)


def layer_linears(shape: ModelShape, layer: int) -> tuple[LinearShape, ...]:
    """The weight matrices of one decoder layer, by their names in transformers."""
    attention, mlp = f"model.layers.{layer}.self_attn", f"model.layers.{layer}.mlp"
    query, kv, bias = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.attention_bias
    linears = [
        LinearShape(name=f"{attention}.q_proj", out_features=query, in_features=shape.hidden, bias=bias),
        LinearShape(name=f"{attention}.k_proj", out_features=kv, in_features=shape.hidden, bias=bias),
        LinearShape(name=f"{attention}.v_proj", out_features=kv, in_features=shape.hidden, bias=bias),
        LinearShape(name=f"{attention}.o_proj", out_features=shape.hidden, in_features=query, bias=shape.output_bias),
    ]
    if shape.is_moe_layer(layer):
        router = "router" if shape.family == "gpt_oss" else "gate"
        sizes = {"gate_up_proj": (2 * shape.intermediate, shape.hidden), "down_proj": (shape.hidden, shape.intermediate)}
        linears.append(
            LinearShape(
                name=f"{mlp}.{router}",
                out_features=shape.experts,
                in_features=shape.hidden,
                bias=shape.mlp_bias,
                kind="router",
            )
        )
        linears += [
            LinearShape(
                name=f"{mlp}.experts.{name}",
                out_features=rows,
                in_features=columns,
                bias=shape.mlp_bias,
                experts=shape.experts,
            )
            for name, (rows, columns) in sizes.items()
        ]
    else:
        width = shape.dense_intermediate or shape.intermediate
        linears += [
            LinearShape(name=f"{mlp}.{name}", out_features=rows, in_features=columns, bias=shape.mlp_bias)
            for name, rows, columns in (
                ("gate_proj", width, shape.hidden),
                ("up_proj", width, shape.hidden),
                ("down_proj", shape.hidden, width),
            )
        ]
    return tuple(linears)


def model_linears(shape: ModelShape) -> tuple[LinearShape, ...]:
    """Every weight matrix of the model that a token is multiplied with, lm_head included."""
    head = LinearShape(name="lm_head", out_features=shape.vocab, in_features=shape.hidden, kind="lm_head")
    return (*(linear for layer in range(shape.layers) for linear in layer_linears(shape, layer)), head)


@lru_cache(maxsize=16)
def build_workload(shape: ModelShape, phase: Phase, *, merge: bool = False) -> Workload:
    """The operations of one forward step, in the order they run. Prefill takes logits of each prompt's last token only.

    Args: merge: q, k and v run as one launch that quantises and reads their input once, so do gate and up, as in serving runtimes.
    Raises: MxsimError for a context that the model was not made for.
    """
    if phase.context > shape.max_context:
        raise MxsimError(f"context {phase.context} is longer than {shape.name} allows: at most {shape.max_context} tokens")
    embedding = Matmul(kind="embedding", parameters=shape.vocab * shape.hidden, wide_elements=phase.tokens * shape.hidden)
    norms = _norm_parameters(shape)
    head = LinearShape(name="lm_head", out_features=shape.vocab, in_features=shape.hidden, kind="lm_head")
    operations = [Operation("model.embed_tokens", "model.embed_tokens", embedding)]
    alike: dict[tuple[bool, bool], list[Operation]] = {}
    for layer in range(shape.layers):
        kind = shape.is_moe_layer(layer), layer in shape.windowed_layers
        if kind not in alike:
            alike[kind] = list(_layer_operations(shape, layer, phase, merge))
        prefix = f"model.layers.{layer}."
        operations += [Operation(prefix + name, prefix + group, matmul) for name, group, matmul in alike[kind]]
    operations += [
        Operation("model.norms", "model.norms", Matmul(kind="norm", parameters=norms, wide_elements=norms)),
        Operation("lm_head", "lm_head", linear_matmul(head, phase.batch, stored=not shape.tied_embeddings)),
    ]
    return Workload(shape=shape, phase=phase, operations=tuple(operations), merged=merge)


def _layer_operations(shape: ModelShape, layer: int, phase: Phase, merge: bool) -> Iterator[Operation]:
    """A decoder layer's operations, their names without the layer's prefix."""
    prefix = f"model.layers.{layer}."
    linears = layer_linears(shape, layer)
    members = Counter(linear.group for linear in linears)
    for linear in linears:
        merged = members[linear.group] if merge else 1
        matmul = linear_matmul(linear, phase.tokens, experts_per_token=shape.experts_per_token, merged=merged)
        yield Operation(linear.name.removeprefix(prefix), linear.group.removeprefix(prefix), matmul)
        if linear.name.endswith(".v_proj"):
            yield Operation("self_attn.attention", "self_attn.attention", _attention(shape, layer, phase))


def linear_matmul(linear: LinearShape, tokens: int, *, experts_per_token: int = 1, stored: bool = True, merged: int = 1) -> Matmul:
    """The matmul of a linear, or of the experts that `tokens` tokens are expected to wake.

    Args: stored: False where another name holds the parameters, as for a tied lm_head.  merged: see Matmul.
    """
    routed = tokens * experts_per_token if linear.experts > 1 else tokens
    active = expected_active_experts(linear.experts, experts_per_token, tokens) if linear.experts > 1 else 1
    gathered = linear.experts > 1 and not linear.name.endswith("gate_up_proj")
    return Matmul(
        kind=linear.kind,
        parameters=linear.weights + linear.biases if stored else 0,
        biases=linear.biases,
        macs=routed * linear.out_features * linear.in_features,
        rows=routed / active,
        n=linear.out_features,
        k=linear.in_features,
        instances=active,
        stored_instances=linear.experts,
        quantised_rows=routed if gathered else tokens,
        merged=merged,
    )


def _attention(shape: ModelShape, layer: int, phase: Phase) -> Matmul:
    """Scores and weighted values. Each query head sees the cached tokens; K and V are read once for all heads that share them."""
    if phase.kind == "decode":
        attended = shape.attended(layer, phase.context)
        pairs, read = phase.batch * attended, phase.batch * attended
    else:
        window = shape.attended(layer, phase.context)
        causal = window * (window + 1) // 2 + (phase.context - window) * window
        pairs, read = phase.batch * causal, phase.batch * phase.context
    return Matmul(
        kind="attention",
        parameters=0,
        macs=2 * pairs * shape.heads * shape.head_dim,
        k=shape.head_dim,
        wide_elements=2 * phase.tokens * shape.heads * shape.head_dim,
        kv_read_vectors=2 * read * shape.kv_heads,
        kv_write_vectors=2 * phase.tokens * shape.kv_heads,
    )


def _norm_parameters(shape: ModelShape) -> int:
    """Parameters outside the matrices: norms, and gpt-oss's attention sinks."""
    layer = 2 * shape.hidden + (2 * shape.head_dim if shape.qk_norm else 0) + (shape.heads if shape.attention_sinks else 0)
    return shape.layers * layer + shape.hidden
