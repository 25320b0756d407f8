"""Workloads: counts by hand, additivity, monotonicity, expected experts."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxsim.errors import MxsimError
from mxsim.shapes import SHAPES
from mxsim.workload import Phase, build_workload, expected_active_experts, model_linears


@pytest.mark.parametrize("name", SHAPES)
def test_macs_of_a_decode_step_are_the_weights_that_a_token_meets(name: str) -> None:
    shape = SHAPES[name]
    workload = build_workload(shape, Phase(batch=3, context=64))
    met = sum(linear.weights // linear.experts * (shape.experts_per_token if linear.experts > 1 else 1) for linear in model_linears(shape))
    attention = sum(2 * 3 * shape.attended(layer, 64) * shape.heads * shape.head_dim for layer in range(shape.layers))
    assert math.fsum(operation.matmul.macs for operation in workload.operations) == 3 * met + attention


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_do_not_depend_on_the_phase_and_names_are_unique(name: str) -> None:
    decode = build_workload(SHAPES[name], Phase(context=8))
    prefill = build_workload(SHAPES[name], Phase(kind="prefill", batch=2, context=100))
    assert decode.parameters == prefill.parameters
    names = [operation.name for operation in decode.operations]
    assert len(set(names)) == len(names)
    assert decode.linears == prefill.linears


def test_tied_embeddings_are_stored_once_and_read_in_full() -> None:
    operations = {o.name: o.matmul for o in build_workload(SHAPES["Qwen3-0.6B"], Phase()).operations}
    assert operations["model.embed_tokens"].parameters == 151936 * 1024
    assert operations["lm_head"].parameters == 0
    assert operations["lm_head"].macs == 151936 * 1024


def test_causal_attention_counts_each_pair_once() -> None:
    operations = {o.name: o.matmul for o in build_workload(SHAPES["stories260K"], Phase(kind="prefill", context=5)).operations}
    assert operations["model.layers.0.self_attn.attention"].macs == 2 * (1 + 2 + 3 + 4 + 5) * 8 * 8


def test_windowed_layers_look_back_no_further_than_their_window() -> None:
    operations = {o.name: o.matmul for o in build_workload(SHAPES["gpt-oss-20b"], Phase(context=4096)).operations}
    assert operations["model.layers.0.self_attn.attention"].kv_read_vectors == 2 * 128 * 8
    assert operations["model.layers.1.self_attn.attention"].kv_read_vectors == 2 * 4096 * 8
    prefill = {o.name: o.matmul for o in build_workload(SHAPES["gpt-oss-20b"], Phase(kind="prefill", context=300)).operations}
    pairs = sum(min(i, 128) for i in range(1, 301))
    assert prefill["model.layers.0.self_attn.attention"].macs == 2 * pairs * 64 * 64


def test_numpys_whole_numbers_are_whole_numbers() -> None:
    assert Phase(batch=np.int64(4), context=np.uint16(8)) == Phase(batch=4, context=8)  # type: ignore[arg-type]
    assert type(Phase(batch=np.int64(4)).batch) is int  # type: ignore[arg-type]


@given(st.integers(1, 256), st.data(), st.integers(1, 10_000))
def test_expected_experts_lie_between_those_of_one_token_and_all(experts: int, data: st.DataObject, tokens: int) -> None:
    per_token = data.draw(st.integers(1, experts))
    active = expected_active_experts(experts, per_token, tokens)
    assert per_token * (1 - 1e-9) <= active <= experts
    assert active <= per_token * tokens * (1 + 1e-9)
    assert expected_active_experts(experts, per_token, tokens + 1) >= active


def test_expected_experts_by_hand() -> None:
    assert expected_active_experts(2, 1, 2) == 1.5
    assert expected_active_experts(128, 4, 1) == pytest.approx(4, rel=1e-12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch": 0}, "batch 0 must be a whole number of at least 1"),
        ({"context": -3}, "context -3"),
        ({"batch": 1.5}, r"batch 1\.5"),
        ({"kind": "training"}, "'training' is neither prefill nor decode"),
    ],
)
def test_bad_phases_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(MxsimError, match=message):
        Phase(**fields)  # type: ignore[arg-type]


def test_a_context_longer_than_the_models_is_refused() -> None:
    with pytest.raises(MxsimError, match=r"context 513 is longer than stories260K allows: at most 512 tokens"):
        build_workload(SHAPES["stories260K"], Phase(context=513))


def test_the_shapes_are_those_of_the_shared_table() -> None:
    folder = os.environ.get("MXSIM_SHARED_DATA")
    if not folder:
        pytest.skip("MXSIM_SHARED_DATA is not set")
    shared = json.loads((Path(folder) / "configs" / "model_shapes.json").read_text(encoding="utf-8"))
    rows = {name: row for name, row in shared.items() if not name.startswith("_")}
    assert set(rows) == set(SHAPES)
    for name, row in rows.items():
        shape = SHAPES[name]
        ours = (shape.hidden, shape.layers, shape.heads, shape.kv_heads, shape.head_dim, shape.vocab, shape.tied_embeddings)
        assert ours == tuple(row[key] for key in ("hidden_size", "layers", "heads", "kv_heads", "head_dim", "vocab", "tie")), name
        assert shape.intermediate == row.get("moe_intermediate_size", row.get("intermediate_size")), name
        assert (shape.experts, shape.experts_per_token) == (row.get("experts", 0), row.get("experts_per_token", 0)), name
        flags = (shape.qk_norm, shape.attention_bias, shape.mlp_bias, shape.attention_sinks)
        assert flags == tuple(row.get(key, False) for key in ("qk_norm", "attention_bias", "mlp_bias", "attention_sinks")), name
