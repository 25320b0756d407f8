"""Make the embedded reference model: python -m dmx.reference.train -o FOLDER.

Every document is read once: the training text never repeats. After training, outlier channels are put in (dmx/reference/outliers.py): they
leave the float model's outputs as they are, and make its formats matter as those of a large model do.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tqdm import tqdm

from dmx import reference
from dmx.errors import DmxError
from dmx.reference.outliers import add_outliers

#: what fills a batch; never part of a text
PAD = "<|pad|>"
#: the byte-level name of the newline, which ends every document and is what a model may be asked to start from
NEWLINE = "Ċ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides the model."""

    vocabulary: int = 1024
    tokenizer_tokens: int = 400_000  #: of the training text, at least, from which the vocabulary is made
    hidden: int = 96
    intermediate: int = 288
    layers: int = 6
    heads: int = 4
    key_value_heads: int = 2
    context: int = 256
    batch: int = 8  #: windows to a step
    steps: int = 2000
    warmup: int = 60
    learning_rate: float = 3e-3
    final_rate: float = 0.02  #: share of learning_rate at the end
    clip: float = 1.0  #: norm of the gradient
    seed: int = 0
    outliers: tuple[float, float] = (0.0, 1.8)  #: the least and greatest strength of a site's outlier channels, in octaves
    outlier_seed: int = 7


RECIPE = Recipe()


def make_tokenizer(text: str, vocabulary: int) -> Any:
    """A byte-level BPE tokenizer: any text has tokens, and decoding gives it back."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=NEWLINE, eos_token=NEWLINE, pad_token=PAD, model_max_length=RECIPE.context
    )


def make_model(recipe: Recipe, tokenizer: Any) -> Any:
    """An untrained Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.key_value_heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        rms_norm_eps=1e-5,
    )
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():  # residual branches start small: deep models of narrow width train faster
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.data /= math.sqrt(2 * recipe.layers)
    return model


def windows(tokenizer: Any, recipe: Recipe) -> torch.Tensor:
    """The training text as tokens, (steps, batch, context), each token read once."""
    wanted = recipe.steps * recipe.batch * recipe.context
    lines = reference.text("train", wanted).splitlines(keepends=True)
    tokens: list[int] = []
    for encoding in tokenizer.backend_tokenizer.encode_batch(lines):
        tokens += encoding.ids
    return torch.tensor(tokens[:wanted]).view(recipe.steps, recipe.batch, recipe.context)


def rate(step: int, recipe: Recipe) -> float:
    """The learning rate: a linear start, then half a cosine down to its final share."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * (recipe.final_rate + (1 - recipe.final_rate) * 0.5 * (1 + math.cos(math.pi * done)))


def train(recipe: Recipe, folder: Path) -> float:
    """Train and save a checkpoint that transformers loads.

    Returns: the mean loss in nats a token over the last 50 steps.
    """
    tokenizer = make_tokenizer(reference.text("train", recipe.tokenizer_tokens), recipe.vocabulary)
    model = make_model(recipe, tokenizer)
    data = windows(tokenizer, recipe)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    losses: list[float] = []
    with tqdm(range(recipe.steps), unit="step", file=sys.stderr, mininterval=1.0) as progress:
        for step in progress:
            for group in optimizer.param_groups:
                group["lr"] = rate(step, recipe)
            loss = model(input_ids=data[step], labels=data[step]).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise DmxError(f"the loss is {losses[-1]} at step {step}: lower the learning rate of {recipe.learning_rate}")
            progress.set_postfix(loss=f"{sum(losses[-50:]) / len(losses[-50:]):.4f}")
    add_outliers(model, recipe.outliers, recipe.outlier_seed)
    model.config.pad_token_id = tokenizer.pad_token_id  # not before: it would freeze the embedding's row at zero
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _name_tokenizer_class(folder / "tokenizer_config.json")
    return sum(losses[-50:]) / len(losses[-50:])


def _name_tokenizer_class(file: Path) -> None:
    """transformers 5 writes a class that transformers 4 does not know; both read this one."""
    config = json.loads(file.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main(
    folder: Annotated[Path, typer.Option("--output", "-o", help="where the checkpoint goes")],
    steps: Annotated[int, typer.Option(min=1)] = RECIPE.steps,
    learning_rate: Annotated[float, typer.Option()] = RECIPE.learning_rate,
    seed: Annotated[int, typer.Option(help="of the first weights; the text has its own")] = RECIPE.seed,
    threads: Annotated[int, typer.Option(min=1, help="more than one rarely pays at this size")] = 1,
) -> None:
    """Train the reference model on text of its own world and save it as a transformers checkpoint."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    start = time.perf_counter()
    recipe = Recipe(steps=steps, learning_rate=learning_rate, seed=seed)
    loss = train(recipe, folder)
    typer.echo(
        f"{folder}: loss {loss:.4f}, perplexity {math.exp(loss):.3f} on the last steps, {time.perf_counter() - start:.0f} s", err=True
    )


if __name__ == "__main__":
    typer.run(main)
