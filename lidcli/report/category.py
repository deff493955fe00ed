"""The claims about a category, of several methods on one data set: each answered with its error."""

from __future__ import annotations

from collections.abc import Sequence

from lidcli.metrics.quantities import QUANTITIES
from lidcli.metrics.quantity import NATS
from lidcli.report.cells import DASH, NEAR, Cell, Row, Table, number
from lidcli.report.claims import Gap, Pair, Said, paired, pairs
from lidcli.report.groups import Block, Group, Statistic

__all__ = ["SHARE", "category_table"]

SHARE = 0.01
"""Of the best LL: a fit so near to it counts as as good."""
METHODS = 3
"""That are compared, at least."""


def category_table(block: Block) -> Table | None:
    """The paper's claims about a category; None without three methods of one, at one point.

    Args:
        block: the runs of one experiment, data set and judged latent.

    Returns:
        A row a claim: what was measured, ± its error, and yes, no or open.
    """
    found = pairs(block) if block.facts.categorical and not block.keys else []
    if not found or len([group for group in block.groups if group.used]) < METHODS:
        return None
    pair = found[0]
    classical, own = pair.classical.method, pair.identifiable.method
    rows = [
        Row(f"{classical} collapses", _collapsed(pair.classical)),
        Row(f"{own} keeps every category", _kept(pair.identifiable)),
        Row(f"{own} fits at least as well as {classical}", _fits(pair)),
        Row(f"{own} fits as well as the best", _near(pair)),
        Row(f"of those that do, {own} has the highest MI", _informed(pair)),
    ]
    units = (
        f"Differences of LL and MI of {block.facts.judged} in {NATS}, ± the standard error over"
        " pairs of the same seed; AU ± sd over seeds. As well as the best: at most"
        f" {SHARE:.0%} of its LL below it, or not told from it. An answer is open within"
        " two standard errors of its limit."
    )
    name = f"{block.experiment}-{block.data}-claims"
    title = f"{block.data}: what is claimed of the category"
    return Table(name, title, ("claim", "measured", "answer"), tuple(rows), units, ())


def _cells(words: str, value: float, error: float | None, said: Said) -> tuple[Cell, Cell]:
    text = f"{words} {number(value, 2)}"
    return Cell(text, "" if error is None else number(error, 2)), Cell(said)


def _collapsed(group: Group) -> tuple[Cell, Cell]:
    """In how many runs, by their verdict."""
    count, n = group.verdicts().get("collapsed", 0), len(group.used)
    said: Said = "yes" if count == n else "open" if count else "no"
    return Cell(f"in {count} of {n} runs"), Cell(said)


def _kept(group: Group) -> tuple[Cell, Cell]:
    found = group.statistic(QUANTITIES["au"], "c")
    if found is None:
        return Cell(DASH), Cell("open")
    return _cells("AU", found.mean, found.sd, "yes" if found.lowest == 1.0 else "no")


def _ll(group: Group) -> Statistic | None:
    return group.statistic(QUANTITIES["ll"])


def _fits(pair: Pair) -> tuple[Cell, Cell]:
    own, other = _ll(pair.identifiable), _ll(pair.classical)
    if own is None or other is None:
        return Cell(DASH), Cell("open")
    gap = paired(own, other)
    return _cells("LL", gap.mean, gap.se, gap.above(0.0))


def _best(groups: Sequence[Group]) -> Statistic | None:
    found = [s for group in groups if (s := _ll(group)) is not None]
    return max(found, key=lambda s: s.mean, default=None)


def _as_good(gap: Gap, best: Statistic) -> Said:
    """Within a share of the best, or not told from it."""
    if gap.mean + NEAR * gap.se >= 0:
        return "yes"
    return gap.above(-SHARE * abs(best.mean))


def _near(pair: Pair) -> tuple[Cell, Cell]:
    own, best = _ll(pair.identifiable), _best(pair.all)
    if own is None or best is None:
        return Cell(DASH), Cell("open")
    gap = paired(own, best)
    return _cells("LL", gap.mean, gap.se, _as_good(gap, best))


def _fitting(pair: Pair) -> list[Group]:
    """The methods that fit as well as the best."""
    best = _best(pair.all)
    measured = [(group, s) for group in pair.all if (s := _ll(group)) is not None]
    return [
        group
        for group, own in measured
        if best is not None and _as_good(paired(own, best), best) == "yes"
    ]


def _informed(pair: Pair) -> tuple[Cell, Cell]:
    """The MI less the highest of the others among the methods that fit as well as the best."""
    others = [group for group in _fitting(pair) if group is not pair.identifiable]
    own = pair.identifiable.statistic(QUANTITIES["mi"], "c")
    told = [s for group in others if (s := group.statistic(QUANTITIES["mi"], "c")) is not None]
    if own is None:
        return Cell(DASH), Cell("open")
    if len(others) == len(_fitting(pair)):
        return Cell("it does not"), Cell("no")
    if not told:
        return Cell("no other does"), Cell("yes")
    gap = paired(own, max(told, key=lambda s: s.mean))
    return _cells("MI", gap.mean, gap.se, gap.above(0.0))
