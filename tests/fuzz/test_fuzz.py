"""The public interface under odd arguments: no raw error, no silent NaN, nothing changed."""

import random
import re
import warnings

import fuzz_doors
import fuzz_loop
import numpy as np
import pytest
import torch
from fuzz_watch import Call, findings

import sk_adv

CALLS = 250


def test_calls_of_the_public_interface_do_nothing_that_they_must_not():
    failures = []
    # Another seed for each commit would make the suite fail at random; `make fuzz` has a new one.
    fuzz_loop.run(0, range(CALLS), on_failure=failures.append, slow=False)
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("name", fuzz_loop.public_names())
def test_every_public_name_is_called_or_listed_with_a_reason(name):
    doors = [door for door in fuzz_doors.DOORS if door == name or door.startswith(f"{name}.")]
    reason = fuzz_doors.NOT_FUZZED.get(name)
    assert bool(doors) != bool(reason), "add a door in tests/fuzz, or a reason to NOT_FUZZED"


@pytest.mark.parametrize("name", sorted(fuzz_loop.public_methods()))
def test_every_public_method_is_called_or_listed_with_a_reason(name):
    is_called = name in fuzz_doors.DOORS
    assert is_called != (name in fuzz_doors.NOT_FUZZED)


def test_what_sk_adv_itself_exports_is_public_in_a_module():
    known = {name.split(".")[1] for name in fuzz_loop.public_names()}
    assert set(sk_adv.__all__) - {"__version__"} <= known


def test_the_lists_of_exclusions_name_what_there_is():
    known = {*fuzz_loop.public_names(), *fuzz_loop.public_methods()}
    assert fuzz_doors.NOT_FUZZED.keys() <= known
    assert all(len(reason.split()) >= 3 for reason in fuzz_doors.NOT_FUZZED.values())


@pytest.mark.parametrize("number", [3, 77])
def test_a_call_is_the_same_whenever_it_is_drawn(number):
    (name, one), (again, other) = (fuzz_loop.draw_call(5, number) for _ in range(2))
    assert name == again and one.inputs() == other.inputs()


# Faults that are planted, and the word by which each is reported.


def gives_nan(X):
    return X.mean() * np.nan


def gives_infinite_weights(X):
    from sk_adv import AdversarialLogisticRegression

    model = AdversarialLogisticRegression(C=1.0).fit(X, np.arange(len(X)) % 2)
    model.coef_ = model.coef_ * np.nan
    return model


def writes_to_its_input(X):
    X[0, 0] = 7


def draws_from_torch(X):
    torch.rand(1)


def draws_from_numpy(X):
    np.random.rand()  # noqa: NPY002


def draws_from_python(X):
    random.random()


def runs_past_the_end(X):
    return X[len(X)]


def divides_by_zero(X):
    return 1 // 0


def mumbles(X):
    raise ValueError("X")


def leaves_it_to_torch(X):
    return torch.zeros(2, 3) @ torch.zeros(2, 3)


def leaves_it_to_numpy(X):
    return np.asarray("many", dtype=float)


def sets_the_default_dtype(X):
    torch.set_default_dtype(torch.float64)


def switches_gradients_off(X):
    torch.set_grad_enabled(False)


def silences_warnings(X):
    warnings.simplefilter("ignore")


def silences_numpy(X):
    np.seterr(all="raise")


def forgets_an_attack(X):
    from sk_adv.attacks._table import ATTACKS

    ATTACKS.pop("pgd")


FAULTS = {
    gives_nan: "silent NaN",
    gives_infinite_weights: "silent NaN",
    writes_to_its_input: "changed input: 0",
    draws_from_torch: "changed state: torch",
    draws_from_numpy: "changed state: numpy",
    draws_from_python: "changed state: random",
    runs_past_the_end: "raw error: its type.*IndexError",
    divides_by_zero: "raw error: its type.*ZeroDivisionError",
    mumbles: "raw error: no sentence",
    leaves_it_to_torch: "raw error: its type.*RuntimeError",
    leaves_it_to_numpy: "raw error: it comes from.*ValueError",
    sets_the_default_dtype: "changed state: dtype",
    switches_gradients_off: "changed state: grad",
    silences_warnings: "changed state: filters",
    silences_numpy: "changed state: errors of numpy",
    forgets_an_attack: "changed state: attacks",
}


@pytest.fixture
def _state_is_put_back():
    numpy, torch_state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    errors = np.geterr()
    yield
    np.random.set_state(numpy)  # noqa: NPY002
    torch.set_rng_state(torch_state)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    np.seterr(**errors)


@pytest.mark.usefixtures("_state_is_put_back")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_reported(fault, monkeypatch):
    X = np.random.default_rng(0).normal(size=(6, 3))
    monkeypatch.setitem(fuzz_doors.DOORS, "planted", lambda draw: Call(fault, X))
    monkeypatch.setattr(fuzz_loop, "NAMES", ["planted"])
    monkeypatch.setattr(fuzz_loop, "SHARES", [1])
    reports = []
    assert fuzz_loop.run(0, [0], on_failure=reports.append)[0] == 1
    assert len(reports) == 1 and "again: python tests/fuzz --seed 0 --only 0" in reports[0]
    assert re.search(FAULTS[fault], reports[0]), reports[0]


def test_a_function_without_a_fault_is_not_reported():
    X = np.random.default_rng(0).normal(size=(6, 3))
    assert findings(Call(lambda X: X.mean(), X)) == ([], None)
