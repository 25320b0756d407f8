"""The energy of a matmul, term by term; a term whose figure is not known is None."""

from __future__ import annotations

from dataclasses import dataclass

from mxsim.devices.spec import ComputePath, Device, Figure
from mxsim.traffic import Traffic
from mxsim.workload import Matmul


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Picojoules."""

    mac_pj: float | None
    sram_pj: float | None
    dram_pj: float | None
    quantise_pj: float | None
    static_pj: float | None
    missing: tuple[str, ...] = ()  #: the figures that would be needed, under their names in the device file

    @property
    def total_pj(self) -> float | None:
        """The sum, None where a term is missing."""
        terms = (self.mac_pj, self.sram_pj, self.dram_pj, self.quantise_pj, self.static_pj)
        known = [term for term in terms if term is not None]
        return sum(known) if len(known) == len(terms) else None


def matmul_energy(matmul: Matmul, traffic: Traffic, path: ComputePath, device: Device, latency_s: float | None) -> Energy:
    """Multiply-accumulates, traffic by level, the quantise pass's arithmetic, and static power while the matmul runs."""
    missing: list[str] = []

    def term(amount: float | None, figure: Figure | None, name: str) -> float | None:
        if amount == 0 or (figure is not None and figure.value == 0):
            return 0.0
        if figure is None or amount is None:
            missing.append(name if figure is None else f"latency, which {name} is multiplied with")
            return None
        return amount * figure.value

    is_buffer_unknown = matmul.macs > 0 and device.buffer.energy_pj_per_bit is None
    quantised = matmul.quantised_rows * matmul.k / matmul.merged if traffic.quantise_bytes else 0
    static_w = device.power.static_w
    memory = device.memory
    dram_pj = term(8 * (traffic.dram_bytes - traffic.written_bytes), memory.energy_pj_per_bit, "memory.energy_pj_per_bit")
    if dram_pj is not None:
        written = term(8 * traffic.written_bytes, memory.write_energy_pj_per_bit or memory.energy_pj_per_bit, "")
        dram_pj += written or 0.0
    joules = term(latency_s, static_w, "power.static_w")
    return Energy(
        mac_pj=term(matmul.macs, path.mac_energy_pj, f"compute.{path.name}.mac_energy_pj"),
        sram_pj=term(None if is_buffer_unknown else traffic.sram_bits, device.buffer.energy_pj_per_bit, "buffer.energy_pj_per_bit"),
        dram_pj=dram_pj,
        quantise_pj=term(quantised, device.quantiser.energy_pj_per_element, "quantiser.energy_pj_per_element"),
        static_pj=None if joules is None else joules * 1e12,
        missing=tuple(missing),
    )
