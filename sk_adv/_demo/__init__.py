"""The commands of `python -m sk_adv`: the demo, and the paper's experiments."""
