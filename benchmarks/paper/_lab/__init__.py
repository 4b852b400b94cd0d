"""What the experiments share: digits, models and their cache, attacks, records."""
