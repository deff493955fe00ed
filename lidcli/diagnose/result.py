"""A diagnosis: its numbers, and how they are shown."""

from __future__ import annotations

import html
import math
import textwrap
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lidcli.diagnose.advice import Unit
from lidcli.metrics.estimate import Estimate
from lidcli.metrics.information import ACTIVE
from lidcli.metrics.quantities import headlines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Diagnosis", "Unit"]

WIDTH = 80
SHOWN = 12
"""Units listed one by one, those of the largest variance."""
LABELS = {" of z": ""}


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
    def active(self) -> float:
        """Active dimensions, a fraction that no rotation of the latent changes."""
        return self.scalars["active/z"]

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

    def figures(self) -> list[tuple[str, str, str]]:
        """Every figure in words: its name, its value with its standard error, and what it is."""
        return [
            (_label(label), self._value(key), self._remark(key, unit))
            for label, key, unit in headlines(self.scalars)
        ]

    def _value(self, key: str) -> str:
        value, se = self.scalars[key], self.scalars.get(f"{key}_se")
        if se is None or not 0 < se < math.inf:
            return f"{value:.4g}"
        decimals = min(6, max(0, 1 - math.floor(math.log10(se))))
        return f"{value:.{decimals}f} ± {se:.{decimals}f}"

    def _remark(self, key: str, unit: str) -> str:
        if key == "ll":
            return f"{unit}, a lower bound with S = {self.scalars['ll_samples']:.0f}"
        if key in ("au/z", "active/z"):
            return f"{round(self.scalars[key] * len(self.units))} of {len(self.units)}"
        return unit

    def ranked(self) -> list[Unit]:
        """The units, those that the data move most first."""
        return sorted(self.units, key=lambda unit: -unit.variance)

    def __str__(self) -> str:
        """At most 80 columns wide."""
        n = self.scalars["n"]
        lines = [
            *_wrapped(self.verdict),
            f"{n:,.0f} data; nats are per datum; ± is the standard error.",
            "",
        ]
        for label, value, remark in self.figures():
            lines.append(f"  {label:<24} {value:>19}  {remark}".rstrip())
        lines += ["", *self._table()]
        for text in [*self.advice, *(f"Note: {text}" for text in self.notes)]:
            lines += ["", *_wrapped(text)]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        lines = ["  unit  variance of mean  allowed        KL  Fisher information"]
        for unit in self.ranked()[:SHOWN]:
            cells = (unit.variance, unit.allowed, unit.kl, unit.fisher)
            a, b, c, d = (_cell(value) for value in cells)
            mark = "" if unit.active else "  collapsed"
            lines.append(f"  {unit.index:>4}  {a:>16}  {b:>7}  {c:>8}  {d:>18}{mark}")
        left = self.ranked()[SHOWN:]
        if left:
            idle = sum(not unit.active for unit in left)
            lines.append(f"  and {len(left)} more, of lower variance, {idle} of them collapsed")
        return lines

    def _repr_html_(self) -> str:
        """For notebooks: a verdict, two tables and the advice, without scripts or styles."""
        rows = "".join(
            f"<tr><td>{_safe(a)}</td><td>{_safe(b)}</td><td>{_safe(c)}</td></tr>"
            for a, b, c in self.figures()
        )
        heads = ("unit", "variance of mean", "allowed", "KL", "Fisher information", "")
        head = "".join(f"<th>{text}</th>" for text in heads)
        units = "".join(
            f"<tr><td>{u.index}</td><td>{_cell(u.variance)}</td><td>{_cell(u.allowed)}</td>"
            f"<td>{_cell(u.kl)}</td><td>{_cell(u.fisher)}</td>"
            f"<td>{'' if u.active else 'collapsed'}</td></tr>"
            for u in self.ranked()
        )
        texts = "".join(f"<li>{_safe(text)}</li>" for text in (*self.advice, *self.notes))
        return (
            f"<p><b>{_safe(self.verdict)}</b></p><table>{rows}</table>"
            f"<details><summary>{len(self.units)} units</summary>"
            f"<table><tr>{head}</tr>{units}</table></details><ul>{texts}</ul>"
        )

    def plot(self) -> Figure:
        """Variance of the posterior mean and KL of every unit, and what is allowed.

        Returns:
            A matplotlib figure: `.savefig("units.png")`, or the last line of a notebook's cell.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True)
        units = self.ranked()
        place = range(len(units))
        colours = ["tab:blue" if unit.active else "tab:red" for unit in units]
        top.bar(place, [unit.variance for unit in units], color=colours)
        if all(unit.allowed is not None for unit in units):
            top.plot(place, [unit.allowed for unit in units], "k_", label="allowed")
            top.legend(frameon=False)
        top.axhline(ACTIVE, color="grey", linewidth=0.8)
        top.set_ylabel("variance of mean")
        bottom.bar(place, [math.nan if u.kl is None else u.kl for u in units], color=colours)
        bottom.set_ylabel("KL (nats)")
        bottom.set_xlabel("unit")
        if len(units) <= 40:
            bottom.set_xticks(list(place), [str(unit.index) for unit in units])
        figure.suptitle(f"{self.label}: {self.reason}", fontsize="medium")
        return figure

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


def _label(label: str) -> str:
    for long, short in LABELS.items():
        label = label.replace(long, short)
    return label


def _plain(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _safe(text: str) -> str:
    return html.escape(text)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH)
