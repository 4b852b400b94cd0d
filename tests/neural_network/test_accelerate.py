"""Networks on one process and on two, by skorch's AccelerateMixin.

Two processes take long to start, so that one pair of them runs all trainings of
distributed_cases.py. The oracle is one process without the mixin, at batches twice as large.
"""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from abc import ABC
from pathlib import Path

import accelerate
import numpy as np
import pytest
import torch
from distributed_cases import (
    EQUAL,
    AcceleratedNet,
    accumulated,
    data,
    datasets,
    equal_case,
    gradients,
    make,
    tiny,
    trained,
)
from skorch import NeuralNetClassifier
from skorch.hf import AccelerateMixin
from torch import nn

from sk_adv.neural_network import AdversarialNet, Checkpoint
from sk_adv.neural_network._listeners import has_listeners

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "distributed" / "distributed_cases.py"
# Seconds for two processes to start and train.
TIMEOUT = 150


class OtherOrder(AdversarialNet, AccelerateMixin):
    pass


class Named(ABC):  # noqa: B024 (only its type matters)
    pass


@pytest.fixture
def accelerator():
    """A function that makes an accelerator on the CPU; its global state is forgotten after it."""
    yield lambda **options: accelerate.Accelerator(cpu=True, **options)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


def environment():
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The folder of two processes, and what each of them has saved."""
    folder = tmp_path_factory.mktemp("pair")
    np.save(folder / "X.npy", data()[0])
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, folder, str(rank), "2"],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    end = time.monotonic() + TIMEOUT
    try:
        outputs = [part.communicate(timeout=max(end - time.monotonic(), 0)) for part in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
    assert [process.returncode for process in processes] == [0, 0], outputs
    return folder, [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.fixture(scope="module")
def numbers(pair):
    folder, results = pair
    return folder, [result["numbers"] for result in results]


@pytest.fixture(scope="module")
def behaviour(pair):
    folder, results = pair
    return folder, [result["behaviour"] for result in results]


def assert_same_training(one, other, tolerance=1e-6):
    """Weights, losses and sizes of batches agree to rounding."""
    for name, weight in one["weights"].items():
        torch.testing.assert_close(other["weights"][name], weight, rtol=0, atol=tolerance)
    np.testing.assert_allclose(other["loss"], one["loss"], rtol=max(tolerance, 1e-6))
    assert other["batches"] == one["batches"]


def assert_identical(one, other):
    assert all(torch.equal(one["weights"][name], other["weights"][name]) for name in one["weights"])
    assert one["history"] == other["history"]


# One process.


@pytest.mark.parametrize("net", [AcceleratedNet, OtherOrder])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"alpha": 0, "attack": "pgd"},
        {"robust_loss": "trades", "attack": "fgsm_rs"},
        {"robust_loss": "certified"},
    ],
    ids=["fgsm", "pgd", "trades", "certified"],
)
def test_the_mixin_leaves_the_training_adversarial(net, params, accelerator):
    X, y = data()
    own, plain = make(**params), make(accelerator(), net=net, **params)
    one, other = trained(own, X, y), trained(plain, X, y)
    assert_same_training(one, other)
    clean = trained(make(**params | {"alpha": 1, "attack": "fgsm"}), X, y)
    assert abs(clean["loss"][0] - other["loss"][0]) > 1e-3


def test_the_order_of_the_bases_does_not_matter():
    class Further(AcceleratedNet):
        pass

    class Abstract(Named, AccelerateMixin, AdversarialNet):
        pass

    for net in (AcceleratedNet, OtherOrder, Further, Abstract):
        order = net.__mro__
        assert order.index(AdversarialNet) < order.index(AccelerateMixin)
        assert order.index(AccelerateMixin) < order.index(NeuralNetClassifier)
    assert AccelerateMixin not in AdversarialNet.__mro__


def test_a_method_of_a_subclass_comes_first_and_reaches_ours(accelerator):
    class Counting(AccelerateMixin, AdversarialNet):
        n_steps = 0

        def train_step_single(self, batch, **fit_params):
            self.n_steps += 1
            return super().train_step_single(batch, **fit_params)

    X, y = data()
    net = make(accelerator(), net=Counting)
    assert_same_training(trained(make(), X, y), trained(net, X, y))
    assert net.n_steps == 8


def test_batches_are_not_reported_one_by_one_without_need(accelerator):
    net = make(accelerator()).initialize()
    assert not has_listeners(net)


@pytest.mark.parametrize("net", [AdversarialNet, AcceleratedNet])
def test_device_none_leaves_the_module_where_it_is(net, accelerator):
    X, y = data()
    options = {} if net is AdversarialNet else {"accelerator": accelerator()}
    params = {"device": None, "net": net, "train_split": None}
    one, other = trained(make(device="cpu"), X, y), make(**params, **options)
    assert_same_training(one, trained(other, X, y))
    assert other.predict(X).shape == y.shape


def test_gradients_add_up_over_batches(accelerator):
    one = accumulated(None)
    other = accumulated(accelerator(gradient_accumulation_steps=2))
    for name, weight in one["weights"].items():
        torch.testing.assert_close(other["weights"][name], weight, rtol=0, atol=1e-6)
    # Every second one is complete.
    for complete, whole in zip(other["gradients"][1::2], one["gradients"], strict=True):
        torch.testing.assert_close(complete, whole, rtol=0, atol=1e-6)


def test_an_epoch_ends_with_a_step_if_gradients_add_up(accelerator):
    # Three batches: the third makes a step alone, of half the length, as the accelerator does it.
    settings = {"iterator_train__shuffle": False, "max_epochs": 1, "batch_size": 32}
    X, y = data(96)
    net = make(accelerator(gradient_accumulation_steps=2), **settings).fit(X, y)
    other = make(**settings | {"batch_size": 64}).fit(X[:64], y[:64])
    other.set_params(lr=0.15).partial_fit(X[64:], y[64:])
    for one, two in zip(net.module_.parameters(), other.module_.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-6)


@pytest.mark.parametrize("params", [{}, {"robust_loss": "certified", "epsilon_warmup": 0}])
def test_mixed_precision_trains_nearly_as_float32(params, accelerator):
    X, y = data()
    net = make(accelerator(mixed_precision="bf16"), **params)
    one, other = trained(make(**params), X, y), trained(net, X, y)
    assert_same_training(one, other, tolerance=0.01)
    assert any(not torch.equal(other["weights"][k], weight) for k, weight in one["weights"].items())
    # The module is the user's own again, and computes in bfloat16 when it is trained further.
    sample = torch.from_numpy(X[:2])
    torch.testing.assert_close(net.module_(sample), nn.Sequential.forward(net.module_, sample))
    net.partial_fit(X, y)
    assert len(net.history) == 4


@pytest.mark.parametrize(
    ("params", "options", "message"),
    [
        ({"precision": "bfloat16"}, {"mixed_precision": "bf16"}, "both choose the format"),
        ({"optimizer": torch.optim.LBFGS}, {}, "use another optimizer"),
        ({"device": "cpu"}, {}, "set device=None"),
    ],
)
def test_a_setting_that_is_not_supported_gets_an_error(params, options, message, accelerator):
    with pytest.raises(ValueError, match=message):
        make(accelerator(**options), **params).fit(*data())


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED", "MEGATRON_LM", "XLA"])
def test_a_divided_module_is_refused(kind, accelerator, monkeypatch):
    own = accelerator()
    kinds = accelerate.utils.DistributedType
    monkeypatch.setattr(type(own), "distributed_type", property(lambda self: kinds(kind)))
    with pytest.raises(ValueError, match=f"distributed_type={kind} divides the module"):
        make(own).initialize()


def test_something_else_than_an_accelerator_gets_an_error():
    with pytest.raises(TypeError, match=r"must be an accelerate\.Accelerator; got NoneType"):
        AcceleratedNet(nn.Linear(2, 2), accelerator=None).initialize()
    with pytest.raises(TypeError, match="required keyword-only argument: 'accelerator'"):
        OtherOrder(nn.Linear(2, 2))


def test_processes_that_the_accelerator_does_not_know_are_warned_of(accelerator, monkeypatch):
    own = accelerator()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.warns(UserWarning, match=r"one of 2 processes .* pass Accelerator\(cpu=True\)"):
        make(own).initialize()


# Two processes.

AGREED = ["random", "stopped", "stopped at a batch", "interrupted", "resumed", "afterwards"]


@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_train_as_one_at_the_double_batch(name, numbers):
    folder, results = numbers
    one = equal_case(name, folder)
    # Sums over a batch are rounded to bfloat16 in each process.
    tolerance = 2e-3 if name == "bfloat16" else 1e-12 if name == "float64" else 1e-6
    for result in results:
        assert_same_training(one, result[name], tolerance)


def test_two_processes_have_the_gradient_of_one_at_the_double_batch(numbers):
    one = gradients(None)
    for result in numbers[1]:
        pairs = zip(one["gradients"], result["gradients"]["gradients"], strict=True)
        for whole, mean in pairs:
            torch.testing.assert_close(mean, whole, rtol=0, atol=1e-6)
        assert_same_training(one, result["gradients"])


@pytest.mark.parametrize("case", [tiny, datasets])
def test_batches_of_any_size_and_kind_are_divided(case, numbers):
    for result in numbers[1]:
        assert_same_training(case(None), result[case.__name__])


def test_gradients_add_up_over_batches_of_two_processes(pair):
    one = accumulated(None)
    for result in pair[1]:
        found = result["accumulated"]["weights"]
        for name, weight in one["weights"].items():
            torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", AGREED)
def test_processes_agree(name, behaviour):
    _, (one, other) = behaviour
    assert_identical(one[name], other[name])


def test_one_process_alone_predicts_attacks_and_copies(behaviour):
    _, (one, other) = behaviour
    alone = one["alone"]
    assert np.array_equal(alone["predicted"], one["random"]["predicted"])
    assert np.array_equal(alone["predicted"], other["random"]["predicted"])
    assert np.array_equal(alone["predicted"], alone["copied"].numpy())
    assert 0 <= alone["attacked"] <= 1


def test_early_stopping_and_the_guard_measure_the_same_in_each_process(behaviour):
    _, (one, other) = behaviour
    figures = one["random"]["history"][0]
    assert {"valid_pgd_error", "guard_pgd_accuracy", "valid_mixed_loss"} <= set(figures)
    assert one["random"]["history"] == other["random"]["history"]


def test_an_end_or_an_interrupt_in_one_process_ends_all(behaviour):
    _, (one, other) = behaviour
    assert len(one["stopped"]["history"]) == 3
    assert len(one["stopped at a batch"]["history"]) == 2
    assert one["stopped at a batch"]["n_batches"] == 2
    assert len(one["interrupted"]["history"]) == 2
    assert one["interrupted"]["n_batches"] == other["interrupted"]["n_batches"] < 4
    for result in (one, other):
        (warning,) = result["interrupted"]["warnings"]
        assert "Training was interrupted in epoch 2" in warning


def test_a_resumed_training_ends_as_an_unbroken_one(behaviour):
    folder, results = behaviour
    for result in results:
        assert len(result["resumed"]["history"]) == 4
        for name, weight in result["whole"]["weights"].items():
            assert torch.equal(weight, result["resumed"]["weights"][name])
    # The file of several processes is not one of a training by a single process.
    checkpoint = Checkpoint(folder / "split.checkpoint", resume=True)
    with pytest.raises(ValueError, match="number of processes: 2 in the file, 1 now"):
        make(callbacks=[checkpoint], max_epochs=3).fit(*data())


def test_one_process_writes_files(behaviour):
    folder, _ = behaviour
    assert (folder / "weights0.pt").exists()
    assert not (folder / "weights1.pt").exists()
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fewer rows", "ValueError: The processes were given different values of X and y: pass"),
        ("other rows", "ValueError: The processes were given different values of X and y: pass"),
        ("other weights", "ValueError: The processes were given different values of sample_weight"),
        ("other epochs", "ValueError: The processes were given different values of max_epochs:"),
        ("other parts", "ValueError: train_split holds out other samples in each process: give it"),
        ("no place", "Nothing has been trained yet"),
        ("diverged", "FloatingPointError: The training loss became "),
        ("uneven", "some processes would wait for batches that others do not have"),
        ("odd", "the batch size must be a multiple of the 2 processes; got 33"),
    ],
)
def test_all_processes_raise_the_error(name, message, behaviour):
    for result in behaviour[1]:
        assert message in result[name]


def test_a_process_that_ends_leaves_an_error_to_the_others(pair):
    result = torch.load(pair[0] / "lost.pt")
    assert "Another process of this training can't be reached any more" in result["message"]
    assert result["n_epochs"] == 2


def test_the_script_of_the_user_guide_runs_on_two_processes(tmp_path):
    page = (ROOT / "docs" / "user_guide" / "networks_at_scale.rst").read_text(encoding="utf-8")
    section = page.split(".. _several-processes:")[1]
    block = re.search(r"code-block:: python\n\n(.*?)\n\S", section, re.DOTALL).group(1)
    (tmp_path / "train.py").write_text(textwrap.dedent(block), encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    process = subprocess.Popen(
        [*launcher, "--nproc-per-node", "2", "train.py"],
        env=environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    finally:
        if process.poll() is None:
            # The launcher and the two that it has started.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    (accuracy,) = re.findall(r"under PGD: (\S+)", output)
    assert process.returncode == 0 and float(accuracy) > 0.4, output
