"""Reference models of real architectures, trained on a text in minutes of a GPU.

`python -m benchmarks.silicon.train prepare TEXT FOLDER` makes a tokenizer and the text's tokens, on a CPU; then
`python -m benchmarks.silicon.train run FOLDER --shape llama --minutes 2 -o MODEL` trains and saves a bfloat16 checkpoint that transformers
loads, in files below 16 MB. The learning rate falls with the time that is left, so that training ends when it is told to.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.silicon.models import untrained
from dmx.reference.train import make_tokenizer
from mxsim.shapes import ModelShape

VOCABULARY, CONTEXT = 8192, 512
#: 19, 21 (deep and narrow) and 24 million parameters.
SHAPES = {
    name: ModelShape(
        name=name,
        family=family,
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=64,
        vocab=VOCABULARY,
        tied_embeddings=True,
        max_context=CONTEXT,
        qk_norm=family == "qwen3",
        source="our own",
    )
    for name, family, hidden, intermediate, layers, heads, kv_heads in (
        ("llama", "llama", 384, 1024, 10, 6, 3),
        ("smollm2", "llama", 320, 960, 16, 5, 1),
        ("qwen3", "qwen3", 384, 1152, 12, 6, 3),
    )
}
BATCH, RATE, WARMUP, LAST = 64, 2e-3, 100, 0.02  #: windows, highest learning rate, steps to it, share of it at the end
SHARD = "15MB"


def prepare(text: Path, folder: Path, vocabulary: int = VOCABULARY) -> None:
    """Writes tokenizer files and tokens.npy, (tokens,) uint16."""
    folder.mkdir(parents=True, exist_ok=True)
    read = text.read_text(encoding="utf-8")
    tokenizer = make_tokenizer(read[: 1 << 24], vocabulary)
    tokenizer.model_max_length = CONTEXT
    tokenizer.save_pretrained(folder)
    encoded = tokenizer.backend_tokenizer.encode_batch(read.splitlines(keepends=True))
    np.save(folder / "tokens.npy", np.concatenate([np.array(line.ids, np.uint16) for line in encoded]))


def started(shape: ModelShape, seed: int) -> Any:
    """Random weights, branches that add to the residual starting small."""
    model = untrained(shape, context=CONTEXT, seed=seed)
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.data /= math.sqrt(2 * shape.layers)
    return model


def rate(step: int, spent: float) -> float:
    """The learning rate. Args: spent: the share of the time that is gone, 0 to 1."""
    falling = LAST + (1 - LAST) * 0.5 * (1 + math.cos(math.pi * min(spent, 1.0)))
    return RATE * falling * min(1.0, (step + 1) / WARMUP)


def run(folder: Path, shape: str, minutes: float, out: Path, device: str, seed: int = 0, batch: int = BATCH) -> dict[str, Any]:
    """Train and save. Returns: what the model's card says, also in training.json: tokens seen, seconds, the loss at the end."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = torch.from_numpy(np.load(folder / "tokens.npy").astype(np.int64)).to(device)
    model = started(replace(SHAPES[shape], vocab=len(tokenizer)), seed).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.05)
    generator = torch.Generator().manual_seed(seed)
    window = torch.arange(CONTEXT + 1, device=device)
    start, step, losses = time.monotonic(), 0, []
    with tqdm(unit="step") as bar:
        while (spent := (time.monotonic() - start) / (60 * minutes)) < 1.0:
            for group in optimizer.param_groups:
                group["lr"] = rate(step, spent)
            at = torch.randint(0, len(tokens) - CONTEXT - 1, (batch,), generator=generator).to(device)
            ids = tokens[at[:, None] + window]
            with torch.autocast(torch.device(device).type, torch.bfloat16):
                logits = model(input_ids=ids[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            losses.append(loss.detach())
            bar.update()
    told = {
        "shape": shape,
        "parameters": model.num_parameters(),
        "steps": step,
        "tokens_seen": step * batch * CONTEXT,
        "text_tokens": len(tokens),
        "seconds": time.monotonic() - start,
        "loss_of_last_steps": float(torch.stack(losses[-50:]).mean()),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "torch": torch.__version__,
    }
    model.to(torch.bfloat16).save_pretrained(out, max_shard_size=SHARD)
    tokenizer.save_pretrained(out)
    (out / "training.json").write_text(json.dumps(told, indent=1) + "\n")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    preparing = commands.add_parser("prepare")
    preparing.add_argument("text", type=Path)
    preparing.add_argument("folder", type=Path)
    running = commands.add_parser("run")
    running.add_argument("folder", type=Path)
    running.add_argument("--shape", choices=SHAPES, required=True)
    running.add_argument("--minutes", type=float, required=True)
    running.add_argument("--device", default="cuda")
    running.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    if asked.command == "prepare":
        prepare(asked.text, asked.folder)
    else:
        print(json.dumps(run(asked.folder, asked.shape, asked.minutes, asked.output, asked.device)))


if __name__ == "__main__":
    main()
