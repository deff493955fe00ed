"""The formats of a table: Markdown, LaTeX and the terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lidcli.report.cells import Cell, Row, Table

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table as RichTable

__all__ = ["latex", "latex_document", "latex_text", "markdown", "markdown_text", "terminal"]

SUPERSCRIPTS = str.maketrans("0123456789,", "⁰¹²³⁴⁵⁶⁷⁸⁹˒")
NUMBER = "row"
"""Heads the numbers of rows that are told above their table."""
SHORT = {"informative": "I", "partly collapsed": "P", "collapsed": "C"}


def _label(row: Row) -> str:
    return ",".join(map(str, row.notes))


def _pad(rows: Sequence[Sequence[str]], left: int = 1) -> list[list[str]]:
    widths = [max(2, *(len(row[i]) for row in rows)) for i in range(len(rows[0]))]
    return [
        [
            t.ljust(w) if i < left else t.rjust(w)
            for i, (t, w) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]


def markdown_text(text: str) -> str:
    """Text with every character escaped that Markdown or HTML would read.

    Example:
        >>> markdown_text("a|<b>")
        'a\\\\|&lt;b&gt;'
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|!#])", r"\\\1", text)


def _wrapped(text: str, bullet: str = "") -> str:
    text = bullet + markdown_text(text)
    return textwrap.fill(
        text,
        98,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )


def markdown(table: Table) -> str:
    """One table in GitHub's Markdown, with units and footnotes."""

    def cell(c: Cell) -> str:
        text = markdown_text(c.text) + (f"±{c.sd}" if c.sd else "") + c.mark
        return f"**{text}**" if c.bold else text

    head = [markdown_text(text).replace("\\_", "_") for text in table.head]
    rows = [head]
    for row in table.rows:
        label = f"_{markdown_text(row.label)}_" if row.quiet else markdown_text(row.label)
        label += f" <sup>{_label(row)}</sup>" if row.notes else ""
        rows.append([label, *map(cell, row.cells)])
    padded = _pad(rows)
    rule = [":" + "-" * (len(padded[0][0]) - 1)]
    rule += ["-" * (len(text) - 1) + ":" for text in padded[0][1:]]
    lines = [f"### {markdown_text(table.title)}", ""]
    lines += [f"| {' | '.join(row)} |" for row in (padded[0], rule, *padded[1:])]
    lines += ["", _wrapped(table.units)]
    lines += [line for text in table.remarks for line in ("", _wrapped(text))]
    if table.notes:
        lines += ["", *(_wrapped(text, f"{i}. ") for i, text in enumerate(table.notes, 1))]
    return "\n".join(lines) + "\n"


LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "`": r"\textasciigrave{}",
    **dict.fromkeys("ÐðÞþ", "?"),
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "—": "---",
    "×": r"$\times$",
    "‖": r"$\Vert$",
    "†": r"$^{\dagger}$",
    "‡": r"$^{\ddagger}$",
    "β": r"$\beta$",
    "σ": r"$\sigma$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
}


def latex_text(text: str) -> str:
    """Text for pdflatex: specials escaped, what its fonts lack as a question mark.

    Example:
        >>> latex_text("50% of β_1")
        '50\\\\% of $\\\\beta$\\\\_1'
    """
    return "".join(
        LATEX.get(ch, ch if ord(ch) < 127 or 191 < ord(ch) < 256 else "?") for ch in text
    )


def _latex_head(text: str) -> str:
    stem, under, index = text.partition("_")
    return f"{latex_text(stem)}$_{index}$" if under and len(index) == 1 else latex_text(text)


def latex(table: Table) -> str:
    """One table for booktabs, with units and footnotes below it."""

    def cell(c: Cell) -> str:
        text = latex_text(c.text + (f" ± {c.sd}" if c.sd else ""))
        return (rf"\textbf{{\boldmath {text}}}" if c.bold else text) + latex_text(c.mark)

    lines = [
        r"\begin{table}[htbp]",
        r"\centering\small",
        rf"\caption{{{latex_text(table.title)}}}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (len(table.head) - 1)}@{{}}}}",
        r"\toprule",
        " & ".join(map(_latex_head, table.head)) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        label = latex_text(row.label)
        label = rf"\textit{{{label}}}" if row.quiet else label
        label += rf"\textsuperscript{{{_label(row)}}}" if row.notes else ""
        lines.append(" & ".join([label, *map(cell, row.cells)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", "", r"\smallskip", r"\begin{minipage}{\linewidth}"]
    lines += [r"\footnotesize", latex_text(table.units)]
    lines += [rf"\par {latex_text(text)}" for text in table.remarks]
    lines += [
        rf"\par \textsuperscript{{{i}}}{latex_text(text)}" for i, text in enumerate(table.notes, 1)
    ]
    return "\n".join([*lines, r"\end{minipage}", r"\end{table}", ""])


def latex_document(tables: Iterable[Table]) -> str:
    """A file that pdflatex compiles as is; its comments say what one table alone needs."""
    parts = [
        "% Compile with pdflatex. To take one table into a paper, copy it from \\begin{table} to",
        "% \\end{table}; its preamble needs the packages booktabs and textcomp.",
        r"\documentclass{article}",
        r"\usepackage[margin=15mm]{geometry}",
        r"\usepackage{textcomp}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage{booktabs}",
        r"\begin{document}",
    ]
    for table in tables:
        parts += [f"% --- {latex_text(table.name)}", latex(table)]
    return "\n".join([*parts, r"\clearpage", r"\end{document}", ""])


def terminal(table: Table, width: int = 80, stars: bool = False) -> Group:
    """One table for a rich console: no space around ±, verdicts by letter.

    Args:
        table: to show.
        width: columns; where the table is wider, 1.58±0.01 is written 1.58(1), and where that is
            not enough, the table is folded; rows that are too wide for that are numbered.
        stars: put a star where the terminal cannot show bold.
    """
    from rich.console import Group
    from rich.text import Text

    told: list[str] = []
    if not _roomy(_terminal_rows(table, True, stars)[0], table.keys, width):
        table, told = _numbered(table)
    rows, letters = _terminal_rows(table, False, stars)
    concise = len(_folds(rows, table.keys, width)) > 1
    if concise:
        rows, letters = _terminal_rows(table, True, stars)
    units = table.units.replace("Bold:", "Star:") if stars else table.units
    units += " 1.58(1) is 1.58 ± 0.01." if concise else ""
    said = [f"{short} {name}" for name, short in SHORT.items() if short in letters]
    units += f" Verdict: {', '.join(said)}." if said else ""
    below = [units, *table.remarks]
    below += [f"{str(i).translate(SUPERSCRIPTS)} {text}" for i, text in enumerate(table.notes, 1)]
    folds = _folds(rows, table.keys, width)
    parts = [_rich(table, rows, columns) for columns in folds]
    title = Text(table.title, style="bold")
    return Group(title, *map(Text, told), *parts, *(Text(t, style="dim") for t in below), Text())


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) + 1 for column in zip(*rows, strict=True)]


def _roomy(rows: Sequence[Sequence[str]], keys: int, width: int) -> bool:
    """Whether every column fits beside the key columns, or a number would be no narrower."""
    widths = _widths(rows)
    own = sum(widths[:keys])
    return own + max(widths[keys:], default=0) <= width + 1 or own <= len(NUMBER) + 1


def _numbered(table: Table) -> tuple[Table, list[str]]:
    """The table with a number in place of the key columns, and what each number stands for."""
    rows, told = [], []
    for i, row in enumerate(table.rows, 1):
        grid = zip(table.head[1 : table.keys], row.cells, strict=False)
        words = [f"{head} {cell.text}" for head, cell in grid if cell.text]
        told.append(f"{i} {', '.join([_labelled(row), *words])}")
        rows.append(replace(row, label=str(i), cells=row.cells[table.keys - 1 :], notes=()))
    head = (NUMBER, *table.head[table.keys :])
    return replace(table, head=head, rows=tuple(rows), keys=1), told


def _folds(rows: Sequence[Sequence[str]], keys: int, width: int) -> list[list[int]]:
    """The columns of every part in which the rows fit the width, each with the key columns."""
    widths = _widths(rows)
    room = width + 1 - sum(widths[:keys])
    parts: list[list[int]] = [[]]
    for i in range(keys, len(widths)):
        if parts[-1] and sum(widths[j] for j in parts[-1]) + widths[i] > room:
            parts.append([])
        parts[-1].append(i)
    return [[*range(keys), *part] for part in parts]


def _rich(table: Table, rows: Sequence[Sequence[str]], columns: Sequence[int]) -> RichTable:
    """Some columns of the rows as rich lays them out, in the styles of the table's cells."""
    from rich.table import Table as RichTable
    from rich.text import Text

    out = RichTable(
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
    )
    for i in columns:
        out.add_column(Text(rows[0][i]), justify="left" if i == 0 else "right", no_wrap=i > 0)
    for row, texts in zip(table.rows, rows[1:], strict=True):
        quiet = "dim italic" if row.quiet else ""
        label = Text(row.label, style=quiet)
        label.append(texts[0][len(row.label) :], style="dim")
        styles = ["bold green" if cell.bold else quiet for cell in row.cells]
        out.add_row(label, *(Text(texts[i], style=styles[i - 1]) for i in columns if i))
    return out


def _terminal_rows(table: Table, concise: bool, stars: bool) -> tuple[list[list[str]], set[str]]:
    """Head and cells as text, and the letters of verdicts that stand in them."""
    rows, letters = [list(table.head)], set()
    for row in table.rows:
        texts = [_labelled(row)]
        for head, cell in zip(table.head[1:], row.cells, strict=True):
            text = cell.text
            if head == "verdict":
                text, found = _letters(text)
                letters |= found
            if cell.sd and concise and _places(cell.sd) == _places(text):
                text += f"({cell.sd.replace('.', '').lstrip('0') or '0'})"
            elif cell.sd:
                text += f"±{cell.sd}"
            texts.append(text + cell.mark + ("*" if cell.bold and stars else ""))
        rows.append(texts)
    return rows, letters


def _labelled(row: Row) -> str:
    return row.label + _label(row).translate(SUPERSCRIPTS)


def _places(text: str) -> int:
    return len(text.partition(".")[2])


def _letters(text: str) -> tuple[str, set[str]]:
    """Verdict counts by letter: `5 informative` is `5I`."""
    used = set()
    for name in sorted(SHORT, key=len, reverse=True):
        if name in text:
            text = text.replace(name, SHORT[name])
            used.add(SHORT[name])
    return re.sub(r"(\d+) ([IPC])\b", r"\1\2", text).replace(", ", " "), used
