"""How fast a checkpoint is validated and exported, and in how much memory: `python -m benchmarks.validation [--gigabytes 2]`.

Makes a float checkpoint and its export (policy compressed-tensors) in a temporary folder, and removes them. Bytes are those of the
bf16 reference, the file cache is warm where it is large enough. The export is of a random Llama of --parameters weights in bf16.
Two rates are given: by the clock, and by processor time spread over 2 threads, which is what an idle machine would give at best.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np

import mxsim
from benchmarks.timing import markdown
from mxsim.files import SafetensorsWriter

ROWS, COLUMNS = 8192, 8192
EMBEDDING_ROWS = 4096  #: a gigabyte
FORMATS = ("mxfp4_e2m1", "mxfp8_e4m3")
BF16 = np.dtype(ml_dtypes.bfloat16)
THREADS = 2


def make(folder: Path, format: str, gigabytes: float) -> None:
    """A float checkpoint, with an embedding that stays as it is, and its export."""
    # Here, so that the process that is measured holds no torch.
    from dmx.exporters.compressed_tensors import config, tensors
    from dmx.exporters.layer import Layer

    count = max(round(gigabytes * 1e9 / (2 * ROWS * COLUMNS)), 1)
    names = [f"model.layers.{n}.mlp.up_proj" for n in range(count)]
    layers = {name: Layer(name=name, weight=format, activation="bf16", shape=(ROWS, COLUMNS)) for name in names}
    x = (np.random.default_rng(0).standard_normal((ROWS, COLUMNS), np.float32) * 0.02).astype(BF16)
    parts = tensors(mxsim.quantize(x, format, policy="compressed-tensors"))
    embedding = max(int(gigabytes * EMBEDDING_ROWS), 1)
    for name, arrays in (("float", {"weight": x}), ("export", parts)):
        (folder / name).mkdir()
        layout = {f"{layer}.{suffix}": (array.dtype, array.shape) for layer in names for suffix, array in arrays.items()}
        layout["model.embed_tokens.weight"] = (BF16, (embedding, COLUMNS))
        with SafetensorsWriter(folder / name / "model.safetensors", layout, {"format": "pt"}) as writer:
            for layer in names:
                for suffix, array in arrays.items():
                    writer.write(f"{layer}.{suffix}", array)
            for start in range(0, embedding, ROWS):
                writer.write("model.embed_tokens.weight", x[: min(ROWS, embedding - start)], start)
    content = {"initializer_range": 0.02, "quantization_config": config(layers, [], "compressed-tensors")}
    (folder / "export" / "config.json").write_text(json.dumps(content))
    (folder / "float" / "config.json").write_text("{}")


def timed(run: Callable[[], object], rounds: int) -> None:
    """Once to warm caches and compiled code, then `rounds` times; prints seconds by the clock, of processor time, and peak bytes."""
    clock, processor = [], []
    for number in range(rounds + 1):
        start, used = time.perf_counter(), time.process_time()
        run()
        if number or not rounds:
            clock.append(time.perf_counter() - start)
            processor.append(time.process_time() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(statistics.median(clock), statistics.median(processor), peak)


def validate_child(folder: Path, rounds: int) -> None:
    from mxsim.validation import validate

    def run() -> None:
        report = validate(folder / "export", folder / "float")
        if not (report.ok and report.explains_all):
            raise SystemExit("the export is not explained")

    timed(run, rounds)


def export_child(folder: Path, format: str, parameters: float) -> None:
    """The model is made first: loading it is not part of the time. One run, the first, tells enough of one that takes so long."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from dmx.exporters import export
    from dmx.models import load_model
    from mxsim.assignment import Assignment
    from mxsim.storage_formats import FormatPair

    sizes = {"hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 16, "vocab_size": 32000, "tie_word_embeddings": True}
    layers = max(round((parameters - 32000 * 2048) / (4 * 2048 * 2048 + 3 * 2048 * 8192)), 1)
    with torch.device("meta"):
        empty = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=layers))
    module = empty.to(torch.bfloat16).to_empty(device="cpu")
    module.tie_weights()
    drawn = (torch.randn(1 << 24, generator=torch.Generator().manual_seed(0)) * 0.02).to(torch.bfloat16)
    for parameter in module.parameters():
        for part in parameter.data.view(-1).split(len(drawn)):
            part.copy_(drawn[: len(part)])
    loaded = load_model(module)
    names = {name: FormatPair.parse(f"{format}:bf16") for name in loaded.linears}
    assignment = Assignment(layers=names, skipped=loaded.skipped, policy="compressed-tensors")

    def run() -> None:
        shutil.rmtree(export(loaded, assignment, "compressed-tensors", folder / "exported"))

    print(sum(parameter.nbytes for parameter in module.parameters()))
    timed(run, 0)


def measured(*arguments: str) -> list[float]:
    done = subprocess.run([sys.executable, "-m", "benchmarks.validation", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def row(what: str, size: float, seconds: float, processor: float, peak: float, load: float) -> list[str]:
    rates = [f"{size / seconds / 1e9:.2f}", f"{size / (processor / THREADS) / 1e9:.2f}"]
    return [what, f"{size / 1e9:.2f}", *rates, f"{peak / 1e9:.2f}", f"{load:.1f}"]


def rows(
    gigabytes: float, parameters: float, formats: tuple[str, ...] = FORMATS, rounds: int = 3
) -> tuple[list[list[str]], list[list[str]]]:
    """Measurements of validation and of export. rounds: 0 takes the first run, whose files may not be in the cache."""
    os.environ.setdefault("NUMBA_NUM_THREADS", str(THREADS))
    validated, exported = [], []
    for format in formats:
        folder = Path(tempfile.mkdtemp())
        try:
            if gigabytes:
                make(folder, format, gigabytes)
                load = os.getloadavg()[0]
                size = (folder / "float" / "model.safetensors").stat().st_size
                stored = (folder / "export" / "model.safetensors").stat().st_size
                took = measured("--child", str(folder), "--rounds", str(rounds))
                validated.append(row(f"{format}, {stored / 1e9:.1f} GB", size, *took, load))
            if parameters:
                load = os.getloadavg()[0]
                size, *took = measured("--child", str(folder), "--export", format, "--parameters", str(parameters))
                exported.append(row(format, size, *took, load))
        finally:
            shutil.rmtree(folder)
    return validated, exported


def text(validated: list[list[str]], exported: list[list[str]]) -> str:
    """Markdown tables."""
    columns = ["GB of bf16", "GB/s by the clock", "GB/s, processor time on 2 threads", "peak GB", "load before"]
    parts = []
    if validated:
        parts += [
            "Against the float original, every weight explained. Target 1 GB/s, under 1 GB.",
            markdown(["export", *columns], validated),
        ]
    if exported:
        parts += [
            "`dmx export` of a random model to compressed-tensors, with its manifest. Target 0.3 GB/s.",
            markdown(["format", *columns], exported),
        ]
    return "\n\n".join(parts)


def main(gigabytes: float, parameters: float, formats: tuple[str, ...], rounds: int) -> None:
    print("## Validation and export\n")
    print("`python -m benchmarks.validation [--gigabytes N] [--parameters N]`\n")
    print(text(*rows(gigabytes, parameters, formats, rounds)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of bf16 reference; 0: no validation")
    parser.add_argument("--parameters", type=float, default=2.5e8, help="of the exported model; 0: no export")
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--export", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child and arguments.export:
        export_child(arguments.child, arguments.export, arguments.parameters)
    elif arguments.child:
        validate_child(arguments.child, arguments.rounds)
    else:
        main(arguments.gigabytes, arguments.parameters, tuple(arguments.formats), arguments.rounds)
