"""The tables of a block of runs, as data: rows, remarks and footnotes before any format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lidcli.metrics.quantities import QUANTITIES
from lidcli.metrics.quantity import NATS
from lidcli.names import short_keys
from lidcli.report.category import category_table
from lidcli.report.cells import (
    BOLD,
    DASH,
    MARKS,
    UNTOLD,
    Cell,
    Column,
    Row,
    Table,
    filled,
    judged_rows,
    marked,
    number,
    shared_decimals,
)
from lidcli.report.claims import answers, claims_table
from lidcli.report.groups import Block, Group, Statistic
from lidcli.report.notes import Notes, block_notes, mark_group
from lidcli.report.paper import PaperTable, alias, paper_table
from lidcli.report.sentences import sentences_table

__all__ = ["block_tables", "headline"]

NO_LATENT = "no latent"
"""The verdict on a model that has none, which is no news."""

CONDITIONAL = (
    "KL_w is of w given c, so MI_w, which also holds what w tells of x through c, may exceed it."
)
PAPER = ("au", "kl", "mi", "ll")
"""The quantities of the paper's tables, by our keys and theirs."""


def _fit_columns(block: Block) -> list[Column]:
    """Columns of the first table: the judged latent's, then the others."""
    fit = [q for q in QUANTITIES.values() if q.table == "fit"]
    judged = block.facts.judged
    own = [Column(q, judged) for q in fit if q.latent and judged]
    return own + [Column(q) for q in fit if not q.latent]


def _inner_columns(block: Block) -> list[Column]:
    """Columns of the second table; latents of a kind stand together."""
    columns = []
    others = [x for x in block.latents if x and x != block.facts.judged]
    for q in QUANTITIES.values():
        if q.latent and q.table == "fit":
            columns += [Column(q, x) for x in others]
        elif q.table == "inside":
            columns += [Column(q, x) for x in block.latents if x] if q.latent else [Column(q)]
    return columns


def _units(columns: Sequence[Column]) -> str:
    """Units and footnotes of the quantities that a table shows."""
    quantities = list(dict.fromkeys(column.quantity for column in columns))
    nats = [q.head for q in quantities if q.unit == NATS]
    said = [f"{_listed(nats)} in {NATS} (summed over dimensions, averaged over data)"]
    said += [q.footnote for q in quantities if q.footnote]
    return f"{'; '.join(said if nats else said[1:])}."


def _listed(words: Sequence[str]) -> str:
    """Words with commas, and `and` before the last."""
    head, last = words[:-1], words[-1:]
    return " and ".join([*([", ".join(head)] if head else []), *last])


def _filled_columns(
    block: Block, columns: Sequence[Column]
) -> tuple[list[Column], list[list[Cell]]]:
    """The columns that some run has a value for, and the cells of each row."""
    shown, rows = [], [[] for _ in block.groups]  # type: tuple[list[Column], list[list[Cell]]]
    for column in columns:
        statistics = [column.pooled(group) for group in block.groups]
        main = column.latent in ("", block.facts.judged)
        empty = all(s is None for s in statistics) and not (main and column.quantity.always)
        if empty or block.redundant(column.quantity):
            continue
        shown.append(column)
        judged = main and not (block.uncompared and column.quantity.likelihood)
        for row, cell in zip(rows, _cells(block, column, statistics, judged), strict=True):
            row.append(cell)
    return shown, rows


def _cells(
    block: Block, column: Column, statistics: Sequence[Statistic | None], judged: bool
) -> list[Cell]:
    """One column, a cell a row; where it is judged, the best are bold."""
    quantity = column.quantity
    decimals = shared_decimals(quantity, statistics)
    best, untold = judged_rows(quantity, statistics, decimals) if judged else (set(), set())
    cells = []
    for i, (group, statistic) in enumerate(zip(block.groups, statistics, strict=True)):
        mark = marked(column, group, statistic) + (UNTOLD if i in untold else "")
        cells.append(replace(filled(quantity, statistic, decimals), bold=i in best, mark=mark))
    return cells


def _columns_table(
    block: Block, name: str, title: str, columns: Sequence[Column], main: bool
) -> Table:
    """A row a group, a column a quantity; footnotes and the verdict in the main table."""
    notes = Notes()
    block_notes(block, notes)
    shown, cells = _filled_columns(block, columns)
    grid = tuple(short_keys(block.keys).values())
    rows = [_row(group, own, notes, main) for group, own in zip(block.groups, cells, strict=True)]
    head = ("method", *grid, "n", *(column.head for column in shown))
    units = [_units(shown)]
    if main:
        head = (*head, "verdict")
        rows += _ceiling(block, shown, len(grid), len(head))
        units.append("Mean ± sd over n seeds.")
    elif _conditional(block, shown):
        units.append(CONDITIONAL)
    units += [BOLD] if any(cell.bold for row in rows for cell in row.cells) else []
    remarks = (*notes.remarks, *_legend(rows)) if main else _legend(rows)
    said = " ".join(units)
    return Table(name, title, head, tuple(rows), said, notes.texts, remarks, 1 + len(grid))


def _row(group: Group, cells: Sequence[Cell], notes: Notes, main: bool) -> Row:
    """Grid values, number of seeds and cells; in the main table verdict and footnotes too."""
    values = [Cell(str(value)) for _, value in group.grid]
    row = (*values, Cell(str(len(group.used) or DASH)), *cells)
    if not main:
        return Row(group.method, row)
    return Row(group.method, (*row, Cell(_verdict_text(group))), mark_group(group, notes))


def _legend(rows: Iterable[Row]) -> tuple[str, ...]:
    """What the marks that stand in some cell mean."""
    used = {mark for row in rows for cell in row.cells for mark in cell.mark}
    return tuple(text for mark, text in MARKS.items() if mark in used)


def _conditional(block: Block, shown: Sequence[Column]) -> bool:
    """Whether KL and MI of a latent below the category stand there, the KL given the category."""
    heads = {column.head for column in shown}
    summed = any(record.facts.summed for record in block.records)
    return block.facts.categorical and {"KL_w", "MI_w"} <= heads and summed


def _ceiling(block: Block, columns: Sequence[Column], grid: int, width: int) -> list[Row]:
    """What the data set LL or NLL, and KL and MI of the judged latent."""
    cells = [Cell("")] * (grid + 1)
    for column in columns:
        most = block.ceiling(column.quantity, column.latent)
        decimals = 3 if column.quantity.likelihood else 2
        se = "" if most is None or most.se is None else number(most.se, decimals)
        cells.append(Cell("" if most is None else number(most.value, decimals), se))
    if not any(cell.text for cell in cells):
        return []
    label = "ceiling" if block.generator is None else "generator"
    return [Row(label, (*cells, *[Cell("")] * (width - 1 - len(cells))), quiet=True)]


def _verdict_text(group: Group) -> str:
    named = {name: n for name, n in group.verdicts().items() if name != NO_LATENT}
    return ", ".join(f"{count} {name}" for name, count in named.items()) or DASH


def _paper_table(block: Block, paper: PaperTable) -> Table:
    """Ours beside the paper's: a row for each method of either."""
    unit = block.facts.judged
    columns = [(Column(QUANTITIES[key], unit), key) for key in PAPER]
    groups = _paper_groups(block, paper)
    notes = Notes()
    decimals = {
        key: shared_decimals(column.quantity, [column.pooled(g) for g in groups])
        for column, key in columns
    }
    out = []
    for label, group, theirs in _paper_rows(groups, paper):
        cells = []
        for column, key in columns:
            ours = column.pooled(group) if group is not None else None
            cells += [filled(column.quantity, ours, decimals[key]), _paper_cell(theirs, key)]
        marks = [*notes.differing(group, paper.settings)] if group is not None else []
        out.append(Row(label, tuple(cells), tuple(marks)))
    head = ("method", *(h for column, _ in columns for h in (column.quantity.head, "paper")))
    return Table(
        f"{block.experiment}-{block.data}-paper",
        f"{block.data}: ours beside the paper's",
        head,
        tuple(out),
        f"{_units([column for column, _ in columns])} Ours: AU, KL and MI of {unit}."
        f" Paper: {paper.source}.",
        notes.texts,
        paper.cautions,
    )


def _paper_groups(block: Block, paper: PaperTable) -> list[Group]:
    """Our groups at the paper's settings, as far as they are on the grid."""
    return [
        group
        for group in block.groups
        if all(dict(group.grid).get(k, v) == v for k, v in paper.settings.items())
    ]


def _paper_rows(
    groups: Sequence[Group], paper: PaperTable
) -> list[tuple[str, Group | None, Mapping[str, float]]]:
    """Label, our group and the paper's numbers: its methods in its order, then ours alone."""

    def named(group: Group) -> str:
        rest = tuple(point for point in group.grid if point[0] not in paper.settings)
        return replace(group, grid=rest).label

    rows: list[tuple[str, Group | None, Mapping[str, float]]] = []
    for method, printed in paper.rows.items():
        ours = [group for group in groups if alias(group.method) == method]
        rows += [(named(group), group, printed) for group in ours] or [(method, None, printed)]
    return rows + [(named(g), g, {}) for g in groups if alias(g.method) not in paper.rows]


def _paper_cell(theirs: Mapping[str, float], key: str) -> Cell:
    """A number of the paper's, with its sd where it has one."""
    text = _printed(theirs[key]) if key in theirs else DASH
    sd = theirs.get(f"{key}_sd")
    return Cell(text, "" if sd is None else _printed(sd))


def _printed(value: float) -> str:
    return repr(value).replace("e-0", "e-").replace("-", "−").replace("e−", "e-")


def block_tables(block: Block) -> list[Table]:
    """The tables of one experiment, data set and judged latent.

    Args:
        block: from `groups.blocks`.

    Returns:
        The claims by depth, where they can be answered; the fit and the judged latent; the bound,
        any other latent and identifiability; where the paper has the data, ours beside the paper's;
        and the claims about a category or a latent of text, where several methods were compared.
    """
    stem = f"{block.experiment}-{block.data}"
    judged = block.facts.judged
    others = [f"latent {x}" for x in block.latents if x and x != judged]
    inside = _listed(["bound", *others, "identifiability"])
    tables = [
        _columns_table(
            block,
            f"{stem}-fit",
            f"{block.data}: fit and {block.facts.judged_words}",
            _fit_columns(block),
            True,
        ),
        _columns_table(
            block, f"{stem}-inside", f"{block.data}: {inside}", _inner_columns(block), False
        ),
    ]
    claims = claims_table(block)
    if claims is not None:
        tables.insert(0, claims)
    paper = paper_table(block.data, judged)
    if paper is not None:
        tables.append(_paper_table(block, paper))
    tables += [made for made in (category_table(block), sentences_table(block)) if made is not None]
    return tables


def headline(blocks: Iterable[Block]) -> list[str]:
    """The answer of each data set, and how many runs of each method have which verdict."""
    blocks = list(blocks)
    sentences = answers(blocks)
    for block in blocks:
        said = (_verdicts_of(block, method) for method in block.methods)
        parts = [text for text in said if text]
        grid = ", ".join(short_keys(block.keys).values())
        over = f" (over seeds and {grid})" if grid else ""
        if parts:
            sentences.append(f"{block.data}{over} — {'; '.join(parts)}.")
    return sentences


def _verdicts_of(block: Block, method: str) -> str:
    """How many runs of a method have which verdict; nothing where it has no latent to judge."""
    runs = [r for g in block.groups if g.method == method for r in g.records]
    counts = Counter((r.verdict if r.complete else "") or r.status for r in runs)
    if set(counts) == {NO_LATENT}:
        return ""
    said = " and ".join(f"{name} in {count}" for name, count in counts.most_common())
    return f"{method}: {said} of {len(runs)} run{'s' if len(runs) != 1 else ''}"
