"""What the numbers of a diagnosis mean for whoever trained the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lidcli.metrics.quantity import ACTIVE, APART
from lidcli.metrics.verdict import Verdict

__all__ = ["Unit", "advice"]

NAMED = 8
"""Units named one by one."""
WORTH = 0.5
"""Nats that are worth a sentence, where they are a tenth of the KL as well."""


@dataclass(frozen=True)
class Unit:
    """One dimension of the latent.

    Attributes:
        index: from 1.
        variance: over data, of the posterior mean; active from 0.01 on.
        variance_se: its standard error; None where that is not known.
        kl: of its own posterior to its prior, nats per datum; None where that is not known.
        kl_se: its standard error.
        fisher: mean Fisher information of the likelihood; None where that is not known.
        allowed: the largest variance that the exact posterior's mean can have; None likewise.
    """

    index: int
    variance: float
    variance_se: float | None = None
    kl: float | None = None
    kl_se: float | None = None
    fisher: float | None = None
    allowed: float | None = None

    @property
    def active(self) -> bool:
        """Whether the data move it."""
        return self.variance >= ACTIVE


def advice(verdict: Verdict, scalars: Mapping[str, float], units: Sequence[Unit]) -> list[str]:
    """Sentences on what was found and what may help, the most important first.

    Args:
        verdict: of the latent.
        scalars: an evaluation of a model with one latent, z, under the names of the run store.
        units: its dimensions.

    Example:
        >>> good = Verdict("informative", False, "AU 1.00 >= 0.8")
        >>> advice(good, {"kl/z": 1.0, "mi/z": 1.0, "log_n": 9.0}, [Unit(1, 0.6)])
        ['Nothing to mend: every unit is active, and the aggregate posterior fills the prior.']
    """
    found = [
        *_units(units),
        *_rotated(scalars, len(units)),
        *_still(verdict, scalars, units),
        *_prior(verdict, scalars),
        *_encoder(scalars),
    ]
    if found:
        return found
    if _saturated(scalars):
        return ["Every unit is active; more data would tell whether they fill the prior."]
    return ["Nothing to mend: every unit is active, and the aggregate posterior fills the prior."]


def _saturated(scalars: Mapping[str, float]) -> bool:
    """Whether the MI is no more than a lower bound, by so few data."""
    mi, above = scalars["mi/z"], scalars.get("mi_above/z")
    if above is None:
        return mi > scalars["log_n"] - WORTH
    return min(above, scalars["kl/z"]) - mi > APART


def _rotated(scalars: Mapping[str, float], size: int) -> Iterator[str]:
    idle = round((scalars.get("au/z", 0.0) - scalars.get("active/z", 0.0)) * size)
    if idle > 0:
        yield (
            f"More units are active than there are active dimensions, by {idle}: some units say"
            " the same of x, and after a rotation of the latent they would be collapsed."
        )


def _units(units: Sequence[Unit]) -> Iterator[str]:
    idle = [unit for unit in units if not unit.active]
    if not idle:
        return
    if len(idle) == len(units) and all(unit.variance < 1e-12 for unit in idle):
        yield "encode gives the same answer for all data: it ignores x."
    yield from _told_apart(idle)
    unknown = [u for u in idle if u.allowed is None]
    if unknown:
        yield (
            f"{_named(unknown)} collapsed: the mean of the posterior does not move with the data."
        )


def _told_apart(idle: Sequence[Unit]) -> Iterator[str]:
    """Whether decoder or encoder collapsed, of the units whose Fisher information is known."""
    unseen = [u for u in idle if u.allowed is not None and min(u.allowed, u.fisher or 0) < ACTIVE]
    ignored = [u for u in idle if u not in unseen and u.allowed is not None]
    if unseen:
        yield (
            f"{_named(unseen)} collapsed in the decoder: it hardly moves with them (Fisher"
            f" information of {_largest(unseen)} at most), so that no encoder could use them. A"
            " decoder that cannot ignore the latent (an identifiable one, as `lid train -m lidvae`)"
            " or less weight of the KL in training may help; fewer units would fit as well."
        )
    if ignored:
        yield (
            f"{_named(ignored)} collapsed though the decoder moves with them (Fisher information"
            f" up to {_largest(ignored)}): what keeps them still is the encoder, or the weight of"
            " the KL in training. Less of that weight (or a smaller sigma), more encoder steps for"
            " each decoder step (lagging-vae) or refined posteriors (sa-vae) may help."
        )


def _named(units: Sequence[Unit]) -> str:
    if len(units) == 1:
        return f"Unit {units[0].index} is"
    if len(units) > NAMED:
        return f"{len(units)} units are"
    *most, last = (str(unit.index) for unit in units)
    return f"Units {', '.join(most)} and {last} are"


def _largest(units: Sequence[Unit]) -> str:
    return f"{max(unit.fisher or 0.0 for unit in units):.2g}"


def _still(verdict: Verdict, scalars: Mapping[str, float], units: Sequence[Unit]) -> Iterator[str]:
    """Of a latent that is collapsed though its units are active."""
    if verdict.label == "collapsed" and all(unit.active for unit in units):
        yield (
            f"The latent tells {scalars['mi/z']:.2g} nats of x: its units move with the data by"
            " less than its posteriors are wide. Less weight of the KL in training may help, or a"
            " decoder that cannot ignore the latent."
        )


def _prior(verdict: Verdict, scalars: Mapping[str, float]) -> Iterator[str]:
    kl, mi = scalars["kl/z"], scalars["mi/z"]
    slack = 3 * (scalars.get("kl/z_se", 0.0) + scalars.get("mi/z_se", 0.0))
    gap = kl - scalars.get("mi_above/z", kl if _saturated(scalars) else mi)
    if verdict.unused_prior or gap > max(WORTH, 0.1 * kl, slack):
        yield (
            f"The aggregate posterior is {gap:.2f} nats from the prior (KL - MI): latents drawn"
            " from the prior are not those that data have, and samples suffer. A prior that is"
            " learned or fitted afterwards, or more weight on the KL, may help."
        )


def _encoder(scalars: Mapping[str, float]) -> Iterator[str]:
    if "ll" not in scalars:
        return
    gap = scalars["ll"] - scalars["elbo"]
    if gap > max(WORTH, 0.1 * scalars["kl/z"]):
        yield (
            f"The encoder's posterior is at least {gap:.2f} nats from the model's own (LL - ELBO):"
            " KL, MI and AU are of the encoder. A richer posterior or a better trained encoder"
            " brings them together."
        )
