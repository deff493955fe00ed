"""Refinements that training differentiates by finite differences: the exact ones to rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lidcli.config.read import load_files, parse_override
from lidcli.config.resolve import resolve
from lidcli.config.run import RunConfig
from lidcli.errors import ConfigError
from lidcli.training.build import build
from lidcli.training.sources import split_of

SHIPPED = load_files([Path(__file__).resolve().parents[2] / "experiments.yaml"])
SMALL = (
    *("decoder.hidden=16", "encoder.hidden=16", "model.latent=3", "data.train=200"),
    *("inference.steps=3", "inference.amortized_epochs=0"),
)
TEXT = ("decoder.embedding=8", "encoder.embedding=8", "decoder.dropout=0.3")
CASES = {
    "lstm": ("synthetic", *TEXT),
    "brenier-lstm": ("synthetic", *TEXT, "decoder.kind=brenier-lstm"),
    "couplings": ("digits", "model.family=continuous", "inference.transforms=2"),
    "mixture": ("pinwheel", "model.latent=2", "inference.hidden=8"),
    "brenier": ("digits", "decoder.kind=brenier", "model.family=continuous"),
}


def configuration(case: str, hessian: str) -> RunConfig:
    data, *settings = CASES[case]
    words = [*SMALL, *settings, f"inference.hessian={hessian}"]
    overrides = [parse_override(word) for word in words]
    return resolve(SHIPPED, model="sa-vae", data=data, overrides=overrides)


def gradients(case: str, hessian: str, device: str = "cpu") -> tuple[dict[str, Tensor], Tensor]:
    """The gradient of a batch's objective in every parameter, and what is drawn next."""
    config = configuration(case, hessian)
    data = config.data.build()
    torch.manual_seed(0)
    model = build(config, data).double().train().to(device)
    source = split_of(data, "train").fixed()
    x = source.rows(slice(0, 12)).to(device)
    if hasattr(x, "x"):
        x = type(x)(x.x.double())
    torch.manual_seed(1)
    terms = model.terms(x, model.posterior(x).draw(1))
    (terms.kl - terms.reconstruction).mean().backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return found, torch.rand(3)


def assert_near(case: str, device: str = "cpu") -> None:
    exact, drawn = gradients(case, "exact", device)
    finite, next_drawn = gradients(case, "finite", device)
    assert torch.equal(drawn, next_drawn)
    largest = max(float(g.norm()) for g in exact.values())
    for name, gradient in finite.items():
        known = exact.get(name, torch.zeros_like(gradient))
        assert float((gradient - known).norm()) <= 1e-7 * largest, name
    assert exact.keys() <= finite.keys()


@pytest.mark.parametrize("case", CASES)
def test_finite_differences_give_the_gradient_of_exact_second_derivatives(case: str) -> None:
    assert_near(case)


@pytest.mark.cuda
@pytest.mark.parametrize("case", CASES)
def test_on_a_gpu_too(case: str, cuda: torch.device) -> None:
    assert_near(case, str(cuda))


def test_the_second_derivatives_matter() -> None:
    """What the test above compares is no zero: without them the gradient is another one."""
    exact, _ = gradients("lstm", "exact")
    config = configuration("lstm", "exact")
    data = config.data.build()
    torch.manual_seed(0)
    model = build(config, data).double().train()
    x = split_of(data, "train").fixed().rows(slice(0, 12))
    torch.manual_seed(1)
    conditional = model.posterior(x)
    constant = conditional.replace(*(t.detach() for t in conditional.tensors()))
    terms = model.terms(x, constant.draw(1))
    (terms.kl - terms.reconstruction).mean().backward()
    first = dict(model.named_parameters())
    name = "observation.decoder.history.lstm.weight_hh_l0"
    other = first[name].grad
    assert other is not None
    assert float((exact[name] - other).norm() / exact[name].norm()) > 1e-4


def test_categories_that_are_drawn_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"needs inference\.categorical = 'explicit' or"):
        resolve(
            SHIPPED,
            model="sa-vae",
            data="pinwheel",
            overrides=[
                ("inference.categorical", "sampled"),
                ("inference.hessian", "finite"),
            ],
        )
