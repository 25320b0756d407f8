"""Loading: what is searched, what is skipped, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from dmx.errors import DmxError  # noqa: E402
from dmx.models import LoadedModel, content_hash, load_model, searched_linears, select  # noqa: E402
from tests.dmx.small_models import random_model  # noqa: E402


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
    with pytest.raises(DmxError, match="matches none of the 14 linears"):
        select(names, ["*.fc1"])
    with pytest.raises(DmxError, match="no linear to search"):
        select(names, [], ["*"])
