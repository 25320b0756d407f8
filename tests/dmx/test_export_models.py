"""Exports of models that transformers holds otherwise than their files do, and to places of every kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from dmx.errors import DmxError  # noqa: E402
from dmx.exporters import export  # noqa: E402
from dmx.models import LoadedModel, load_model  # noqa: E402
from mxsim.assignment import Assignment  # noqa: E402
from mxsim.checkpoints import open_checkpoint  # noqa: E402
from mxsim.validation import validate  # noqa: E402
from tests.dmx.small_models import SIZES, random_model, save  # noqa: E402

OWN = {"compressed-tensors": "compressed-tensors", "quark": "quark", "mxsim": "ocp"}  #: target -> policy


def uniform(model: LoadedModel, policy: str = "ocp", format: str = "mxfp4_e2m1") -> Assignment:
    layers = Assignment.uniform(model.linears, format).layers
    return Assignment(layers=layers, skipped=model.skipped, policy=policy)


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose routers are no torch.nn.Linear, and whose files hold each expert by itself."""
    torch.manual_seed(7)
    sizes = {**SIZES, "intermediate_size": 64, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    module = Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, decoder_sparse_step=2)).to(torch.bfloat16)
    return save(module, tmp_path_factory.mktemp("experts"))


@pytest.mark.parametrize("target", OWN)
def test_routers_are_listed_among_what_is_left_in_float(target: str, experts: Path, tmp_path: Path) -> None:
    loaded = load_model(experts)
    report = validate(export(loaded, uniform(loaded, OWN[target]), target, tmp_path / "out"))
    assert report.ok, report.findings


@pytest.mark.parametrize("target", ["quark", "mxsim"])
def test_experts_are_written_as_the_models_own_files_hold_them(target: str, experts: Path, tmp_path: Path) -> None:
    loaded = load_model(experts)
    report = validate(export(loaded, uniform(loaded, OWN[target]), target, tmp_path / "out"), experts)
    assert report.ok, report.findings
    assert all(v.status == "proven" for v in report.tensors)


@pytest.mark.filterwarnings("ignore")
def test_transformers_loads_experts_left_in_float(experts: Path, tmp_path: Path) -> None:
    """In compressed-tensors' layout it merges no experts that are in float: they are written whole."""
    pytest.importorskip("compressed_tensors")
    loaded = load_model(experts)
    folder = export(loaded, uniform(loaded, "compressed-tensors"), "compressed-tensors", tmp_path / "out")
    found, wanted = (AutoModelForCausalLM.from_pretrained(place, dtype="auto").state_dict() for place in (folder, experts))
    names = [name for name in wanted if ".experts." in name or ".gate." in name]
    assert names
    assert all(torch.equal(found[name], wanted[name]) for name in names)


@pytest.mark.parametrize("target", OWN)
def test_a_renamed_head_has_its_files_name(target: str, tmp_path: Path) -> None:
    sizes = {key: SIZES[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")}
    torch.manual_seed(7)
    folder = save(GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, intermediate_size=64)), tmp_path / "model")
    loaded = load_model(folder)
    place = export(loaded, uniform(loaded, OWN[target]), target, tmp_path / "out")
    assert "embed_out.weight" in open_checkpoint(place).tensors
    for report in (validate(place), validate(place, folder)):
        assert report.ok, report.findings


def with_config_dtype(folder: Path, dtype: str) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": dtype}))
    return folder


@pytest.mark.parametrize(
    ("stored", "said"), [(torch.float32, "bfloat16"), (torch.float16, "bfloat16"), (torch.bfloat16, "float32")], ids=str
)
def test_weights_are_converted_from_the_dtype_in_the_files_whatever_the_config_says(stored: Any, said: str, tmp_path: Path) -> None:
    folder = save(random_model("llama").to(stored), tmp_path / "model")
    right = load_model(folder)
    loaded = load_model(with_config_dtype(folder, said))
    assert {*loaded.stored_dtypes.values()} == {stored}
    assert loaded.sha256 == right.sha256
    assert loaded.stored_sha256 == right.stored_sha256
    assert validate(export(loaded, uniform(loaded), "mxsim", tmp_path / "out"), folder).ok


def test_each_linear_has_the_dtype_it_was_stored_in(tmp_path: Path) -> None:
    folder = save(random_model("llama").to(torch.bfloat16), tmp_path / "model")
    wide = "model.layers.0.self_attn.o_proj"
    tensors = load_file(folder / "model.safetensors")
    tensors[f"{wide}.weight"] = random_model("llama").get_parameter(f"{wide}.weight").data
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    loaded = load_model(folder)
    assert [name for name, dtype in loaded.stored_dtypes.items() if dtype == torch.float32] == [wide]
    assert torch.equal(loaded.linears[wide].weight, tensors[f"{wide}.weight"])
    assert validate(export(loaded, uniform(loaded), "mxsim", tmp_path / "out"), folder).ok


def test_a_tokenizer_with_a_folder_of_templates_is_written_and_hashed(llama_folder: Path, tmp_path: Path) -> None:
    loaded = load_model(llama_folder)
    assert loaded.tokenizer is not None
    loaded.tokenizer.chat_template = {"default": "{{ messages }}", "tool": "{{ tools }}"}  # type: ignore[assignment]
    folder = export(loaded, uniform(loaded), "mxsim", tmp_path / "out")
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert any("/" in name for name in files)
    assert {*json.loads((folder / "manifest.json").read_text())["files"]} == {*files} - {"manifest.json"}
    assert validate(folder).ok


def test_a_folder_that_an_export_was_killed_in_is_empty_still(llama: LoadedModel, tmp_path: Path) -> None:
    left = tmp_path / "out" / ".out.999999.part"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    export(llama, uniform(llama), "mxsim", tmp_path / "out")
    assert not left.exists()


def test_an_interrupted_move_leaves_the_folder_empty(llama: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    replace, moves = os.replace, iter(range(9))

    def interrupted(source: Path, target: Path) -> None:
        if Path(target).parent == tmp_path / "out" and next(moves) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(llama, uniform(llama), "mxsim", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_an_empty_folder_is_filled_however_it_is_named(llama: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not replaced: it may be mounted, or where the process works."""
    for name in ("linked", "here", "mounted"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "linked")
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "here")
    before = (tmp_path / "mounted").stat().st_ino
    for folder, at in (("../link", "linked"), ("../dangling", "elsewhere"), (".", "here"), (tmp_path / "mounted", "mounted")):
        export(llama, uniform(llama), "mxsim", folder)
        assert validate(tmp_path / at).ok
    assert Path.cwd() == tmp_path / "here"
    assert (tmp_path / "mounted").stat().st_ino == before
    assert (tmp_path / "link").is_symlink()
    assert not list(tmp_path.rglob("*.part"))
    with pytest.raises(DmxError, match="exists and is not empty"):
        export(llama, uniform(llama), "mxsim", ".")


def test_an_export_needs_no_threading_layer_but_numbas_own(llama_folder: Path, tmp_path: Path) -> None:
    """Which ends the process where kernels are called from two threads."""
    code = (
        "import sys, dmx; from mxsim.assignment import Assignment; model = dmx.load_model(sys.argv[1]); "
        'dmx.export(model, Assignment.uniform(model.linears, "mxfp4_e2m1"), "mxsim", sys.argv[2])'
    )
    environment = {**os.environ, "NUMBA_THREADING_LAYER": "workqueue"}
    arguments = [sys.executable, "-c", code, str(llama_folder), str(tmp_path / "out")]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    assert validate(tmp_path / "out", llama_folder).ok
