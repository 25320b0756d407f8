"""Off the CPU: everything runs where the model lies, no operation mixes devices, and what is found is what the CPU finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402

import dmx  # noqa: E402
from dmx.allocators import METHODS  # noqa: E402
from dmx.loglikelihood import loglikelihoods  # noqa: E402
from dmx.models import load_model  # noqa: E402
from dmx.quantisers import fake_quantize  # noqa: E402
from dmx.search_config import CHOICES  # noqa: E402
from dmx.text import TokenText  # noqa: E402
from mxsim.errors import MxsimError  # noqa: E402
from mxsim.formats import FORMATS  # noqa: E402
from mxsim.policies import POLICIES  # noqa: E402
from tests.dmx.simulated_device import NAME, OnDevice, simulated_device  # noqa: E402


@pytest.fixture(autouse=True)
def same_attention() -> Iterator[None]:
    """The CPU's fused attention sums in another order than the plain one, which is all the device has."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


@pytest.fixture
def device() -> Iterator[None]:
    with simulated_device():
        yield


@pytest.mark.usefixtures("device")
def test_the_device_refuses_what_a_gpu_would() -> None:
    there, here = torch.ones(2, 3, device=NAME), torch.ones(2, 3)
    assert isinstance(there, OnDevice)
    assert there.device.type == NAME
    with pytest.raises(RuntimeError, match="on the device and on the CPU"):
        there + here
    with pytest.raises(TypeError, match="to numpy"):
        there.numpy()
    assert torch.equal((there * 2).cpu(), here * 2)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("format", FORMATS)
def test_a_tensor_there_is_quantised_to_the_same_bits(format: str, policy: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 172, generator=generator) * torch.exp2(torch.randint(-20, 14, (5, 172), generator=generator).float())
    for values in (x, x.to(torch.bfloat16)):
        try:
            here = fake_quantize(values, format, policy)
        except MxsimError as refused:
            with pytest.raises(type(refused)):
                fake_quantize(values.to(NAME), format, policy)
            continue
        there = fake_quantize(values.to(NAME), format, policy)
        assert there.device.type == NAME
        assert there.dtype == values.dtype
        np.testing.assert_array_equal(there.cpu().view(torch.int16), here.view(torch.int16))


@pytest.mark.parametrize("relaxation", CHOICES["relaxation"])
def test_a_search_there_is_as_good_as_one_here(llama_folder: Path, text: TokenText, relaxation: str) -> None:
    quick = {"steps": 3, "batch_windows": 2, "refine": 2, "relaxation": relaxation, "text": text.first(4)}
    here = dmx.search(load_model(llama_folder), "bits=5", **quick)
    with simulated_device():
        model = load_model(llama_folder, device=NAME)
        there = dmx.search(model, "bits=5", **quick)
        assert {parameter.device.type for parameter in model.module.parameters()} == {NAME}
    assert there.achieved["bits"] <= 5
    assert there.search["loss_after_repair"] == pytest.approx(here.search["loss_after_repair"], rel=1e-3)  # gradients sum in another order


@pytest.mark.parametrize("method", METHODS)
def test_a_baseline_there_is_the_one_here(llama_folder: Path, text: TokenText, method: str) -> None:
    here = dmx.allocate(load_model(llama_folder), method, "bits=5", text=text.first(4))
    with simulated_device():
        there = dmx.allocate(load_model(llama_folder, device=NAME), method, "bits=5", text=text.first(4))
    assert there.layers == here.layers


@pytest.mark.parametrize("unit", [None, "mx_fp32_chain"])
def test_an_evaluation_there_is_the_one_here(llama_folder: Path, text: TokenText, unit: str | None) -> None:
    model = load_model(llama_folder)
    assignment = dmx.allocate(model, "first_last", "bits=5", text=text.first(4))
    here = dmx.evaluate(model, assignment, text=text.first(2), unit=unit)
    with simulated_device():
        there = dmx.evaluate(load_model(llama_folder, device=NAME), assignment, text=text.first(2), unit=unit)
    assert there == here


def test_continuations_are_as_likely_there(llama_folder: Path) -> None:
    pairs = [("the small", " house"), ("a", " b c d"), ("one two three", " four")]
    model = load_model(llama_folder)
    here = loglikelihoods(model.module, model.tokenizer, pairs)
    with simulated_device():
        assert loglikelihoods(load_model(llama_folder, device=NAME).module, model.tokenizer, pairs) == here


def test_an_export_from_there_has_the_same_bytes(llama_folder: Path, text: TokenText, tmp_path: Path) -> None:
    model = load_model(llama_folder)
    assignment = dmx.allocate(model, "first_last", "bits=5", text=text.first(4))
    here = dmx.export(model, assignment, "mxsim", tmp_path / "here", golden=1)
    with simulated_device():
        there = dmx.export(load_model(llama_folder, device=NAME), assignment, "mxsim", tmp_path / "there", golden=1)
    weights = sorted(path.name for path in here.glob("*.safetensors"))
    assert weights == sorted(path.name for path in there.glob("*.safetensors"))
    assert all((here / name).read_bytes() == (there / name).read_bytes() for name in weights)
