"""Runs mxsim validate on real exports and on broken ones, and writes reports/validation.md: what was explained, what was found.

    MXSIM_SHARED_DATA=... python -m reports.make_validation [--flips 1000] [--gigabytes 1] [--parameters 1e9]      minutes

Exits 1 when an export is not explained, a flipped bit is not found, a golden output is not the exact oracle's, or a loaded export has
another perplexity than its assignment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
from safetensors.numpy import load_file

from benchmarks import validation as benchmark
from dmx.evaluation import evaluate
from dmx.exporters import export
from dmx.models import load_model
from mxsim.assignment import Assignment
from mxsim.checkpoints import open_checkpoint
from mxsim.errors import MxsimError
from mxsim.files import renamed_when_whole
from mxsim.manifest import MANIFEST
from mxsim.storage_formats import WIDE_PAIR, FormatPair
from mxsim.validation import validate
from tests.oracles import golden

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "reports" / "validation.md"
WINDOWS = 16  #: of text that perplexity is measured on
ORACLE_ROWS = 24  #: outputs of a layer that the oracle recomputes
GOLDEN_PAIRS = {
    "nvidia_blackwell": ("mxfp4_e2m1", "mxfp8_e4m3", "mxfp6_e3m2:mxfp8_e5m2", "mxfp8_e4m3:bf16"),
    "mx_exact": ("mxint8", "nvfp4", "nvfp4:bf16", "mxfp6_e2m3"),
}
PAIRS = ("mxfp4_e2m1", "mxfp8_e4m3", "mxfp4_e2m1:mxfp8_e4m3", "nvfp4:bf16")


def explained(data: Path) -> Iterator[list[str]]:
    """One row a real export."""
    for folder in sorted(path for path in data.iterdir() if path.is_dir() and path.name != "tiny"):
        report = validate(folder, data / "tiny")
        weights = [v for v in report.tensors if v.policy is not None]
        bits = sum(v.elements for v in weights)
        left = sum(v.status == "not provable" for v in report.tensors)
        verdict = "every bit" if report.ok and report.explains_all else "NOT explained"
        yield [folder.name, report.producer, report.version, report.policy or "-", f"{bits:,}", verdict, str(left or "")]


def found(folder: Path, reference: Path | None) -> bool:
    try:
        return not validate(folder, reference).ok
    except MxsimError:
        return True


def flips(choices: list[tuple[Path, int, int]], count: int, is_found: Callable[[], bool], seed: int) -> tuple[int, list[str]]:
    """Flip one random bit at a time within byte ranges of files. Returns: how many were found, and those that were not."""
    rng = np.random.default_rng(seed)
    sizes = np.array([end - begin for _, begin, end in choices], np.float64)
    missed = []
    for _ in range(count):
        path, begin, end = choices[int(rng.choice(len(choices), p=sizes / sizes.sum()))]
        at, bit = int(rng.integers(begin, end)), int(rng.integers(8))
        with path.open("r+b") as file:
            file.seek(at)
            (clean,) = file.read(1)
            file.seek(at)
            file.write(bytes([clean ^ 1 << bit]))
        if not is_found():
            missed.append(f"{path.name} byte {at} bit {bit}")
        with path.open("r+b") as file:
            file.seek(at)
            file.write(bytes([clean]))
    return count - len(missed), missed


def mutations(data: Path, count: int, work: Path) -> Iterator[tuple[list[str], list[str]]]:
    """One row a kind of mutation, and what was missed."""
    model = load_model(data / "tiny")
    layers = {name: FormatPair.parse(PAIRS[n % len(PAIRS)]) for n, name in enumerate(model.linears)}
    assignment = Assignment(layers=layers, skipped=model.skipped, policy="compressed-tensors")
    folder = export(model, assignment, "compressed-tensors", work / "export", golden=1)
    whole = [(path, 0, path.stat().st_size) for path in sorted(folder.iterdir()) if path.is_file()]
    got, missed = flips(whole, count, lambda: found(folder, None), 0)
    yield ["anywhere in any file", "manifest", f"{got:,} of {count:,}"], missed
    (folder / MANIFEST).unlink()
    (folder / "golden.safetensors").unlink()
    weights = folder / "model.safetensors"
    start = 8 + struct.unpack("<Q", weights.read_bytes()[:8])[0]
    got, missed = flips([(weights, start, weights.stat().st_size)], count, lambda: found(folder, data / "tiny"), 1)
    yield ["tensor bytes", "reference, no manifest", f"{got:,} of {count:,}"], missed
    config = folder / "config.json"
    text = config.read_bytes()
    begin = text.index(b'"quantization_config"')
    end = begin + _closing(text[begin:])
    got, missed = flips([(config, begin, end)], count, lambda: found(folder, data / "tiny"), 2)
    yield ["quantization_config", "reference, no manifest", f"{got:,} of {count:,}"], missed


def golden_outputs(work: Path) -> Iterator[tuple[list[str], bool]]:
    """One row a unit: an export of the embedded model's first layer, its golden outputs recomputed by tests/oracles in fractions."""
    model = load_model()
    for unit, pairs in GOLDEN_PAIRS.items():
        first = [name for name in model.linears if ".layers.0." in name]
        layers = dict.fromkeys(model.linears, WIDE_PAIR)
        layers |= {name: FormatPair.parse(pairs[n % len(pairs)]) for n, name in enumerate(first)}
        assignment = Assignment(layers=layers, skipped=model.skipped, policy="ocp")
        folder = export(model, assignment, "mxsim", work / unit, golden=1, unit=unit)
        held, numbers, equal = load_file(folder / "golden.safetensors"), 0, True
        for weight in open_checkpoint(folder).quantized:
            rows = slice(0, ORACLE_ROWS)
            scale = weight.stored_tensor_scale()
            expected = golden.outputs(
                unit,
                held[f"{weight.module}.input"].view(np.uint32),
                layers[weight.module].activation,
                weight.codes(rows),
                weight.scale_codes(rows),
                weight.format,
                None if scale is None else int(scale.view(np.uint32)),
            )
            equal &= bool(np.array_equal(held[f"{weight.module}.output"][:, rows].view(np.uint32), expected))
            numbers += expected.size
        yield [unit, ", ".join(pairs), f"{numbers:,}", "every bit" if equal else "NOT equal"], equal


def loaded_perplexity(work: Path) -> tuple[list[str], bool]:
    """The embedded model, half its linears in MXFP4 and half in MXFP8: dmx.evaluate, and the export as transformers loads it."""
    import torch
    from transformers import AutoModelForCausalLM

    model = load_model()
    # In bfloat16: what compressed-tensors decompresses to. Both sides compute in float32.
    narrow = model.module.to(torch.bfloat16).save_pretrained(work / "bfloat16")
    del narrow
    model = replace(load_model(work / "bfloat16"), tokenizer=model.tokenizer, source="embedded")
    layers = {name: FormatPair.parse(PAIRS[n % 2]) for n, name in enumerate(model.linears)}
    assignment = Assignment(layers=layers, skipped=model.skipped, policy="compressed-tensors")
    ours = evaluate(model, assignment, windows=WINDOWS, kl=False)
    folder = export(model, assignment, "compressed-tensors", work / "loaded")
    module: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    with torch.no_grad():
        module(torch.arange(8)[None])  # the library decompresses at the first call
    for parameter in module.parameters():
        parameter.data = parameter.data.float()
    loaded = replace(load_model(module, tokenizer=model.tokenizer), source="embedded")
    theirs = evaluate(loaded, None, windows=WINDOWS, kl=False)
    row = [str(ours["tokens"]), repr(ours["perplexity"]), repr(theirs["perplexity"])]
    return row, ours["perplexity"] == theirs["perplexity"]


def _closing(text: bytes) -> int:
    """Where the object that text begins with ends."""
    depth = 0
    for at, byte in enumerate(text):
        depth += (byte == ord("{")) - (byte == ord("}"))
        if byte == ord("}") and depth == 0:
            return at + 1
    raise ValueError("no closing brace")


def markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of bf16 reference, for speed; 0: not measured")
    parser.add_argument("--parameters", type=float, default=1e9, help="of the exported model, for speed; 0: not measured")
    arguments = parser.parse_args()
    count = arguments.flips
    shared = os.environ.get("MXSIM_SHARED_DATA")
    if shared is None:
        print("MXSIM_SHARED_DATA is not set: the checkpoints are not at hand", file=sys.stderr)
        return 2
    data = Path(shared) / "checkpoints"
    numba.set_num_threads(1)  # small tensors: waking a second thread costs more than their work
    exports = list(explained(data))
    work = Path(tempfile.mkdtemp())
    try:
        mutated = list(mutations(data, count, work))
        recomputed = list(golden_outputs(work))
        perplexity, same = loaded_perplexity(work)
    finally:
        shutil.rmtree(work)
    missed = [line for _, lines in mutated for line in lines]
    parts = [
        "# Validation",
        "Made by `python -m reports.make_validation`.",
        "## Real exports of one bf16 model, against it",
        markdown(["checkpoint", "producer", "version", "policy", "weights", "explained", "tensors not provable"], exports),
        "Not provable are ModelOpt's activation scales: they follow from calibration data.",
        "## One flipped bit at a time",
        "An export of the same model by `dmx export` (MXFP4, MXFP8, NVFP4 mixed); places and bits at random.",
        markdown(["place", "held against", "found"], [row for row, _ in mutated]),
    ]
    parts += [
        "## Golden outputs",
        f"Of layers of the embedded model, the first {ORACLE_ROWS} outputs each, recomputed in fractions by tests/oracles.",
        markdown(["unit", "weights:activations", "numbers", "equal"], [row for row, _ in recomputed]),
        "## A loaded export",
        "The embedded model in bf16, MXFP4 and MXFP8 in turn, policy compressed-tensors: perplexity by `dmx.evaluate`, "
        "and by it of `AutoModelForCausalLM.from_pretrained(EXPORT)`, both computed in float32.",
        markdown(["tokens", "assignment", "loaded export"], [perplexity]),
    ]
    if arguments.gigabytes or arguments.parameters:
        parts += ["## Speed", benchmark.text(*benchmark.rows(arguments.gigabytes, arguments.parameters, rounds=1))]
    if missed:
        parts.append("Not found: " + "; ".join(missed[:20]))
    with renamed_when_whole(REPORT) as part:
        part.write_text("\n\n".join(parts) + "\n")
    print(REPORT.relative_to(ROOT))
    right = not missed and same and all(equal for _, equal in recomputed) and all(row[5] == "every bit" for row in exports)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
