"""Set-up for all tests, the sessions of the documentation included."""

import pytest


@pytest.fixture(autouse=True)
def _same_attacks():
    """Take out of the table of attacks what a test has registered."""
    from sk_adv.attacks._table import ATTACKS

    before = dict(ATTACKS)
    yield
    ATTACKS.clear()
    ATTACKS.update(before)
