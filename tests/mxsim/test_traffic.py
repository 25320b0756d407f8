"""What a matmul moves, term by term, by hand."""

from __future__ import annotations

from dataclasses import replace

from mxsim.devices import load_device
from mxsim.devices.spec import Buffer, Figure
from mxsim.energy import matmul_energy
from mxsim.storage_formats import STORAGE_FORMATS
from mxsim.traffic import Traffic, attention_traffic, fetches, linear_traffic
from mxsim.workload import Matmul

BF16, MXFP8 = STORAGE_FORMATS["bf16"], STORAGE_FORMATS["mxfp8_e4m3"]


def figure(value: float) -> Figure:
    return Figure(value=value, kind="assumed", source="this test")


def test_a_linear_writes_its_outputs_and_its_quantised_input() -> None:
    matmul = Matmul(kind="linear", parameters=64 * 96, macs=4 * 64 * 96, rows=4, n=64, k=96, quantised_rows=4)
    traffic = linear_traffic(matmul, BF16, MXFP8, Buffer())
    assert traffic.written_bytes == 4 * 64 * 2 + 4 * (96 + 3)
    assert linear_traffic(matmul, BF16, BF16, Buffer()).written_bytes == 4 * 64 * 2


def test_attention_writes_its_outputs_and_its_new_vectors() -> None:
    # 10 cached vectors read and 2 written, of 64 elements in bf16; 4 rows of 64 queries, and as many outputs, each accumulated in 32 bits
    matmul = Matmul(
        kind="attention", parameters=0, macs=1000, rows=4, n=10, k=64, wide_elements=2 * 4 * 64, kv_read_vectors=10, kv_write_vectors=2
    )
    traffic = attention_traffic(matmul, BF16, BF16, Buffer(accumulator_bits=figure(32)))
    assert traffic.kv_bytes == 12 * 64 * 2
    assert traffic.written_bytes == 4 * 64 * 2 + 2 * 64 * 2
    assert traffic.sram_bits == 2 * (4 * 64) * 32


def test_the_biases_of_active_experts_are_read() -> None:
    matmul = Matmul(
        kind="linear", parameters=8 * (32 * 64 + 32), biases=8 * 32, macs=1, rows=1, n=32, k=64, instances=2, stored_instances=8
    )
    traffic = linear_traffic(matmul, BF16, BF16, Buffer())
    assert traffic.weight_bytes == 2 * (32 * 64 + 32) * 2
    assert traffic.stored_weight_bytes == 8 * (32 * 64 + 32) * 2


def test_the_cheaper_order_is_taken() -> None:
    # weights in pieces are each met by all activations, or the other way round
    buffer = Buffer(weight_share_bytes=figure(10), activation_share_bytes=figure(7))
    for weights in range(1, 60):
        for activations in range(1, 60):
            weight_pieces, activation_pieces = -(-weights // 10), -(-activations // 7)
            cheapest = min(weights * activation_pieces + activations, activations * weight_pieces + weights)
            often = fetches(weights, activations, buffer)
            assert weights * often[0] + activations * often[1] == cheapest
            assert often in ((activation_pieces, 1), (1, weight_pieces))
            if 1 in (weight_pieces, activation_pieces):
                assert often == (1, 1)


def test_what_is_not_done_costs_no_energy_whatever_it_would_take() -> None:
    device = load_device("b200")
    device = replace(
        device,
        memory=replace(device.memory, energy_pj_per_bit=None, write_energy_pj_per_bit=None),
        buffer=replace(device.buffer, energy_pj_per_bit=None),
        power=replace(device.power, static_w=None),
    )
    path = replace(device.paths[0], mac_energy_pj=None)
    energy = matmul_energy(Matmul(kind="norm", parameters=0), Traffic(), path, device, 0.0)
    assert (energy.total_pj, energy.missing) == (0.0, ())
