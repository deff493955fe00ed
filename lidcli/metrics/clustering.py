"""Agreement of the inferred categories with labels that training never saw."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lidcli.metrics.estimate import Estimate

__all__ = ["accuracy", "nmi", "purity"]

Labels = npt.NDArray[np.int64]


def _table(labels: Labels, categories: Labels) -> Labels:
    """How many data have each label (row) and category (column).

    scikit-learn takes a second to import: here and below it waits until scores are asked for.
    """
    from sklearn.metrics.cluster import contingency_matrix

    table: Labels = contingency_matrix(labels, categories)
    return table


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
    from scipy.optimize import linear_sum_assignment

    table = _table(labels, categories)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return _share(float(table[rows, columns].sum()), len(labels))


def purity(labels: Labels, categories: Labels) -> Estimate:
    """Share of data that carry the majority label of their category.

    Example:
        >>> purity(np.array([0, 0, 1]), np.array([1, 1, 0])).value
        1.0
    """
    return _share(float(_table(labels, categories).max(axis=0).sum()), len(labels))


def nmi(labels: Labels, categories: Labels) -> float:
    """Normalised mutual information, arithmetic mean, between 0 and 1.

    Example:
        >>> nmi(np.array([0, 0, 1]), np.array([1, 1, 0]))
        1.0
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(labels, categories))
