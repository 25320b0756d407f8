"""Where a model leaves the finite numbers, on a chain of two linears."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from dmx.finiteness import where_gradient_not_finite, where_not_finite  # noqa: E402


@pytest.fixture
def chain() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))


def forward(chain: torch.nn.Module, times: float = 1.0) -> Callable[[], torch.Tensor]:
    return lambda: times * chain(torch.ones(1, 2)).sum()


def test_the_first_module_and_its_own_parameter_are_named(chain: torch.nn.Module) -> None:
    with torch.no_grad():
        chain[0].bias.fill_(float("inf"))
    told = "the first values that are not finite come out of '0', whose own bias holds values that are not finite: mend the checkpoint"
    assert where_not_finite(chain, forward(chain)) == told


def test_a_module_that_overflows_is_not_said_to_be_broken(chain: torch.nn.Module) -> None:
    with torch.no_grad():
        for linear in (chain[0], chain[2]):
            linear.weight.fill_(3e38)
            linear.bias.zero_()
    assert where_not_finite(chain, forward(chain)) == "the first values that are not finite come out of '0'"


def test_what_is_made_of_finite_outputs_may_not_be(chain: torch.nn.Module) -> None:
    assert where_not_finite(chain, forward(chain, float("inf"))) == "every module's output is finite, but not what is made of them"


def test_the_gradient_is_followed_from_the_loss_back(chain: torch.nn.Module) -> None:
    assert where_gradient_not_finite(chain, forward(chain)) == "it is finite at every module's output"
    told = "on the way back the first gradient that is not finite arrives at the output of"
    assert where_gradient_not_finite(chain, forward(chain, float("inf"))) == f"{told} '2'"
    with torch.no_grad():
        chain[2].weight.fill_(float("inf"))
    assert where_gradient_not_finite(chain, lambda: chain(torch.ones(1, 2))[:, :1].sum()) == f"{told} '1'"


def test_outputs_that_no_gradient_comes_back_to_are_passed_over(chain: torch.nn.Module) -> None:
    chain[0].requires_grad_(False)
    assert where_gradient_not_finite(chain, forward(chain)) == "it is finite at every module's output"


def test_modules_are_left_without_hooks(chain: torch.nn.Module) -> None:
    where_not_finite(chain, forward(chain))
    where_gradient_not_finite(chain, forward(chain))
    assert not any(part._forward_hooks for part in chain.modules())
