"""The tables of a block of runs, as data: rows, remarks and footnotes before any format."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from lidcli.report.cells import (
    DASH,
    MARKS,
    Cell,
    Column,
    Row,
    Table,
    best_rows,
    filled,
    marked,
    number,
    pooled,
    shared_decimals,
)
from lidcli.report.collect import finite
from lidcli.report.groups import Block, Group, Statistic, grid_text
from lidcli.report.notes import Notes, block_notes, mark_group
from lidcli.report.paper import PaperTable, alias, paper_table

__all__ = ["UNITS", "block_tables", "headline"]

UNITS = (
    "KL, MI, ELBO and LL in nats per datum (summed over dimensions, averaged over data);"
    " AU is a fraction of units"
)


def _main_columns(unit: str) -> tuple[Column, ...]:
    return (
        Column(f"au/{unit}", f"AU_{unit}", always=True, decimals=2),
        Column(f"kl/{unit}", f"KL_{unit}", always=True),
        Column(f"mi/{unit}", f"MI_{unit}", best=True, always=True),
        Column("ll", "LL", best=True, always=True),
        Column("accuracy", "acc. %", best=True, percent=True, decimals=1),
    )


def _inner_columns(symbol: str, mixture: bool) -> tuple[Column, ...]:
    latent = (
        Column("perplexity/c", "perpl._c", decimals=1),
        Column(f"au/{symbol}", f"AU_{symbol}", decimals=2),
        Column(f"kl/{symbol}", f"KL_{symbol}"),
        Column(f"mi/{symbol}", f"MI_{symbol}"),
    )
    return (
        Column("elbo", "ELBO", best=True, always=True),
        *(latent if mixture else ()),
        Column("certificate_log10", "cert.", lowest=True, decimals=1),
        Column("slope_log10", "slope", lowest=True, decimals=1),
    )


def _columns_table(
    block: Block, name: str, title: str, columns: tuple[Column, ...], units: str, main: bool
) -> Table:
    table: list[tuple[Column, list[Statistic | None]]] = []
    for column in columns:
        statistics = [pooled(group, column) for group in block.groups]
        if column.always or any(s is not None for s in statistics):
            table.append((column, statistics))
    notes = Notes()
    comparable = block_notes(block, notes)
    cells: list[list[Cell]] = [[] for _ in block.groups]
    for column, statistics in table:
        likelihood = column.metric in ("ll", "elbo")
        best = set() if likelihood and not comparable else best_rows(column, statistics)
        decimals = shared_decimals(column, statistics)
        for i, (group, statistic) in enumerate(zip(block.groups, statistics, strict=True)):
            cell = filled(column, statistic, decimals, marked(column, group, statistic))
            cells[i].append(Cell(cell.text, cell.sd, i in best, cell.mark))
    grid = tuple(key.rpartition(".")[2] for key in block.keys)
    rows = []
    for group, row in zip(block.groups, cells, strict=True):
        own = (Cell(str(len(group.used) or DASH)), *row)
        values = tuple(Cell(str(value)) for _, value in group.grid)
        if main:
            own = (*own, Cell(_verdict_text(group)))
        marks = mark_group(group, notes) if main else ()
        rows.append(Row(group.method, (*values, *own), marks))
    head = ("method", *grid, "n", *(column.head for column, _ in table))
    if main:
        head = (*head, "verdict")
        rows += _ceiling(block, [column for column, _ in table], len(grid), len(head))
    used = {cell.mark for row in rows for cell in row.cells} - {""}
    legend = tuple(text for mark, text in MARKS.items() if mark in used)
    remarks = (*notes.remarks, *legend) if main else legend
    return Table(name, title, head, tuple(rows), units, notes.texts, remarks)


def _ceiling(block: Block, columns: list[Column], grid: int, width: int) -> list[Row]:
    """The most that LL, and KL and MI of the category, can reach."""
    values: dict[str, str] = {}
    if block.entropy is not None:
        values["ll"] = number(-block.entropy, 3)
    if block.judged == "c" and block.categories is not None:
        values |= dict.fromkeys(("kl/c", "mi/c"), number(math.log(block.categories), 2))
    if not values:
        return []
    cells = [Cell("")] * (grid + 1) + [Cell(values.get(column.metric, "")) for column in columns]
    return [Row("ceiling", (*cells, *[Cell("")] * (width - 1 - len(cells))), quiet=True)]


def _verdict_text(group: Group) -> str:
    return ", ".join(f"{count} {name}" for name, count in group.verdicts().items()) or DASH


def _paper_table(block: Block, paper: PaperTable) -> Table:
    """Ours beside the paper's: a row for each method of either."""
    unit = block.judged
    columns = [
        (Column(f"au/{unit}", "AU", decimals=2), "au"),
        (Column(f"kl/{unit}", "KL"), "kl"),
        (Column(f"mi/{unit}", "MI"), "mi"),
        (Column("ll", "LL"), "ll"),
    ]
    groups = [
        group
        for group in block.groups
        if all(dict(group.grid).get(k, v) == v for k, v in paper.settings.items())
    ]

    def named(group: Group) -> str:
        rest = tuple(point for point in group.grid if point[0] not in paper.settings)
        return replace(group, grid=rest).label

    rows: list[tuple[str, Group | None, Mapping[str, float]]] = []
    for method, printed in paper.rows.items():
        ours = [group for group in groups if alias(group.method) == method]
        rows += [(named(group), group, printed) for group in ours] or [(method, None, printed)]
    rows += [(named(g), g, {}) for g in groups if alias(g.method) not in paper.rows]
    notes = Notes()
    decimals = {
        key: shared_decimals(column, [g.statistic(column.metric) for g in groups])
        for column, key in columns
    }
    out = []
    for label, group, theirs in rows:
        cells = []
        for column, key in columns:
            ours_here = group.statistic(column.metric) if group is not None else None
            cells.append(filled(column, ours_here, decimals[key], ""))
            sd = theirs.get(f"{key}_sd")
            text = _printed(theirs[key]) if key in theirs else DASH
            cells.append(Cell(text, "" if sd is None else _printed(sd)))
        marks = [*notes.differing(group, paper.settings)] if group is not None else []
        out.append(Row(label, tuple(cells), tuple(marks)))
    head = ("method", *(h for column, _ in columns for h in (column.head, "paper")))
    return Table(
        f"{block.experiment}-{block.data}-paper",
        f"{block.data}: ours beside the paper's",
        head,
        tuple(out),
        f"{UNITS}. Ours: AU, KL and MI of {unit}. Paper: {paper.source}.",
        notes.texts,
        paper.cautions,
    )


def _printed(value: float) -> str:
    return repr(value).replace("e-0", "e-").replace("-", "−").replace("e−", "e-")


def block_tables(block: Block) -> list[Table]:
    """The tables of one experiment, data set and family.

    Args:
        block: from `groups.blocks`.

    Returns:
        The fit and the judged latent; the continuous latent and identifiability; and, where the
        paper has the data, ours beside the paper's.
    """
    mixture = block.family == "mixture"
    of = "category c" if mixture else "latent z"
    stem = f"{block.experiment}-{block.data}"
    main_units = (
        f"{UNITS}; AU, KL and MI are of the {of}. Mean ± sd over n seeds. Bold: the best mean of a"
        " column and those within two standard errors of it."
    )
    accuracy = any(finite(r.metrics.get("accuracy")) for r in block.records)
    if accuracy:
        main_units += " acc.: one-to-one matching of categories and labels."
    inner_units = f"{UNITS}."
    if any(finite(r.metrics.get("certificate_log10")) for r in block.records):
        inner_units += " cert.: log10 of the proven lower bound of the decoder's slope."
    inner_units += " slope: log10 of the smallest slope measured. Both: the lowest over seeds."
    if any(r.settings.get("inference.categorical") == "explicit" for r in block.records):
        inner_units += (
            " KL_w is of w given c, so MI_w, which also holds what w tells of x through c, may"
            " exceed it."
        )
    if mixture:
        inner_units += " perpl.: categories in use (exp of the entropy of mean q(c|x))."
    family = "" if mixture else f" ({block.family})"
    tables = [
        _columns_table(
            block,
            f"{stem}-fit",
            f"{block.data}{family}: fit and {of}",
            _main_columns(block.judged),
            main_units,
            True,
        ),
        _columns_table(
            block,
            f"{stem}-inside",
            f"{block.data}{family}: bound, {'latent w and ' if mixture else ''}identifiability",
            _inner_columns(block.symbol, mixture),
            inner_units,
            False,
        ),
    ]
    paper = paper_table(block.data, block.family)
    if paper is not None:
        tables.append(_paper_table(block, paper))
    return tables


def headline(blocks: Iterable[Block]) -> list[str]:
    """One sentence a data set: how many runs of each method have which verdict."""
    sentences = []
    for block in blocks:
        parts = []
        for method in block.methods:
            counts: dict[str, int] = {}
            runs = [r for g in block.groups if g.method == method for r in g.records]
            for record in runs:
                name = record.verdict if record.complete else record.status
                counts[name or record.status] = counts.get(name or record.status, 0) + 1
            said = " and ".join(
                f"{name} in {count}"
                for name, count in sorted(counts.items(), key=lambda item: -item[1])
            )
            parts.append(f"{method}: {said} of {len(runs)} run{'s' if len(runs) != 1 else ''}")
        grid = ", ".join(grid_text(key, "") for key in block.keys).replace(" ,", ",").strip()
        over = f" (over seeds and {grid})" if grid else ""
        sentences.append(f"{block.data}{over} — {'; '.join(parts)}.")
    return sentences
