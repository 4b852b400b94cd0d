"""Shared parts of the experiments: digits, models and their cache, attacks, records."""
