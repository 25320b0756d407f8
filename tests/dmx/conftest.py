"""Small models and a text, made once a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dmx.models import LoadedModel


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of dmx allocate go here, not to the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    from tests.dmx.small_models import random_model, save

    return save(random_model("llama"), tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In bfloat16."""
    pytest.importorskip("transformers")
    import torch

    from tests.dmx.small_models import random_model, save

    return save(random_model("qwen3").to(torch.bfloat16), tmp_path_factory.mktemp("qwen3"))


@pytest.fixture(scope="session")
def llama(llama_folder: Path) -> LoadedModel:
    from dmx.models import load_model

    return load_model(llama_folder)


@pytest.fixture(scope="session")
def qwen(qwen_folder: Path) -> LoadedModel:
    from dmx.models import load_model

    return load_model(qwen_folder)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    from tests.dmx.small_models import random_text

    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(random_text(), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def text(llama: LoadedModel, text_file: Path) -> Any:
    from dmx.text import read_text, tokenize

    return tokenize(llama, read_text(text_file), name="words")
