"""A diagnosis: its numbers, and how they are shown."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lidcli.diagnose.advice import Unit
from lidcli.diagnose.figure import bars
from lidcli.diagnose.shown import page, text
from lidcli.metrics.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Diagnosis", "Unit"]


@dataclass(frozen=True)
class Diagnosis:
    """What was measured of a model on some data; KL, MI, ELBO and LL in nats per datum.

    Attributes:
        label: `collapsed`, `partly collapsed` or `informative`.
        unused_prior: whether the KL exceeds the MI by more than half of it.
        reason: the numbers that decide the label.
        scalars: all figures, under the names that `lid evaluate` stores (docs/DESIGN.md).
        units: the latent's dimensions.
        advice: what the numbers mean, and what may help.
        notes: what a reader must know of how they were measured.

    Example:
        >>> scalars = {"kl/z": 0.0, "kl/z_se": 0.0}
        >>> found = Diagnosis("collapsed", False, "AU 0.00 < 0.1", scalars, (), (), ())
        >>> found.kl.value, found.ll
        (0.0, None)
    """

    label: str
    unused_prior: bool
    reason: str
    scalars: dict[str, float]
    units: tuple[Unit, ...]
    advice: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def kl(self) -> Estimate:
        """KL of the posterior to the prior."""
        return self._estimate("kl/z") or Estimate(math.nan, math.nan)

    @property
    def mi(self) -> Estimate:
        """Mutual information of data and latent under the encoder."""
        return self._estimate("mi/z") or Estimate(math.nan, math.nan)

    @property
    def au(self) -> float:
        """Active units by axis, a fraction."""
        return self.scalars["au/z"]

    @property
    def au_se(self) -> float:
        """Standard error of `au`: 0 where no unit is near the threshold."""
        return self.scalars["au/z_se"]

    @property
    def active(self) -> float:
        """Active dimensions, a fraction that no rotation of the latent changes."""
        return self.scalars["active/z"]

    @property
    def active_se(self) -> float:
        """Standard error of `active`."""
        return self.scalars["active/z_se"]

    @property
    def ll(self) -> Estimate | None:
        """Importance-weighted bound of log p(x); None without a decoder."""
        return self._estimate("ll")

    @property
    def elbo(self) -> Estimate | None:
        """The ELBO; None without a decoder."""
        return self._estimate("elbo")

    @property
    def reconstruction(self) -> Estimate | None:
        """E_q log p(x | z); None without a decoder."""
        return self._estimate("reconstruction")

    @property
    def verdict(self) -> str:
        """The verdict in a sentence."""
        more = "; an unused prior, for the KL exceeds the MI by more than half of it"
        return f"The latent is {self.label}: {self.reason}{more if self.unused_prior else ''}."

    def _estimate(self, name: str) -> Estimate | None:
        if name not in self.scalars:
            return None
        return Estimate(self.scalars[name], self.scalars[f"{name}_se"])

    def ranked(self) -> list[Unit]:
        """The units, those that the data move most first."""
        return sorted(self.units, key=lambda unit: -unit.variance)

    def __str__(self) -> str:
        """At most 80 columns wide."""
        return text(self)

    def _repr_html_(self) -> str:
        return page(self)

    def plot(self) -> Figure:
        """Bars of every unit: variance of the posterior mean, KL and Fisher information.

        Collapsed units are hatched; what the decoder allows is marked.

        Returns:
            A matplotlib figure: `.savefig("units.png")`, or the last line of a notebook's cell.
        """
        return bars(self.ranked(), f"{self.label}: {self.reason}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values: strings, numbers, lists and dictionaries.

        A figure that is not finite is None.
        """
        return {
            "verdict": self.verdict,
            "label": self.label,
            "unused_prior": self.unused_prior,
            "reason": self.reason,
            "figures": {name: _plain(value) for name, value in self.scalars.items()},
            "units": [
                {**{k: _plain(v) for k, v in asdict(unit).items()}, "active": unit.active}
                for unit in self.units
            ],
            "advice": list(self.advice),
            "notes": list(self.notes),
        }


def _plain(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
