"""The paper's own numbers, from `paper.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

__all__ = ["PaperTable", "alias", "contrast", "method_order", "paper_table"]


@dataclass(frozen=True)
class PaperTable:
    """One data set's column of a table of the paper."""

    source: str
    settings: dict[str, Any]
    cautions: tuple[str, ...]
    rows: dict[str, dict[str, float]]


@cache
def _content() -> dict[str, Any]:
    text = files("lidcli.report").joinpath("paper.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def alias(method: str) -> str:
    """The paper's row that a model belongs to.

    Example:
        >>> alias("lidgmvae")
        'lidvae'
    """
    return str(_content()["aliases"].get(method, method))


def contrast() -> tuple[str, str]:
    """The rows of the classical and the identifiable model, which the claim is about.

    Example:
        >>> contrast()
        ('vae', 'lidvae')
    """
    classical, identifiable = _content()["contrast"]
    return classical, identifiable


def method_order(method: str) -> tuple[int, bool, str]:
    """Where a method stands: in the paper's order of rows, others after them by name.

    Example:
        >>> sorted(["other", "lidvae", "gmvae", "vae"], key=method_order)
        ['vae', 'gmvae', 'lidvae', 'other']
    """
    rows = list(dict.fromkeys(row for t in _content()["tables"].values() for row in t["rows"]))
    row = alias(method)
    return rows.index(row) if row in rows else len(rows), method != row, method


def paper_table(data: str, judged: str) -> PaperTable | None:
    """What the paper prints for a data set, or None.

    Args:
        data: name of the data.
        judged: letter of our judged latent; the paper's numbers stand only beside those of it.

    Example:
        >>> paper_table("mnist", "c").rows["lidvae"]["au"]
        1.0
    """
    for entry in _content()["tables"].values():
        rows = {name: row[data] for name, row in entry["rows"].items() if data in row}
        if rows and entry["judged"] == judged:
            cautions = [
                *entry["cautions"],
                *filter(None, [entry.get("data_cautions", {}).get(data)]),
            ]
            settings = entry["settings"] | entry.get("data_settings", {}).get(data, {})
            return PaperTable(entry["source"], settings, tuple(cautions), rows)
    return None
