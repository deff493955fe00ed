"""One HTML page that holds everything: tables, figures, and every run's numbers and settings."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lidcli.metrics.quantities import headlines
from lidcli.report.cells import Cell, Row, Table, number
from lidcli.report.claims import answers
from lidcli.report.collect import Record
from lidcli.report.command import commands, train_command
from lidcli.report.embedded import GLANCE, Figures
from lidcli.report.figures.draw import Picture, slug
from lidcli.report.groups import Block
from lidcli.report.tables import headline
from lidcli.report.texts import html, texts_of

if TYPE_CHECKING:
    from lidcli.config.read import Experiments

__all__ = ["Section", "page"]


@dataclass
class Section:
    """What a report shows of one experiment, data set and judged latent."""

    block: Block
    tables: list[Table]
    pictures: list[Picture] = field(default_factory=list)


REPEATED = ("texts", "sessions", "facts", "status", "message", "verdict_reason")
"""Parts of the provenance that the page shows elsewhere, or that repeat the rest of it."""
BOLD_TEXT = (
    "In tables bold marks the best mean of a column, and what is not told from it and within two of"
    " the best's standard errors; ~ marks what is only too noisy to tell. Every ± is of the runs"
    " below."
)
DUMPER = type(
    "Dumper",
    (getattr(yaml, "CSafeDumper", yaml.SafeDumper),),
    {"ignore_aliases": lambda self, data: True},
)
"""Says a part anew wherever it is, also where the index made equal parts one object."""
DETAILED = 200
"""The settings of about so many runs are part of the page, the first of each experiment."""


def page(
    experiments: Mapping[str, Sequence[Section]],
    warnings: Iterable[str],
    title: str,
    folder: Path,
    known: Experiments | None = None,
) -> str:
    """The whole report as one page that needs nothing from anywhere.

    Args:
        experiments: sections by name; the PNG files of their pictures are read here.
        warnings: sentences about what is left out.
        title: of the page.
        folder: of the page, with the pictures below it.
        known: models and data, from which the command of a single run is told.

    Returns:
        HTML without external references, every text escaped; its one script, named by its digest
        in the page's own policy, sorts tables and copies commands, and nothing depends on it.
    """
    warned = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    figures = Figures(
        folder, [p for sections in experiments.values() for s in sections for p in s.pictures]
    )
    body = [
        '<a class="skip" href="#report">To the report</a>',
        _contents(experiments),
        f'<main id="report"><h1>{escape(title)}</h1>',
        _opening(experiments, figures),
        f'<div class="warnings">Warnings<ul>{warned}</ul></div>' if warned else "",
    ]
    share = max(1, DETAILED // max(1, len(experiments)))
    for name, sections in experiments.items():
        body.append(_experiment(name, sections, known, figures, share))
    script = _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline';"
        f" script-src 'sha256-{digest}'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_file('style.css')}</style></head>\n<body>\n"
        + "\n".join(filter(None, body))
        + f"\n</main><script>{script}</script></body></html>\n"
    )


def _file(name: str) -> str:
    return files("lidcli.report").joinpath(name).read_text(encoding="utf-8")


def _contents(experiments: Mapping[str, Sequence[Section]]) -> str:
    """Links to every experiment and to its tables, figures and runs."""
    items = []
    for name, sections in experiments.items():
        here = slug(name)
        links = [(slug(table.name), table.title) for part in sections for table in part.tables]
        links += [(f"{here}-figures", "figures")] * any(part.pictures for part in sections)
        links.append((f"{here}-runs", "runs"))
        inner = "".join(f'<li><a href="#{link}">{escape(text)}</a></li>' for link, text in links)
        items.append(f'<li><a href="#{here}">{escape(name)}</a><ul>{inner}</ul></li>')
    return (
        '<nav aria-label="Contents"><details><summary>Contents</summary>'
        f"<ul>{''.join(items)}</ul></details></nav>"
    )


def _opening(experiments: Mapping[str, Sequence[Section]], figures: Figures) -> str:
    """The question, the answers with their numbers, and the first picture that shows one."""
    said = [
        text for sections in experiments.values() for text in answers(s.block for s in sections)
    ]
    glance = next((p for p in figures.pictures if p.name.endswith(GLANCE)), None)
    answer = "".join(f'<p class="verdict">{escape(text)}</p>' for text in said)
    return (
        '<p class="soft">Has the posterior collapsed, and would an identifiable decoder help?</p>'
        + answer
        + (figures.shown(glance) if glance is not None else "")
        + '<p class="soft">KL, MI, ELBO and LL are in nats per datum; AU is a fraction of units.'
        f" {escape(BOLD_TEXT)}</p>"
    )


def _experiment(
    name: str,
    sections: Sequence[Section],
    known: Experiments | None,
    figures: Figures,
    detailed: int,
) -> str:
    """One experiment: its answers and verdicts, tables, figures, commands and runs."""
    blocks = [section.block for section in sections]
    here = slug(name)
    body = [f'<section><h2 id="{here}">{escape(name)}</h2>']
    told = answers(blocks)
    said = [text for text in headline(blocks) if text not in told]
    body += [f'<p class="verdict">{escape(text)}</p>' for text in said]
    body += [_table(table) for section in sections for table in section.tables]
    drawn = [p for section in sections for p in section.pictures if not p.part]
    if drawn:
        body.append(f'<h3 id="{here}-figures">Figures</h3>')
        body += map(figures.shown, drawn)
    body += [_texts(block) for block in blocks]
    body += [_reproduce(blocks), _runs(blocks, here, known, detailed), "</section>"]
    return "\n".join(filter(None, body))


def _head(text: str) -> str:
    stem, under, index = text.partition("_")
    return (
        f"{escape(stem)}<sub>{escape(index)}</sub>" if under and len(index) == 1 else escape(text)
    )


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    text += f'<span class="sd"> ± {escape(cell.sd)}</span>' if cell.sd else ""
    kind = ' class="best"' if cell.bold else ""
    return f"<td{kind}>{text}{escape(cell.mark)}</td>"


def _row(row: Row) -> str:
    notes = f"<sup>{','.join(map(str, row.notes))}</sup>" if row.notes else ""
    cells = "".join(map(_cell, row.cells))
    kind = ' class="quiet"' if row.quiet else ""
    return f"<tr{kind}><td>{escape(row.label)}{notes}</td>{cells}</tr>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_head(text)}</th>' for text in table.head)
    notes = "".join(f"<li>{escape(text)}</li>" for text in table.notes)
    legend = "".join(f'<p class="units">{escape(text)}</p>' for text in table.remarks)
    return (
        f'<h3 id="{slug(table.name)}">{escape(table.title)}</h3>'
        f'{_scrolled(table.title)}<table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(map(_row, table.rows))}</tbody></table></div>"
        f'<p class="units">{escape(table.units)}</p>{legend}'
        + (f'<ol class="notes">{notes}</ol>' if notes else "")
    )


def _scrolled(title: str) -> str:
    """The opening tag of a part that scrolls by itself, by keyboard too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'


def _texts(block: Block) -> str:
    """Sentences of the representative run of each group, where it left some."""
    folds = []
    for group in block.groups:
        record = group.representative
        texts = texts_of(record) if record is not None else None
        if record is not None and texts is not None:
            shown = html(texts, record.facts.symbol)
            folds.append(_fold(f"{group.label}, seed {record.seed}", shown))
    title = f"<h3>{escape(block.data)}: sentences and words of the lowest seed</h3>"
    return title + "".join(folds) if folds else ""


def _reproduce(blocks: Sequence[Block]) -> str:
    lines = commands(record for block in blocks for record in block.records)
    if not lines:
        return ""
    text = "".join(map(_command, lines))
    if len(lines) > 8:
        text = _fold(f"{len(lines)} command lines", text)
    return f"<h3>To reproduce</h3>{text}"


def _command(line: str) -> str:
    return f'<div class="command"><code>{escape(line)}</code></div>'


def _runs(blocks: Sequence[Block], here: str, known: Experiments | None, detailed: int) -> str:
    runs = [
        (record, f"{block.data}, {group.label}, seed {record.seed}")
        for block in blocks
        for group in block.groups
        for record in group.records
    ]
    rows = [_run(record, label, known) for record, label in runs[:detailed]]
    if len(runs) > detailed:
        rows.append('<p class="soft">The settings of the others are shown by lid show RUN.</p>')
        rows += [f"<div>{_headline(record, label)}</div>" for record, label in runs[detailed:]]
    return f'<h3 id="{here}-runs">Runs</h3>' + _fold(f"{len(runs)} runs", "".join(rows))


def _headline(record: Record, label: str) -> str:
    """One line on a run."""
    said = record.verdict if record.complete else record.status
    shown = headlines(record.metrics)[:1]
    figure = "".join(f", {name} {number(record.metrics[key], 3)}" for name, key, _ in shown)
    return (
        f'{escape(label)}: {escape(said)}{figure} <span class="soft">{escape(record.run_id)}</span>'
    )


def _run(record: Record, label: str, known: Experiments | None) -> str:
    told = record.provenance
    facts = {key: v for key, v in told.items() if key not in REPEATED}
    line = train_command(record, known)
    parts = [
        f"<summary>{_headline(record, label)}</summary>",
        f'<p class="soft">{escape(record.status)} {escape(str(told.get("message") or ""))}'
        f" {escape(str(told.get('verdict_reason') or ''))}</p>",
        _command(line) if line else "",
    ]
    checks = record.texts("checks")
    if checks:
        parts.append(f'<p class="warnings">Invariants violated: {escape("; ".join(checks))}</p>')
    if record.metrics:
        parts.append(
            _fold(
                f"evaluation, {record.split} split",
                _plain("evaluation", _evaluation(record.metrics)),
            )
        )
    for title, content in (("configuration", record.config), ("provenance", facts)):
        parts.append(_fold(title, _plain(title, _yaml(content))))
    return f'<details class="run">{"".join(parts)}</details>'


def _plain(title: str, text: str) -> str:
    return f'<pre tabindex="0" role="region" aria-label="{title}">{escape(text, False)}</pre>'


def _yaml(content: dict[str, Any]) -> str:
    text: str = yaml.dump(
        content, Dumper=DUMPER, sort_keys=False, allow_unicode=True, default_flow_style=None
    )
    return text


def _fold(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _evaluation(metrics: Mapping[str, float]) -> str:
    """A line a quantity, with its standard error where there is one."""
    errors = {
        name: f" ± {metrics[f'{name}_se']:.2g}" for name in metrics if f"{name}_se" in metrics
    }
    return "\n".join(
        f"{name}  {value:.6g}{errors.get(name, '')}"
        for name, value in metrics.items()
        if not name.endswith("_se")
    )
