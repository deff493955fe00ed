"""The paper's claims, answered by runs: what collapses, what does not, which fits better."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lidcli.metrics.quantities import QUANTITIES
from lidcli.metrics.quantity import NATS
from lidcli.names import short_keys
from lidcli.report.cells import NEAR, Cell, Row, Table, number
from lidcli.report.gaps import Said, in_all, kept, paired
from lidcli.report.groups import Block, Group, Statistic
from lidcli.report.paper import alias, contrast

__all__ = ["ALLOWED", "DEPTH", "OPEN", "Pair", "answers", "best", "claims_table", "pairs"]

DEPTH = "decoder.layers"
ALLOWED = 0.5
"""Nats by which a fit may be below the best and count as as good."""
OPEN = (
    "An answer is open while its limit is within the 95% interval of what was measured (Student's t"
    " over seeds), with one seed always, unless that one has lost a unit."
)
"""What an answer means."""


@dataclass(frozen=True)
class Pair:
    """The classical and the identifiable model at one point of the grid, and all models there."""

    classical: Group
    identifiable: Group
    all: tuple[Group, ...]

    @property
    def words(self) -> str:
        """The point of the grid in words, empty without a grid."""
        grid = self.classical.grid
        names = short_keys(key for key, _ in grid)
        return ", ".join(
            f"{value} layers" if key == DEPTH else f"{names[key]} {value}" for key, value in grid
        )


def pairs(block: Block) -> list[Pair]:
    """Where a classical and an identifiable model were measured alike, in the order of the grid.

    Args:
        block: the runs of one experiment, data set and judged latent.
    """
    found = []
    classical, identifiable = contrast()
    measured = [group for group in block.groups if group.used]
    for group in measured:
        if alias(group.method) != classical:
            continue
        here = tuple(other for other in measured if other.grid == group.grid)
        partner = next((other for other in here if alias(other.method) == identifiable), None)
        if partner is not None:
            found.append(Pair(group, partner, here))
    return found


def answers(blocks: Iterable[Block]) -> list[str]:
    """What runs say to the question, a sentence with its numbers for each data set.

    Args:
        blocks: of one experiment.

    Returns:
        For each that has a classical and an identifiable model: how many of their runs collapsed
        at the last point of the grid, and whose likelihood is higher.
    """
    sentences = []
    for block in blocks:
        found = pairs(block)
        if found:
            sentences.append(_answer(block, found[-1]))
    return sentences


def _answer(block: Block, pair: Pair) -> str:
    place = f" at {pair.words}" if pair.words else ""
    said = [
        f"{group.method} collapsed in {group.verdicts().get('collapsed', 0)} of"
        f" {len(group.used)} run{'s' if len(group.used) != 1 else ''}{_figures(block, group)}"
        for group in (pair.classical, pair.identifiable)
    ]
    return f"{block.data}{place}: {said[0]}, the identifiable {said[1]}; {_fit(block, pair)}."


def _figures(block: Block, group: Group) -> str:
    """AU and MI of the judged latent in brackets."""
    latent = block.facts.judged
    parts = []
    for key in ("au", "mi"):
        found = group.statistic(QUANTITIES[key], latent)
        if found is not None:
            parts.append(f"{QUANTITIES[key].heading(latent)} {number(found.mean, 2)}")
    return f" ({', '.join(parts)})" if parts else ""


def _fit(block: Block, pair: Pair) -> str:
    """Whose LL is higher, and by how much."""
    own, other = (block.likelihood(g) for g in (pair.identifiable, pair.classical))
    if own is None or other is None:
        return block.uncompared or "no likelihoods to compare"
    gap = paired(own, other)
    away = f"{number(abs(gap.mean), 2)} ± {number(gap.se, 2)} nats"
    levels = f"{number(own.mean, 2)} against {number(other.mean, 2)}"
    higher = "higher" if gap.mean > 0 else "lower"
    said = f"{pair.identifiable.method}'s LL is {higher} by {away}"
    if gap.n == 1 and abs(gap.mean) > NEAR * gap.se:
        return f"{said} in one run each ({levels}; ± of the data measured, not of seeds)"
    if gap.above(0.0) == "open":
        return f"their LL are not told apart ({levels}, {away})"
    return f"{said} ({levels})"


def claims_table(block: Block) -> Table | None:
    """The claims by depth, each answered yes, no or open; None without models by depth to compare.

    Args:
        block: the runs of one experiment, data set and judged latent.

    Returns:
        A row a depth and a last one for every depth. That the classical model collapses is claimed
        of a flexible decoder, so that its last answer is the deepest one's.
    """
    found = pairs(block) if block.keys == (DEPTH,) else []
    if len(found) < 2:
        return None
    rows, said = [], []
    for pair in found:
        cells, answer = _claims(block, pair)
        rows.append(Row(str(pair.classical.grid[0][1]), tuple(cells)))
        said.append(answer)
    columns = list(zip(*said, strict=True))
    over = [columns[0][-1], *(_every(column) for column in columns[1:])]
    last = [Cell(), Cell(), Cell(over[0]), Cell(), Cell(over[1]), Cell(), Cell(over[2])]
    rows.append(Row("every", (*last, Cell(), Cell(over[3]))))
    classical, own = found[0].classical.method, found[0].identifiable.method
    head = (
        "layers",
        "n",
        f"AU {classical}",
        "collapsed",
        f"AU {own}",
        "1.00",
        "to best",
        "near",
        f"to {classical}",
        "higher",
    )
    units = (
        f"to best, to {classical}: {own}'s LL less the best of all models' and less {classical}'s,"
        f" in {NATS}, ± the standard error over pairs of the same seed; AU of"
        f" {block.facts.judged} ± sd over n seeds. collapsed: every run by its verdict, asked"
        f" of the deepest in the last row; 1.00: in every run; near: at most {ALLOWED} below the"
        f" best; higher: than {classical}'s. {OPEN}"
        + (f" {block.uncompared}." if block.uncompared else "")
    )
    title = f"{block.data}: does depth collapse {classical}, and not {own}?"
    return Table(f"{block.experiment}-{block.data}-claims", title, head, tuple(rows), units, ())


def _every(answers_: Sequence[Said]) -> Said:
    """Yes where all are, no where one is."""
    if "no" in answers_:
        return "no"
    return "open" if "open" in answers_ else "yes"


def _claims(block: Block, pair: Pair) -> tuple[list[Cell], tuple[Said, Said, Said, Said]]:
    """One row: numbers and answers."""
    latent = block.facts.judged
    au = [g.statistic(QUANTITIES["au"], latent) for g in (pair.classical, pair.identifiable)]
    own, other = block.likelihood(pair.identifiable), block.likelihood(pair.classical)
    count, n = pair.classical.verdicts().get("collapsed", 0), len(pair.classical.used)
    collapsed: Said = "open" if au[0] is None else in_all(count, n)
    full = kept(au[1], 1.0)
    to_best, near = _above(own, best(block, pair.all), -ALLOWED)
    to_other, higher = _above(own, other, 0.0)
    cells = [Cell(str(len(pair.identifiable.used))), _au(au[0]), Cell(collapsed), _au(au[1])]
    cells += [Cell(full), to_best, Cell(near), to_other, Cell(higher)]
    return cells, (collapsed, full, near, higher)


def best(block: Block, groups: Iterable[Group]) -> Statistic | None:
    """The highest mean LL of some rows, None where there is none or they may not be compared."""
    found = [s for group in groups if (s := block.likelihood(group)) is not None]
    return max(found, key=lambda s: s.mean, default=None)


def _au(found: Statistic | None) -> Cell:
    if found is None:
        return Cell()
    return Cell(number(found.mean, 2), "" if found.sd is None else number(found.sd, 2))


def _above(own: Statistic | None, other: Statistic | None, limit: float) -> tuple[Cell, Said]:
    """A difference, and whether it is above a limit."""
    if own is None or other is None:
        return Cell(), "open"
    gap = paired(own, other)
    return Cell(number(gap.mean, 2), number(gap.se, 2)), gap.above(limit)
