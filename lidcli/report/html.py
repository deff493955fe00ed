"""One HTML page that holds everything: tables, figures, and every run's numbers and settings."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Any

import yaml

from lidcli.metrics.quantities import headlines
from lidcli.report.cells import Cell, Row, Table, number
from lidcli.report.collect import Record
from lidcli.report.figures.draw import Picture, slug
from lidcli.report.groups import Block
from lidcli.report.tables import headline
from lidcli.report.texts import html, texts_of

__all__ = ["Section", "commands", "page"]


@dataclass
class Section:
    """What a report shows of one experiment, data set and judged latent."""

    block: Block
    tables: list[Table]
    pictures: list[Picture] = field(default_factory=list)


POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(experiments: Mapping[str, Sequence[Section]], warnings: Iterable[str], title: str) -> str:
    """The whole report as one page that needs nothing from anywhere.

    Args:
        experiments: sections by name; the PNG files of their pictures are read here.
        warnings: sentences about what is left out.
        title: of the page.

    Returns:
        HTML without scripts or external references; every text escaped.
    """
    warned = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    links = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name in experiments)
    body = [
        f"<h1>{escape(title)}</h1>",
        '<p class="soft">Has the posterior collapsed, and would an identifiable decoder help?'
        " KL, MI, ELBO and LL are in nats per datum; AU is a fraction. Every number comes from the"
        " runs listed below each experiment.</p>",
        f"<nav>{links}</nav>" if len(experiments) > 1 else "",
        f'<div class="warnings">Warnings<ul>{warned}</ul></div>' if warned else "",
    ]
    for name, sections in experiments.items():
        blocks = [section.block for section in sections]
        body += [f'<section><h2 id="{_anchor(name)}">{escape(name)}</h2>']
        body += [f'<p class="verdict">{escape(text)}</p>' for text in headline(blocks)]
        for section in sections:
            body += [_table(table) for table in section.tables]
            body += [_figure(picture) for picture in section.pictures if not picture.part]
            body += [_texts(section.block)]
        body += [_reproduce(blocks), _runs(blocks), "</section>"]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_style()}</style></head>\n<body>\n"
        + "\n".join(filter(None, body))
        + "\n</body></html>\n"
    )


def _style() -> str:
    return files("lidcli.report").joinpath("style.css").read_text(encoding="utf-8")


def _anchor(name: str) -> str:
    return slug(name)


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
    head = "".join(f"<th>{_head(text)}</th>" for text in table.head)
    notes = "".join(f"<li>{escape(text)}</li>" for text in table.notes)
    legend = "".join(f'<p class="units">{escape(text)}</p>' for text in table.remarks)
    return (
        f"<h3>{escape(table.title)}</h3>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(map(_row, table.rows))}</tbody></table></div>"
        f'<p class="units">{escape(table.units)}</p>{legend}'
        + (f'<ol class="notes">{notes}</ol>' if notes else "")
    )


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png.read_bytes()).decode("ascii")
    caption = escape(picture.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


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


def commands(records: Iterable[Record]) -> list[str]:
    """The command lines that made runs, each once.

    Args:
        records: of any experiments.
    """
    lines = []
    for record in records:
        argv = [str(part) for part in record.provenance.get("argv") or []]
        if argv:
            lines.append(shlex.join(argv))
    return list(dict.fromkeys(lines))


def _reproduce(blocks: Sequence[Block]) -> str:
    lines = commands(record for block in blocks for record in block.records)
    if not lines:
        return ""
    text = f"<pre>{escape(chr(10).join(lines))}</pre>"
    if len(lines) > 8:
        text = f"<details><summary>{len(lines)} command lines</summary>{text}</details>"
    return f"<h3>To reproduce</h3>{text}"


def _runs(blocks: Sequence[Block]) -> str:
    rows = [
        _run(record, f"{block.data}, {group.label}, seed {record.seed}")
        for block in blocks
        for group in block.groups
        for record in group.records
    ]
    return f"<h3>Runs</h3><details><summary>{len(rows)} runs</summary>{''.join(rows)}</details>"


def _run(record: Record, label: str) -> str:
    said = record.verdict if record.complete else record.status
    shown = headlines(record.metrics)[:1]
    figure = "".join(f", {label} {number(record.metrics[key], 3)}" for label, key, _ in shown)
    facts = dict(record.provenance)
    parts = [
        f"<summary>{escape(label)}: {escape(said)}{figure}"
        f' <span class="soft">{escape(record.run_id)}</span></summary>',
        f'<p class="soft">{escape(record.status)} {escape(str(facts.get("message") or ""))}'
        f" {escape(str(facts.get('verdict_reason') or ''))}</p>",
    ]
    checks = record.texts("checks")
    if checks:
        parts.append(f'<p class="warnings">Invariants violated: {escape("; ".join(checks))}</p>')
    if record.metrics:
        parts.append(_fold(f"evaluation, {record.split} split", _evaluation(record)))
    config = yaml.safe_dump(record.config, sort_keys=False, allow_unicode=True)
    parts.append(_fold("configuration", f"<pre>{escape(config)}</pre>"))
    told = json.dumps(facts, indent=2, ensure_ascii=False, default=str)
    parts.append(_fold("provenance", f"<pre>{escape(told)}</pre>"))
    return f'<details class="run">{"".join(parts)}</details>'


def _fold(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _evaluation(record: Record) -> str:
    rows = []
    for name, value in record.metrics.items():
        if not name.endswith("_se"):
            error: Any = record.metrics.get(f"{name}_se")
            shown = f'<span class="sd"> ± {error:.2g}</span>' if error is not None else ""
            rows.append(f"<tr><td>{escape(name)}</td><td>{value:.6g}{shown}</td></tr>")
    return f"<table><tbody>{''.join(rows)}</tbody></table>"
