"""Latent-identifiable variational autoencoders: train, measure, tabulate."""

from __future__ import annotations

__version__ = "0.1.0"
