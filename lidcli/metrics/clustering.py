"""Agreement of the inferred categories with labels that training never saw."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from lidcli.metrics.estimate import Estimate

__all__ = ["accuracy", "nmi", "purity"]

Labels = npt.NDArray[np.int64]


def _table(labels: Labels, categories: Labels) -> Labels:
    """How many data have each label (row) and category (column)."""
    rows, columns = (np.unique(x, return_inverse=True)[1] for x in (labels, categories))
    table = np.zeros((rows.max() + 1, columns.max() + 1), np.int64)
    np.add.at(table, (rows, columns), 1)
    return table


def _entropy(counts: Labels) -> float:
    """Entropy in nats of the distribution that counts describe."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def _share(correct: float, n: int) -> Estimate:
    p = correct / n
    return Estimate(p, math.sqrt(p * (1 - p) / n))


def accuracy(labels: Labels, categories: Labels) -> Estimate:
    """Share of data whose category is matched with their label, one to one (Hungarian).

    Args:
        labels: true labels (N,).
        categories: inferred categories (N,).

    Example:
        >>> accuracy(np.array([0, 0, 1]), np.array([1, 1, 0])).value
        1.0
    """
    table = _table(labels, categories)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return _share(float(table[rows, columns].sum()), len(labels))


def purity(labels: Labels, categories: Labels) -> Estimate:
    """Share of data that carry the majority label of their category.

    Example:
        >>> purity(np.array([0, 0, 1]), np.array([1, 1, 0])).value
        1.0
    """
    table = _table(labels, categories)
    return _share(float(table.max(axis=0).sum()), len(labels))


def nmi(labels: Labels, categories: Labels) -> float:
    """Normalised mutual information, arithmetic mean, between 0 and 1.

    Example:
        >>> nmi(np.array([0, 0, 1]), np.array([1, 1, 0]))
        1.0
    """
    table = _table(labels, categories)
    own = _entropy(table.sum(axis=1)) + _entropy(table.sum(axis=0))
    return max(0.0, 2 * (own - _entropy(table)) / own) if own else 1.0
