"""What a run of text left for a person to read, from its record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from lidcli.report.collect import Record

__all__ = ["Texts", "html", "texts_of"]

Pairs = tuple[tuple[str, str], ...]
Strings = tuple[str, ...]


@dataclass(frozen=True)
class Texts:
    """Sentences of one model, and the words that its latents move.

    Attributes:
        reconstructions: documents of the evaluated split, each with its reconstruction.
        samples: sentences from the prior.
        interpolation: sentences along the line from one document's latent to another's.
        words: of each latent, those it raises and those it lowers, the strongest first.
    """

    reconstructions: Pairs = ()
    samples: Strings = ()
    interpolation: Strings = ()
    words: tuple[tuple[Strings, Strings], ...] = ()

    def document(self) -> dict[str, Any]:
        """Plain values under the names of the record."""
        words = [{"raises": list(up), "lowers": list(down)} for up, down in self.words]
        return {**asdict(self), "words": words}


def texts_of(record: Record) -> Texts | None:
    """The texts of a record, whatever in it is none left out; None where nothing is left.

    Args:
        record: whose strings are cleaned already.
    """
    stored = record.provenance.get("texts")
    if not isinstance(stored, Mapping):
        return None
    pairs = (_strings(pair) for pair in _list(stored.get("reconstructions")))
    words = [word for word in _list(stored.get("words")) if isinstance(word, Mapping)]
    found = Texts(
        tuple((pair[0], pair[1]) for pair in pairs if len(pair) == 2),
        _strings(stored.get("samples")),
        _strings(stored.get("interpolation")),
        tuple((_strings(word.get("raises")), _strings(word.get("lowers"))) for word in words),
    )
    return found if found != Texts() else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _strings(value: Any) -> Strings:
    return tuple(part for part in _list(value) if isinstance(part, str))


def html(texts: Texts, symbol: str) -> str:
    """The texts as HTML, escaped.

    Args:
        texts: of one run.
        symbol: letter of the latent.

    Example:
        >>> html(Texts(samples=("a <b> .",)), "z")
        '<h4>Samples from the prior</h4><ol><li>a &lt;b&gt; .</li></ol>'
    """
    pairs = [f"{escape(one)}<br><em>{escape(two)}</em>" for one, two in texts.reconstructions]
    rows = [
        f"<tr><td>{escape(symbol)}<sub>{k}</sub></td>"
        f"<td>{escape(', '.join(up))}</td><td>{escape(', '.join(down))}</td></tr>"
        for k, (up, down) in enumerate(texts.words, 1)
    ]
    table = (
        '<h4>Words by latent</h4><div class="scroll"><table class="words"><thead><tr><th>latent'
        f"</th><th>raises</th><th>lowers</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "</div>"
    )
    return (
        _items("Documents, and their reconstructions", pairs)
        + _items("Samples from the prior", map(escape, texts.samples))
        + _items("From one document's latent to another's", map(escape, texts.interpolation))
        + (table if rows else "")
    )


def _items(title: str, items: Iterable[str]) -> str:
    inner = "".join(f"<li>{item}</li>" for item in items)
    return f"<h4>{escape(title)}</h4><ol>{inner}</ol>" if inner else ""
