"""Writes zigzag.json: ZigZag's energies for one matmul on its bundled example, term by term, with its loop order.

Run in an environment with zigzag-dse==3.9.1 (and six, which it needs and does not ask for):

    python tests/golden/cost/run_zigzag.py
"""

from __future__ import annotations

import json
import logging
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import zigzag
from zigzag.api import get_hardware_performance_zigzag
from zigzag.cost_model.cost_model import CostModelEvaluation

SIZE = 4096
PRECISIONS = ((8, 8), (6, 8), (4, 8), (4, 4))
INPUTS = Path(zigzag.__file__).parent / "inputs"


def evaluation(found: Any) -> CostModelEvaluation | None:
    """The one layer's evaluation among the nested results."""
    if isinstance(found, CostModelEvaluation):
        return found
    if isinstance(found, list | tuple):
        return next((inner for item in found if (inner := evaluation(item)) is not None), None)
    return None


def run(weight_bits: int, activation_bits: int) -> dict[str, Any]:
    layer = {
        "id": 0,
        "name": "gemm",
        "operator_type": "Gemm",
        "equation": "O[b][k]+=W[k][c]*I[b][c]",
        "loop_dims": ["B", "K", "C"],
        "loop_sizes": [SIZE, SIZE, SIZE],
        "operand_precision": {"W": weight_bits, "I": activation_bits, "O": 16, "O_final": 16},
        "operand_source": {"W": 0, "I": 0},
    }
    with tempfile.TemporaryDirectory() as folder:
        total, _, results = get_hardware_performance_zigzag(
            [layer],
            str(INPUTS / "hardware" / "tpu_like.yaml"),
            str(INPUTS / "mapping" / "tpu_like.yaml"),
            opt="energy",
            dump_folder=folder,
            pickle_filename=f"{folder}/results",
            loma_show_progress_bar=False,
        )
    found = evaluation(results)
    assert found is not None
    return {
        "weight_bits": weight_bits,
        "activation_bits": activation_bits,
        "total_pj": total,
        "mac_pj": found.mac_energy,
        "memory_pj": {str(operand): levels for operand, levels in sorted(found.mem_energy_breakdown.items(), key=str)},
        "loops_innermost_first": str(found.temporal_mapping.mapping_dic_origin),
    }


def main() -> None:
    logging.disable(logging.CRITICAL)
    content = {"zigzag-dse": version("zigzag-dse"), "example": "tpu_like", "matmul": [SIZE] * 3, "runs": [run(*p) for p in PRECISIONS]}
    Path(__file__).with_name("zigzag.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
