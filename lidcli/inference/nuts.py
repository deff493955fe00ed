"""Hamiltonian Monte Carlo by NUTS for the classical models, through numpyro (extra `bayes`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lidcli.errors import ConfigError
from lidcli.inference.weight import PRIOR

__all__ = [
    "RHAT",
    "Chains",
    "Summary",
    "aligned",
    "gmm_joint",
    "gmm_weight",
    "grouped",
    "ppca_latents",
    "ppca_weights",
    "require",
    "summarise",
]

Array = npt.NDArray[np.float64]
RHAT = 1.01
"""R-hat from which chains count as not converged."""
DIVERGENT = 1e-3
"""Share of divergent transitions above which chains count as not converged."""
WEIGHT_SD = 10.0
"""Prior sd of every entry of a PPCA's W in the joint posterior."""
SPREAD = 2.0
"""Prior sds of a mixture's means and component sds, in sds of the data."""
DENSE = 20
"""Dimensions up to which the mass matrix is full."""
CELLS = 2000
"""Cells that the data of a mixture are grouped into."""
ACCEPT = 0.9
"""Acceptance that the step size is adapted to."""
JITTER = 0.1
"""Sd of the chains' starts around a given point, without constraints."""


@dataclass(frozen=True)
class Chains:
    """Draws of several chains, (chains, draws, ...) by name, and the divergent transitions."""

    draws: dict[str, Array]
    divergences: int


@dataclass(frozen=True)
class Summary:
    """Moments of one quantity over chains, with their Monte-Carlo errors; arrays of its shape."""

    mean: Array
    sd: Array
    mean_se: Array
    sd_se: Array
    rhat: Array
    ess: Array

    @property
    def converged(self) -> bool:
        """Whether every R-hat is below 1.01."""
        return bool((self.rhat < RHAT).all())


def require() -> None:
    """Check that the extra is there.

    Raises:
        ConfigError: it is not; the message gives the install command.
    """
    try:
        import numpyro  # noqa: F401
    except ImportError:
        raise ConfigError(
            "inference.kind = 'nuts' needs numpyro, which is not installed:"
            ' pip install "lidcli[bayes]".'
        ) from None


def summarise(draws: Array) -> Summary:
    """Mean, sd, their Monte-Carlo errors, split R-hat and effective sample size.

    Args:
        draws: (chains, draws, ...), at least 4 draws a chain.

    References:
        Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021).
    """
    from numpyro.diagnostics import effective_sample_size, split_gelman_rubin

    draws = np.asarray(draws, np.float64)
    flat = draws.reshape(-1, *draws.shape[2:])
    mean, sd = flat.mean(0), flat.std(0, ddof=1)
    squared = (draws - mean) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        ess = np.asarray(effective_sample_size(draws))
        rhat = np.asarray(split_gelman_rubin(draws))
        ess_squared = np.asarray(effective_sample_size(squared))
        sd_se = squared.reshape(flat.shape).std(0, ddof=1) / (2 * sd * np.sqrt(ess_squared))
        return Summary(mean, sd, sd / np.sqrt(ess), sd_se, rhat, ess)


def ppca_latents(
    x: Array, weight: Array, bias: Array, sigma: float, *, seed: int, **settings: int
) -> Chains:
    """p(z | x) of every datum of a PPCA at fixed parameters.

    Args:
        x: data (N, D).
        weight: W (D, K).
        bias: b (D,).
        sigma: noise sd.
        seed: of the chains.
        settings: `chains`, `warmup` and `draws` a chain.

    Returns:
        `z`, (chains, draws, N, K).
    """

    def potential(z: Any) -> Any:
        gap = (x - bias) - z @ weight.T
        return 0.5 * (z**2).sum() + 0.5 * (gap**2).sum() / sigma**2

    chains = _run(potential, (len(x), weight.shape[1]), seed, settings)
    return Chains({"z": chains.draws["point"]}, chains.divergences)


def ppca_weights(x: Array, latent: int, sigma: float, *, seed: int, **settings: int) -> Chains:
    """p(W | x) of a PPCA with known noise, z integrated out, W_dk ~ N(0, 10²).

    The posterior is the same for every rotation of the latents: `aligned` takes that out.

    Args:
        x: data (N, D).
        latent: K.
        sigma: noise sd.
        seed: of the chains.
        settings: `chains`, `warmup` and `draws` a chain.

    Returns:
        `w`, (chains, draws, D, K).
    """
    import jax.numpy as jnp

    n, d = x.shape
    centred = x - x.mean(0)
    scatter = centred.T @ centred

    def potential(w: Any) -> Any:
        inner = jnp.eye(latent) + w.T @ w / sigma**2
        explained = jnp.trace(jnp.linalg.solve(inner, w.T @ scatter @ w)) / sigma**4
        fit = n * jnp.linalg.slogdet(inner)[1] - explained
        return 0.5 * fit + 0.5 * (w**2).sum() / WEIGHT_SD**2

    chains = _run(potential, (d, latent), seed, settings)
    return Chains({"w": chains.draws["point"]}, chains.divergences)


def aligned(weights: Array, target: Array) -> tuple[Array, Array]:
    """Draws of W with the rotation and sign of the latents taken out.

    Args:
        weights: W (..., D, K).
        target: (D, K) of full rank, to which every draw is turned as near as a rotation or a
            reflection of its latents can.

    Returns:
        W R (..., D, K) and the R (..., K, K).

    References:
        Schönemann (1966), orthogonal Procrustes.

    Example:
        >>> w = np.array([[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]])
        >>> aligned(w, w[:, ::-1])[0][:2].round(6).tolist()
        [[2.0, 0.0], [0.0, 1.0]]
    """
    u, _, vt = np.linalg.svd(np.swapaxes(weights, -1, -2) @ target)
    rotation = u @ vt
    return weights @ rotation, rotation


def gmm_weight(log_densities: Array, *, seed: int, **settings: int) -> Chains:
    """p(α | x) of two components at fixed parameters, α ~ Beta(5, 5).

    Args:
        log_densities: log p_1 and log p_2 of N data, (N, 2).
        seed: of the chains.
        settings: `chains`, `warmup` and `draws` a chain.

    Returns:
        `alpha`, (chains, draws).
    """
    import jax
    import jax.numpy as jnp

    gap = log_densities[:, 0] - log_densities[:, 1]

    def potential(t: Any) -> Any:
        first, second = jax.nn.log_sigmoid(t), jax.nn.log_sigmoid(-t)
        likelihood = jnp.logaddexp(first + gap, second).sum()
        return -(likelihood + PRIOR[0] * first + PRIOR[1] * second)

    chains = _run(potential, (), seed, settings)
    return Chains({"alpha": _sigmoid(chains.draws["point"])}, chains.divergences)


def grouped(x: Array) -> tuple[Array, Array]:
    """Data as the means and counts of 2,000 cells of equal width, the empty ones left out.

    A cell of width h changes the log-likelihood by h²/24 times its curvature: for a width of
    0.01 sd and 10⁴ data by 0.04 nats, nearly the same for all parameters.

    Args:
        x: data (N,).

    Example:
        >>> grouped(np.array([0.0, 0.0, 1.0]))[1].tolist()
        [2.0, 1.0]
    """
    edges = np.linspace(x.min(), x.max(), CELLS + 1)
    cell = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, CELLS - 1)
    counts = np.bincount(cell, minlength=CELLS).astype(np.float64)
    sums = np.bincount(cell, weights=x, minlength=CELLS)
    kept = counts > 0
    return sums[kept] / counts[kept], counts[kept]


def gmm_joint(x: Array, start: Array, *, seed: int, **settings: int) -> Chains:
    """p(α, μ, σ | x) of two components in one dimension, α the weight of the lower mean.

    Priors: α ~ Beta(5, 5); with m and s the mean and sd of the data, means N(m, (2s)²) and
    component sds half-normal with scale 2s. The chains may switch labels; every draw is then
    relabelled by the order of its means. The data enter grouped into cells, far finer than the
    posterior can tell.

    Args:
        x: data (N,).
        start: α, two means and two sds (5,), around which the chains start.
        seed: of the chains.
        settings: `chains`, `warmup` and `draws` a chain.

    Returns:
        `alpha` (chains, draws), `mean` and `sd` (chains, draws, 2).

    References:
        Paper, appendix A.2; Betancourt, "Identifying Bayesian mixture models" (2017).
    """
    import jax
    import jax.numpy as jnp

    centre, scale = x.mean(), x.std()
    data, counts = grouped((x - centre) / scale)
    logit = np.log(start[:1]) - np.log1p(-start[:1])
    means = (start[1:3] - centre) / scale
    around = np.concatenate([logit, means, np.log(start[3:] / scale)])

    def potential(point: Any) -> Any:
        first, second = jax.nn.log_sigmoid(point[0]), jax.nn.log_sigmoid(-point[0])
        means, sds = point[1:3], jnp.exp(point[3:])
        log_p = -0.5 * ((data[:, None] - means) / sds) ** 2 - point[3:]
        likelihood = counts @ jnp.logaddexp(first + log_p[:, 0], second + log_p[:, 1])
        prior = PRIOR[0] * first + PRIOR[1] * second + point[3:].sum()
        prior = prior - 0.5 * ((means**2).sum() + (sds**2).sum()) / SPREAD**2
        return -(likelihood + prior)

    chains = _run(potential, (5,), seed, settings, around)
    point = chains.draws["point"]
    order = np.argsort(point[..., 1:3], axis=-1)
    alpha = _sigmoid(point[..., 0])
    return Chains(
        {
            "alpha": np.where(order[..., 0] == 0, alpha, 1 - alpha),
            "mean": centre + scale * np.take_along_axis(point[..., 1:3], order, axis=-1),
            "sd": scale * np.exp(np.take_along_axis(point[..., 3:], order, axis=-1)),
        },
        chains.divergences,
    )


def _sigmoid(t: Array) -> Array:
    value: Array = np.exp(-np.logaddexp(0.0, -t))
    return value


@contextlib.contextmanager
def _float64() -> Iterator[None]:
    """jax in float64 on the CPU inside the context, as it was outside."""
    import jax

    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        yield


def _run(
    potential: Callable[[Any], Any],
    shape: tuple[int, ...],
    seed: int,
    settings: dict[str, int],
    around: Array | None = None,
) -> Chains:
    """Chains of a potential, all in one program, from standard normal starts or around a point."""
    require()
    with _float64():
        import jax
        from numpyro.infer import MCMC, NUTS

        count = settings["chains"]
        start = np.random.default_rng(seed).normal(size=(count, *shape))
        if around is not None:
            start = around + JITTER * start
        sampler = MCMC(
            NUTS(
                potential_fn=potential,
                dense_mass=start[0].size <= DENSE,
                target_accept_prob=ACCEPT,
            ),
            num_warmup=settings["warmup"],
            num_samples=settings["draws"],
            num_chains=count,
            chain_method="vectorized",
            progress_bar=False,
        )
        initial = start if count > 1 else start[0]
        sampler.run(jax.random.PRNGKey(seed), init_params=initial, extra_fields=("diverging",))
        point = np.asarray(sampler.get_samples(group_by_chain=True), np.float64)
        diverging = int(np.asarray(sampler.get_extra_fields()["diverging"]).sum())
    return Chains({"point": point}, diverging)
