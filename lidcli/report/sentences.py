"""The claims about the latent of sentences, of several methods on one data set."""

from __future__ import annotations

from lidcli.metrics.quantities import QUANTITIES
from lidcli.metrics.quantity import NATS
from lidcli.report.category import SHARE, answered, compared, measured, shared_rows
from lidcli.report.cells import DASH, Cell, Row, Table, number
from lidcli.report.claims import Pair
from lidcli.report.gaps import paired
from lidcli.report.groups import Block

__all__ = ["sentences_table"]

UNITS = 0.9
"""AU that is asked for."""
TRUE = 0.7
"""MI over KL that is asked for: the rest of the KL is of a posterior that misses its prior."""
POINTS = 0.1
"""By which a probe's share of right labels is to be above the classical model's."""


def sentences_table(block: Block) -> Table | None:
    """The claims about a latent of text; None without three methods of it, at one point.

    Args:
        block: the runs of one experiment, data set and judged latent.

    Returns:
        A row a claim: what was measured, ± its error, and yes, no or open.
    """
    pair = compared(block) if block.facts.data_form == "text" else None
    if pair is None:
        return None
    classical, own = pair.classical.method, pair.identifiable.method
    rows = shared_rows(block, pair, "its units", UNITS)
    rows.append(Row(f"its MI is at least {TRUE} of its KL", _true(block, pair)))
    probe = _probe(block, pair)
    if probe is not None:
        asked = f"{own}'s probe is {POINTS * 100:.0f} points above {classical}'s"
        rows.append(Row(asked, probe))
    units = (
        f"Differences of LL and MI of {block.facts.judged} in {NATS}, of the probe in points, ± the"
        " standard error over pairs of the same seed; AU ± sd over seeds. Collapsed: by its"
        f" verdict. Its units: an AU of {UNITS}. As well as the best: at most {SHARE:.0%} of its LL"
        " below it."
    )
    return answered(block, "latent", rows, units)


def _true(block: Block, pair: Pair) -> tuple[Cell, Cell]:
    """The least of the runs' MI over KL."""
    judged = block.facts.judged
    told = [
        record.metrics[f"mi/{judged}"] / record.metrics[f"kl/{judged}"]
        for record in pair.identifiable.used
        if record.metrics.get(f"kl/{judged}", 0) > 0 and f"mi/{judged}" in record.metrics
    ]
    if not told:
        return Cell(DASH), Cell("open")
    least = min(told)
    said = "no" if least < TRUE else "yes" if len(told) > 1 else "open"
    return Cell(f"{number(least, 2)} at least"), Cell(said)


def _probe(block: Block, pair: Pair) -> tuple[Cell, Cell] | None:
    """The difference of the probes of posterior means, None where nothing has labels."""
    own, other = (
        group.statistic(QUANTITIES["probe"]) for group in (pair.identifiable, pair.classical)
    )
    if own is None or other is None:
        return None
    gap = paired(own, other)
    return measured("probe", 100 * gap.mean, 100 * gap.se, gap.above(POINTS))
