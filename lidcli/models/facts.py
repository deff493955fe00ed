"""What a model says of itself, for records, tables and progress."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Facts"]


@dataclass(frozen=True)
class Facts:
    """What the figures of a model are of.

    Attributes:
        symbol: the continuous latent's name in the paper, z or w (c where there is none).
        judged: the latent that AU, KL, MI and the verdict are of.
        units: number of units of each latent.
        categories: C, or None without a categorical latent.
        exact: whether the posterior is the model's own.

    Example:
        >>> Facts("z", "z", {"z": 64}).document()["judged"]
        'z'
    """

    symbol: str
    judged: str
    units: dict[str, int]
    categories: int | None = None
    exact: bool = False

    def document(self) -> dict[str, Any]:
        """Plain values, for the record."""
        return asdict(self)
