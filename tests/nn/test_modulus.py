"""The measured modulus finds the smallest stretch of maps whose stretch is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.func import jacrev, vmap

from lidcli.nn import (
    MLP,
    BrenierMap,
    InjectiveDecoder,
    SkipMLP,
    descended_modulus,
    measured_modulus,
    modulus,
)


def test_a_linear_map_gives_its_smallest_singular_value() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(7, 3, dtype=torch.float64)
    _, values, right = torch.linalg.svd(matrix)
    found = measured_modulus(
        lambda u: u @ matrix.T, torch.randn(40, 3).double(), directions=right[-1:], chunk=7
    )
    assert found.singular_value == pytest.approx(values[-1].item())
    assert found.secant == pytest.approx(values[-1].item())


def test_a_map_that_ignores_a_latent_has_modulus_zero() -> None:
    found = measured_modulus(
        lambda u: u[..., :1].expand(*u.shape[:-1], 4),
        torch.randn(10, 2),
        directions=torch.tensor([[0.0, 1.0]]),
    )
    assert found.singular_value == pytest.approx(0.0, abs=1e-7)
    assert found.secant == 0.0


def test_a_folded_map_shows_in_pairs_and_not_in_the_jacobian() -> None:
    latents = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]])
    found = measured_modulus(lambda u: u.abs(), latents)
    assert found.singular_value == pytest.approx(1.0)
    assert found.secant == 0.0


def test_the_chunk_changes_nothing() -> None:
    torch.manual_seed(0)
    g, u = BrenierMap(5, 8, 3, active=2), torch.randn(33, 2)
    assert measured_modulus(g, u, chunk=1).singular_value == pytest.approx(
        measured_modulus(g, u, chunk=100).singular_value
    )


def test_any_decoder_can_be_measured() -> None:
    assert measured_modulus(MLP(2, 5, 8, 3), torch.randn(10, 2)).singular_value >= 0


def test_a_decoder_that_proves_nothing_is_measured_all_the_same() -> None:
    """A path and hidden layers that together are wider than the output."""
    decoder = SkipMLP(2, 3, 8, 3, directions=torch.eye(3, 2))
    assert decoder.certificate() is None
    assert measured_modulus(decoder, torch.randn(10, 2)).singular_value >= 0


@pytest.mark.parametrize("latents", [torch.zeros(1, 3), torch.zeros(3), torch.zeros(2, 3, 3)])
def test_wrong_latents_are_named(latents: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"latents must be \(N, K\)"):
        measured_modulus(lambda u: u, latents)


def test_a_decoders_width_is_asked_of_the_latents() -> None:
    with pytest.raises(ValueError, match=r"latents must be \(N, 2\), got \(4, 3\)"):
        measured_modulus(BrenierMap(5, 8, 3, active=2), torch.randn(4, 3))


def test_latents_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 2\) hold no pair of different points"):
        measured_modulus(MLP(2, 5, 8, 3), torch.zeros(4, 2))


def test_a_chunk_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="chunk must be >= 1, not 0"):
        measured_modulus(MLP(2, 5, 8, 3), torch.randn(4, 2), chunk=0)


def test_a_decoder_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not finite at the latents \(4, 2\)"):
        measured_modulus(lambda u: u * torch.nan, torch.randn(4, 2))


def test_wrong_directions_are_named() -> None:
    with pytest.raises(ValueError, match=r"directions must be \(R, 3\), got \(1, 2\)"):
        measured_modulus(lambda u: u, torch.randn(4, 3), directions=torch.zeros(1, 2))


def test_a_descent_finds_the_smallest_slope_between_the_draws() -> None:
    torch.manual_seed(0)

    def bent(u: torch.Tensor) -> torch.Tensor:
        slow = u[..., :1] + 0.49 * torch.sin(2 * u[..., :1])
        return torch.cat([slow, u[..., 1:], u[..., 1:] ** 2], dim=-1)

    drawn = torch.randn(20, 2, dtype=torch.float64)
    found = descended_modulus(bent, drawn)
    assert found == pytest.approx(0.02, abs=1e-3)
    assert found < measured_modulus(bent, drawn).singular_value / 1.5


def test_a_descent_never_reads_higher_than_its_starts_nor_below_the_certificate() -> None:
    torch.manual_seed(0)
    for decoder in (BrenierMap(3, 16, layers=3).double(), MLP(3, 5, 16, layers=3).double()):
        drawn = torch.randn(30, 3, dtype=torch.float64)
        found = descended_modulus(decoder, drawn, steps=10)
        assert found <= measured_modulus(decoder, drawn).singular_value * (1 + 1e-9)
        if isinstance(decoder, BrenierMap):
            assert found >= decoder.certificate().modulus


def test_a_wide_map_has_modulus_zero_without_a_descent() -> None:
    assert descended_modulus(lambda u: u[..., :1], torch.randn(4, 2)) == 0.0


def test_a_descent_crosses_kinks() -> None:
    def kinked(u: torch.Tensor) -> torch.Tensor:
        return u - 0.9 * (u - 0.5).clamp(0, 0.05)

    drawn = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
    assert measured_modulus(kinked, drawn).singular_value == pytest.approx(1)
    assert descended_modulus(kinked, drawn) == pytest.approx(0.1)


def test_parts_of_the_points_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    u = torch.randn(9, 3, dtype=torch.float64)
    decoders: list[Callable[[torch.Tensor], torch.Tensor]] = [
        MLP(3, 7, 16, layers=3).double(),
        InjectiveDecoder(3, 7, hidden=16, layers=5).double(),
    ]
    for decoder in decoders:
        expected = torch.linalg.svdvals(vmap(jacrev(decoder))(u))[:, -1].min().item()
        before = descended_modulus(decoder, u, steps=5)
        with monkeypatch.context() as patched:
            patched.setattr(modulus, "NUMBERS", 2 * 7 * 3)
            assert measured_modulus(decoder, u).singular_value == pytest.approx(expected, rel=1e-9)
            if isinstance(decoder, InjectiveDecoder):
                assert descended_modulus(decoder, u, steps=5) == pytest.approx(before, rel=1e-9)


def largest(decoder: torch.nn.Module, u: torch.Tensor) -> int:
    """Bytes that one operation takes at most."""
    with torch.profiler.profile(profile_memory=True) as seen:
        measured_modulus(decoder, u)
        descended_modulus(decoder, u, steps=1)
    return max(event.self_cpu_memory_usage for event in seen.events())


def test_a_map_of_many_outputs_takes_the_memory_of_its_columns() -> None:
    assert largest(MLP(4, 20_000, 8, layers=2), torch.randn(32, 4)) < 32 * 20_000 * 4 * 8 * 4


def test_a_map_of_few_outputs_takes_less() -> None:
    assert largest(MLP(4, 800, 8, layers=2), torch.randn(32, 4)) < 40 << 20
