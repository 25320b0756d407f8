"""Windows: cut without remainder, halves that do not meet, texts that are too short."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from dmx import search  # noqa: E402
from dmx.allocators import allocate  # noqa: E402
from dmx.allocators.problem import sample_windows  # noqa: E402
from dmx.errors import DmxError  # noqa: E402
from dmx.evaluation import evaluate  # noqa: E402
from dmx.models import LoadedModel, load_model, longest_window  # noqa: E402
from dmx.text import TokenText, read_text, tokenize  # noqa: E402
from tests.dmx.small_models import random_model, random_text  # noqa: E402


def test_windows_do_not_overlap_and_the_rest_is_dropped(llama: LoadedModel) -> None:
    text = tokenize(llama, random_text(100), name="a")
    assert text.windows.shape == (3, 32)
    assert text.scored_tokens == 3 * 31
    ids = llama.need_tokenizer()(random_text(100), add_special_tokens=False)["input_ids"]
    assert text.windows.reshape(-1).tolist() == ids[:96]


def test_halves_are_disjoint_and_complete(llama: LoadedModel) -> None:
    whole, first, second = (tokenize(llama, random_text(), name="a", context=16, part=part) for part in ("all", "first", "second"))
    assert torch.equal(torch.cat([first.windows, second.windows]), whole.windows)
    assert first.name == "a (first half)"
    assert first.first(2).windows.shape == (2, 16)


def test_bad_text_is_refused(llama: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(DmxError, match="5 tokens, too few for a window of 32"):
        tokenize(llama, random_text(5), name="a")
    with pytest.raises(DmxError, match="does not fit"):
        tokenize(llama, random_text(), name="a", context=33)
    with pytest.raises(DmxError, match="window of 0 tokens does not fit"):
        tokenize(llama, random_text(), name="a", context=0)
    with pytest.raises(DmxError, match="0 windows"):
        tokenize(llama, random_text(), name="a").first(0)
    with pytest.raises(DmxError, match=r"gives token \d+, but the model knows 8"):
        tokenize(load_model(random_model("llama", vocab_size=8), tokenizer=llama.tokenizer), random_text(), name="a")
    with pytest.raises(DmxError, match="scores on 0 tokens"):
        sample_windows(tokenize(llama, random_text(), name="a"), 0, 0)
    with pytest.raises(DmxError, match="none of all, first, second"):
        tokenize(llama, random_text(), name="a", part="third")
    with pytest.raises(DmxError, match="cannot be read"):
        read_text(tmp_path / "none.txt")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DmxError, match="not UTF-8"):
        read_text(tmp_path / "bytes.txt")


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (torch.full((4, 32), 64), r"holds token 64, but 'llama\d*' knows 0 to 63"),
        (torch.full((4, 32), -1), "holds token -1"),
        (torch.zeros(2, 64, dtype=torch.int64), r"windows of 64 tokens, which do not fit 'llama\d*': take 2 to 32"),
        (torch.zeros(2, 1, dtype=torch.int64), "windows of 1 tokens"),
        (torch.zeros(0, 32, dtype=torch.int64), r"shape \(0, 32\)"),
        (torch.zeros(32, dtype=torch.int64), r"shape \(32,\)"),
        (torch.zeros(2, 32), r"torch\.float32"),
    ],
    ids=["beyond the vocabulary", "negative", "too wide", "one token", "no window", "flat", "floats"],
)
def test_tokens_that_a_model_cannot_read_are_refused(llama: LoadedModel, windows: torch.Tensor, message: str) -> None:
    text = TokenText(name="given", sha256="", windows=windows)
    with pytest.raises(DmxError, match=message):
        search(llama, "bits=5", text=text)
    with pytest.raises(DmxError, match=message):
        allocate(llama, "fisher", "bits=5", text=text)
    with pytest.raises(DmxError, match=message):
        evaluate(llama, text=text)


def test_tokens_are_halved_like_a_file(llama: LoadedModel, text: TokenText, text_file: Path) -> None:
    for part in ("first", "second", "all"):
        told = evaluate(llama, text=text_file, part=part)
        given = evaluate(llama, text=text, part=part)
        assert (given["perplexity"], given["tokens"]) == (told["perplexity"], told["tokens"])
    halves = [search(llama, "bits=5", text=text, part=part, steps=2, refine=0).search["text"] for part in ("first", "second")]
    assert [half["name"] for half in halves] == ["words (first half)", "words (second half)"]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"part": "third"}, "part 'third' of a text is none of all, first, second"),
        ({"context": 8}, "of 32 tokens, not of the 8"),
    ]
    for refused, message in cases:
        with pytest.raises(DmxError, match=message):
            evaluate(llama, text=text, **refused)
        with pytest.raises(DmxError, match=message):
            allocate(llama, "fisher", "bits=5", text=text, **refused)
        with pytest.raises(DmxError, match=message):
            search(llama, "bits=5", text=text, **refused)


def test_the_longest_window_is_the_models(llama: LoadedModel) -> None:
    assert longest_window(llama.module) == 32
    assert longest_window(torch.nn.Linear(2, 2)) == sys.maxsize  # a module that does not say


def test_a_sample_follows_from_the_seed(text: TokenText) -> None:
    drawn = [sample_windows(text, 96, seed).windows for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert drawn[0].shape == (3, 32)
    assert sample_windows(text, 10**6, 0) is text


def test_windows_beyond_the_default_are_allowed_up_to_the_models_positions() -> None:
    def each_letter(text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [1] * len(text)}

    long = load_model(random_model("llama", max_position_embeddings=3000))
    model = replace(long, tokenizer=each_letter)
    assert tokenize(model, "a" * 7000, name="a").windows.shape == (3, 2048)
    assert tokenize(model, "a" * 7000, name="a", context=3000).windows.shape == (2, 3000)
    with pytest.raises(DmxError, match="take 2 to 3000"):
        tokenize(model, "a" * 7000, name="a", context=3001)
