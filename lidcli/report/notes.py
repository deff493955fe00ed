"""Footnotes: everything in which a table deviates from what a reader would assume."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lidcli.metrics.quantities import QUANTITIES
from lidcli.report.cells import number
from lidcli.report.collect import Record, finite, varying
from lidcli.report.groups import Block, Group

__all__ = ["FEW", "Notes", "block_notes", "mark_group"]

FEW = 5
"""Seeds below which a row is marked."""
ANCHORS = {"data", "graph"}
"""Of `model.means`."""
BUDGET = (
    *("train.", "data.", "evaluate.", "likelihood", "model."),
    *("decoder.", "encoder.", "inference."),
)
"""Settings in which methods are to be alike, or the difference is said."""
OF_METHOD = ("decoder.kind", "encoder.kind", "inference.kind", "model.family")
"""Of these, those that make a method what it is."""
EFFORT = ("steps", "amortized_epochs", "inner", "aggressive_epochs")
"""Of `inference`, what a posterior costs that is more than an encoder's."""


class Notes:
    """Remarks on a whole table, and numbered sentences that rows refer to, without repetition."""

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self._texts: list[str] = []

    def remark(self, text: str) -> None:
        """Say something of the whole table."""
        if text not in self.remarks:
            self.remarks.append(text)

    @property
    def texts(self) -> tuple[str, ...]:
        """The numbered sentences; the first is number 1."""
        return tuple(self._texts)

    def add(self, text: str) -> int:
        """The number of a sentence that a row refers to, new or known."""
        if text not in self._texts:
            self._texts.append(text)
        return self._texts.index(text) + 1

    def differing(self, group: Group, settings: Mapping[str, Any]) -> list[int]:
        """Mark a row whose settings are not those of the paper."""
        out = []
        for key, value in settings.items():
            ours = [r.settings.get(key) for r in group.used if r.settings.get(key) != value]
            if ours:
                theirs = _shown([value])
                out.append(self.add(f"{key} is {_shown(ours)}; the paper's is {theirs}."))
        return out


def _seeds(records: Iterable[Record]) -> str:
    numbers = sorted({record.seed for record in records})
    return f"seed{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _shown(values: Iterable[Any]) -> str:
    return ", ".join(sorted({"none" if v is None else str(v) for v in values}))


def block_notes(block: Block, notes: Notes) -> None:
    """Add the remarks that concern a whole table.

    Args:
        block: whose runs are looked at.
        notes: takes the sentences.
    """
    used = block.used
    for text in dict.fromkeys(text for r in used for text in r.texts("data_notes")):
        notes.remark(f"Data: {text.rstrip('.')}.")
    ll = "LL" if not block.redundant(QUANTITIES["ll"]) else "NLL"
    draws = ", ".join(map(str, block.draws))
    if len(block.draws) == 1:
        where = _shown(r.split for r in used)
        notes.remark(f"{ll}: importance-weighted bound with S = {draws} samples, {where} split.")
    _ceilings(block, notes)
    _anchor(block, notes)
    for what in block.unlike:
        notes.remark(f"The runs were measured on different {what}: {ll} and ELBO not compared.")
    if len(block.draws) > 1:
        notes.remark(f"{ll} with S = {draws} samples: not compared, none is bold.")
    _budgets(block, notes)
    _efforts(block, notes)
    _origins(used, notes)


def _origins(used: Sequence[Record], notes: Notes) -> None:
    """Uncommitted code, and code of several commits."""
    if any(r.provenance.get("git_dirty") for r in used):
        notes.remark("Some runs were made from a working tree with uncommitted changes.")
    commits = {str(r.provenance.get("git_commit"))[:9] for r in used}
    if len(commits) > 1:
        notes.remark(f"The runs were made at {len(commits)} commits: {_shown(commits)}.")


def _ceilings(block: Block, notes: Notes) -> None:
    """What KL and MI of a category, and LL, can reach at most."""
    bounded = [
        q.heading(latent)
        for q in QUANTITIES.values()
        for latent in block.latents
        if q.latent and block.ceiling(q, latent) is not None
    ]
    if bounded and block.categories is not None:
        most = math.log(block.categories)
        verb = "are" if len(bounded) > 1 else "is"
        said = " and ".join(bounded)
        notes.remark(f"{said} {verb} at most log C = {most:.3f} (C = {block.categories}).")
    if block.entropy is not None:
        text = block.redundant(QUANTITIES["ll"])
        notes.remark(
            f"The data's own entropy is {block.entropy:.3f} nats: no model's expected"
            + (" NLL is below it." if text else f" LL is above −{block.entropy:.3f}.")
        )
    if block.generator is not None:
        notes.remark(
            "generator: entropy, and mutual information with its latent, of the distribution that"
            " drew the data, ± standard error; nothing holds a model to that information."
        )


def _anchor(block: Block, notes: Notes) -> None:
    """Components that are clusters of the data, their purity, and that of the models."""
    means = {str(r.settings.get("model.means")) for g in block.groups for r in g.used}
    if means & ANCHORS:
        notes.remark(
            f"model.means is {_shown(means)}: the components are fixed at clusters of the training"
            " data and q(c|x) starts from them, whatever the method. No method of the paper has"
            " that, and it alone keeps most categories alive."
        )
    alone = QUANTITIES["anchor/purity"]
    found = dict.fromkeys(
        number(100 * s.mean, 1)
        for group in block.groups
        if (s := group.statistic(alone)) is not None
    )
    if found:
        notes.remark(
            "Purity, the share of data whose label is the commonest of their category:"
            f" {_purities(block)}; of the clusters that gave the components' means, without a"
            f" model, {' or '.join(found)} %."
        )


def _purities(block: Block) -> str:
    own = [(group, group.statistic(QUANTITIES["purity"])) for group in block.groups]
    return ", ".join(
        f"{group.label} {number(100 * s.mean, 1)}"
        + (f"±{number(100 * s.sd, 1)}" if s.sd is not None else "")
        + " %"
        for group, s in own
        if s is not None
    )


def _budgets(block: Block, notes: Notes) -> None:
    """Settings in which methods that have them differ, but for what their names say."""
    for key in varying(block.used):
        if not key.startswith(BUDGET) or key in (*block.keys, *OF_METHOD):
            continue
        shown = _values(block, key)
        told = {value for method, value in shown.items() if not _named(method, key, value)}
        if len(told) > 1:
            said = "; ".join(f"{method} {value}" for method, value in shown.items())
            notes.remark(f"The methods differ in {key}: {said}.")


def _values(block: Block, key: str) -> dict[str, str]:
    """A setting of each method that has it."""
    own: dict[str, list[Any]] = {}
    for record in block.used:
        if key in record.settings:
            own.setdefault(record.method, []).append(record.settings[key])
    return {method: _shown(values) for method, values in own.items()}


def _named(method: str, key: str, value: str) -> bool:
    """Whether the name of a method says that it has its own value of a setting.

    Example:
        >>> _named("beta-vae", "inference.beta", "0.2"), _named("gmm-truth", "theta", "truth")
        (True, True)
    """
    parts = method.split("-")
    return key.rpartition(".")[2] in parts or value in parts


def _efforts(block: Block, notes: Notes) -> None:
    """What posteriors that take more than an encoder cost, where no grid tells it."""
    for method in block.methods:
        said = {_effort(r.settings) for r in block.used if r.method == method}
        if len(said) == 1 and "" not in said:
            notes.remark(f"{method}: {said.pop()}.")


def _effort(settings: Mapping[str, Any]) -> str:
    """The budget of refinements, or of an encoder that is trained ahead; else nothing."""
    steps, before, inner, most = (settings.get(f"inference.{key}") for key in EFFORT)
    epochs = settings.get("train.epochs")
    if steps is not None:
        when = f"in training after {before} of {epochs}" if before else "in all"
        return f"{steps} refinements of each datum's posterior, {when} epochs"
    if inner is not None:
        phase = f"in at most {most} of {epochs} epochs" if most else "while MI rises"
        return f"up to {inner} updates of the encoder before one of the decoder, {phase}"
    return ""


def mark_group(group: Group, notes: Notes) -> tuple[int, ...]:
    """The numbers of the footnotes that concern one row.

    Args:
        group: the row's runs.
        notes: takes the sentences.
    """
    used = group.used
    said = [f"Fewer than {FEW} seeds."] if 0 < len(used) < FEW else []
    said += [*_left_out(group), *_warned(used)]
    odd = sorted({name for r in used for name, v in r.metrics.items() if not finite(v)})
    if odd:
        said.append(f"Not finite in some run, and left out: {', '.join(odd)}.")
    published = [r for r in used if r.published]
    if published and len(published) < len(used):
        said.append("Local runs and runs shipped with the repository together.")
    return tuple(notes.add(text) for text in said)


def _left_out(group: Group) -> list[str]:
    """Runs that do not enter the means."""
    left: dict[str, list[Record]] = {}
    for record in group.records:
        if not record.complete:
            status = record.status if record.status != "complete" else "complete without evaluation"
            left.setdefault(status, []).append(record)
    said = [
        f"{group.label}: {len(records)} of {len(group.records)} runs {status}"
        f" ({_seeds(records)}), not in the means."
        for status, records in sorted(left.items())
    ]
    used = {id(record) for record in group.used}
    twice = {r.seed for r in group.records if r.complete and id(r) not in used}
    if twice:
        said.append(
            f"{group.label}: runs of other settings or versions that no column tells apart"
            f" (seed {_shown(twice)}); the newest count."
        )
    return said


def _warned(used: Sequence[Record]) -> list[str]:
    """Unused priors and broken invariants."""
    said = []
    unused = [r for r in used if r.provenance.get("unused_prior")]
    if unused:
        said.append(f"Unused prior in {len(unused)} of {len(used)} runs: KL exceeds MI by half.")
    broken = [r for r in used if r.texts("checks")]
    if broken:
        texts = "; ".join(dict.fromkeys(text for r in broken for text in r.texts("checks")))
        said.append(f"Invariants violated ({_seeds(broken)}): {texts}.")
    return said
