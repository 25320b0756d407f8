"""Writes a result folder of invented runs in the form of real ones: for tests of reading and drawing, never results.

The model, the text and the environment are all named "synthetic". Run by hand to look at a page:
python -m tests.analysis.make_records FOLDER
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROLES = {
    "self_attn.q_proj": (64, 64),
    "self_attn.k_proj": (32, 64),
    "self_attn.v_proj": (32, 64),
    "self_attn.o_proj": (64, 64),
    "mlp.gate_proj": (172, 64),
    "mlp.up_proj": (172, 64),
    "mlp.down_proj": (64, 172),
}
BITS = {"mxfp4_e2m1": 4, "mxfp6_e2m3": 6, "mxfp8_e4m3": 8, "bf16": 16}
ERROR = {"mxfp4_e2m1": 1.0, "mxfp6_e2m3": 0.06, "mxfp8_e4m3": 0.065, "bf16": 0.0}
FLOAT_PERPLEXITY = 7.0
#: how far a method's ranking of the layers is from the truth
NOISE = {"dmx": 0.1, "dmx_paper": 0.9, "fisher": 0.35, "first_order": 0.45, "kl_per_bit": 0.6, "kl": 0.55, "first_last": 3.0}
SEEDED = ("dmx", "dmx_paper")
BUDGETS = (4.5, 5.0, 5.5, 6.0, 7.0)


def layer_names(blocks: int = 4) -> list[str]:
    return [f"model.layers.{block}.{role}" for block in range(blocks) for role in ROLES]


def write_folder(
    folder: Path,
    *,
    methods: tuple[str, ...] = tuple(NOISE),
    budgets: tuple[float, ...] = BUDGETS,
    seeds: int = 3,
    blocks: int = 4,
    model: str = "synthetic-28",
    kind: str = "bits",
    references: bool = True,
    formats: tuple[str, ...] = ("mxfp4_e2m1", "mxfp8_e4m3"),
    energy: bool = True,
    apart: bool = False,
) -> Path:
    """A folder as dmx sweep leaves it: records/<key>.json and sweep.json. The same arguments give the same bytes."""
    names = layer_names(blocks)
    (folder / "records").mkdir(parents=True, exist_ok=True)
    sensitivity = np.random.default_rng(7).gamma(1.0, 0.013 * 28 / len(names), len(names))
    sensitivity *= [3.0 if name.endswith(("down_proj", "v_proj")) else 1.0 for name in names]
    if references:
        _write(folder, _record(names, "float", ("bf16",), None, 0, dict.fromkeys(names, "bf16"), sensitivity, model, energy))
        for one in dict.fromkeys(("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3", *formats)):
            _write(folder, _record(names, "uniform", (one,), None, 0, dict.fromkeys(names, one), sensitivity, model, energy))
    for method in methods:
        for amount in budgets:
            budget = {"kind": kind, "text": f"{kind}={amount}", "amount": amount, "device": None, "scenario": [], "assume": []}
            for seed in range(seeds if method in SEEDED else 1):
                rng = np.random.default_rng([seed, len(method)])
                score = np.log(sensitivity) + NOISE[method] * rng.standard_normal(len(names))
                chosen = _greedy(names, score, amount, formats)
                record = _record(names, method, formats, budget, seed, chosen, sensitivity, model, energy)
                if apart:
                    _set_apart(record, formats[-1])
                _write(folder, record)
    sweep = {"model": model, "methods": list(methods), "budgets": [f"{kind}={amount}" for amount in budgets], "seeds": seeds}
    (folder / "sweep.json").write_text(json.dumps(sweep), encoding="utf-8")
    return folder


def write_hardware(folder: Path, model: str = "synthetic-28") -> None:
    """Invented experiments on the matmul unit and on the conversion, as analysis.experiments describes them."""
    points: list[dict[str, Any]] = []
    common = {"format": "mxfp8_e4m3", "tokens": 4096}
    for vary, values, energies in (
        ("accumulator_bits", [10, 12, 14, 17, 20, 24], [0.9, 0.92, 0.95, 1.0, 1.06, 1.15]),
        ("alignment_bits", [4, 8, 12, 16, 24], [0.9, 0.94, 0.99, 1.05, 1.17]),
        ("promotion_interval", [32, 64, 128, 256, 1024], [1.3, 1.15, 1.08, 1.04, 1.01]),
        ("rounding", ["nearest_even", "toward_zero"], [1.0, 0.98]),
        ("scale_rule", ["floor", "ceil", "rceil", "even"], [1.0, 1.0, 1.0, 1.0]),
        ("block_size", [8, 16, 32, 64, 128], [1.2, 1.1, 1.0, 0.97, 0.95]),
    ):
        for index, (value, energy) in enumerate(zip(values, energies, strict=True)):
            perplexity = FLOAT_PERPLEXITY * (1.02 + 0.2 * math.exp(-index))
            points.append(
                {**common, "vary": vary, "value": value, "base": "synthetic unit", "perplexity": perplexity, "energy_pj": energy * 1e6}
            )
    content = {
        "schema": 1,
        "model": {"name": model, "sha256": _hash(model)},
        "text": {"name": "synthetic text", "sha256": _hash("report text")},
        "float_perplexity": FLOAT_PERPLEXITY,
        "energy_source": "synthetic",
        "experiments": points,
    }
    (folder / "hardware.json").write_text(json.dumps(content), encoding="utf-8")


def _set_apart(record: dict[str, Any], high: str) -> None:
    """Every second layer's activations go high, whatever its weights have: enough to draw operands apart."""
    record["specification"]["apart"] = True
    record["key"] = _hash(json.dumps(record["specification"], sort_keys=True))
    for index, (name, pair) in enumerate(record["assignment"]["layers"].items()):
        if index % 2:
            pair["activation"] = high
        if record["trajectory"]:
            operands = record["trajectory"]["offsets"][name]
            operands["activation"] = [0.5 + value / 2 for value in operands["weight"]]


def _greedy(names: list[str], score: np.ndarray, amount: float, formats: tuple[str, ...]) -> dict[str, str]:
    low, high = formats[0], formats[-1]
    share = (amount - BITS[low]) / (BITS[high] - BITS[low]) if amount <= 16 else 0.5
    kept = set(np.argsort(-score, kind="stable")[: int(share * len(names) + 1e-9)])
    return {name: high if index in kept else low for index, name in enumerate(names)}


def _record(
    names: list[str],
    method: str,
    formats: tuple[str, ...],
    budget: dict[str, Any] | None,
    seed: int,
    chosen: dict[str, str],
    sensitivity: np.ndarray,
    model: str,
    energy: bool,
) -> dict[str, Any]:
    loss = float(sum(s * ERROR[chosen[name]] for name, s in zip(names, sensitivity, strict=True)))
    costs = [_cost(name, chosen[name], energy) for name in names]
    bits = float(np.mean([BITS[chosen[name]] for name in names]))
    with_scales = bits + (0.25 if method != "float" else 0.0)
    achieved = {
        "bits": bits,
        "bits_with_scales": with_scales,
        "bytes": sum(cost["weight_bytes"] for cost in costs),
        "energy_pj": sum(cost["energy_pj"] for cost in costs) if energy else None,
        "latency_s": sum(cost["latency_s"] for cost in costs),
    }
    assignment = None
    if method != "float":
        assignment = {
            "layers": {name: {"weight": f, "activation": f} for name, f in chosen.items()},
            "skipped": ["lm_head"],
            "policy": "ocp",
            "budget": budget or {},
            "achieved": achieved,
            "search": {"method": method, "seed": seed},
        }
    specification = {
        "model": {"name": model, "source": "synthetic", "sha256": _hash(model)},
        "method": method,
        "formats": list(formats),
        "policy": "ocp",
        "tie": False,
        "apart": False,
        "budget": budget,
        "seed": seed,
        "text": {
            "search": {"name": "synthetic text", "sha256": _hash("search text")},
            "report": {"name": "synthetic text", "sha256": _hash("report text")},
        },
        "settings": {"steps": 50} if method in SEEDED else {},
        "code": {"version": "synthetic", "sha256": _hash("code")},
    }
    return {
        "schema": 1,
        "key": _hash(json.dumps(specification, sort_keys=True)),
        "status": "done",
        "error": None,
        "specification": specification,
        "assignment": assignment,
        "achieved": achieved,
        "costs": {"device": "b200", "phase": {"kind": "decode", "batch": 1, "context": 128}, "layers": costs},
        "quality": {
            "perplexity": FLOAT_PERPLEXITY * math.exp(loss),
            "tokens": 4096,
            "kl_to_float": 0.8 * loss,
            "tasks": {"blimp": {"accuracy": 0.75 - 0.25 * loss, "stderr": 0.01, "chance": 0.5, "questions": 2000}},
        },
        "trajectory": _trajectory(names, chosen, seed) if method in SEEDED else None,
        "timing": {"seconds_search": 1.0, "seconds_evaluate": 0.5},
        "environment": {
            "python": "3.11",
            "torch": "synthetic",
            "transformers": "synthetic",
            "mxsim": "synthetic",
            "platform": "synthetic",
            "command": "dmx sweep -o synthetic",
        },
    }


def _cost(name: str, chosen: str, energy: bool) -> dict[str, Any]:
    rows, columns = ROLES[name.split(".", 3)[3]]
    weight_bytes = rows * columns * (BITS[chosen] + 0.25) / 8
    terms = {
        "mac": rows * columns * BITS[chosen] * 0.02,
        "sram": weight_bytes,
        "dram": weight_bytes * 8 * 4,
        "quantise": columns * 0.5,
        "static": None,
    }
    return {
        "name": name,
        "weight_bytes": weight_bytes,
        "dram_bytes": weight_bytes + 4 * (rows + columns),
        "energy_pj": sum(value for value in terms.values() if value) if energy else None,
        "energy_by_term_pj": terms if energy else dict.fromkeys(terms),
        "latency_s": 2e-6 + weight_bytes / 8e12,
        "macs": rows * columns,
    }


def _trajectory(names: list[str], chosen: dict[str, str], seed: int) -> dict[str, Any]:
    steps = list(range(0, 50, 2))
    rng = np.random.default_rng(seed)
    ends = {name: (1.7 if BITS[chosen[name]] > 4 else 0.3) + 0.2 * rng.standard_normal() for name in names}
    paths = {name: [1 + (end - 1) * (1 - math.exp(-step / 15)) for step in steps] for name, end in ends.items()}
    return {
        "step": steps,
        "loss": [2.2 - 0.2 * (1 - math.exp(-step / 15)) for step in steps],
        "bits": [6 - 0.9 * (1 - math.exp(-step / 10)) for step in steps],
        "cost": [6 - 0.9 * (1 - math.exp(-step / 10)) for step in steps],
        "temperature": [0.4 if step < 30 else 0.4 * 50 ** ((step - 30) / 20) for step in steps],
        "offsets": {name: {"weight": path, "activation": path} for name, path in paths.items()},
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(folder: Path, record: dict[str, Any]) -> None:
    (folder / "records" / f"{record['key']}.json").write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    made = write_folder(Path(sys.argv[1]))
    write_hardware(made)
    print(f"{len(list((made / 'records').iterdir()))} synthetic records in {made}")
