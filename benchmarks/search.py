"""A search step against a forward and backward step of the same model under fixed fake quantisation: time, and peak memory.

`python -m benchmarks.search` prints the rows of reports/benchmarks.md. Fixed: weights and inputs of every linear are fake-quantised to
MXFP4 and MXFP8 half and half, straight through, weights with gradients, next-token loss, as quantisation-aware training does it; the
autograd column slides bits with floors and logarithms left in the graph. The search's step is dmx.training's own, whole: KL to the float
model's predictions beside next-token loss, gradients of the degrees, prices, the offsets' descent and landing on the budget. The float
model's predictions are kept from before; what a search keeps of them on a text of its usual length is told apart.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from benchmarks.resident import MebibytesHeld
from benchmarks.timing import markdown, ratio, turns
from dmx.budget import Budget, constraints
from dmx.calibration import Calibration
from dmx.decisions import decision_space
from dmx.kept_blocks import KEPT_BYTES
from dmx.models import LoadedModel, load_model
from dmx.predictions import kept_bytes
from dmx.quantisers import fake_quantize
from dmx.relax import RelaxedModel
from dmx.scores import path_secants
from dmx.search_config import SearchConfig
from dmx.text import TokenText
from dmx.training import Training

FORMATS = ("mxfp4_e2m1", "mxfp8_e4m3")
LADDERS = {"search": FORMATS, "search of three": ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3")}
CONTEXT = 256
#: Models, windows of a step and turns. The search's own number of windows; and few, where what does not grow with them weighs more.
CASES = [
    (name, windows, rounds) for windows in (SearchConfig().batch_windows, 2) for name, rounds in (("embedded", 21), ("llama 576 x 6", 5))
]
KINDS = ("fixed", *LADDERS, "autograd")
BUDGET = "bits=5"


def shaped(name: str) -> LoadedModel:
    """The embedded model, or random weights in a larger shape."""
    if name == "embedded":
        return load_model(None)
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return load_model(LlamaForCausalLM(config))


class FixedLinear(torch.autograd.Function):
    """A linear with both operands fake-quantised, straight through."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor, weight: torch.Tensor, format: str) -> torch.Tensor:
        inputs, weights = fake_quantize(x, format), fake_quantize(weight, format)
        ctx.save_for_backward(inputs, weights)  # type: ignore[attr-defined]
        return functional.linear(inputs, weights)

    @staticmethod
    def backward(ctx: object, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        inputs, weights = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad @ weights, grad.flatten(0, -2).t() @ inputs.flatten(0, -2), None


def graph_operand(x: torch.Tensor, degree: torch.Tensor) -> torch.Tensor:
    """Sliding bits with everything in the graph, as one would write it first: the peer that dMX's own function is held against.

    Its floating-point log2 is off next to powers of two; that matters to no bit here, only its time and memory are looked at.
    """

    def through(value: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        return value + (function(value) - value).detach()

    e, m = 2 + 2 * degree, 1 + 2 * degree
    blocks = x.unflatten(-1, (-1, 32))
    top = 2.0 ** (e - 1)
    scale = 2.0 ** through(torch.log2(blocks.abs().amax(-1, keepdim=True).clamp_min(1e-30)), torch.floor) / 2.0**top
    largest = ((2 - 2.0**-m) * 2.0**top).clamp_max(448.0)
    own = through(torch.log2((blocks / scale).abs().clamp_min(1e-30)), torch.floor)
    quantum = 2.0 ** (torch.maximum(own, 2 - top) - m)
    rounded = through(blocks / scale / quantum, torch.round) * quantum
    return (scale * torch.minimum(torch.maximum(rounded, -largest), largest)).flatten(-2)


def stepper(model: LoadedModel, windows: int, kind: str, context: int = CONTEXT) -> Callable[[], object]:
    """One forward and backward step of a kind, where the model lies."""
    linears = {layer: linear for layer, linear in model.linears.items() if linear.in_features % 32 == 0}
    device = next(model.module.parameters()).device
    vocabulary = int(model.module.config.vocab_size)  # type: ignore[union-attr, arg-type]
    ids = torch.randint(0, vocabulary, (windows, context), generator=torch.Generator().manual_seed(1)).to(device)

    def loss() -> torch.Tensor:
        logits = model.module(input_ids=ids, use_cache=False).logits[:, :-1].float()
        return functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    if kind in LADDERS:
        return searching(model, ids.cpu(), LADDERS[kind])
    degrees = [torch.full((2,), 0.4, device=device, requires_grad=True) for _ in linears]
    for i, linear in enumerate(linears.values()):
        linear.weight.requires_grad_(kind == "fixed")
        linear.forward = _forward(linear, kind, FORMATS[i % 2], degrees[i])  # type: ignore[method-assign]

    def fixed() -> None:
        model.module.zero_grad(set_to_none=True)
        loss().backward()

    return fixed


def searching(model: LoadedModel, ids: torch.Tensor, formats: tuple[str, ...]) -> Callable[[], object]:
    """One step of a search under way."""
    space = decision_space(model, formats, apart=True)
    config = SearchConfig(formats=formats, batch_windows=len(ids))
    calibration = Calibration(model, TokenText(name="random", sha256="", windows=ids), config.loss)
    calibration.share = 0.5  # of next-token loss, the rest being KL: the dearest case
    relaxed = RelaxedModel({layer: model.linears[layer] for layer in space.layers}, formats)
    relaxed.__enter__()
    (path,) = path_secants(relaxed, calibration, (calibration.parts,), len(ids), seed=0)
    training = Training(space, constraints([Budget.parse(BUDGET)], space, model.shape), relaxed, calibration, config, path)
    steps = itertools.count()
    return lambda: training.step(next(steps) % config.steps)


def _forward(linear: nn.Linear, kind: str, format: str, degree: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    if kind == "fixed":
        return lambda x: FixedLinear.apply(x, linear.weight, format)  # type: ignore[no-any-return, no-untyped-call]
    return lambda x: functional.linear(graph_operand(x, degree[0]), graph_operand(linear.weight, degree[1]))


def peak_mebibytes(name: str, windows: int, kind: str) -> float:
    """measure_peak in a fresh process."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.search", name, str(windows), kind], capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure_peak(name: str, windows: int, kind: str) -> float:
    """MiB that model, formats' copies and steps hold at their highest, beyond the libraries: Linux's own count of the resident set."""
    load_model(None)
    highest = MebibytesHeld()
    step = stepper(shaped(name), windows, kind)
    for _ in range(3):
        step()
    return highest()


def kept_mebibytes(name: str) -> float:
    """MiB of the float model's predictions that a search on a text of the usual length keeps from first to last."""
    vocabulary = int(shaped(name).module.config.vocab_size)  # type: ignore[union-attr, arg-type]
    return kept_bytes(SearchConfig().tokens, vocabulary) / 2**20


def main() -> None:
    rows = []
    for name, windows, rounds in CASES:
        taken = turns({kind: stepper(shaped(name), windows, kind) for kind in KINDS}, rounds)
        peaks = {kind: peak_mebibytes(name, windows, kind) for kind in KINDS}
        fixed = taken["fixed"]
        rows.append(
            [
                name,
                f"{windows} ({rounds} turns)",
                f"{1e3 * statistics.median(fixed):.0f} ms, {peaks['fixed']:.0f} MiB",
                *(f"{ratio(taken[kind], fixed):.2f}x, {peaks[kind] / max(peaks['fixed'], 1.0):.2f}x" for kind in KINDS[1:]),
                f"{kept_mebibytes(name):.0f} MiB",
            ]
        )
    print("## Search\n")
    print(
        f"One step of windows of {CONTEXT} tokens, {SearchConfig().batch_windows} of them as in a search by default; median of the turns, "
        f"then peak memory, model included. Kept beside it, for as long as a search takes: the float model's predictions on "
        f"{SearchConfig().tokens} tokens; and, while choices are measured, at most {KEPT_BYTES >> 20} MiB of what blocks put out.\n"
    )
    ours = ("search step (target 1.3x, 1.2x)", "of three formats")
    print(markdown(["model", "windows", "fixed fake quantisation", *ours, "sliding bits by autograd", "predictions kept"], rows))


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(measure_peak(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
    else:
        main()
