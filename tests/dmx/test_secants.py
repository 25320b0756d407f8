"""Secants: exact for a loss that is quadratic in each step's degree, whatever the degrees at which its gradient was seen."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from dmx.secants import Secants  # noqa: E402


def test_a_quadratic_loss_is_told_exactly_but_for_the_ridge() -> None:
    generator = torch.Generator().manual_seed(0)
    slope, level = torch.rand(2, 3, 2, 1, generator=generator)
    seen = Secants.empty(3, 1)
    for degree in torch.rand(40, 3, 2, 1, generator=generator):
        seen.add(degree, slope * degree - level, weight=2.0)
    torch.testing.assert_close(seen(), slope / 2 - level, rtol=0.02, atol=0.02)


def test_gradients_seen_at_hard_degrees_alone_are_not_taken_for_differences() -> None:
    """A loss of (1 - d)^2: at d = 1 its gradient is 0, yet the step is worth -1."""
    seen = Secants.empty(1, 1)
    for degree in (0.3, 0.5, 0.7, *[1.0] * 20):
        d = torch.full((1, 2, 1), degree)
        seen.add(d, -2 * (1 - d))
    assert (seen() < -0.4).all()
    assert (seen.sums[2] / seen.sums[0]).abs().max() < 0.15


def test_older_gradients_fade() -> None:
    seen, one = Secants.empty(1, 1), torch.full((1, 2, 1), 0.5)
    for value in (1.0, 2.0):
        for _ in range(50):
            seen.add(one, value * torch.ones(1, 2, 1), kept=0.8)
    torch.testing.assert_close(seen(), torch.full((1, 2, 1), 2.0), rtol=1e-3, atol=0)


def test_what_was_seen_is_left_as_it_was() -> None:
    first = Secants.empty(1, 1)
    first.add(torch.full((1, 2, 1), 0.5), torch.ones(1, 2, 1))
    second = Secants(first.sums)
    second.add(torch.full((1, 2, 1), 0.5), torch.full((1, 2, 1), 3.0))
    assert first().eq(1).all()
    assert second().eq(2).all()


def test_degrees_that_hardly_differ_tell_no_slope() -> None:
    seen = Secants.empty(1, 1)
    for away in (1e-3, -1e-3):
        seen.add(torch.full((1, 2, 1), 0.9 + away), torch.full((1, 2, 1), 1e3 * away))
    assert (seen().abs() < 0.1).all()


def test_a_gradient_counts_by_its_weight() -> None:
    seen, degree = Secants.empty(1, 1), torch.full((1, 2, 1), 0.5)
    seen.add(degree, torch.ones(1, 2, 1), weight=3.0)
    seen.add(degree, torch.full((1, 2, 1), 5.0))
    assert seen().eq(2).all()


def test_a_sum_of_losses_is_as_if_it_had_been_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other, both = (Secants.empty(3, 2) for _ in range(3))
    for degree, first, second in torch.rand(5, 3, 3, 2, 2, generator=generator):
        one.add(degree, first, weight=2.0)
        other.add(degree, second, weight=2.0)
        both.add(degree, first + 0.25 * second, weight=2.0)
    torch.testing.assert_close(one.plus(other, 0.25)(), both())
