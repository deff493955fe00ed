"""The claims about a category, of several methods on one data set: each answered with its error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lidcli.metrics.quantities import QUANTITIES
from lidcli.metrics.quantity import ACTIVE, NATS
from lidcli.report.cells import DASH, Cell, Row, Table, number
from lidcli.report.claims import OPEN, Pair, best, pairs
from lidcli.report.gaps import Gap, Said, in_all, kept, paired
from lidcli.report.groups import Block, Group, Statistic

__all__ = ["SHARE", "answered", "category_table", "compared", "measured", "shared_rows"]

SHARE = 0.01
"""Of the best LL, or of the probability density a coordinate: so near to it is as good."""
LOST = 0.1
"""Of log C: a run whose category says less has collapsed."""
MOST = 0.9
"""Of the categories are asked for where they are so many that AU misses some of a perfect model."""
METHODS = 3
"""That are compared, at least."""


def category_table(block: Block) -> Table | None:
    """The paper's claims about a category; None without three methods of one, at one point.

    Args:
        block: the runs of one experiment, data set and judged latent.

    Returns:
        A row a claim: what was measured, ± its error, and yes, no or open.
    """
    pair = compared(block) if block.facts.categorical else None
    if pair is None:
        return None
    asked = _asked(block)
    near = (
        f"{SHARE} nats a coordinate below it"
        if _density(block)
        else f"{SHARE:.0%} of its LL below it"
    )
    kept = (
        ""
        if asked == 1.0
        else f" Every category: AU of {asked}, as even shares are near its limit."
    )
    units = (
        f"Differences of LL and MI of {block.facts.judged} in {NATS}, ± the standard error over"
        " pairs of the same seed; AU ± sd over seeds. Collapsed: by its verdict, or with an MI"
        f" below {LOST:.0%} of log C. As well as the best: at most {near}.{kept}"
    )
    return answered(block, "category", shared_rows(block, pair, "every category", asked), units)


def compared(block: Block) -> Pair | None:
    """The classical and the identifiable model, where three methods were compared at one point."""
    found = [] if block.keys else pairs(block)
    measured = [group for group in block.groups if group.used]
    return found[0] if found and len(measured) >= METHODS else None


def shared_rows(block: Block, pair: Pair, kept: str, asked: float) -> list[Row]:
    """The claims about any latent.

    Args:
        block, pair: from `compared`.
        kept: what the identifiable model is to keep, in words.
        asked: the AU that this means.
    """
    classical, own = pair.classical.method, pair.identifiable.method
    return [
        Row(f"{classical} collapses", _collapses(block, pair.classical)),
        Row(f"{own} keeps {kept}", _keeps(block, pair.identifiable, asked)),
        Row(f"{own} fits at least as well as {classical}", _fits(block, pair)),
        Row(f"{own} fits as well as the best", _near_best(block, pair)),
        Row(f"of those that do, {own} has the highest MI", _informs(block, pair)),
    ]


def answered(block: Block, what: str, rows: Sequence[Row], units: str) -> Table:
    """The table of claims about a category or a latent, with what its answers mean."""
    uncompared = f" {block.uncompared}." if block.uncompared else ""
    name = f"{block.experiment}-{block.data}-claims"
    title = f"{block.data}: what is claimed of the {what}"
    heads = ("claim", "measured", "answer")
    return Table(name, title, heads, tuple(rows), f"{units} {OPEN}{uncompared}", ())


def measured(words: str, value: float, error: float | None, said: Said) -> tuple[Cell, Cell]:
    """A number with its name, and the answer that it gives."""
    text = f"{words} {number(value, 2)}"
    return Cell(text, "" if error is None else number(error, 2)), Cell(said)


def _collapses(block: Block, group: Group) -> tuple[Cell, Cell]:
    """In how many runs, by their verdict or their MI."""
    least = LOST * math.log(block.categories) if block.categories else 0.0
    found = [record.metrics.get("mi/c", math.inf) < least for record in group.used]
    told = [record.verdict == "collapsed" for record in group.used]
    count, n = sum(a or b for a, b in zip(found, told, strict=True)), len(group.used)
    return Cell(f"in {count} of {n} run{'s' if n > 1 else ''}"), Cell(in_all(count, n))


def _asked(block: Block) -> float:
    """AU of a model that keeps every category: 1 if even shares vary twice what AU asks for."""
    count = block.categories or 1
    return 1.0 if (count - 1) / count**2 >= 2 * ACTIVE else MOST


def _keeps(block: Block, group: Group, asked: float) -> tuple[Cell, Cell]:
    """Whether the AU of the judged latent is in every run what is asked for."""
    found = group.statistic(QUANTITIES["au"], block.facts.judged)
    if found is None:
        return Cell(DASH), Cell("open")
    return measured("AU", found.mean, found.sd, kept(found, asked))


def _fits(block: Block, pair: Pair) -> tuple[Cell, Cell]:
    """Whether the identifiable model's LL is the classical one's at least."""
    own, other = block.likelihood(pair.identifiable), block.likelihood(pair.classical)
    if own is None or other is None:
        return Cell(DASH), Cell("open")
    gap = paired(own, other)
    return measured("LL", gap.mean, gap.se, gap.above(0.0))


def _density(block: Block) -> bool:
    """Whether LL is a density's, so that its level hangs on the units of the data."""
    return any(r.settings.get("likelihood.kind") == "gaussian" for r in block.records)


def _as_good(block: Block, own: Statistic, top: Statistic) -> tuple[Gap, Said]:
    """The difference to the best, and whether it is within what counts as as good."""
    margin = SHARE * abs(top.mean)
    if _density(block):
        margin = SHARE * math.prod(block.records[0].provenance.get("data_shape") or [1])
    gap = paired(own, top)
    return gap, gap.above(-margin)


def _near_best(block: Block, pair: Pair) -> tuple[Cell, Cell]:
    """Whether the identifiable model fits as well as the best of all."""
    own, top = block.likelihood(pair.identifiable), best(block, pair.all)
    if own is None or top is None:
        return Cell(DASH), Cell("open")
    gap, said = _as_good(block, own, top)
    return measured("LL", gap.mean, gap.se, said)


def _informs(block: Block, pair: Pair) -> tuple[Cell, Cell]:
    """The MI less the highest of the others that may fit as well as the best."""
    top, name = best(block, pair.all), pair.identifiable.method
    judged = block.facts.judged
    mis = {group.method: group.statistic(QUANTITIES["mi"], judged) for group in pair.all}
    own = mis.pop(name)
    if own is None or top is None:
        return Cell(DASH), Cell("open")
    good = _as_good_as(block, pair, top)
    fit = good.get(name, "open")
    if fit == "no":
        return Cell("it does not"), Cell("no")
    rivals = {m: s for m, s in mis.items() if s is not None and good.get(m, "no") != "no"}
    if not rivals:
        return Cell("no other does"), Cell(fit)
    gap = paired(own, max(rivals.values(), key=lambda s: s.mean))
    return measured("MI", gap.mean, gap.se, _highest(own, rivals, good, fit))


def _as_good_as(block: Block, pair: Pair, top: Statistic) -> dict[str, Said]:
    """Of each method whether it fits as well as the best."""
    known = {group.method: block.likelihood(group) for group in pair.all}
    return {m: _as_good(block, ll, top)[1] for m, ll in known.items() if ll is not None}


def _highest(
    own: Statistic, rivals: Mapping[str, Statistic], good: Mapping[str, Said], fit: Said
) -> Said:
    """Whether it is above all rivals; one that may not fit as well settles nothing by more."""
    told = {method: paired(own, s).above(0.0) for method, s in rivals.items()}
    if any(told[method] == "no" and good[method] == "yes" for method in rivals):
        return "no"
    return fit if all(answer == "yes" for answer in told.values()) else "open"
