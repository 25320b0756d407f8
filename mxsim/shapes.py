"""The shapes of the models mxsim knows by name. To add a model, add one literal to the table below."""

from __future__ import annotations

from dataclasses import dataclass

from mxsim.errors import MxsimError
from mxsim.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer, as far as bytes and multiply-accumulates go. Counts are elements and layers."""

    name: str
    family: str  #: model_type of the transformers config
    hidden: int
    intermediate: int  #: of one expert where there are experts
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied_embeddings: bool  #: lm_head is the embedding table
    max_context: int  #: tokens
    experts: int = 0  #: routed experts of an MoE layer; 0 is a dense model
    experts_per_token: int = 0
    dense_layers: tuple[int, ...] = ()  #: layers of an MoE model that have a dense MLP instead
    dense_intermediate: int = 0  #: its width
    attention_bias: bool = False  #: on q, k and v
    output_bias: bool = False  #: on o
    mlp_bias: bool = False  #: on the router and on each expert, or on a dense MLP
    attention_sinks: bool = False  #: one learnt logit a head
    qk_norm: bool = False
    sliding_window: int = 0  #: tokens a windowed layer looks back; 0 is none
    windowed_layers: tuple[int, ...] = ()
    source: str

    def __post_init__(self) -> None:
        for field in (
            "hidden",
            "intermediate",
            "layers",
            "heads",
            "kv_heads",
            "head_dim",
            "vocab",
            "max_context",
        ):
            if getattr(self, field) < 1:
                raise MxsimError(f"{self.name}: {field} = {getattr(self, field)} must be at least 1")
        if self.heads % self.kv_heads:
            raise MxsimError(f"{self.name}: {self.heads} heads do not share {self.kv_heads} KV heads evenly")
        if self.experts and not 1 <= self.experts_per_token <= self.experts:
            raise MxsimError(f"{self.name}: experts_per_token = {self.experts_per_token} must be 1 to {self.experts}, its experts")
        if self.dense_layers and self.dense_intermediate < 1:
            raise MxsimError(f"{self.name}: layers {self.dense_layers} are dense, but no dense intermediate size is given")

    def is_moe_layer(self, layer: int) -> bool:
        return self.experts > 0 and layer not in self.dense_layers

    def attended(self, layer: int, context: int) -> int:
        """Tokens that a query at the end of `context` tokens attends to in a layer."""
        return min(context, self.sliding_window) if layer in self.windowed_layers else context


_LLAMA = {"family": "llama", "head_dim": 128, "kv_heads": 8, "vocab": 128256, "max_context": 131072}
_QWEN3 = {"family": "qwen3", "head_dim": 128, "kv_heads": 8, "vocab": 151936, "max_context": 40960, "qk_norm": True}
_SMOLLM2 = {"family": "llama", "head_dim": 64, "vocab": 49152, "max_context": 8192}
_GPT_OSS = {
    "family": "gpt_oss",
    "hidden": 2880,
    "intermediate": 2880,
    "heads": 64,
    "kv_heads": 8,
    "head_dim": 64,
    "vocab": 201088,
    "max_context": 131072,
    "experts_per_token": 4,
    "attention_bias": True,
    "output_bias": True,
    "mlp_bias": True,
    "attention_sinks": True,
    "sliding_window": 128,
}
_META = "config.json of the release, as in mlc-llm's model presets and litgpt's config.py"
_LITGPT = "config.json of the release, as in litgpt's config.py"
_RECALLED = "config.json of the release; checked by parameter count"


def _shape(name: str, defaults: dict[str, object], dimensions: tuple[int, ...], *, tied: bool, source: str, **others: object) -> ModelShape:
    """One row of the table: dimensions are hidden, intermediate, layers, heads and, where not in defaults, KV heads."""
    fields = dict(zip(("hidden", "intermediate", "layers", "heads", "kv_heads"), dimensions, strict=False))
    return ModelShape(name=name, tied_embeddings=tied, source=source, **{**defaults, **fields, **others})  # type: ignore[arg-type]


SHAPES: Registry[ModelShape] = Registry(
    "model shape",
    [
        _shape("Llama-3.2-1B", _LLAMA, (2048, 8192, 16, 32), tied=True, head_dim=64, source=_META),
        _shape("Llama-3.2-3B", _LLAMA, (3072, 8192, 28, 24), tied=True, source=_META),
        _shape("Llama-3.1-8B", _LLAMA, (4096, 14336, 32, 32), tied=False, source=_META),
        _shape("Llama-3.3-70B", _LLAMA, (8192, 28672, 80, 64), tied=False, source=_RECALLED),
        _shape("Qwen3-0.6B", _QWEN3, (1024, 3072, 28, 16), tied=True, source=_META),
        _shape("Qwen3-1.7B", _QWEN3, (2048, 6144, 28, 16), tied=True, source=_META),
        _shape("Qwen3-4B", _QWEN3, (2560, 9728, 36, 32), tied=True, source=_LITGPT),
        _shape("Qwen3-8B", _QWEN3, (4096, 12288, 36, 32), tied=False, source=_LITGPT),
        _shape(
            "Qwen3-30B-A3B",
            _QWEN3,
            (2048, 768, 48, 32, 4),
            tied=False,
            family="qwen3_moe",
            experts=128,
            experts_per_token=8,
            source=_RECALLED,
        ),
        _shape("SmolLM2-135M", _SMOLLM2, (576, 1536, 30, 9, 3), tied=True, source=_META),
        _shape("SmolLM2-360M", _SMOLLM2, (960, 2560, 32, 15, 5), tied=True, source=_META),
        _shape("SmolLM2-1.7B", _SMOLLM2, (2048, 8192, 24, 32, 32), tied=True, source=_LITGPT),
        _shape(
            "TinyLlama-1.1B",
            _LLAMA,
            (2048, 5632, 22, 32, 4),
            tied=False,
            head_dim=64,
            vocab=32000,
            max_context=2048,
            source=_META,
        ),
        _shape(
            "stories260K",
            _LLAMA,
            (64, 172, 5, 8, 4),
            tied=True,
            head_dim=8,
            vocab=512,
            max_context=512,
            source="header of the checkpoint, karpathy/tinyllamas",
        ),
        _shape(
            "Mistral-7B-v0.3",
            _LLAMA,
            (4096, 14336, 32, 32),
            tied=False,
            family="mistral",
            vocab=32768,
            max_context=32768,
            source=_RECALLED,
        ),
        _shape(
            "gpt-oss-20b",
            _GPT_OSS,
            (),
            tied=False,
            layers=24,
            experts=32,
            windowed_layers=tuple(range(0, 24, 2)),
            source=_RECALLED,
        ),
        _shape(
            "gpt-oss-120b",
            _GPT_OSS,
            (),
            tied=False,
            layers=36,
            experts=128,
            windowed_layers=tuple(range(0, 36, 2)),
            source=_RECALLED,
        ),
    ],
)
