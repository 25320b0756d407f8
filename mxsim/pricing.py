"""The price of one matmul in one pair of formats on one device: every term of its bytes, energy and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mxsim.devices.spec import Device
from mxsim.energy import Energy, matmul_energy
from mxsim.roofline import Roofline, roofline, untimed_figures
from mxsim.storage_formats import STORAGE_FORMATS, WIDE_PAIR, FormatPair
from mxsim.traffic import Traffic, attention_traffic, linear_traffic, wide_traffic
from mxsim.workload import Matmul, Operation

METRICS = ("weight_bytes", "dram_bytes", "energy_pj", "latency_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One matmul in one pair of formats: every term."""

    path: str  #: the compute path taken
    is_native: bool  #: False: both operands are widened first
    traffic: Traffic
    energy: Energy
    roofline: Roofline | None
    untimed: tuple[str, ...]  #: the figures that a latency would need
    metrics: Mapping[str, float | None]  #: METRICS -> bytes, picojoules, seconds; None where a figure is not known

    @property
    def missing(self) -> tuple[str, ...]:
        """The device figures for want of which a metric is None."""
        return (*self.energy.missing, *self.untimed)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """An operation, the formats of its operands (for attention: of K and V), and its price."""

    operation: Operation
    pair: FormatPair
    price: Price

    @property
    def name(self) -> str:
        return self.operation.name

    @property
    def matmul(self) -> Matmul:
        return self.operation.matmul

    def to_json(self) -> dict[str, Any]:
        matmul, traffic, energy, time = self.matmul, self.price.traffic, self.price.energy, self.price.roofline
        return {
            "name": self.name,
            "kind": matmul.kind,
            "weight_format": self.pair.weight,
            "activation_format": self.pair.activation,
            "compute_path": self.price.path,
            "native": self.price.is_native,
            "m": whole(matmul.rows),
            "n": matmul.n,
            "k": matmul.k,
            "instances": whole(matmul.instances),
            "merged": matmul.merged,
            "parameters": matmul.parameters,
            "macs": whole(matmul.macs),
            "weight_bytes": whole(traffic.stored_weight_bytes),
            "weight_read_bytes": whole(traffic.weight_bytes),
            "activation_bytes": whole(traffic.activation_bytes),
            "output_bytes": whole(traffic.output_bytes),
            "kv_bytes": whole(traffic.kv_bytes),
            "quantise_bytes": whole(traffic.quantise_bytes),
            "refetch_bytes": whole(traffic.refetch_bytes),
            "dram_bytes": whole(traffic.dram_bytes),
            "sram_bits": whole(traffic.sram_bits),
            "energy_mac_pj": energy.mac_pj,
            "energy_sram_pj": energy.sram_pj,
            "energy_dram_pj": energy.dram_pj,
            "energy_quantise_pj": energy.quantise_pj,
            "energy_static_pj": energy.static_pj,
            "energy_pj": energy.total_pj,
            "compute_s": time and time.compute_s,
            "memory_s": time and time.memory_s,
            "quantise_s": time and time.quantise_s,
            "overhead_s": time and time.launch_s,
            "latency_s": self.price.metrics["latency_s"],
            "bound": time and time.bound,
        }


class Pricer:
    """Prices matmuls on one device; equal shapes are priced once."""

    def __init__(self, device: Device, kv_format: str = "bf16") -> None:
        kv = FormatPair.parse(kv_format)
        self.device = device
        self.kv_pair = kv
        self._prices: dict[tuple[Matmul, FormatPair], Price] = {}

    def pair_of(self, matmul: Matmul, chosen: FormatPair) -> FormatPair:
        """The formats a matmul has when its layer's choice is `chosen`: only a decoder's linears have a choice."""
        if matmul.kind == "linear":
            return chosen
        return self.kv_pair if matmul.kind == "attention" else WIDE_PAIR

    def price(self, matmul: Matmul, pair: FormatPair) -> Price:
        key = (matmul, pair)
        found = self._prices.get(key)
        if found is None:
            found = self._prices[key] = self._price(matmul, pair)
        return found

    def _price(self, matmul: Matmul, pair: FormatPair) -> Price:
        weight, activation = STORAGE_FORMATS[pair.weight], STORAGE_FORMATS[pair.activation]
        computed_in = WIDE_PAIR if matmul.kind == "attention" else pair
        path = self.device.path_for(computed_in)
        if matmul.kind == "attention":
            traffic = attention_traffic(matmul, weight, activation, self.device.buffer)
        elif matmul.n:
            traffic = linear_traffic(matmul, weight, activation, self.device.buffer)
        else:
            traffic = wide_traffic(matmul)
        time = roofline(matmul, traffic, path, self.device)
        latency_s = None if time is None else time.latency_s
        energy = matmul_energy(matmul, traffic, path, self.device, latency_s)
        values = (traffic.stored_weight_bytes, traffic.dram_bytes, energy.total_pj, latency_s)
        return Price(
            path=path.name,
            is_native=path.takes(computed_in),
            traffic=traffic,
            energy=energy,
            roofline=time,
            untimed=untimed_figures(matmul, path, self.device),
            metrics=dict(zip(METRICS, values, strict=True)),
        )

    @property
    def missing(self) -> tuple[str, ...]:
        """The device figures that something priced here would have needed."""
        return tuple(sorted({name for price in self._prices.values() for name in price.missing}))


def whole(value: float) -> float | int:
    """A whole number as an int, so that bytes print as bytes."""
    return int(value) if float(value).is_integer() else value
