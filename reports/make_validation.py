"""Runs mxsim validate on real exports and on broken ones, and writes reports/validation.md: what was explained, what was found.

    MXSIM_SHARED_DATA=... python reports/make_validation.py [--flips 1000]      minutes

Exits 1 when an export is not explained or a flipped bit is not found.
"""

from __future__ import annotations

import argparse
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numba
import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from dmx.exporters import export  # noqa: E402
from dmx.models import load_model  # noqa: E402
from mxsim.assignment import Assignment  # noqa: E402
from mxsim.errors import MxsimError  # noqa: E402
from mxsim.manifest import MANIFEST  # noqa: E402
from mxsim.storage_formats import FormatPair  # noqa: E402
from mxsim.validation import validate  # noqa: E402

REPORT = ROOT / "reports" / "validation.md"
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
    count = parser.parse_args().flips
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
    finally:
        shutil.rmtree(work)
    missed = [line for _, lines in mutated for line in lines]
    parts = [
        "# Validation",
        "Made by `python reports/make_validation.py`.",
        "## Real exports of one bf16 model, against it",
        markdown(["checkpoint", "producer", "version", "policy", "weights", "explained", "tensors not provable"], exports),
        "Not provable are ModelOpt's activation scales: they follow from calibration data.",
        "## One flipped bit at a time",
        "An export of the same model by `dmx export` (MXFP4, MXFP8, NVFP4 mixed); places and bits at random.",
        markdown(["place", "held against", "found"], [row for row, _ in mutated]),
    ]
    if missed:
        parts.append("Not found: " + "; ".join(missed[:20]))
    temporary = REPORT.with_suffix(".part")
    temporary.write_text("\n\n".join(parts) + "\n")
    os.replace(temporary, REPORT)
    print(REPORT.relative_to(ROOT))
    return 1 if missed or any(row[5] != "every bit" for row in exports) else 0


if __name__ == "__main__":
    sys.exit(main())
