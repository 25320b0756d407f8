"""Exports: held against mxsim validate and against the library that loads them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dmx.errors import DmxError
from dmx.exporters import export
from dmx.models import LoadedModel, load_model, searched_linears
from dmx.quantised_linear import apply
from mxsim.assignment import Assignment
from mxsim.checkpoints import open_checkpoint
from mxsim.storage_formats import FormatPair
from mxsim.validation import validate
from tests.dmx.small_models import random_model

DATA = os.environ.get("MXSIM_SHARED_DATA")
TINY = Path(DATA or "") / "checkpoints" / "tiny"
pytestmark = pytest.mark.skipif(DATA is None, reason="MXSIM_SHARED_DATA is not set: the float checkpoint is not at hand")


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return load_model(TINY)


def assigned(model: LoadedModel, policy: str, *pairs: str) -> Assignment:
    """The pairs in turn."""
    layers = {name: FormatPair.parse(pairs[n % len(pairs)]) for n, name in enumerate(model.linears)}
    return Assignment(layers=layers, skipped=model.skipped, policy=policy)


CASES = [
    ("compressed-tensors", "compressed-tensors", ("mxfp4_e2m1", "mxfp8_e4m3", "mxfp4_e2m1:mxfp8_e4m3", "nvfp4:bf16", "mxfp6_e2m3", "bf16")),
    ("compressed-tensors", "ocp", ("mxfp4_e2m1", "mxfp8_e4m3")),
    ("compressed-tensors", "auto-round", ("mxfp4_e2m1",)),
    ("compressed-tensors", "torchao", ("mxfp8_e4m3",)),
    ("quark", "quark", ("mxfp6_e3m2",)),
    ("quark", "ocp", ("mxfp4_e2m1:bf16",)),
    ("quark", "auto-round", ("mxfp4_e2m1",)),
    ("mxsim", "ocp", ("mxint8", "nvfp4", "mxfp8_e5m2:mxfp6_e3m2", "mxfp6_e2m3:bf16", "mxfp4_e2m1")),
]


@pytest.mark.parametrize(("target", "policy", "pairs"), CASES)
def test_an_export_is_explained_to_the_last_bit(
    target: str, policy: str, pairs: tuple[str, ...], tiny: LoadedModel, tmp_path: Path
) -> None:
    unit = "mx_exact" if target == "mxsim" else "nvidia_blackwell"  # Blackwell has no int8 blocks
    folder = export(tiny, assigned(tiny, policy, *pairs), target, tmp_path / "out", golden=2, unit=unit)
    report = validate(folder, TINY)
    assert report.ok, [*report.findings, *(v for v in report.tensors if v.status != "proven")]
    assert report.explains_all
    assert report.policy == policy
    assert all(v.status == "proven" for v in report.tensors)
    assert any("golden" in proof for proof in report.proofs)
    (folder / "manifest.json").unlink()
    alone = validate(folder, TINY)
    assert alone.ok
    assert alone.explains_all


@pytest.mark.parametrize(
    ("policy", "mode"), [("quark", "even"), ("compressed-tensors", "even"), ("ocp", "floor"), ("microxcaling", "floor")]
)
def test_quark_is_told_the_policys_scale_rule(policy: str, mode: str, tiny: LoadedModel, tmp_path: Path) -> None:
    folder = export(tiny, assigned(tiny, policy, "mxfp4_e2m1"), "quark", tmp_path / "out")
    specs = json.loads((folder / "config.json").read_text())["quantization_config"]["global_quant_config"]
    assert [specs[key]["scale_calculation_mode"] for key in ("weight", "input_tensors")] == [mode, mode]


def test_quark_has_no_name_for_modelopts_scale_rule(tiny: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(DmxError, match=r"policy modelopt, whose scale rule rceil has no name there \(it has even, floor, ceil\)"):
        export(tiny, assigned(tiny, "modelopt", "mxfp4_e2m1"), "quark", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_tensors_that_were_tied_by_hand_are_all_written(tmp_path: Path) -> None:
    """The configuration does not say so: a reader would look for both."""
    module = random_model("llama")
    module.lm_head.weight = module.model.embed_tokens.weight
    assignment = Assignment.uniform(searched_linears(module), "mxfp4_e2m1")
    written = open_checkpoint(export(module, assignment, "mxsim", tmp_path / "out"))
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= {*written.tensors}


@pytest.fixture
def own_head(tmp_path: Path) -> Path:
    """Its config says that the head is the embeddings; its file holds both, with other values, and transformers ties them not."""
    folder = tmp_path / "own_head"
    shutil.copytree(TINY, folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    return folder


def test_a_head_that_is_not_the_embeddings_is_written_whatever_the_config_says(own_head: Path, tmp_path: Path) -> None:
    loaded = load_model(own_head)
    folder = export(loaded, assigned(loaded, "ocp", "mxfp8_e4m3"), "mxsim", tmp_path / "out")
    assert "lm_head.weight" in open_checkpoint(folder).tensors
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False
    assert validate(folder, own_head).ok


@pytest.mark.parametrize("is_copy", [False, True])
def test_a_missing_head_is_excused_only_where_it_is_the_embeddings(is_copy: bool, own_head: Path, tmp_path: Path) -> None:
    stored = load_file(own_head / "model.safetensors")
    tied = {name: tensor for name, tensor in stored.items() if name != "lm_head.weight"}
    save_file(tied, own_head / "model.safetensors", {"format": "pt"})
    loaded = load_model(own_head)
    folder = export(loaded, assigned(loaded, "ocp", "mxfp8_e4m3"), "mxsim", tmp_path / "out")
    assert "lm_head.weight" not in open_checkpoint(folder).tensors
    assert validate(folder, own_head).ok
    head = stored["model.embed_tokens.weight"].clone() if is_copy else stored["lm_head.weight"]
    save_file(tied | {"lm_head.weight": head}, own_head / "model.safetensors", {"format": "pt"})
    report = validate(folder, own_head)
    assert report.ok == is_copy
    assert [finding.where for finding in report.findings] == ([] if is_copy else ["lm_head.weight"])


def test_files_beside_an_export_are_noted_and_tensors_among_them_are_a_mismatch(tiny: LoadedModel, tmp_path: Path) -> None:
    folder = export(tiny, assigned(tiny, "ocp", "mxfp8_e4m3"), "mxsim", tmp_path / "out")
    (folder / "README.md").write_text("made by hand")
    report = validate(folder)
    assert report.ok
    assert any("SHA-256" in proof for proof in report.proofs)
    shutil.copy(folder / "model.safetensors", folder / "adapter_model.safetensors")
    assert not validate(folder).ok


def test_shards_hold_the_same_tensors(tiny: LoadedModel, tmp_path: Path) -> None:
    assignment = assigned(tiny, "compressed-tensors", "mxfp4_e2m1")
    export(tiny, assignment, "compressed-tensors", tmp_path / "whole")
    export(tiny, assignment, "compressed-tensors", tmp_path / "shards", shard_bytes=20_000)
    whole, shards = open_checkpoint(tmp_path / "whole"), open_checkpoint(tmp_path / "shards")
    assert len(shards.folder.files) > 2
    assert {n: bytes(t.raw()) for n, t in whole.tensors.items()} == {n: bytes(t.raw()) for n, t in shards.tensors.items()}
    assert validate(tmp_path / "shards", TINY).ok


def test_every_flipped_bit_of_an_export_is_found(tiny: LoadedModel, tmp_path: Path) -> None:
    """Anywhere in any file, by the manifest alone."""
    folder = export(tiny, assigned(tiny, "ocp", "mxfp8_e4m3"), "mxsim", tmp_path / "out")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    rng = np.random.default_rng(0)
    for n in range(24):
        path = files[n % len(files)]
        clean = path.read_bytes()
        flipped = bytearray(clean)
        flipped[int(rng.integers(len(clean)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            found = not validate(folder).ok
        except ValueError:
            found = True
        path.write_bytes(clean)
        assert found, path.name
    assert validate(folder).ok


@pytest.mark.parametrize(
    ("target", "pairs"),
    [
        ("compressed-tensors", ("mxfp4_e2m1", "mxint8")),
        ("compressed-tensors", ("nvfp4",)),
        ("quark", ("mxfp4_e2m1", "mxfp6_e3m2")),
        ("quark", ("mxfp8_e4m3",)),
        ("mxsim", ("int8",)),
        ("mxsim", ("mxfp4_e2m1", "bf16:mxfp8_e4m3")),
    ],
)
def test_what_a_target_cannot_hold_is_refused_with_the_layers_named(
    target: str, pairs: tuple[str, ...], tiny: LoadedModel, tmp_path: Path
) -> None:
    with pytest.raises(DmxError, match=r"model\.layers\.0\."):
        export(tiny, assigned(tiny, "ocp", *pairs), target, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_wide_weights_under_narrow_inputs_are_refused_with_a_remedy(tiny: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(DmxError, match="give its weights a block format, or leave its inputs in bf16 too"):
        export(tiny, assigned(tiny, "ocp", "bf16:mxfp8_e4m3"), "mxsim", tmp_path / "out")


@pytest.mark.skipif(importlib.util.find_spec("compressed_tensors") is None, reason="compressed-tensors is not installed")
@pytest.mark.filterwarnings("ignore")
def test_compressed_tensors_decodes_the_same_bits(tiny: LoadedModel, tmp_path: Path) -> None:
    """Loaded by transformers with the real library: weights equal to the bit (nvfp4 after the library's rounding to bfloat16)."""
    from transformers import AutoModelForCausalLM

    pairs = ("mxfp4_e2m1", "mxfp8_e4m3", "mxfp4_e2m1:mxfp8_e4m3", "nvfp4:bf16", "mxfp6_e2m3")
    folder = export(tiny, assigned(tiny, "compressed-tensors", *pairs), "compressed-tensors", tmp_path / "out")
    module = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    tokens = torch.arange(64)[None]
    with torch.no_grad():
        module(tokens)  # decompresses where that is left for the first call
    modules = dict(module.named_modules())
    for weight in open_checkpoint(folder).quantized:
        ours = weight.tensor().dequantize()
        if weight.format == "nvfp4":
            ours = ours.astype(ml_dtypes.bfloat16).astype(np.float32)
        theirs = modules[weight.module].weight.detach().float().numpy()
        assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32)), weight.module


@pytest.mark.skipif(importlib.util.find_spec("compressed_tensors") is None, reason="compressed-tensors is not installed")
@pytest.mark.filterwarnings("ignore")
def test_logits_of_the_loaded_export_equal_those_of_the_assignment(tiny: LoadedModel, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    assignment = assigned(tiny, "compressed-tensors", "mxfp4_e2m1", "mxfp8_e4m3")
    folder = export(tiny, assignment, "compressed-tensors", tmp_path / "out")
    module = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    tokens = torch.arange(64)[None]
    with torch.no_grad():
        module(tokens)  # the library decompresses at the first call, to bfloat16
    for parameter in module.parameters():  # dmx evaluates in float32: widening is exact
        parameter.data = parameter.data.float()
    with torch.no_grad():
        theirs = module(tokens).logits
        with apply(tiny, assignment):
            ours = tiny.module(tokens).logits
    assert torch.equal(ours, theirs.float()), (float((ours - theirs).abs().max()), int((ours != theirs).sum()), ours.numel())
