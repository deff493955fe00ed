"""Estimators, each with its standard error; all in nats per datum but AU, a fraction."""
