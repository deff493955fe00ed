"""Output layers are the formulas they state, and the injective ones keep latents apart."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lidcli.nn.conditional import ConditionalOutput, metric, minimal
from lidcli.nn.joint import JointOutput
from lidcli.nn.token_output import LinearOutput, SkipOutput

FREE, LATENT, HISTORY, WIDTH, REFERENCE = 15, 3, 5, 6, 4
SENTENCES, LENGTH = 2, 4


def unigram(seed: int = 0) -> Tensor:
    """p of all V tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(FREE + 1, generator=generator, dtype=torch.float64).softmax(0)


def fisher() -> Tensor:
    """F (R, R) of the free tokens."""
    p = minimal(torch.zeros(FREE + 1, 1).double(), unigram(), REFERENCE)[1]
    return torch.diag(p) - torch.outer(p, p)


def columns(latent: int = LATENT, seed: int = 0) -> Tensor:
    """Columns (R, K) orthonormal in F."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(FREE, latent, generator=generator, dtype=torch.float64)
    root = torch.linalg.cholesky(raw.T @ fisher() @ raw)
    return torch.linalg.solve_triangular(root, raw.T, upper=False).T


def conditional(latent: int = LATENT, seed: int = 0, **options: Any) -> ConditionalOutput:
    """A float64 output away from its start."""
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float64)
    try:
        out = ConditionalOutput(
            columns(latent),
            minimal(torch.zeros(FREE + 1, 1).double(), unigram(), REFERENCE)[1],
            torch.linspace(0.6, 0.2, latent, dtype=torch.float64),
            HISTORY,
            **{"reference": REFERENCE, "width": WIDTH, "hidden": 8} | options,
        )
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for parameter in out.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return out


def joint(dense: bool, **options: Any) -> JointOutput:
    torch.manual_seed(0)
    sizes = {"reference": REFERENCE, "width": 12, "hidden": 12} | options
    out = JointOutput(FREE + 1, LATENT, HISTORY, dense=dense, **sizes).double()
    with torch.no_grad():
        for parameter in out.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return out


def inputs(*leading: int, latent: int = LATENT, seed: int = 1) -> tuple[Tensor, Tensor]:
    """z (*L, N, K) and h (N, T, J)."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(*leading, SENTENCES, latent, generator=generator, dtype=torch.float64)
    h = torch.randn(SENTENCES, LENGTH, HISTORY, generator=generator, dtype=torch.float64)
    return z, h


def free(logits: Tensor) -> Tensor:
    """The logits of all but the reference token."""
    assert (logits[..., REFERENCE] == 0).all()
    return torch.cat([logits[..., :REFERENCE], logits[..., REFERENCE + 1 :]], dim=-1)


@pytest.mark.parametrize("backward", ["plain", "by-hand"])
@pytest.mark.parametrize("layers", [2, 4])
def test_conditional_logits_are_the_gradient_of_a_potential_plus_the_latents_columns(
    backward: str, layers: int
) -> None:
    out, (z, h) = conditional(layers=layers, backward=backward), inputs(7)
    turned = z if out.rotation is None else out.rotation(z)
    g = out.inner(turned)
    v = (g @ out.columns.T).unsqueeze(-2).expand(7, SENTENCES, LENGTH, FREE)
    v = v.detach().requires_grad_()
    embedding = out.embedding.T
    phi = out.icnn(v @ fisher() @ embedding.T + h @ out.reading.T).sum()
    in_euclid = torch.autograd.grad(phi, v)[0]
    slopes = torch.linalg.solve(fisher(), in_euclid.unsqueeze(-1)).squeeze(-1)
    known = slopes + h @ out.linear.T
    known = known + ((g * out.strengths) @ out.columns.T).unsqueeze(-2) + out.tilt
    found = free(out.logits(out.features(z, h)))
    torch.testing.assert_close(found, known, rtol=1e-10, atol=1e-10)


def test_histories_may_have_the_latents_leading_axes() -> None:
    out, (z, h) = conditional(), inputs(7)
    same = out.features(z, h.expand(7, *h.shape))
    torch.testing.assert_close(out.features(z, h), same)


def fisher_norm(x: Tensor) -> Tensor:
    return ((x @ fisher()) * x).sum(-1).sqrt()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    distance=st.floats(-4, 2),
    layers=st.integers(2, 4),
    latent=st.integers(1, 5),
)
def test_for_every_history_logits_are_at_least_as_far_apart_as_certified(
    seed: int, distance: float, layers: int, latent: int
) -> None:
    out = conditional(latent, seed=seed, layers=layers)
    z, h = inputs(latent=latent, seed=seed)
    other = z + 10.0**distance * inputs(latent=latent, seed=seed + 1)[0]
    moved = free(out.logits(out.features(other, 3 * h))) - free(out.logits(out.features(z, 3 * h)))
    modulus = out.certificate().modulus
    apart = (other - z).norm(dim=-1)
    assert modulus >= 0.99 * out.strengths.min() * out.inner.inverse_lipschitz
    assert (fisher_norm(moved) >= modulus * apart.unsqueeze(1) * (1 - 1e-9)).all()


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_columns_that_are_not_orthonormal_are_certified_for_what_they_are(scale: float) -> None:
    out = conditional()
    with torch.no_grad():
        out.columns[:, 0] += 0.3 * out.columns[:, 1]
        out.columns.mul_(scale)
    second = out.certificate().maps[1].modulus
    gram = out.columns.T @ fisher() @ out.columns
    mixed = (gram * out.strengths + out.strengths[:, None] * gram) / 2
    known = torch.linalg.eigvalsh(mixed)[0] / torch.linalg.eigvalsh(gram)[-1].sqrt()
    assert known * (1 - 1e-9) <= second <= known
    z, h = inputs()
    other, _ = inputs(seed=2)
    moved = free(out.logits(out.features(other, h))) - free(out.logits(out.features(z, h)))
    apart = (other - z).norm(dim=-1).unsqueeze(1)
    assert (fisher_norm(moved) >= out.certificate().modulus * apart).all()


def test_the_certificate_is_attained_without_a_network() -> None:
    out = conditional()
    with torch.no_grad():
        out.embedding.zero_()
    g = torch.zeros(1, LATENT, dtype=torch.float64)
    g[0, -1] = 1.0
    h = torch.zeros(1, 1, HISTORY, dtype=torch.float64)
    moved = (out._features(g, h) - out._features(0 * g, h)) @ out.weight().T
    assert fisher_norm(moved).item() == pytest.approx(out.certificate().maps[1].modulus, rel=1e-9)
    assert out.certificate().maps[1].modulus <= float(out.strengths.min())


def test_zero_strengths_and_dependent_columns_certify_nothing() -> None:
    out = conditional()
    with torch.no_grad():
        out.strengths[1] = 0
    assert out.certificate().modulus == 0
    out = conditional()
    with torch.no_grad():
        out.columns[:, 0] = out.columns[:, 1]
    assert out.certificate().log_modulus == -math.inf


def test_in_single_precision_the_certificate_is_that_of_the_rounded_weights() -> None:
    out = conditional()
    known = out.certificate().log_modulus
    assert abs(out.float().certificate().log_modulus - known) < 1e-5


def test_the_metric_is_never_formed_and_right() -> None:
    p = minimal(torch.zeros(FREE + 1, 1).double(), unigram(), REFERENCE)[1]
    torch.testing.assert_close(metric(columns(), p), fisher() @ columns())


@pytest.mark.parametrize("reference", [0, 4, FREE])
def test_the_reference_token_changes_no_distribution_nor_length(reference: int) -> None:
    torch.manual_seed(0)
    full, p = torch.randn(FREE + 1, 2, dtype=torch.float64), unigram()
    least, q = minimal(full, p, reference)
    before = full.T @ (torch.diag(p) - torch.outer(p, p)) @ full
    torch.testing.assert_close(least.T @ metric(least, q), before)
    with pytest.raises(ValueError, match="no reference token 16"):
        minimal(full, p, FREE + 1)


def test_it_starts_at_the_unigram_distribution_where_nothing_is_read() -> None:
    q = minimal(torch.zeros(FREE + 1, 1).double(), unigram(), REFERENCE)[1]
    out = ConditionalOutput(
        columns(), q, torch.ones(LATENT), HISTORY, reference=REFERENCE, width=WIDTH
    )
    with torch.no_grad():
        out.embedding.zero_()
        out.linear.zero_()
    z, h = (x.float() for x in inputs())
    p = out.logits(out.features(0 * z, h)).softmax(-1)
    drift = out.columns @ (out.inner(torch.zeros(1, LATENT)) * out.strengths)[0]
    known = (free(unigram().log() - unigram()[REFERENCE].log()) + drift).double()
    known = torch.cat([known[:REFERENCE], torch.zeros(1).double(), known[REFERENCE:]]).softmax(0)
    torch.testing.assert_close(p[0, 0].double(), known, rtol=1e-4, atol=1e-6)


def test_dropout_spares_the_history_and_the_certified_term_and_ends_with_training() -> None:
    out, (z, h) = conditional(dropout=0.5), inputs(7)
    trained, used = out.train().features(z, h), out.eval().features(z, h)
    slopes = slice(HISTORY, HISTORY + WIDTH)
    dropped = trained[..., slopes] == 0
    assert 0.4 < dropped.double().mean() < 0.6
    torch.testing.assert_close(trained[..., slopes], 2 * used[..., slopes] * ~dropped)
    torch.testing.assert_close(trained[..., :HISTORY], used[..., :HISTORY])
    torch.testing.assert_close(trained[..., HISTORY + WIDTH :], used[..., HISTORY + WIDTH :])


@pytest.mark.parametrize("make", [conditional, lambda: joint(False), lambda: joint(True)])
def test_calibration_sets_the_networks_spread(make: Any) -> None:
    out = make()
    z, h = inputs()
    out.calibrate(z, h)
    if isinstance(out, ConditionalOutput):
        g = out.inner(out.rotation(z))
        assert (g - z @ out.rotation.matrix().T).std().item() == pytest.approx(0.3, rel=1e-6)
        part = out.icnn.gradient(out._read(g, h)) @ out.embedding.T
    else:
        u = out.inner(out._inputs(z, h)).flatten(0, -2)
        outer = out.outer
        part = outer.icnn.gradient(u @ outer.project(outer.embedding).T) @ outer.embedding
    assert part.std().item() == pytest.approx(0.3, rel=1e-6)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("backward", ["plain", "by-hand"])
def test_joint_logits_are_those_of_the_two_maps(dense: bool, backward: str) -> None:
    out, (z, h) = joint(dense, backward=backward), inputs(7)
    assert out.rotation is not None
    turned = out.rotation(z).unsqueeze(-2).expand(7, SENTENCES, LENGTH, LATENT)
    known = out.outer(out.inner(torch.cat([turned, h.expand(7, *h.shape)], dim=-1)))
    found = free(out.logits(out.features(z, h)))
    torch.testing.assert_close(found, known, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dense", [False, True])
def test_the_joint_map_keeps_latents_as_far_apart_as_certified(dense: bool) -> None:
    out = joint(dense)
    certificate = out.certificate()
    assert certificate.modulus >= 0.25
    for seed in range(20):
        (z, h), (other, _) = inputs(seed=seed), inputs(seed=seed + 100)
        moved = free(out.logits(out.features(other, h))) - free(out.logits(out.features(z, h)))
        apart = (other - z).norm(dim=-1).unsqueeze(1)
        assert (moved.norm(dim=-1) >= certificate.modulus * apart).all()


def test_skip_and_linear_logits_are_linear_and_certify_nothing() -> None:
    torch.manual_seed(0)
    start = torch.linspace(-1, 1, FREE)
    skip = SkipOutput(
        columns(), torch.full((LATENT,), 0.5), HISTORY, reference=REFERENCE, start=start
    ).double()
    z, h = inputs(7)
    known = (z @ skip.columns.T * 0.5).unsqueeze(-2) + h @ skip.embedding.T + start
    found = free(skip.logits(skip.features(z, h)))
    torch.testing.assert_close(found, known)
    plain = LinearOutput(FREE, HISTORY).double()
    torch.testing.assert_close(plain.logits(plain.features(None, h)), h @ plain.embedding.T)
    assert skip.certificate() is plain.certificate() is None


def test_under_autocast_the_outputs_agree_to_its_precision() -> None:
    z, h = (x.float() for x in inputs(7))
    for out in (conditional().float(), joint(True).float()):
        with torch.autocast("cpu", torch.bfloat16):
            found = out.logits(out.features(z, h)).float()
        known = out.logits(out.features(z, h))
        assert (found - known).norm() < 0.05 * known.norm()


def test_wrong_arguments_are_named() -> None:
    p, size = torch.full((FREE,), 0.05), {"reference": 0, "width": 4}
    with pytest.raises(ValueError, match="15 probabilities > 0"):
        ConditionalOutput(columns(), 0 * p, torch.ones(3), 4, **size)
    with pytest.raises(ValueError, match=r"left with a probability of -0\.5"):
        ConditionalOutput(columns(), 2 * p, torch.ones(3), 4, **size)
    with pytest.raises(ValueError, match=r"strengths \(M,\), got \(15, 3\) and \(2,\)"):
        ConditionalOutput(columns(), p, torch.ones(2), 4, **size)
    with pytest.raises(ValueError, match="strengths must be >= 0"):
        SkipOutput(columns(), -torch.ones(3), 4)
    with pytest.raises(ValueError, match="must be finite"):
        SkipOutput(columns() / 0, torch.ones(3), 4)
    with pytest.raises(ValueError, match="reference token must lie in"):
        LinearOutput(9, 4, reference=9)
    with pytest.raises(ValueError, match="vocabulary >= 2"):
        LinearOutput(1, 4)
    with pytest.raises(ValueError, match="9 finite logits"):
        LinearOutput(9, 4, start=torch.zeros(8))
    with pytest.raises(ValueError, match="latent \\+ history < vocabulary"):
        JointOutput(9, 4, 5, reference=0, width=9)
    with pytest.raises(ValueError, match=r"latents \(..., N, 3\), got None"):
        conditional().features(None, inputs()[1])


def skip(history: int = HISTORY, seed: int = 0) -> SkipOutput:
    """A float64 output whose history a network has learned to use."""
    torch.manual_seed(seed)
    p = minimal(torch.zeros(FREE + 1, 1).double(), unigram(), REFERENCE)[1]
    strengths = torch.linspace(0.6, 0.2, LATENT, dtype=torch.float64)
    return SkipOutput(columns(), strengths, history, reference=REFERENCE, unigram=p).double()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), distance=st.floats(-4, 2))
def test_a_linear_path_is_certified_whatever_the_history_makes_of_the_latent(
    seed: int, distance: float
) -> None:
    out = skip(seed=seed)
    z = torch.randn(SENTENCES, LATENT, dtype=torch.float64)
    other = z + 10.0**distance * torch.randn_like(z)
    h, changed = (torch.randn(SENTENCES, LENGTH, HISTORY).double() for _ in range(2))
    with torch.no_grad():
        moved = free(out.logits(out.features(other, 10.0**distance * changed)))
        moved = moved - free(out.logits(out.features(z, h)))
    certificate = out.certificate()
    assert certificate is not None
    apart = (other - z).norm(dim=-1).unsqueeze(1)
    assert (fisher_norm(moved) >= certificate.modulus * apart * (1 - 1e-9)).all()


def test_the_certificate_of_a_linear_path_is_attained_by_the_worst_history() -> None:
    out = skip()
    certificate = out.certificate()
    assert certificate is not None
    path = out.columns @ (out.strengths * certificate.direction)
    W, metric_ = out.embedding.detach(), fisher()
    worst = torch.linalg.solve(W.T @ metric_ @ W, W.T @ metric_ @ path)
    rest = path - W @ worst
    assert float(rest @ metric_ @ rest) ** 0.5 == pytest.approx(certificate.modulus, rel=1e-9)
    with torch.no_grad():
        out.embedding.sub_(out.columns @ (out.columns.T @ metric_ @ W))
    clear = out.certificate()
    assert clear is not None
    assert clear.modulus == pytest.approx(float(out.strengths.min()), rel=1e-5)


def test_a_history_as_wide_as_the_vocabulary_leaves_nothing_proven() -> None:
    assert skip(history=FREE).certificate() is None
    assert (
        SkipOutput(columns(), torch.ones(LATENT), HISTORY, reference=REFERENCE).certificate()
        is None
    )
    with pytest.raises(ValueError, match="a reference token"):
        SkipOutput(columns(), torch.ones(LATENT), HISTORY, unigram=torch.ones(FREE))


def test_dropout_of_the_joint_output_spares_the_certified_term_and_ends_with_training() -> None:
    out, (z, h) = joint(False, dropout=0.5), inputs(7)
    trained, used = out.train().features(z, h), out.eval().features(z, h)
    width = trained.shape[-1] - LATENT - HISTORY
    dropped = trained[..., :width] == 0
    assert 0.4 < dropped.double().mean() < 0.6
    torch.testing.assert_close(trained[..., :width], 2 * used[..., :width] * ~dropped)
    torch.testing.assert_close(trained[..., width:], used[..., width:])
