"""Zero-shot scoring: the arithmetic against a plain loop, the layouts, what is refused."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from dmx import reference  # noqa: E402
from dmx.errors import DmxError  # noqa: E402
from dmx.lm_eval_tasks import _score as harness_score  # noqa: E402
from dmx.loglikelihood import loglikelihoods  # noqa: E402
from dmx.task_files import multiple_choice, read_task  # noqa: E402
from dmx.tasks import TaskScore, score_tasks  # noqa: E402

CHOICES = {"query": "a", "choices": ["x", "bb", "bxx"], "gold": 1}
PARTIAL = {"context_options": ["Ann saw Bea so Ann", "Ann saw Bea so Bea"], "continuation": "waved.", "gold": 1}
PAIR = {"sentence_good": "bb", "sentence_bad": "xx", "linguistics_term": "letters"}
LAST_WORD = {"text": "a b bb"}


class Characters:
    """A tokenizer of characters. The newline starts every text where asked."""

    bos_token_id: int | None = None
    eos_token_id: int | None = ord("\n")

    def __call__(self, texts: list[str], *, add_special_tokens: bool, verbose: bool) -> dict[str, list[list[int]]]:
        head = [self.bos_token_id] if add_special_tokens and self.bos_token_id is not None else []
        return {"input_ids": [head + [ord(character) for character in text] for text in texts]}


class LikesB(torch.nn.Module):
    """A model of characters: b is the likeliest, whatever came before; all others are alike."""

    def __init__(self, window: int = 64) -> None:
        super().__init__()
        self.config = SimpleNamespace(max_position_embeddings=window, vocab_size=128)
        self.scores = torch.nn.Parameter(torch.zeros(128))
        self.scores.data[ord("b")] = 1.5
        self.calls: list[tuple[int, int]] = []

    def forward(self, input_ids: Any, use_cache: bool) -> Any:
        self.calls.append(tuple(input_ids.shape))
        return SimpleNamespace(logits=self.scores.expand(*input_ids.shape, 128))


def written(path: Path, *records: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def embedded() -> tuple[Any, Any]:
    folder = reference.folder()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


def one_by_one(model: Any, tokenizer: Any, context: str, continuation: str) -> tuple[float, bool]:
    """The definition: the sum of log p(token | everything before it) over the continuation."""
    before = tokenizer(context)["input_ids"]
    whole = tokenizer(context + continuation)["input_ids"]
    total, greedy = 0.0, True
    for place in range(len(before), len(whole)):
        logs = torch.log_softmax(model(input_ids=torch.tensor([whole[:place]])).logits[0, -1].double(), -1)
        total += float(logs[whole[place]])
        greedy &= int(logs.argmax()) == whole[place]
    return total, greedy


@pytest.mark.parametrize("batch_tokens", [1, 100, 8192])
def test_likelihoods_are_those_of_a_plain_loop(embedded: tuple[Any, Any], batch_tokens: int) -> None:
    model, tokenizer = embedded
    questions = [multiple_choice(q.query, q.choices, q.gold) for name in ("recall", "agreement") for q in reference.questions(name, 3)]
    pairs = [pair for question in questions for pair in question.pairs]
    found = loglikelihoods(model, tokenizer, pairs, batch_tokens=batch_tokens)
    with torch.inference_mode():
        wanted = [one_by_one(model, tokenizer, *pair) for pair in pairs]
    assert [one.total for one in found] == pytest.approx([total for total, _ in wanted], abs=2e-4)
    assert [one.greedy for one in found] == [greedy for _, greedy in wanted]


def test_a_text_longer_than_the_window_loses_its_beginning() -> None:
    model = LikesB(window=8)
    (found,) = loglikelihoods(model, Characters(), [("x" * 50, " bb")])
    assert model.calls == [(1, 8)]
    assert found.total == pytest.approx(float(torch.log_softmax(model.scores.detach(), 0)[[ord(" "), ord("b"), ord("b")]].sum()))
    with pytest.raises(DmxError, match=r"8 tokens.*window of 8"):
        loglikelihoods(model, Characters(), [("x", " bbbbbbb")])


def test_a_large_vocabulary_is_scored_a_few_texts_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [("aaa", "b" * length) for length in (3, 1, 2, 3, 3)]
    whole = loglikelihoods(LikesB(), Characters(), pairs)
    assert [one.total / whole[1].total for one in whole] == pytest.approx([3, 1, 2, 3, 3])
    monkeypatch.setattr("dmx.loglikelihood._MOST_LOGITS", 2 * 6 * 128 + 1)  # two texts of six tokens
    model = LikesB()
    assert loglikelihoods(model, Characters(), pairs) == whole
    assert model.calls == [(2, 6), (2, 6), (1, 4)]
    monkeypatch.setattr("dmx.loglikelihood._MOST_LOGITS", 1)
    assert loglikelihoods(model, Characters(), pairs) == whole  # one at a time, however large


def test_what_an_empty_context_is() -> None:
    tokenizer = Characters()
    model = LikesB()
    log_b = float(torch.log_softmax(model.scores.detach(), 0)[ord("b")])
    assert loglikelihoods(model, tokenizer, [("", "bb")])[0].total == pytest.approx(2 * log_b), "after the end-of-text token"
    tokenizer.eos_token_id = None
    assert loglikelihoods(model, tokenizer, [("", "bb")])[0].total == pytest.approx(log_b), "the first token has nothing before it"
    with pytest.raises(DmxError, match="no token"):
        loglikelihoods(model, tokenizer, [("", "b")])
    tokenizer.bos_token_id = 2
    loglikelihoods(model, tokenizer, [("a", "b")])
    assert model.calls[-1] == (1, 3), "a tokenizer that starts its texts with a token does so before a context too"


def test_the_mode_of_the_model_is_left_as_it_was() -> None:
    model, modes = LikesB().train(), list[bool]()
    model.register_forward_pre_hook(lambda *_: modes.append(model.training))
    loglikelihoods(model, Characters(), [("a", "b")])
    assert modes == [False]  # without dropout
    assert model.training


def test_each_layout_is_answered_by_a_model_that_likes_b(tmp_path: Path) -> None:
    files = [
        written(tmp_path / "choices.jsonl", CHOICES, {**CHOICES, "gold": 2}),
        written(tmp_path / "pair.jsonl", PAIR, {**PAIR, "sentence_bad": "bbb", "linguistics_term": "lengths"}),
        written(tmp_path / "word.jsonl", {"text": "a bb"}, {"text": "bb a"}),
    ]
    scores = score_tasks(LikesB(), Characters(), files, progress=False)
    assert list(scores) == ["choices", "pair", "word"]
    assert (scores["choices"].accuracy, scores["choices"].chance, scores["choices"].questions) == (0.0, pytest.approx(1 / 3), 2), (
        "x is the shortest and so the likeliest as a whole"
    )
    assert scores["choices"].accuracy_normalised == 0.5, "bb is the likeliest by character"
    assert (scores["pair"].accuracy, scores["pair"].chance) == (1.0, 0.5)
    assert {name: group.questions for name, group in scores["pair"].groups.items()} == {"lengths": 1, "letters": 1}
    assert (scores["word"].accuracy, scores["word"].chance) == (0.0, 0.0), "the space is no b"
    assert set(scores["pair"].to_json(groups=True)["groups"]) == {"lengths", "letters"}
    assert "groups" not in scores["pair"].to_json()


def test_layouts_become_contexts_and_continuations(tmp_path: Path) -> None:
    (partial,) = read_task(Path(written(tmp_path / "p.jsonl", PARTIAL)))
    assert partial.pairs == (("Ann saw Bea so Ann", " waved."), ("Ann saw Bea so Bea", " waved."))
    assert len(set(partial.lengths)) == 1
    (word,) = read_task(Path(written(tmp_path / "w.jsonl", LAST_WORD)))
    assert word.pairs == (("a b", " bb"),)
    assert word.greedy
    question = multiple_choice("Question: why?\n", ["so", "thus"], 0)
    assert question.pairs[0] == ("Question: why?\nAnswer:", " so")
    assert question.lengths == (2, 4)


def test_a_zip_is_read_in_turns_and_without_what_archivers_add(tmp_path: Path) -> None:
    path = tmp_path / "pairs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("one", "two"):
            lines = [json.dumps({**PAIR, "linguistics_term": name}) for _ in range(5)]
            archive.writestr(f"data/{name}.jsonl", "\n".join(lines))
            archive.writestr(f"__MACOSX/data/._{name}.jsonl", b"\xff\x00")
    assert [item.group for item in read_task(path, 4)] == ["one", "two", "one", "two"]
    assert len(read_task(path)) == 10


def test_a_folder_holds_one_task_a_file(tmp_path: Path) -> None:
    written(tmp_path / "b.jsonl", PAIR)
    written(tmp_path / "a.jsonl", CHOICES)
    (tmp_path / "README.md").write_text("not a task")
    assert list(score_tasks(LikesB(), Characters(), [str(tmp_path)], progress=False)) == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 2: not JSON"),
        ("[]", r"line 2: a JSON object"),
        ('{"question": "?"}', r"line 2: the keys are question; known layouts are query, choices, gold;"),
        ('{"query": "?", "choices": ["a", "b"], "gold": 2}', r"line 2: gold is 2.* 2 choices"),
        ('{"query": "?", "choices": ["a", "b"], "gold": "1"}', r"line 2.*'1', not a whole number"),
        ('{"query": 1, "choices": ["a", "b"], "gold": 1}', r"line 2: the values"),
        ('{"query": "?", "choices": "ab", "gold": 1}', r"line 2.*'ab' is no list"),
        ('{"query": "?", "choices": ["a"], "gold": 0}', r"line 2.*no list of two choices"),
        ('{"context_options": "ab", "continuation": "c", "gold": 1}', r"line 2.*'ab' is no list"),
        ('{"query": "?", "choices": ["a", " "], "gold": 0}', r"line 2: a choice or continuation is empty"),
        ('{"text": ""}', r"line 2: a choice or continuation is empty"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(CHOICES) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(DmxError, match=message):
        read_task(path)


def test_names_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    def ask(*names: str, **options: Any) -> None:
        score_tasks(LikesB(), Characters(), names, progress=False, **options)

    with pytest.raises(DmxError, match=r"does not exist.*recall"):
        ask(str(tmp_path / "missing.jsonl"))
    with pytest.raises(DmxError, match="no tasks"):
        ask(str(tmp_path))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DmxError, match="no questions"):
        ask(str(tmp_path / "empty.jsonl"))
    (tmp_path / "broken.zip").write_bytes(b"PK")
    with pytest.raises(DmxError, match="cannot be read"):
        ask(str(tmp_path / "broken.zip"))
    with pytest.raises(DmxError, match="two tasks are called 'recall'"):
        ask("recall", "reference")
    with pytest.raises(DmxError, match="limit of 0"):
        ask("recall", limit=0)
    with pytest.raises(DmxError, match="batch_tokens is 0"):
        ask("recall", batch_tokens=0)


def test_a_harness_task_without_the_harness_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(DmxError, match=r"'arc_easy' is neither.*pip install 'mxsim\[lm-eval\]'"):
        score_tasks(LikesB(), Characters(), ["arc_easy"], progress=False)


@pytest.mark.parametrize("keeps_samples", [False, True])
def test_a_group_of_harness_tasks_has_its_members_questions(keeps_samples: bool) -> None:
    """What the harness tells of a group (0.4.9 to 0.4.13): a mean over all questions; their number, of its members alone."""
    sample = {"arguments": [("a", "b"), ("a", "c")]}
    outcome: dict[str, Any] = {
        "results": {"all": {"acc,none": 0.75, "acc_stderr,none": "N/A"}, "pairs": {"acc,none": 0.5}, "one": {"acc,none": 1.0}},
        "group_subtasks": {"all": ["pairs", "one"], "pairs": ["two", "three"], "one": [], "two": [], "three": []},
        "n-samples": {"one": {"original": 90, "effective": 6}, "two": {"effective": 2}, "three": {"effective": 4}},
        "samples": {"one": [sample] * 6, "two": [sample] * 2, "three": [sample] * 4} if keeps_samples else {},
    }
    for name, accuracy, questions in (("all", 0.75, 12), ("pairs", 0.5, 6), ("one", 1.0, 6)):
        score = harness_score(name, outcome)
        assert (score.accuracy, score.questions) == (accuracy, questions)
        assert score.stderr == pytest.approx((accuracy * (1 - accuracy) / (questions - 1)) ** 0.5)
        assert score.chance == (0.5 if keeps_samples else None)


def test_the_interval_is_wilsons() -> None:
    def score(accuracy: float, questions: int) -> TaskScore:
        return TaskScore(accuracy=accuracy, accuracy_normalised=accuracy, stderr=0.0, chance=0.5, questions=questions)

    assert score(0.5, 100).interval == pytest.approx((0.40383, 0.59617), abs=1e-5)
    assert score(0.0, 20).interval == pytest.approx((0.0, 0.16113), abs=1e-5)
    assert score(1.0, 20).interval == pytest.approx((0.83887, 1.0), abs=1e-5)


@pytest.mark.skipif("MXSIM_SHARED_DATA" not in os.environ, reason="MXSIM_SHARED_DATA is unset")
def test_a_small_model_does_minimal_pairs_better_than_chance() -> None:
    data = Path(os.environ["MXSIM_SHARED_DATA"])
    folder = data / "models" / "openstax-llama-3m"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    score = score_tasks(model, tokenizer, [str(data / "zero-shot" / "blimp.zip")], limit=670, progress=False)["blimp"]
    assert score.questions == 670
    assert score.interval[0] > 0.5
    assert "subject_verb_agreement" in score.groups
