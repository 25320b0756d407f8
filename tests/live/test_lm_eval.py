"""Our zero-shot scores against lm-evaluation-harness's own, on the same questions; needs the extra lm-eval."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from dmx import reference  # noqa: E402
from dmx.errors import DmxError  # noqa: E402
from dmx.tasks import score_tasks  # noqa: E402

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]

TASK = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{query}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["recall", "agreement"])
def test_the_harness_gives_the_same_scores(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.jsonl"
    questions = reference.questions(name, 60)
    file.write_text("".join(json.dumps({"query": q.query, "choices": q.choices, "gold": q.gold}) + "\n" for q in questions))
    task = tmp_path / f"{name}.yaml"
    task.write_text(TASK.format(name=f"mxsim_{name}", file=file))
    model = transformers.AutoModelForCausalLM.from_pretrained(reference.folder(), dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(reference.folder())
    scores = score_tasks(model, tokenizer, [str(task), str(file)], progress=False)
    theirs, ours = scores[str(task)], scores[name]
    assert (theirs.accuracy, theirs.accuracy_normalised) == pytest.approx((ours.accuracy, ours.accuracy_normalised))
    assert theirs.stderr == pytest.approx(ours.stderr, rel=1e-6)
    assert (theirs.questions, theirs.chance) == (ours.questions, pytest.approx(ours.chance))


@pytest.mark.usefixtures("no_network")
def test_a_group_is_scored_as_a_whole(tmp_path: Path) -> None:
    files, counts = [], {"recall": 20, "agreement": 30}
    for name, count in counts.items():
        file = tmp_path / f"{name}.jsonl"
        file.write_text(
            "".join(json.dumps({"query": q.query, "choices": q.choices, "gold": q.gold}) + "\n" for q in reference.questions(name, count))
        )
        (tmp_path / f"{name}.yaml").write_text(TASK.format(name=f"mxsim_{name}", file=file))
        files.append(str(file))
    group = tmp_path / "group.yaml"
    members = "".join(f"  - mxsim_{name}\n" for name in counts)
    group.write_text(f"group: mxsim_group\ntask:\n{members}aggregate_metric_list:\n  - metric: acc\n    weight_by_size: true\n")
    model = transformers.AutoModelForCausalLM.from_pretrained(reference.folder(), dtype=torch.float32)
    scores = score_tasks(model, transformers.AutoTokenizer.from_pretrained(reference.folder()), [str(group), *files], progress=False)
    theirs, ours = scores[str(group)], [scores[name] for name in counts]
    assert theirs.questions == sum(counts.values())
    assert theirs.accuracy == pytest.approx(sum(one.accuracy * one.questions for one in ours) / theirs.questions)
    assert theirs.chance == pytest.approx(sum(one.chance * one.questions for one in ours) / theirs.questions)


@pytest.mark.usefixtures("no_network")
def test_an_unknown_task_is_refused() -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(reference.folder(), dtype=torch.float32)
    with pytest.raises(DmxError, match="unknown task 'arc_eazy'"):
        score_tasks(model, transformers.AutoTokenizer.from_pretrained(reference.folder()), ["arc_eazy"], progress=False)
