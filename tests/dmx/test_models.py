"""Loading: what is searched, what is skipped, what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoModelForCausalLM, GemmaConfig, GemmaForCausalLM  # noqa: E402

from dmx import search  # noqa: E402
from dmx.allocators import allocate  # noqa: E402
from dmx.errors import DmxError  # noqa: E402
from dmx.evaluation import evaluate  # noqa: E402
from dmx.exporters import export  # noqa: E402
from dmx.models import LoadedModel, content_hash, load_model, searched_linears, select  # noqa: E402
from dmx.text import tokenize  # noqa: E402
from mxsim.assignment import Assignment  # noqa: E402
from tests.dmx.small_models import SIZES, random_model, random_text, save  # noqa: E402


def test_decoder_linears_are_searched_and_the_head_is_listed(llama: LoadedModel, qwen: LoadedModel) -> None:
    for model in (llama, qwen):
        assert len(model.linears) == 14
        assert model.skipped == ("lm_head",)
        assert model.context == 32
        assert all(not p.requires_grad for p in model.module.parameters())
        shape = model.shape
        assert shape is not None
    assert next(iter(llama.linears)) == "model.layers.0.self_attn.q_proj"


def test_stored_dtypes_are_remembered(llama: LoadedModel, qwen: LoadedModel) -> None:
    assert set(llama.stored_dtypes.values()) == {torch.float32}
    assert set(qwen.stored_dtypes.values()) == {torch.bfloat16}
    assert {p.dtype for p in qwen.module.parameters()} == {torch.float32}


def test_a_live_module_is_used_as_it_is() -> None:
    module = random_model("llama")
    loaded = load_model(module)
    assert loaded.module is module
    assert loaded.tokenizer is None
    assert load_model(loaded) is loaded
    with pytest.raises(DmxError, match="has no tokenizer"):
        loaded.need_tokenizer()


def test_the_hash_is_of_the_content() -> None:
    first, second = random_model("llama"), random_model("llama")
    assert content_hash(first) == content_hash(second)
    next(iter(searched_linears(second).values())).weight.data[0, 0] += 1
    assert content_hash(first) != content_hash(second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_hash_is_of_values_widened_or_not(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = save(random_model("llama").to(dtype), tmp_path / "model")
    live = load_model(AutoModelForCausalLM.from_pretrained(folder, dtype="auto"))
    widened = load_model(folder)
    assert (live.dtypes, widened.dtypes) == ([str(dtype)], ["torch.float32"])
    assert live.sha256 == widened.sha256
    assert live.config_sha256 == widened.config_sha256
    assert live.sha256 != load_model(random_model("llama")).sha256


def test_the_hash_of_a_float32_model_is_what_records_hold() -> None:
    """As it was before narrower floats were widened: name, dtype, shape and bytes."""
    module = random_model("llama")
    module.register_buffer("rounds", torch.tensor([3, 1]))
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode() + tensor.numpy().tobytes())
    assert content_hash(module) == digest.hexdigest()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_folder_computes_what_its_values_do_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    """Gemma multiplies embeddings by the root of their size, a constant that it rounds to the dtype it is made in: no file holds it."""
    torch.manual_seed(7)
    sizes: dict[str, Any] = {**SIZES, "hidden_size": 48, "head_dim": 8, "pad_token_id": None}
    folder = save(GemmaForCausalLM(GemmaConfig(**sizes)).to(dtype), tmp_path / "model")
    ids = torch.arange(32)[None]
    widened = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(load_model(folder).module(input_ids=ids).logits, widened(input_ids=ids).logits)
    assert set(load_model(folder).stored_dtypes.values()) == {dtype}


@pytest.mark.parametrize("says", [None, "float16"])
def test_weights_under_other_names_in_the_files_have_the_dtype_that_the_config_says_or_theirs(
    says: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(random_model("llama").to(torch.bfloat16), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "dtype": says}), encoding="utf-8")
    monkeypatch.setattr("dmx.models._stored_in_files", lambda *_: {"another.name": torch.bfloat16})
    assert set(load_model(folder).stored_dtypes.values()) == {torch.bfloat16 if says is None else torch.float16}


def test_weights_that_no_policy_converts_are_refused(tmp_path: Path) -> None:
    module, name = random_model("llama").to(torch.bfloat16), "model.layers.1.mlp.up_proj"
    module.get_submodule(name).double()
    for model in (module, save(module, tmp_path / "model")):
        with pytest.raises(DmxError, match=rf"weight of '{name}' .* in torch\.float64.* save it in float32, float16 or bfloat16"):
            load_model(model)


def test_a_module_without_values_is_refused() -> None:
    with pytest.raises(DmxError, match="on the meta device: load its weights first"):
        load_model(random_model("llama").to("meta"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_what_was_found_live_serves_the_folder_and_back(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = save(random_model("llama").to(dtype), tmp_path / "model")
    live = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    widened = load_model(folder)
    text = tokenize(widened, random_text(), name="words")
    quick = {"steps": 2, "refine": 0, "batch_windows": 2, "curvature": False}
    for searched, used in ((live, folder), (folder, live)):
        found = search(searched, "bits=5", text=text, **quick)
        assert evaluate(used, found, text=text)["perplexity"] > 1
        assert allocate(searched, "uniform", "bits=5").search["model"]["sha256"] == found.search["model"]["sha256"]
    exported = export(folder, search(live, "bits=5", text=text, **quick), "mxsim", tmp_path / "exported")
    assert (exported / "config.json").is_file()


def test_scores_measured_in_another_precision_are_other_scores(tmp_path: Path) -> None:
    folder = save(random_model("llama").to(torch.bfloat16), tmp_path / "model")
    live, widened = load_model(AutoModelForCausalLM.from_pretrained(folder, dtype="auto")), load_model(folder)
    text = tokenize(widened, random_text(64), name="words")
    for model in (live, widened):
        allocate(model, "fisher", "bits=5", text=text, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_scores_of_weights_stored_in_another_dtype_are_other_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their float32 values are the same; what is quantised is what was stored."""
    module = random_model("llama").to(torch.bfloat16)
    narrow = load_model(save(module, tmp_path / "narrow"))
    wide = load_model(save(module.float(), tmp_path / "wide"))
    assert narrow.sha256 == wide.sha256
    assert narrow.stored_sha256 != wide.stored_sha256
    keys: list[str] = []
    monkeypatch.setattr("dmx.searching.SearchState.open", lambda _, key: (keys.append(key), 1 / 0))
    for model in (narrow, wide):
        text = tokenize(model, random_text(), name="words")
        allocate(model, "fisher", "bits=5", text=text, cache=tmp_path / "scores")
        with pytest.raises(ZeroDivisionError):
            search(model, "bits=5", text=text)
    assert len(list((tmp_path / "scores").iterdir())) == 2
    assert len(set(keys)) == 2


@pytest.mark.parametrize("what", ["cut", "compiled", "without its head"])
def test_a_module_that_is_not_what_its_config_says_has_no_known_cost(what: str) -> None:
    module = random_model("llama")
    assert load_model(module).shape is not None
    if what == "cut":
        module.model.layers = module.model.layers[:1]
    other = {"cut": module, "compiled": torch.compile(module, backend="eager"), "without its head": module.model}[what]
    loaded = load_model(other)
    assert loaded.shape is None
    found = allocate(loaded, "uniform", "bits=4")
    assert found.achieved["bits"] == 4
    assert found.achieved["bytes"] is None
    with pytest.raises(DmxError, match="its linears named and sized as its config says"):
        allocate(loaded, "uniform", "bytes=0.5x")


def test_an_encoder_with_a_decoder_is_refused() -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    module = T5ForConditionalGeneration(T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, vocab_size=32))
    with pytest.raises(DmxError, match="is an encoder with a decoder"):
        load_model(module)


def test_a_model_without_linears_is_refused() -> None:
    with pytest.raises(DmxError, match=r"no torch\.nn\.Linear"):
        load_model(torch.nn.Sequential(torch.nn.Embedding(4, 4)))


def test_weights_in_pickle_alone_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(llama_folder, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(DmxError, match="cannot be loaded"):
        load_model(folder)


def without_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def with_a_tensor_of_another_shape(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] = torch.zeros(3, 3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def with_a_broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_a_tensor, r"lacks 1 tensors, such as 'model\.layers\.1\.mlp\.down_proj\.weight'"),
        (with_a_tensor_of_another_shape, "cannot be loaded"),
        (cut_short, "cannot be loaded"),
        (with_a_broken_tokenizer, "tokenizer of model 'damaged' cannot be read"),
    ],
)
def test_damaged_folders_are_refused(llama_folder: Path, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(llama_folder, folder)
    damage(folder)
    with pytest.raises(DmxError, match=message):
        load_model(folder)


def test_our_own_export_is_no_float_model(llama_folder: Path, tmp_path: Path) -> None:
    assignment = Assignment.uniform(load_model(llama_folder).linears, "mxfp8_e4m3")
    exported = export(llama_folder, assignment, "mxsim", tmp_path / "exported")
    with pytest.raises(DmxError, match=r"is quantised already.*'mxsim'"):
        load_model(exported)


@pytest.mark.parametrize("method", ["compressed-tensors", "modelopt", "quark", "fp8"])
def test_a_checkpoint_that_is_quantised_already_is_no_float_model(method: str, llama_folder: Path, tmp_path: Path) -> None:
    """Even one whose tensors are all there: FP8 elements without their scales are loaded without a word."""
    folder = tmp_path / "quantised"
    shutil.copytree(llama_folder, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": method}}), encoding="utf-8")
    with pytest.raises(DmxError, match=rf"'quantised' is quantised already .*'{method}'.* take the float model"):
        load_model(folder)


def test_a_device_that_is_not_there_is_refused(llama_folder: Path) -> None:
    with pytest.raises(DmxError, match="nothing can run on 'tpu9' here"):
        load_model(llama_folder, device="tpu9")


def test_a_configuration_that_computes_something_else_has_another_hash(llama_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(llama_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    for changed, same in (({"transformers_version": "0"}, True), ({"rms_norm_eps": 0.1}, False)):
        (folder / "config.json").write_text(json.dumps(config | changed))
        loaded, before = load_model(folder), load_model(llama_folder)
        assert loaded.sha256 == before.sha256
        assert (loaded.config_sha256 == before.config_sha256) is same


@pytest.mark.parametrize("name", ["no-such-folder", "./no/such", "a/b/c"])
def test_a_place_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(DmxError, match="no such folder"):
        load_model(name)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DmxError, match=r"config\.json"):
        load_model(tmp_path)


def test_patterns_choose_and_must_match(llama: LoadedModel) -> None:
    names = list(llama.linears)
    assert len(select(names, ["*.0.*"], ["*down_proj"])) == 6
    assert select([*names, "experts[0]"], ["experts[0]"]) == ["experts[0]"]
    with pytest.raises(DmxError, match="matches none of the 14 linears"):
        select(names, ["*.fc1"])
    with pytest.raises(DmxError, match="no linear to search"):
        select(names, [], ["*"])
