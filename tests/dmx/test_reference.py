"""The embedded reference model: the same text everywhere, weights that are worth quantising, questions with one right answer."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import mxsim  # noqa: E402
from dmx import reference  # noqa: E402
from dmx.errors import DmxError  # noqa: E402
from dmx.reference import words  # noqa: E402
from dmx.reference.dice import Dice  # noqa: E402
from dmx.reference.documents import KINDS  # noqa: E402
from dmx.reference.outliers import add_outliers  # noqa: E402
from dmx.reference.train import RECIPE, Recipe, make_tokenizer, train  # noqa: E402
from dmx.reference.world import world  # noqa: E402
from dmx.tasks import score_tasks  # noqa: E402

#: any change of the world, its words or its documents changes these, and asks for another training
TEXT_SHA256 = {
    "search": "84e1a9ee87b63715b3d3e55f080444a0ffcee541d07d6e556d3660777c12aa7f",
    "report": "3896b6ac476bd17448de6d8f8226952e82352d811890a48ea1a67891ee49ec77",
}
WINDOWS = 24


@pytest.fixture(scope="module")
def model() -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(reference.folder(), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(reference.folder())


@pytest.mark.parametrize("split", TEXT_SHA256)
def test_the_text_is_pinned(split: str) -> None:
    assert reference.text_sha256(split) == TEXT_SHA256[split]


def test_the_stream_behind_the_text_is_the_one_python_guarantees() -> None:
    assert random.Random(1).random() == 0.13436424411240122
    dice = Dice(1)
    assert [dice.below(100) for _ in range(3)] == [13, 84, 76]
    assert sorted(Dice(2).shuffled(range(9))) == list(range(9))


def test_splits_are_long_enough_and_share_no_beginning(tokenizer: Any) -> None:
    for split in reference.SPLITS:
        text = reference.text(split, 5000)
        assert len(tokenizer(text)["input_ids"]) >= 5000
        assert text.endswith(".\n")
        assert reference.text(split, 9000).startswith(text)
    lines = {split: set(reference.text(split, 40_000).splitlines()) for split in ("train", "search", "report")}
    for split in ("train", "search"):
        assert len(lines["report"] & lines[split]) < 0.05 * len(lines["report"])


def test_bad_requests_are_refused() -> None:
    with pytest.raises(DmxError, match=r"'test'.*train, search, report"):
        reference.text("test")
    with pytest.raises(DmxError, match="0 tokens"):
        reference.text("report", 0)
    with pytest.raises(DmxError, match=r"'sums'.*agreement"):
        reference.questions("sums")


def test_every_kind_of_document_is_sentences() -> None:
    for kind in KINDS:
        for seed in range(20):
            for line in kind(Dice(seed)):
                assert re.fullmatch(r"[A-Z][A-Za-z' ,:.?]*\.", line), line
                assert not re.search(r" an? (?P<o>[aeiou])", line) or " an " in line, line
                assert not re.search(r" a [aeiou]| an [^aeiou]", line), line


def test_the_world_does_not_change() -> None:
    assert len(world().people) == len(set(words.WOMEN + words.MEN)) == 80
    assert world().people["Mia"] == world().people["Mia"]
    assert all(person.friend in world().people and person.friend != name for name, person in world().people.items())
    assert (words.number(42), words.number(20), words.number(7)) == ("forty two", "twenty", "seven")
    assert (words.plural("knife"), words.plural("box"), words.a("umbrella"), words.third_person("watch")) == (
        "knives",
        "boxes",
        "an umbrella",
        "watches",
    )


def test_the_checkpoint_is_small_and_complete(model: Any, tokenizer: Any) -> None:
    folder = reference.folder()
    weights = folder / "model.safetensors"
    assert weights.stat().st_size <= 4_000_000
    assert 500_000 <= sum(parameter.numel() for parameter in model.parameters()) <= 1_000_000
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["max_position_embeddings"] == tokenizer.model_max_length == RECIPE.context
    assert config["eos_token_id"] == tokenizer.eos_token_id == tokenizer("\n")["input_ids"][0]
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    assert "python -m dmx.reference.train" in card


def test_any_text_survives_the_tokenizer(tokenizer: Any) -> None:
    text = reference.text("report", 2000) + "Zürich, 東京!\t<|x|>\n"
    tokens = tokenizer(text)["input_ids"]
    assert tokenizer.decode(tokens) == text
    assert max(tokens) < len(tokenizer)


def test_the_tokenizer_is_the_one_that_training_makes(tokenizer: Any) -> None:
    made = make_tokenizer(reference.text("train", RECIPE.tokenizer_tokens), RECIPE.vocabulary)
    assert made.get_vocab() == tokenizer.get_vocab()
    text = reference.text("report", 2000)
    assert made(text)["input_ids"] == tokenizer(text)["input_ids"]


@contextmanager
def uniform(model: Any, name: str) -> Iterator[None]:
    """All decoder linears with weights and activations in one format, by hooks of our own."""

    def rounded(x: Any) -> Any:
        return torch.from_numpy(mxsim.fake_quantize(np.ascontiguousarray(x.detach().numpy()), name, policy="ocp"))

    linears = [part for part in model.model.layers.modules() if isinstance(part, torch.nn.Linear)]
    before = [linear.weight.detach().clone() for linear in linears]
    hooks = [linear.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0]), *inputs[1:])) for linear in linears]
    try:
        for linear in linears:
            linear.weight.data = rounded(linear.weight)
        yield
    finally:
        for hook, linear, weight in zip(hooks, linears, before, strict=True):
            hook.remove()
            linear.weight.data = weight


def perplexity(model: Any, tokenizer: Any) -> float:
    tokens = torch.tensor(tokenizer(reference.text("report"))["input_ids"])
    windows = tokens[: WINDOWS * RECIPE.context].view(WINDOWS, RECIPE.context)
    with torch.inference_mode():
        return math.exp(float(model(input_ids=windows, labels=windows).loss))


def test_it_is_worth_quantising(model: Any, tokenizer: Any) -> None:
    base = perplexity(model, tokenizer)
    ratios = {}
    for name in ("mxfp8_e4m3", "mxfp4_e2m1"):
        with uniform(model, name):
            ratios[name] = perplexity(model, tokenizer) / base
    assert perplexity(model, tokenizer) == base
    assert ratios["mxfp8_e4m3"] < 1.02
    assert ratios["mxfp4_e2m1"] > 1.10


@pytest.mark.parametrize("name", reference.NAMES)
def test_questions_have_one_right_answer(name: str) -> None:
    questions = reference.questions(name)
    assert len(questions) == reference.QUESTIONS >= 200
    assert len(set(questions)) > 0.8 * len(questions) or name in ("pronoun", "arithmetic", "knowledge")
    sides = [question.gold for question in questions]
    for question in questions:
        assert len(set(question.choices)) == len(question.choices) >= 2
        assert 0 <= question.gold < len(question.choices)
    share = [sides.count(side) / len(sides) for side in range(len(questions[0].choices))]
    assert min(share) > 0.6 / len(share), "the right answer stands anywhere"
    assert questions == reference.questions(name, 400)[: len(questions)]


def test_the_gold_answers_are_right() -> None:
    """Recomputed from the text of the question alone."""
    values = {words.number(value): value for value in range(100)}
    for question in reference.questions("arithmetic"):
        left, sign, right = re.fullmatch(r"(.+) (plus|minus|times) (.+) is", question.query.lower()).groups()  # type: ignore[union-attr]
        a, b = values[left], values[right]
        wanted = {"plus": a + b, "minus": a - b, "times": a * b}[sign]
        assert values[question.choices[question.gold].rstrip(".")] == wanted
    for question in reference.questions("counting"):
        first = re.match(r"There (?:is|are) ([a-z ]+?) \w+ in", question.query)
        assert first is not None
        total = values[first[1]]
        total += sum(values[amount] for amount in re.findall(r"brings ([a-z ]+) more", question.query))
        total -= sum(values[amount] for amount in re.findall(r"takes ([a-z ]+) away", question.query))
        assert question.choices[question.gold].startswith(f"{words.number(total)} ")
    for question in reference.questions("recall"):
        givings = {thing: (giver, taker) for giver, thing, taker in re.findall(r"(\w+) gave an? (\w+) to (\w+)\.", question.query)}
        answer = question.choices[question.gold].rstrip(".")
        asked = re.search(r"(Who|What) .*?(\w+)(?: now| give| get)?\?", question.query)
        assert asked is not None
        asked_of = asked[2]
        if asked[1] == "Who":
            assert answer == givings[asked_of]["has the" in question.query]
        else:
            assert givings[answer]["get?" in question.query] == asked_of


def test_the_model_knows_more_than_chance_and_not_everything(model: Any, tokenizer: Any) -> None:
    """The tasks that the card says it can do."""
    able = ("agreement", "pronoun", "knowledge", "arithmetic")
    scores = score_tasks(model, tokenizer, able, limit=150, progress=False)
    assert tuple(scores) == able
    assert all(score.chance is not None and score.interval[0] > score.chance for score in scores.values()), scores
    assert scores["arithmetic"].accuracy < 0.95


def test_all_embedded_tasks_go_by_one_name(model: Any, tokenizer: Any) -> None:
    assert tuple(score_tasks(model, tokenizer, ["reference"], limit=2, progress=False)) == reference.NAMES == tuple(reference.tasks())


def test_training_is_deterministic_and_loads_again(tmp_path: Any) -> None:
    recipe = Recipe(
        steps=2, batch=2, layers=1, hidden=32, intermediate=32, heads=2, key_value_heads=1, vocabulary=300, tokenizer_tokens=2000
    )
    losses = [train(recipe, tmp_path / str(run)) for run in range(2)]
    assert losses[0] == losses[1]
    files = [(tmp_path / str(run) / "model.safetensors").read_bytes() for run in range(2)]
    assert files[0] == files[1]
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "0").config.hidden_size == 32


def test_outlier_channels_leave_the_float_model_as_it_is_to_the_bit() -> None:
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    torch.manual_seed(0)
    plain = transformers.LlamaForCausalLM(config).eval()
    before = [parameter.detach().clone() for parameter in plain.parameters()]
    tokens = torch.arange(24).view(2, 12)
    with torch.inference_mode():
        wanted = plain(input_ids=tokens).logits
        strengths = add_outliers(plain, (1.0, 2.0), seed=3)
        found = plain(input_ids=tokens).logits
    assert torch.equal(found, wanted)
    assert len(strengths) == 8
    assert all(1 <= strength < 2 for strength in strengths.values())
    changed = [not torch.equal(old, new) for old, new in zip(before, plain.parameters(), strict=True)]
    assert sum(changed) == 2 * 9, "all but the embedding, the head and the last norm"
