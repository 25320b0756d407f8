"""Exports of tiny models as the libraries load them: perplexity and logits of the loaded export are those of the assignment."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file

import dmx
from dmx.exporters import export
from dmx.models import LoadedModel, load_model
from dmx.quantised_linear import apply
from dmx.text import read_text, tokenize
from mxsim.assignment import Assignment
from mxsim.checkpoints import open_checkpoint
from mxsim.checkpoints.layout import QuantizedTensor
from mxsim.storage_formats import FormatPair
from mxsim.validation import validate
from tests.dmx.small_models import random_model, random_text, save

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("compressed_tensors") is None, reason="compressed-tensors is not installed"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module", params=[torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose every linear MX blocks divide, stored in one dtype."""
    return save(random_model("llama", intermediate_size=64).to(request.param), tmp_path_factory.mktemp("model"))


def assigned(model: LoadedModel, *pairs: str) -> Assignment:
    layers = {name: FormatPair.parse(pairs[n % len(pairs)]) for n, name in enumerate(model.linears)}
    return Assignment(layers=layers, skipped=model.skipped, policy="compressed-tensors")


def loaded_in_float32(place: Path) -> torch.nn.Module:
    """As transformers loads it; what the library decompresses to bfloat16 at the first call is widened, which is exact."""
    from transformers import AutoModelForCausalLM

    module: Any = AutoModelForCausalLM.from_pretrained(place, dtype="auto")
    with torch.no_grad():
        module(torch.arange(8)[None])
    for parameter in module.parameters():
        parameter.data = parameter.data.float()
    return module  # type: ignore[no-any-return]


def library_values(weight: QuantizedTensor) -> npt.NDArray[np.float32]:
    """NVFP4 as the library's own function dequantises it in float32."""
    from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize

    stored = load_file(weight.elements.file.path)
    values: Any = dequantize(
        x_q=unpack_fp4_from_uint8(stored[f"{weight.module}.weight_packed"], *weight.shape, dtype=torch.float32),
        args=QuantizationArgs(num_bits=4, type="float", symmetric=True, strategy="tensor_group", group_size=16),
        scale=stored[f"{weight.module}.weight_scale"].float(),
        global_scale=stored[f"{weight.module}.weight_global_scale"],
        dtype=torch.float32,
    )
    return np.asarray(values.numpy(), np.float32)


@pytest.mark.parametrize("pairs", [("mxfp4_e2m1",), ("mxfp8_e4m3",), ("mxfp4_e2m1", "mxfp8_e4m3"), ("mxfp4_e2m1:mxfp8_e4m3", "bf16")])
def test_the_loaded_exports_perplexity_is_the_assignments(pairs: tuple[str, ...], folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    if set(model.stored_dtypes.values()) != {torch.bfloat16}:
        pytest.skip("compressed-tensors decompresses MX weights to bfloat16, which a model of another dtype cannot multiply by")
    assignment = assigned(model, *pairs)
    text = tmp_path / "words.txt"
    text.write_text(random_text(), encoding="utf-8")
    tokens = tokenize(model, read_text(text), name="words")
    ours = dmx.evaluate(model, assignment, text=tokens, kl=False)
    module = loaded_in_float32(export(model, assignment, "compressed-tensors", tmp_path / "out"))
    theirs = dmx.evaluate(load_model(module, tokenizer=model.tokenizer), None, text=tokens, kl=False)
    assert theirs["perplexity"] == ours["perplexity"]
    assert ours["perplexity"] != dmx.evaluate(model, None, text=tokens, kl=False)["perplexity"]
    ids = tokens.windows[:2]
    with torch.no_grad():
        logits = module(ids).logits
        with apply(model, assignment):
            assert torch.equal(model.module(ids).logits, logits)


def test_nvfp4_of_either_dtype_is_explained_and_decoded_alike(folder: Path, tmp_path: Path) -> None:
    """Also from float32 weights, which no export of another producer at hand was made of."""
    model = load_model(folder)
    place = export(model, assigned(model, "nvfp4:bf16"), "compressed-tensors", tmp_path / "out")
    report = validate(place, folder)
    assert report.ok, [*report.findings, *(v for v in report.tensors if v.status != "proven")]
    assert (report.policy, report.explains_all) == ("compressed-tensors", True)
    assert all(v.status == "proven" for v in report.tensors)
    for weight in open_checkpoint(place).quantized:
        assert np.array_equal(weight.tensor().dequantize().view(np.uint32), library_values(weight).view(np.uint32)), weight.module
    if set(model.stored_dtypes.values()) != {torch.bfloat16}:
        return  # compressed-tensors decompresses to bfloat16, which a model of another dtype cannot multiply by
    modules = dict(loaded_in_float32(place).named_modules())
    for weight in open_checkpoint(place).quantized:
        ours = weight.tensor().dequantize().astype(ml_dtypes.bfloat16).astype(np.float32)
        theirs: Any = modules[weight.module].weight
        assert np.array_equal(ours.view(np.uint32), theirs.detach().numpy().view(np.uint32)), weight.module


@pytest.mark.parametrize("policy", ["compressed-tensors", "ocp"])
def test_a_flipped_nvfp4_tensor_scale_is_found(policy: str, folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    assignment = assigned(model, "nvfp4:bf16")
    target = "compressed-tensors" if policy == "compressed-tensors" else "mxsim"
    layers = Assignment(layers=assignment.layers, skipped=assignment.skipped, policy=policy)
    place = export(model, layers, target, tmp_path / "out")
    (place / "manifest.json").unlink()
    scale = open_checkpoint(place).quantized[0].tensor_scale
    assert scale is not None
    data = bytearray((place / "model.safetensors").read_bytes())
    data[scale.begin] ^= 1
    (place / "model.safetensors").write_bytes(data)
    report = validate(place, folder)
    assert not report.ok
    (wrong,) = [v for v in report.tensors if v.status == "mismatch"]
    assert "tensor scale" in wrong.causes
