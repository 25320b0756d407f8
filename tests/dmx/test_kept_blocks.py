"""Blocks before the first change are not computed again, and losses are the same to the bit as if they were."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from dmx import kept_blocks  # noqa: E402
from dmx.calibration import Calibration  # noqa: E402
from dmx.decisions import DecisionSpace, decision_space  # noqa: E402
from dmx.kept_blocks import KeptBlocks, blocks_of  # noqa: E402
from dmx.models import LoadedModel, load_model  # noqa: E402
from dmx.refinement import MEASURED_AT_ONCE, Measure  # noqa: E402
from dmx.relax import RelaxedModel  # noqa: E402
from dmx.scores import layer_degrees  # noqa: E402
from dmx.text import TokenText  # noqa: E402
from tests.dmx.small_models import random_model  # noqa: E402

FORMATS = ("mxfp4_e2m1", "mxfp8_e4m3")
BLOCKS, BATCHES = 4, 3


@pytest.fixture
def model() -> LoadedModel:
    return load_model(random_model("llama", num_hidden_layers=BLOCKS))


def measure_of(model: LoadedModel) -> tuple[DecisionSpace, RelaxedModel, Measure]:
    space = decision_space(model, FORMATS)
    linears = model.linears
    relaxed = RelaxedModel({name: linears[name] for name in space.layers}, FORMATS)
    ids = torch.randint(64, (BATCHES * MEASURED_AT_ONCE, 16), generator=torch.Generator().manual_seed(0))
    return space, relaxed, Measure(space, relaxed, Calibration(model, TokenText(name="random", sha256="", windows=ids), "kl"))


def changed(choice: np.ndarray, space: DecisionSpace, block: int, which: int = 0) -> np.ndarray:
    """Another pair for one linear of a block."""
    trial = choice.copy()
    own = [d for d, decision in enumerate(space.decisions) if f"layers.{block}." in decision.layers[0]]
    trial[own[which]] = (trial[own[which]] + 1) % len(space.pairs)
    return trial


def counted(model: LoadedModel) -> list[int]:
    """Counts, from now on, of the calls of each block's own attention."""
    calls = [0] * BLOCKS

    def count(i: int) -> None:
        calls[i] += 1

    for i in range(BLOCKS):
        model.module.get_submodule(f"model.layers.{i}.self_attn").register_forward_pre_hook(lambda *_, i=i: count(i))
    return calls


def races(measure: Measure, space: DecisionSpace) -> list[tuple[bool, float]]:
    """Trials from several blocks against one choice, the last of which becomes the next to be raced."""
    choice, told = np.zeros(len(space.decisions), np.int64), []
    for _ in range(2):
        for which in range(4):
            for block in (3, 1, 2, 0):
                trial = changed(choice, space, block, which)
                told.append(measure.race(trial, choice, 0.0))
        choice = changed(choice, space, 2)
    return told


def test_losses_are_the_same_to_the_bit(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for limit in (1 << 28, 3 * MEASURED_AT_ONCE * 16 * 32 * 4, 0):  # all kept, three outputs of blocks, none
        monkeypatch.setattr(kept_blocks, "KEPT_BYTES", limit)
        space, relaxed, measure = measure_of(model)
        with relaxed:
            calls = counted(model)
            found.append((races(measure, space), measure.known, sum(calls)))
    (told, losses, calls), (_, _, some), (_, _, all_) = found
    assert [one[:2] for one in found] == [(told, losses)] * 3
    assert calls < some < all_


def test_only_what_follows_the_change_is_computed(model: LoadedModel) -> None:
    space, relaxed, measure = measure_of(model)
    choice = np.zeros(len(space.decisions), np.int64)
    with relaxed:
        assert measure.race(changed(choice, space, 3), choice, 0.0)[1] > 0
        measure(changed(choice, space, 3))
        measure(choice)
        measure(changed(changed(choice, space, 3), space, 2))  # from here on it has been tried
        measure(changed(changed(choice, space, 3), space, 1))
        calls = counted(model)
        measure(changed(choice, space, 2))
        assert calls == [0, 0, BATCHES, BATCHES]
        measure(changed(changed(choice, space, 2), space, 1))
        assert calls == [0, BATCHES, 2 * BATCHES, 2 * BATCHES]


def test_gradients_see_every_block(model: LoadedModel) -> None:
    space, relaxed, measure = measure_of(model)
    choice = np.zeros(len(space.decisions), np.int64)
    with relaxed:
        measure.race(changed(choice, space, 3), choice, 0.0)
        calls = counted(model)
        relaxed.degrees = torch.full_like(relaxed.degrees, 0.5).requires_grad_()
        measure.calibration.loss(torch.arange(2)).backward()
        assert calls == [1] * BLOCKS
        assert (relaxed.degrees.grad != 0).flatten(1).any(1).all()


@pytest.mark.parametrize("forgets", [False, True])
@pytest.mark.parametrize(("sender", "receiver"), [(0, 3), (1, 2), (2, 3)])
def test_a_model_whose_blocks_share_more_is_computed_whole(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch, sender: int, receiver: int, forgets: bool
) -> None:
    """One block adds what another one's attention put out, past what lies between: skipping that would leave it as it was."""
    seen = {}
    blocks = model.module.model.layers
    blocks[sender].self_attn.register_forward_hook(lambda _, __, output: seen.update(sent=output[0]))
    blocks[receiver].register_forward_hook(lambda _, __, output: output + seen["sent"])
    if forgets:
        model.module.register_forward_pre_hook(lambda *_: seen.clear())
    found = []
    for limit in (1 << 28, 0):
        monkeypatch.setattr(kept_blocks, "KEPT_BYTES", limit)
        space, relaxed, measure = measure_of(model)
        with relaxed:
            found.append((races(measure, space), measure.known))
    assert found[0] == found[1]


def test_blocks_are_the_list_that_holds_all_linears(model: LoadedModel) -> None:
    names = list(model.linears)
    blocks, of = blocks_of(model.module, [name for name in names if "layers" in name])
    assert blocks == list(model.module.model.layers)
    assert sorted(set(of)) == list(range(BLOCKS))
    assert blocks_of(model.module, ["lm_head", *names]) == ([], [])
    assert blocks_of(torch.nn.Sequential(torch.nn.Linear(2, 2)), ["0"]) == ([], [])


def test_without_blocks_everything_is_computed() -> None:
    kept = KeptBlocks(torch.nn.Linear(2, 2), ["weight"], 1)
    kept.refer_to(torch.zeros(1, 2, 1))
    assert kept.run(torch.zeros(1, 2, 1), 0, lambda: [1.0]) == [1.0]
    assert kept.run(torch.zeros(1, 2, 1), 0, lambda: [2.0]) == [2.0]


def test_degrees_of_a_choice_tell_its_blocks_apart(model: LoadedModel) -> None:
    space, _, measure = measure_of(model)
    choice = np.zeros(len(space.decisions), np.int64)
    measure._blocks.refer_to(layer_degrees(space, choice))
    for block in range(BLOCKS):
        assert measure._blocks._common(layer_degrees(space, changed(choice, space, block))) == block
    assert measure._blocks._common(layer_degrees(space, choice)) == BLOCKS


def test_no_more_is_kept_than_the_reference_has_in_common_and_all_of_it_is_counted(model: LoadedModel) -> None:
    space, relaxed, measure = measure_of(model)
    choice, blocks = np.zeros(len(space.decisions), np.int64), measure._blocks

    def kept() -> set[int]:
        assert blocks._bytes == sum(kept_blocks._bytes(output) for outputs in blocks._kept.values() for output in outputs)
        return {len(outputs) for outputs in blocks._kept.values()}

    with relaxed:
        blocks.refer_to(layer_degrees(space, choice))
        measure(changed(choice, space, 1))
        assert kept() == {1}  # the second block differs from the reference's
        measure(choice)
        assert kept() == {BLOCKS - 1}
        blocks.refer_to(layer_degrees(space, changed(choice, space, 2)))
        assert kept() == {2}
        blocks.refer_to(layer_degrees(space, changed(choice, space, 0)))
        assert kept() == {0}
        assert blocks._bytes == 0
