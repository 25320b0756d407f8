"""dmx.export: a model under an assignment as a checkpoint on disk, with a manifest and, where asked, golden outputs."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from glob import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dmx.errors import DmxError
from dmx.exporters.layer import Layer
from dmx.exporters.target import TARGETS, Target
from dmx.live_modules import gives_back
from dmx.models import LoadedModel, load_model
from dmx.quantised_linear import read_assignment
from dmx.quantisers import DTYPES, as_numpy
from mxsim.assignment import Assignment
from mxsim.checkpoints.folder import CONFIG, INDEX, WEIGHTS
from mxsim.checkpoints.reader import CONFIG_HASH, config_hash, open_checkpoint
from mxsim.checkpoints.weights import named_as_linear
from mxsim.conversion import quantize
from mxsim.errors import MxsimError
from mxsim.files import SafetensorsWriter
from mxsim.formats import FORMATS
from mxsim.golden import GOLDEN, golden_output, golden_refusals
from mxsim.manifest import MANIFEST, Manifest, file_hash, tensor_records
from mxsim.policies import policy_of
from mxsim.storage_formats import WIDE_PAIR
from mxsim.version import VERSION

SHARD_BYTES = 5_000_000_000  #: of tensors in a file, as transformers splits them
AHEAD = 3  #: tensors converted before they are written
GOLDEN_UNIT = "nvidia_blackwell"  #: computes golden outputs where no other is asked for
MOST_NAMED = 20  #: layers named in a refusal

Array = npt.NDArray[Any]
Advance = Callable[[int], None]
Entry = tuple[str, Layer | torch.Tensor]  #: a quantised layer under its own name, or a tensor left in float under its
Item = TypeVar("Item")
Result = TypeVar("Result")


@gives_back
def export(
    model: str | Path | nn.Module | LoadedModel | None,
    assignment: Assignment | str | Path,
    target: str,
    folder: str | Path,
    *,
    golden: int = 0,
    unit: str | None = None,
    seed: int = 0,
    shard_bytes: int = SHARD_BYTES,
    advance: Advance = lambda count: None,
) -> Path:
    """Write a checkpoint.

    Args:
        model: as in dmx.load_model. Weights are converted from the dtype that they were stored in.
        assignment: the formats of every linear, and the policy; an Assignment or a file.
        target: a name of TARGETS: compressed-tensors, quark or mxsim.
        folder: must not exist, or be empty. It is written under a temporary name, beside it or in it, and renamed when whole.
        golden: for each quantised linear, this many rows of inputs (standard normal, rounded to bfloat16, from `seed`) with the exact
            outputs of `unit`, GOLDEN_UNIT when None, in golden.safetensors.
        shard_bytes: largest size of a file's tensors; a larger tensor has a file of its own.
        advance: told the bytes of float weights done, as they are.
    Returns: the folder.
    Raises: DmxError, before anything is written, where the target cannot hold the assignment, or the model's files hold a quantised
        layer otherwise than the module does: the layers are named.
    """
    loaded = load_model(model)
    chosen = read_assignment(loaded, assignment)
    if target not in TARGETS:
        raise DmxError(f"unknown export target {target!r}: known are {', '.join(TARGETS)}")
    layers = _layers(loaded, chosen, target)
    if golden:
        _check_golden(layers, unit or GOLDEN_UNIT)
    elif unit is not None:
        raise DmxError(f"unit {unit!r} computes golden outputs, and none are asked for: pass golden, how many rows, with it")
    entries = _entries(loaded, layers, TARGETS[target])
    place = Path(folder).resolve()  # where a link leads
    if place.exists() and (not place.is_dir() or any(path not in _abandoned(place) for path in place.iterdir())):
        raise DmxError(f"{folder} exists and is not empty: name a new folder")
    for path in _abandoned(place):
        shutil.rmtree(path, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    # A folder that is there may be mounted, or the one that the process works in: it is filled, not replaced.
    name = f".{place.name}.{os.getpid()}.part"
    temporary = place / name if place.exists() else place.with_name(name)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        _write(loaded, chosen, layers, entries, TARGETS[target], temporary, golden, unit or GOLDEN_UNIT, seed, shard_bytes, advance)
        if place.exists():
            _fill(place, temporary)
        else:
            os.replace(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Path(folder)


def _abandoned(place: Path) -> list[Path]:
    """What exports into this folder left in it when they were killed."""
    return list(place.glob(f"{escape(f'.{place.name}.')}*.part"))


def _fill(place: Path, written: Path) -> None:
    """Move a whole checkpoint into an empty folder, config.json, which makes it one, last; or nothing of it."""
    moved: list[Path] = []
    try:
        for path in sorted(written.iterdir(), key=lambda path: path.name == CONFIG):
            target = place / path.name
            if target.exists():
                raise DmxError(f"{target} came into being meanwhile: name another folder")
            os.replace(path, target)
            moved.append(target)
    except BaseException:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _layers(loaded: LoadedModel, assignment: Assignment, target: str) -> dict[str, Layer]:
    """The linears to quantise; DmxError naming those that the target cannot hold."""
    layers, refused = {}, []
    for name, pair in assignment.layers.items():
        if pair == WIDE_PAIR:
            continue
        out, columns = loaded.linears[name].weight.shape
        if pair.weight in FORMATS:
            layers[name] = Layer(name=name, weight=pair.weight, activation=pair.activation, shape=(out, columns))
        else:
            remedy = "give its weights a block format, or leave its inputs in bf16 too"
            refused.append(f"{name}: weights in {pair.weight} under inputs in {pair.activation} ({remedy})")
    if layers:
        refused += TARGETS[target].refusals(layers, assignment.policy)
    if not layers and not refused:
        raise DmxError("the assignment leaves every layer in bf16: there is nothing to export in a block format")
    for layer in layers.values():
        dtype = loaded.stored_dtypes.get(layer.name, torch.float32)
        try:
            _conversion_check(layer, assignment.policy, dtype)
        except MxsimError as error:
            refused.append(f"{layer.name}: {error}")
    if refused:
        elsewhere = "" if target == "mxsim" else "export to mxsim, or "
        raise DmxError(_listed(f"{target} cannot hold this assignment; {elsewhere}search with other formats", refused))
    return layers


def _check_golden(layers: dict[str, Layer], unit: str) -> None:
    """DmxError where the unit cannot compute a layer's golden outputs, with the layers named."""
    try:
        refused = golden_refusals({name: (layer.weight, layer.activation) for name, layer in layers.items()}, unit)
    except MxsimError as error:
        raise DmxError(str(error)) from None
    if refused:
        raise DmxError(
            _listed(
                f"{unit} cannot compute these golden outputs; name another unit (mx_exact takes any two formats of one block size)", refused
            )
        )


def _listed(says: str, refused: list[str]) -> str:
    more = f"\n  ... and {len(refused) - MOST_NAMED} more" if len(refused) > MOST_NAMED else ""
    return f"{says}:\n  " + "\n  ".join(refused[:MOST_NAMED]) + more


def _conversion_check(layer: Layer, policy: str, dtype: torch.dtype) -> None:
    policy_of(policy).conversion(layer.weight, DTYPES[dtype].name)


def _write(
    loaded: LoadedModel,
    assignment: Assignment,
    layers: dict[str, Layer],
    entries: list[Entry],
    target: Target,
    folder: Path,
    golden: int,
    unit: str,
    seed: int,
    shard_bytes: int,
    advance: Advance,
) -> None:
    config = target.config(layers, _left(loaded, layers, entries), assignment.policy)
    _write_json(loaded, config, folder)
    _write_tensors(loaded, assignment.policy, entries, target, folder, config_hash(config), shard_bytes, advance)
    read = open_checkpoint(folder)
    if golden:
        rng = np.random.default_rng(seed)
        arrays: dict[str, Array] = {}
        for weight in read.quantized:
            inputs = rng.standard_normal((golden, weight.columns), np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)
            arrays[f"{weight.module}.input"] = inputs
            arrays[f"{weight.module}.output"] = golden_output(weight, inputs, layers[weight.module].activation, assignment.policy, unit)
        _save(folder / GOLDEN, arrays, {"unit": unit, "policy": assignment.policy, "seed": str(seed)})
    with ThreadPoolExecutor(max_workers=1) as beside:
        written = sorted(path for path in folder.rglob("*") if path.is_file())
        hashes = {path.relative_to(folder).as_posix(): beside.submit(file_hash, path) for path in written}
        tensors = dict(tensor_records(read))
        files = {name: hash.result() for name, hash in hashes.items()}
    manifest = Manifest(
        producer=f"dmx {VERSION}",
        target=target.name,
        policy=assignment.policy,
        unit=unit if golden else None,
        golden=GOLDEN if golden else None,
        versions={
            "python": platform.python_version(),
            "mxsim": VERSION,
            **{package: version(package) for package in ("numpy", "torch", "transformers", "safetensors")},
        },
        layers={name: {"weight": layer.weight, "activation": layer.activation} for name, layer in layers.items()},
        tensors=tensors,
        files=files,
    )
    (folder / MANIFEST).write_bytes(manifest.to_bytes())


def _left(loaded: LoadedModel, layers: dict[str, Layer], entries: list[Entry]) -> list[str]:
    """The linears left in float: by their class, and by their names in the files, as routers are no linears by class."""
    linears = {name for name, part in loaded.module.named_modules() if isinstance(part, nn.Linear)}
    for name, value in entries:
        if isinstance(value, torch.Tensor) and value.is_floating_point() and named_as_linear(name, value.dim()):
            linears.add(name.removesuffix(".weight"))
    return sorted(linears - set(layers))


def _write_json(loaded: LoadedModel, config: dict[str, Any], folder: Path) -> None:
    """config.json with the quantization_config, generation_config.json, the tokenizer."""
    module: Any = loaded.module
    content = json.loads(module.config.to_json_string(use_diff=False))
    content["architectures"] = [type(module).__name__]
    content["dtype"] = str(_wide_dtype(loaded)).removeprefix("torch.")
    content["tie_word_embeddings"] = _is_tied(loaded)
    content.pop("_name_or_path", None)
    content["quantization_config"] = config
    (folder / CONFIG).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if getattr(module, "generation_config", None) is not None:
        module.generation_config.save_pretrained(folder)
    if loaded.tokenizer is not None:
        try:
            loaded.tokenizer.save_pretrained(folder)
        except Exception as error:  # tokenizers raises no other kind, on a full disk say
            raise DmxError(f"the tokenizer cannot be written to {folder.parent}: {error}") from error


def _wide_dtype(loaded: LoadedModel) -> torch.dtype:
    """What most linears were stored in."""
    stored = list(loaded.stored_dtypes.values())
    return max(set(stored), key=stored.count) if stored else torch.float32


def _plain(loaded: LoadedModel, tensor: torch.Tensor) -> Array:
    """A tensor left in float, in the dtype that the checkpoint had: narrowed only where nothing is lost."""
    kept = tensor.detach().cpu().contiguous()
    if kept.is_floating_point() and kept.dtype != _wide_dtype(loaded):
        narrow = kept.to(_wide_dtype(loaded))
        kept = narrow if torch.equal(narrow.to(kept.dtype), kept) else kept
    return as_numpy(kept) if kept.dtype in DTYPES else np.asarray(kept.numpy())


def _write_tensors(
    loaded: LoadedModel, policy: str, entries: list[Entry], target: Target, folder: Path, hash: str, shard_bytes: int, advance: Advance
) -> None:
    def tensors_of(entry: Entry) -> tuple[dict[str, Array], int]:
        """What is written for an entry, and the bytes of its float source."""
        name, value = entry
        if not isinstance(value, Layer):
            plain = _plain(loaded, value)
            return {name: plain}, plain.nbytes
        source = linears[name].weight.detach()
        weight = as_numpy(source.cpu().to(loaded.stored_dtypes.get(name, source.dtype)))
        found = target.tensors(quantize(weight, value.spec, policy=policy))
        return {f"{name}.{suffix}": array for suffix, array in found.items()}, weight.nbytes

    linears = loaded.linears
    sizes: list[dict[str, tuple[np.dtype[Any], tuple[int, ...]]]] = []
    for name, value in entries:
        if isinstance(value, Layer):
            sizes.append({f"{name}.{suffix}": shape for suffix, shape in target.shapes(value).items()})
        else:
            array = _plain(loaded, value)
            sizes.append({name: (array.dtype, array.shape)})
    shards: list[list[int]] = [[]]
    room = shard_bytes
    for number, held in enumerate(sizes):
        size = sum(dtype.itemsize * int(np.prod(shape, dtype=np.int64)) for dtype, shape in held.values())
        if shards[-1] and size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(number)
        room -= size
    names = [WEIGHTS] if len(shards) == 1 else [f"model-{n + 1:05d}-of-{len(shards):05d}.safetensors" for n in range(len(shards))]
    weight_map: dict[str, str] = {}
    total = 0
    for shard, numbers in zip(names, shards, strict=True):
        layout = {key: value for number in numbers for key, value in sizes[number].items()}
        with SafetensorsWriter(folder / shard, layout, {"format": "pt", CONFIG_HASH: hash}) as writer:
            for tensors, size in _ahead(tensors_of, [entries[number] for number in numbers]):
                for key, array in tensors.items():
                    writer.write(key, array)
                advance(size)
        weight_map |= dict.fromkeys(layout, shard)
        total += sum(dtype.itemsize * int(np.prod(shape, dtype=np.int64)) for dtype, shape in layout.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _ahead(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """The results of a function for all items, in order, a few of them computed ahead in one thread: kernels that run in parallel must not
    be called from two, where numba has no threads but its own."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _entries(loaded: LoadedModel, layers: dict[str, Layer], target: Target) -> list[Entry]:
    """Every tensor under the name that the model's own files have for it, quantised weights as their layer; where tensors are tied, under
    their first name alone. DmxError naming the layers that those files hold otherwise than the module."""
    state: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    tied = _is_tied(loaded)
    for name, tensor in loaded.module.state_dict().items():
        if not (tied and tensor.numel() and tensor.data_ptr() in seen):
            state[name] = tensor
        seen.add(tensor.data_ptr())
    stored = _as_saved(loaded.module, state, target)
    weights = {f"{name}.weight": layer for name, layer in layers.items()}
    if changed := [name for name in weights if name not in stored or stored[name].data_ptr() != state[name].data_ptr()]:
        named = [f"{name.removesuffix('.weight')}: its files hold it under another name or within another tensor" for name in changed]
        raise DmxError(_listed("these layers cannot be exported; leave them in bf16", named))
    kept = [name for name in state if name in stored]
    return [(weights[n].name, weights[n]) if n in weights else (n, stored[n]) for n in [*kept, *(n for n in stored if n not in state)]]


def _as_saved(module: Any, state: dict[str, torch.Tensor], target: Target) -> dict[str, torch.Tensor]:
    """Tensors as save_pretrained writes them: from version 5 on, transformers holds some models, such as those with experts, under other
    names and in other pieces than their files do. Where a target holds no pieces, the module's own tensors."""
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:
        return state
    found: dict[str, torch.Tensor] = revert_weight_conversion(module, state)
    return found if target.pieces or len(found) == len(state) else state


def _is_tied(loaded: LoadedModel) -> bool:
    """Whether the output head is the embeddings. A config alone does not tell: transformers ties no two tensors that a file holds with
    different values."""
    module: Any = loaded.module
    if not getattr(module.config, "tie_word_embeddings", False):
        return False
    head, embeddings = module.get_output_embeddings(), module.get_input_embeddings()
    return head is None or head.weight.data_ptr() == embeddings.weight.data_ptr()


def _save(path: Path, arrays: dict[str, Array], metadata: dict[str, str]) -> None:
    with SafetensorsWriter(path, {name: (array.dtype, array.shape) for name, array in arrays.items()}, metadata) as writer:
        for name, array in arrays.items():
            writer.write(name, array)
