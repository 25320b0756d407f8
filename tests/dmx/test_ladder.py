"""An operand in all formats of a ladder: kept compact, mixed bit for bit as torch mixes it, and gradients against its steps."""

from __future__ import annotations

from itertools import pairwise

import numba
import pytest

torch = pytest.importorskip("torch")

from dmx.kernels.ladder import CHUNK  # noqa: E402
from dmx.ladder import Ladder, compact, weight_ladder  # noqa: E402
from dmx.quantisers import SHARED_WORK, fake_quantize  # noqa: E402
from mxsim.formats import FORMATS  # noqa: E402

LADDER = ("mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3")
DEGREES = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.4, 0.0), (0.5, 0.5), (0.6, 0.3), (1.0, 0.2), (0.0, 0.7), (1.0, 0.9), (1e-40, 0.1)]


def quantised(*shape: int, formats: tuple[str, ...] = LADDER) -> list[torch.Tensor]:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))
    return [fake_quantize(x * torch.logspace(-6, 6, shape[0])[:, None], format) for format in formats]


def mixed_by_torch(values: list[torch.Tensor], degrees: tuple[float, ...]) -> torch.Tensor:
    """Written out: from the highest format that is reached, a step at a time."""
    place = max([j + 1 for j, degree in enumerate(degrees) if degree == 1.0], default=0)
    result = values[place]
    for j in range(place, len(degrees)):
        if degrees[j] > 0:
            step = values[j + 1] - values[j]
            result = torch.lerp(values[j], values[j + 1], degrees[j]) if j == place else step * degrees[j] + result
    return result


@pytest.mark.parametrize("degrees", DEGREES)
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_compact_values_mix_to_the_bits_of_wide_ones_and_of_torch(name: str, degrees: tuple[float, float]) -> None:
    values = quantised(8, 64, formats=("mxfp4_e2m1", name, "mxfp8_e4m3"))
    narrow = [compact(value) for value in values]
    assert {value.dtype for value in narrow[::2]} == {torch.bfloat16}
    given = torch.tensor(degrees).tolist()
    expected = mixed_by_torch(values, tuple(given))
    assert torch.equal(Ladder(narrow).mixed(given, torch.float32), expected)
    assert torch.equal(Ladder(values).mixed(given), expected)


@pytest.mark.parametrize("size", [1, 31, 65, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5, SHARED_WORK + 3])
def test_every_element_is_mixed_whatever_the_size(size: int) -> None:
    values = quantised(1, size)
    mixture = Ladder([compact(value) for value in values]).mixed([0.75, 0.25], torch.float32)
    assert torch.equal(mixture, mixed_by_torch(values, (0.75, 0.25)))


def test_a_mixture_is_exact_at_its_ends() -> None:
    values = quantised(2, 64)
    for place in range(3):
        degrees = [1.0] * place + [0.0] * (2 - place)
        assert torch.equal(Ladder(values).mixed(degrees), values[place])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_dtypes_mix_as_torch_does(dtype: torch.dtype) -> None:
    values = [value.to(dtype) for value in quantised(1, 96)]
    assert torch.equal(Ladder(values).mixed([0.5, 0.25]), mixed_by_torch(values, (0.5, 0.25)))


@pytest.mark.parametrize("size", [1, 33, CHUNK, SHARED_WORK + 3])
def test_products_are_those_of_exact_sums(size: int) -> None:
    values, gradient = quantised(1, size), torch.randn(1, size, generator=torch.Generator().manual_seed(7))
    told = Ladder([compact(value) for value in values]).products(gradient)
    for got, (low, high) in zip(told, pairwise(values), strict=True):
        terms = gradient.double() * (high.double() - low.double())
        assert abs(float(got) - float(terms.sum())) <= 1e-6 * float((gradient.double() * high.double()).abs().sum())
        narrow = Ladder([low.bfloat16(), high.bfloat16()]).products(gradient.bfloat16())  # sums of bfloat16, by torch alone
        assert abs(float(narrow) - float(terms.sum())) <= 0.004 * float((gradient * high).abs().sum())


def test_a_mixture_does_not_depend_on_the_number_of_threads() -> None:
    ladder = Ladder([compact(value) for value in quantised(1, 2 * SHARED_WORK)])
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            torch.set_num_threads(threads)
            found.append(ladder.mixed([0.7, 0.1], torch.float32))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_compact_leaves_what_bfloat16_cannot_hold() -> None:
    for value in (torch.tensor([1.0, 1.0 + 2**-8]), torch.tensor([2.0**-140]), torch.tensor([1.0], dtype=torch.float16)):
        assert compact(value) is value


def test_a_ladder_of_which_one_value_is_wide() -> None:
    values = quantised(2, 64)
    values[1] = values[1] * (1 + 2**-12)
    narrow = [compact(value) for value in values]
    assert [value.dtype for value in narrow] == [torch.bfloat16, torch.float32, torch.bfloat16]
    assert torch.equal(Ladder(narrow).mixed([0.3, 0.2], torch.float32), mixed_by_torch(values, (0.3, 0.2)))


def test_a_weights_ladder_starts_from_the_dtype_that_it_was_stored_in() -> None:
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    for stored in (None, torch.bfloat16):
        source = weight if stored is None else weight.to(stored)
        ladder = weight_ladder(weight, stored, LADDER, "ocp")
        assert all(torch.equal(v.float(), fake_quantize(source, f).float()) for v, f in zip(ladder.values, LADDER, strict=True))
    assert not torch.equal(fake_quantize(weight, LADDER[0]), fake_quantize(weight.bfloat16(), LADDER[0]).float())
