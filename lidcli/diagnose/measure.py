"""The measurement of a user's model, by the evaluation that `lid evaluate` runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.distributions import Distribution

from lidcli.diagnose.advice import Unit, advice
from lidcli.diagnose.calls import reason
from lidcli.diagnose.course import Course, Progress
from lidcli.diagnose.data import data_of
from lidcli.diagnose.decoders import GivenLogProb, GivenObservation, Unobserved, Wanted
from lidcli.diagnose.doubts import refuse_figures
from lidcli.diagnose.encoders import Distributions, GivenPosterior, Normals
from lidcli.diagnose.functions import evaluating, home, modules_of, parts_of, training_note
from lidcli.diagnose.priors import prior_of, units_of
from lidcli.diagnose.result import Diagnosis
from lidcli.diagnose.trial import PROBED, try_decoder, try_encoder, try_posteriors
from lidcli.metrics.estimate import Estimate
from lidcli.metrics.estimate import mean as estimate
from lidcli.metrics.evaluation import Evaluation, evaluate
from lidcli.metrics.fisher import DRAWS, allowance, mean_information, told
from lidcli.metrics.identifiability import unit_kl
from lidcli.metrics.information import encode as encode_all
from lidcli.models.batch import DenseBatch
from lidcli.models.latent import LatentModel

__all__ = ["diagnose"]

OUTER = 500
"""Data in the outer mean of the MI."""
BOUNDLESS = ("ll", "ll_se", "ll_half", "elbo", "elbo_se", "reconstruction", "reconstruction_se")
"""Figures that a model without a decoder does not have."""
DRAWN = (
    "encode returns no normal distribution, so that variance and KL of a unit are estimated by"
    " draws: without bias, and below 0 where the error beside them is larger than they are."
)
VARIANCES = ("z_variance", "z_variance_se")

COMPARED, COMPARED_ALONE = 5, 100
"""Decodings that comparing a datum with the aggregate is worth; draws, where nothing decodes."""
DERIVATIVE = 10
"""Decodings that a derivative of one is worth."""


def diagnose(
    x: ArrayLike | Tensor,
    model: object | None = None,
    *,
    encode: Callable[..., Any] | None = None,
    decode: Callable[..., Any] | None = None,
    likelihood: str | None = None,
    sigma: float | None = None,
    log_prob: Callable[..., Tensor] | None = None,
    prior: Distribution | None = None,
    samples: int = 100,
    batch: int = 1000,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Measure whether the posterior of a VAE has collapsed, on N data of its user's.

    Nothing is trained, and the model is left as it was. Without a decoder and without `log_prob`
    KL, MI and active units are measured, and no likelihood.

    Args:
        x: data (N, ...), N >= 2, of the shape that `encode` takes; an array or a tensor, which
            stays where it is and is brought to the model in parts.
        model: an object with `encode` and `decode` (or `encoder` and `decoder`), or a dictionary
            with entries named as the arguments below; arguments that are given come first.
        encode: x to (mean, log variance), each (N, latent), or to a torch distribution of them.
        decode: latents (n, latent) to the likelihood's parameters, of the shape of x, or to a
            torch distribution of x.
        likelihood: what `decode` returns the parameters of: `bernoulli` (probabilities),
            `bernoulli-logits` (log odds) or `gaussian` (means).
        sigma: sd of the Gaussian likelihood's noise, > 0.
        log_prob: log p(x | z) in nats, (n,), of data (n, ...) and latents (n, latent), in place
            of a likelihood.
        prior: a torch distribution over latents; None: N(0, I).
        samples: S >= 2 draws a datum; LL is a lower bound that rises with them.
        batch: decodings held at a time, >= 1: memory grows with it alone.
        device: where the model is; None: found from its parameters.
        progress: called with the work done and the work in all, both counted in decodings: LL,
            MI, Fisher information and the units' KL by what they are worth.
        seed: of the draws; the generators of torch are left as they were.

    Returns:
        The verdict, every figure with its standard error, the units and advice.

    Raises:
        ValueError: data, functions or what they return are not what is described here; the
            sentence says what was seen and what was expected.

    References:
        docs/DIAGNOSE.md; the figures are defined in docs/DESIGN.md, sections 7 and 7a.

    Example:
        >>> found = diagnose(
        ...     torch.randn(200, 3),
        ...     encode=lambda x: (0 * x[:, :2], 0 * x[:, :2]),
        ...     decode=lambda z: torch.zeros(len(z), 3),
        ...     likelihood="gaussian",
        ...     sigma=1.0,
        ... )
        >>> print(found.verdict)
        The latent is collapsed: AU 0.00 < 0.1.
        >>> found.kl
        Estimate(value=0.0, se=0.0)
    """
    own = {} if model is None else parts_of(model)
    given: dict[str, Any] = {
        "encode": encode,
        "decode": decode,
        "likelihood": likelihood,
        "sigma": sigma,
    }
    given |= {"log_prob": log_prob, "prior": prior}
    parts = own | {name: value for name, value in given.items() if value is not None}
    if parts.get("encode") is None:
        raise ValueError("there is nothing to call: give a model, or encode")
    for name, least, value in (("samples", 2, samples), ("batch", 1, batch)):
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} must be at least {least}, a whole number, not {value!r}")
    if not isinstance(seed, Integral):
        raise ValueError(f"seed must be a whole number, not {seed!r}")
    wanted = Wanted(*(parts.get(name) for name in Wanted._fields))
    wanted.check()
    placed = _place(parts, device)
    data, notes = data_of(x, wanted, placed.dtype)
    modules = placed.modules
    remark = training_note(modules)
    gpu = [placed.device] if placed.device.type == "cuda" else []
    with torch.random.fork_rng(gpu), torch.no_grad(), evaluating(modules):
        torch.manual_seed(seed)
        posterior = GivenPosterior(parts["encode"], data.shape[1:], placed.device)
        rows = DenseBatch(data.flatten(1))
        latent, kind = try_encoder(posterior, rows)
        prior_ = prior_of(parts.get("prior"), latent, *kind)
        try_posteriors(posterior, rows, prior_)
        tried = prior_.sample(min(PROBED, batch))
        observation = wanted.observation(tried, latent, data.shape[1:], batch)
        try_decoder(observation, rows, tried)
        made = LatentModel(prior_, observation)
        made.posterior = posterior
        course = _course(made, len(data), samples, progress)
        found = _measured(made, rows, samples, batch, [remark, *notes], course)
        course.end()
        return found


def _course(model: LatentModel, n: int, samples: int, progress: Progress | None) -> Course:
    """What the parts of a diagnosis are worth."""
    informed = model.observation.informed
    alone = isinstance(model.observation, Unobserved)
    return Course(
        progress,
        bounds=n * samples,
        mi=n * (COMPARED_ALONE if alone else COMPARED),
        fisher=DRAWS * model.latent * DERIVATIVE if informed else 0,
        units=n,
    )


class _Place(NamedTuple):
    """The modules of a user's functions, and where they are."""

    modules: list[nn.Module]
    device: torch.device
    dtype: torch.dtype


def _place(parts: dict[str, Any], device: str | torch.device | None) -> _Place:
    """Find the modules and their one device."""
    modules: dict[int, nn.Module] = {}
    where: dict[str, tuple[torch.device, torch.dtype]] = {}
    for name in ("encode", "decode", "log_prob"):
        own = modules_of(parts.get(name))
        modules |= {id(module): module for module in own}
        found = home(own)
        if found is not None:
            where[name] = found
    default = torch.get_default_dtype()
    first = next(iter(where.values()), (torch.device("cpu"), default))
    asked = first[0] if device is None else _device(device)
    for name, (there, _) in where.items():
        if there != asked:
            others = [f"{k} on {v[0]}" for k, v in where.items() if k != name]
            beside = ", ".join(others) if device is None else f"device={str(asked)!r} was given"
            raise ValueError(f"{name} is on {there} and {beside}, where one device is expected")
    return _Place(list(modules.values()), asked, first[1])


def _device(name: str | torch.device) -> torch.device:
    """The device of a name, with its index."""
    try:
        tried = torch.zeros(1, device=name)
        tried.item()
        return tried.device
    except Exception as error:
        raise ValueError(f"device={str(name)!r} cannot be used: {reason(error)}") from error


def _measured(
    model: LatentModel,
    x: DenseBatch,
    samples: int,
    batch: int,
    notes: Sequence[str | None],
    course: Course,
) -> Diagnosis:
    result = evaluate(model, x, samples=samples, outer=OUTER, batch=batch, tick=course)
    refuse_figures(result.scalars, model.latent)
    remarks = [note for note in notes if note] + result.notes
    if isinstance(model.observation, GivenObservation):
        model.observation.tick = partial(course, "fisher")
    if isinstance(model.observation, Unobserved):
        result.scalars = {k: v for k, v in result.scalars.items() if k not in BOUNDLESS}
    else:
        remarks += [f"These figures cannot all be right: {text}." for text in result.checks]
    fisher, allowed = _fisher(model, result, remarks)
    variances, errors = (result.arrays[name].astype(float).tolist() for name in VARIANCES)
    moved = [Estimate(*pair) for pair in zip(variances, errors, strict=True)]
    units = _units(moved, _unit_kl(model, x, batch, remarks), fisher, allowed)
    if isinstance(model.observation, GivenObservation):
        remarks += model.observation.remarks()
    assert result.verdict is not None
    return Diagnosis(
        *result.verdict[:2],
        result.verdict.reason,
        result.scalars,
        units,
        tuple(advice(result.verdict, result.scalars, units)),
        tuple(remarks),
    )


def _units(
    variances: Sequence[Estimate],
    kl: Sequence[Estimate],
    fisher: Sequence[float],
    allowed: Sequence[float],
) -> tuple[Unit, ...]:
    """Every unit, with what is known of all: an empty sequence is not known."""
    return tuple(
        Unit(
            k + 1,
            *variance,
            kl=kl[k].value if kl else None,
            kl_se=kl[k].se if kl else None,
            fisher=fisher[k] if fisher else None,
            allowed=allowed[k] if allowed else None,
        )
        for k, variance in enumerate(variances)
    )


def _fisher(
    model: LatentModel, result: Evaluation, remarks: list[str]
) -> tuple[list[float], list[float]]:
    """Fisher information and the variance it allows of every unit; empty where not known."""
    if isinstance(model.observation, GivenLogProb):
        remarks.append(
            "Fisher information, and the variance that it allows, are left out: they need the"
            " likelihood's parameters, of a decode that returns a tensor, and likelihood= naming"
            " what of."
        )
    if not model.observation.informed:
        return [], []
    try:
        mean, every = mean_information(model)
        result.scalars |= told(model, mean, every)
        found = allowance(model, mean)
    except (RuntimeError, ValueError) as error:
        said = reason(error)
        remarks.append(f"Fisher information is left out; the derivative failed: {said}")
        return [], []
    if found is None:
        remarks.append(
            "No bound on MI and AU follows from the Fisher information: the prior's density does"
            " not vanish at the ends of its support."
        )
        return mean.diagonal().tolist(), []
    return mean.diagonal().tolist(), found.variances.tolist()


def _unit_kl(model: LatentModel, x: DenseBatch, batch: int, remarks: list[str]) -> list[Estimate]:
    """KL of every unit: of all data in closed form, or of some by draws."""
    conditional = encode_all(model, x, batch)
    assert isinstance(conditional, Normals | Distributions)
    normals, units = conditional.marginals(), units_of(model.prior)
    if normals is None:
        remarks.append(DRAWN)
    elif units is not None:
        return [estimate(column) for column in normals.unit_kl(*units).T]
    return list(unit_kl(model, x.rows(slice(0, PROBED))).values())
