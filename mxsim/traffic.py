"""Bytes between memory, buffer and matrix unit for one matmul. Whole tensors; scales, padding and refetches counted."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mxsim.devices.spec import Buffer, Figure
from mxsim.storage_formats import STORAGE_FORMATS, WIDE, StorageFormat
from mxsim.workload import Matmul

_WIDE_BYTES = STORAGE_FORMATS[WIDE].element_bits // 8
_MODEL_TYPES = ("bf16", "fp16")  # what the layers hand on: no pass is needed to make them


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What one matmul moves. Bytes unless the name says bits."""

    stored_weight_bytes: float = 0  #: the footprint; an MoE layer's experts all
    weight_bytes: float = 0  #: read once: an MoE layer's active experts
    activation_bytes: float = 0  #: the input in the operand's format
    output_bytes: float = 0
    kv_bytes: float = 0  #: cache read and written
    quantise_bytes: float = 0  #: the pass that makes the input: reads the wide type, writes the operand's format
    refetch_bytes: float = 0  #: read again because neither operand fits its share of the buffer
    written_bytes: float = 0  #: of all these, what is written
    sram_bits: float = 0  #: between the buffer and the matrix unit

    @property
    def operand_bytes(self) -> float:
        """Off-chip traffic of the matmul itself."""
        return self.weight_bytes + self.activation_bytes + self.output_bytes + self.kv_bytes + self.refetch_bytes

    @property
    def dram_bytes(self) -> float:
        """Off-chip traffic, the quantise pass included."""
        return self.operand_bytes + self.quantise_bytes


def fetches(weight_bytes: float, activation_bytes: float, buffer: Buffer) -> tuple[int, int]:
    """How often weights and activations are read from memory: the operand held in pieces is read once, the other once a piece.

    The cheaper of the two orders: once each where either operand, neither of them empty, fits its share of the buffer.
    """
    weight_pieces = _pieces(weight_bytes, buffer.weight_share_bytes)
    activation_pieces = _pieces(activation_bytes, buffer.activation_share_bytes)
    if weight_bytes * activation_pieces + activation_bytes <= activation_bytes * weight_pieces + weight_bytes:
        return activation_pieces, 1
    return 1, weight_pieces


def _pieces(size_bytes: float, share: Figure | None) -> int:
    return 1 if share is None else max(1, math.ceil(size_bytes / share.value))


def linear_traffic(matmul: Matmul, weight: StorageFormat, activation: StorageFormat, buffer: Buffer) -> Traffic:
    """What a linear, or an MoE layer's active experts, move. Outputs leave in the wide type."""
    one_weight = weight.matrix_bytes(matmul.n, matmul.k)
    one_activation = activation.matrix_bytes(matmul.rows, matmul.k)
    weight_fetches, activation_fetches = fetches(one_weight, one_activation, buffer)
    again = one_weight * (weight_fetches - 1) + one_activation * (activation_fetches - 1)
    outputs = matmul.instances * matmul.rows * matmul.n
    needs_pass = activation.name not in _MODEL_TYPES
    quantised = activation.matrix_bytes(matmul.quantised_rows, matmul.k) / matmul.merged if needs_pass else 0
    return Traffic(
        stored_weight_bytes=matmul.stored_instances * one_weight + matmul.biases * _WIDE_BYTES if matmul.parameters else 0,
        weight_bytes=matmul.instances * one_weight + matmul.biases / matmul.stored_instances * matmul.instances * _WIDE_BYTES,
        activation_bytes=matmul.instances * one_activation / matmul.merged,
        output_bytes=outputs * _WIDE_BYTES,
        quantise_bytes=quantised + (matmul.quantised_rows * matmul.k * _WIDE_BYTES / matmul.merged if needs_pass else 0),
        refetch_bytes=matmul.instances * again,
        written_bytes=outputs * _WIDE_BYTES + quantised,
        sram_bits=_sram_bits(matmul.macs, weight, activation, outputs, buffer),
    )


def attention_traffic(matmul: Matmul, keys: StorageFormat, values: StorageFormat, buffer: Buffer) -> Traffic:
    """Cached K and V vectors, half of each kind, beside queries and outputs in the wide type."""
    vector_bytes = (keys.row_bits(matmul.k) + values.row_bits(matmul.k)) / 16
    wide = STORAGE_FORMATS[WIDE]
    return Traffic(
        activation_bytes=matmul.wide_elements // 2 * _WIDE_BYTES,
        output_bytes=matmul.wide_elements // 2 * _WIDE_BYTES,
        kv_bytes=(matmul.kv_read_vectors + matmul.kv_write_vectors) * vector_bytes,
        written_bytes=matmul.wide_elements // 2 * _WIDE_BYTES + matmul.kv_write_vectors * vector_bytes,
        sram_bits=_sram_bits(matmul.macs, wide, wide, matmul.wide_elements / 2, buffer),
    )


def wide_traffic(matmul: Matmul) -> Traffic:
    """Embedding rows and norms: read in the wide type, multiplied with nothing."""
    return Traffic(
        stored_weight_bytes=matmul.parameters * _WIDE_BYTES,
        weight_bytes=matmul.wide_elements * _WIDE_BYTES,
    )


def _sram_bits(macs: float, weight: StorageFormat, activation: StorageFormat, outputs: float, buffer: Buffer) -> float:
    """macs (w / R_M + a / R_N), and each accumulator once out and once in."""
    bits = 0.0
    if buffer.weight_reuse is not None:
        bits += macs * weight.bits_per_element / buffer.weight_reuse.value
    if buffer.activation_reuse is not None:
        bits += macs * activation.bits_per_element / buffer.activation_reuse.value
    if buffer.accumulator_bits is not None:
        bits += 2 * outputs * buffer.accumulator_bits.value
    return bits
