"""The list of linears traced from a live model is the one that its config gives."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from dmx.tracing import traced_linears, traced_shape  # noqa: E402
from mxsim.errors import MxsimError  # noqa: E402
from mxsim.model_config import shape_from_config  # noqa: E402
from mxsim.workload import Phase, build_workload, model_linears  # noqa: E402

COMMON = {
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "vocab_size": 96,
    "max_position_embeddings": 128,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"tie_word_embeddings": True}),
    "llama with biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "mistral": ("Mistral", {}),
    "qwen2": ("Qwen2", {"head_dim": 16}),
    "qwen3": ("Qwen3", {"tie_word_embeddings": True}),
    "qwen3 moe": ("Qwen3Moe", {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48}),
    "qwen3 moe, some layers dense": (
        "Qwen3Moe",
        {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "mlp_only_layers": [0]},
    ),
    "gpt-oss": ("GptOss", {"num_local_experts": 8, "num_experts_per_tok": 2}),
}


def live(family: str, options: dict[str, Any]) -> Any:
    config = getattr(transformers, f"{family}Config")(**{**COMMON, **options})
    torch.manual_seed(0)
    return getattr(transformers, f"{family}ForCausalLM")(config)


@pytest.mark.parametrize("name", MODELS)
def test_the_live_model_and_its_config_give_the_same_linears(name: str) -> None:
    model = live(*MODELS[name])
    shape = shape_from_config(model.config.to_dict())
    traced = traced_linears(model)
    assert {linear.name: linear for linear in traced} == {linear.name: linear for linear in model_linears(shape)}
    assert len(traced) == len({linear.name for linear in traced})
    assert traced_shape(model).layers == 2


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_counted(name: str) -> None:
    model = live(*MODELS[name])
    workload = build_workload(shape_from_config(model.config.to_dict()), Phase(context=16))
    assert workload.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_a_model_that_differs_from_its_config_is_refused() -> None:
    model = live("Llama", {})
    model.model.layers[1].mlp.up_proj = torch.nn.Linear(64, 100)
    with pytest.raises(MxsimError, match=r"model\.layers\.1\.mlp\.up_proj.*112.*100"):
        traced_shape(model)
