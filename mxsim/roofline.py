"""How long a matmul takes: the calibrated roofline.

    t = max(flop / (eff_c peak), bytes / (eff_m bandwidth)) + quantise pass bytes / (eff_m bandwidth) + t0

with eff_c, eff_m and t0 fitted for each compute path of each device. The quantise pass runs before the matmul, so it adds.
Linears that are merged each bear an equal part of one t0 and one pass, so that a sum over layers stays a sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mxsim.devices.spec import ComputePath, Device, Figure
from mxsim.traffic import Traffic
from mxsim.workload import Matmul

Bound = Literal["compute", "memory", "overhead"]
#: Expected rows of an expert are no whole number: less than this of a row is no row, and fills no tile more.
_LEAST_ROW = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """The terms of one matmul's time, in seconds."""

    compute_s: float
    memory_s: float
    quantise_s: float
    launch_s: float

    @property
    def latency_s(self) -> float:
        return max(self.compute_s, self.memory_s) + self.quantise_s + self.launch_s

    @property
    def bound(self) -> Bound:
        """The largest of the terms; the quantise pass counts as memory."""
        terms: dict[Bound, float] = {
            "compute": self.compute_s,
            "memory": self.memory_s + self.quantise_s,
            "overhead": self.launch_s,
        }
        return max(terms, key=lambda term: terms[term])


def padded_macs(matmul: Matmul, device: Device) -> float:
    """Multiply-accumulates with M, N and K rounded up to the device's tile; attention's are counted as they are."""
    if not matmul.n:
        return matmul.macs
    tile = device.tile
    return matmul.instances * _up(matmul.rows, tile.m) * _up(matmul.n, tile.n) * _up(matmul.k, tile.k)


def untimed_figures(matmul: Matmul, path: ComputePath, device: Device) -> tuple[str, ...]:
    """The figures that a time needs and the device lacks, under their names in the device file."""
    names = []
    if device.memory.bandwidth_bytes_per_s is None:
        names.append("memory.bandwidth_bytes_per_s")
    if matmul.macs and path.peak_flop_per_s is None:
        names.append(f"compute.{path.name}.peak_flop_per_s")
    return tuple(names)


def roofline(matmul: Matmul, traffic: Traffic, path: ComputePath, device: Device) -> Roofline | None:
    """The terms of a matmul's time; None where the device's bandwidth or the path's peak rate is not known."""
    bandwidth = device.memory.bandwidth_bytes_per_s
    if bandwidth is None or (matmul.macs and path.peak_flop_per_s is None):
        return None
    rate = bandwidth.value * _share(path.memory_efficiency)
    compute_s = 0.0
    if matmul.macs and path.peak_flop_per_s is not None:
        peak = path.peak_flop_per_s.value * _share(path.compute_efficiency)
        compute_s = 2 * padded_macs(matmul, device) / peak
    return Roofline(
        compute_s=compute_s,
        memory_s=traffic.operand_bytes / rate,
        quantise_s=traffic.quantise_bytes / rate,
        launch_s=path.launch_s.value / matmul.merged if matmul.macs and path.launch_s is not None else 0.0,
    )


def _share(figure: Figure | None) -> float:
    return 1.0 if figure is None else figure.value


def _up(size: float, tile: Figure | None) -> float:
    return size if tile is None else math.ceil((size - _LEAST_ROW) / tile.value) * tile.value
