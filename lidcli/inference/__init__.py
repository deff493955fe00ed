"""Posteriors and objectives."""
