"""The list of linears traced from a live model is the one that its config gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from dmx import search  # noqa: E402
from dmx.allocators import allocate  # noqa: E402
from dmx.decisions import decision_space  # noqa: E402
from dmx.errors import DmxError  # noqa: E402
from dmx.models import load_model  # noqa: E402
from dmx.sweep import Sweep, runs_of  # noqa: E402
from dmx.tracing import traced_linears, traced_shape, unsearched_matrices  # noqa: E402
from mxsim.errors import MxsimError  # noqa: E402
from mxsim.model_config import shape_from_config  # noqa: E402
from mxsim.workload import Phase, build_workload, model_linears  # noqa: E402

FORMATS = ("mxfp4_e2m1", "mxfp8_e4m3")
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


def random_live(family: str, options: dict[str, Any]) -> Any:
    sizes = {**COMMON, "num_key_value_heads": 4, "pad_token_id": 0, **options}
    if family != "Gemma2":
        sizes.pop("head_dim")
    return getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**sizes))


ORDINARY = ("Llama", "Qwen2", "Qwen3", "Mistral", "Gemma", "Gemma2", "Phi3", "GPTNeoX", "OPT", "Bloom", "Falcon", "Mamba")


@pytest.mark.parametrize("family", ORDINARY)
@pytest.mark.parametrize("tied", [True, False])
def test_models_of_linears_hide_nothing(family: str, tied: bool) -> None:
    model = random_live(family, {"tie_word_embeddings": tied} | ({"word_embed_proj_dim": 64, "ffn_dim": 112} if family == "OPT" else {}))
    assert unsearched_matrices(model) == ()
    assert decision_space(load_model(model), FORMATS).layers


@pytest.mark.parametrize(
    ("family", "options", "first"),
    [
        ("Mixtral", {"num_local_experts": 4}, "model.layers.0.mlp.experts.gate_up_proj"),
        ("Qwen3Moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}, "model.layers.0.mlp.experts.gate_up_proj"),
        ("GptOss", {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16}, "model.layers.0.mlp.experts.gate_up_proj"),
    ],
)
def test_fused_experts_are_refused_by_name(family: str, options: dict[str, Any], first: str, tmp_path: Path) -> None:
    model = random_live(family, options)
    found = unsearched_matrices(model)
    assert found[0] == first
    assert len(found) == 4  # two a layer; routers are none
    message = f"holds 4 weights that are in no torch.nn.Linear, such as '{first}'"
    with pytest.raises(DmxError, match=message):
        search(model, "bits=5", text=tmp_path / "unread")
    with pytest.raises(DmxError, match=message):
        allocate(model, "uniform", "bits=5")
    model.save_pretrained(tmp_path)
    (tmp_path / "words.txt").write_text("words", encoding="utf-8")
    with pytest.raises(DmxError, match=message):
        runs_of(Sweep(model=str(tmp_path), search_text=str(tmp_path / "words.txt")))


def test_linears_of_another_class_are_not_left_out() -> None:
    class Transposed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(64, 112))

    model = random_live("Llama", {})
    model.model.layers[1].mlp.up_proj = Transposed()
    assert unsearched_matrices(model) == ("model.layers.1.mlp.up_proj.weight",)
    whole = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=96))
    with pytest.raises(DmxError, match=r"no torch\.nn\.Linear in its decoder"):
        load_model(whole)


def test_a_model_that_differs_from_its_config_is_refused() -> None:
    model = live("Llama", {})
    model.model.layers[1].mlp.up_proj = torch.nn.Linear(64, 100)
    with pytest.raises(MxsimError, match=r"model\.layers\.1\.mlp\.up_proj.*112.*100"):
        traced_shape(model)
