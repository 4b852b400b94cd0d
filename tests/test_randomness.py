"""Random numbers come from generators of their own: torch's global ones are not used."""
# ruff: noqa: NPY002 (NumPy's global generator is one of those that must not be used)

import copy
import io
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.utils import check_random_state
from skorch.callbacks import Callback
from torch.utils._python_dispatch import TorchDispatchMode

from sk_adv import AdversarialMaxoutClassifier
from sk_adv._randomness import Generators, drawing_from
from sk_adv.attacks import perturb
from sk_adv.attacks._table import ATTACKS
from sk_adv.neural_network import Checkpoint, MaxoutNet
from sk_adv.neural_network._cuda_graph import CudaGraphStep
from sk_adv.neural_network._layers import SeededDropout, _linear
from sk_adv.neural_network._losses import LogOddsCrossEntropy

X, Y = load_digits(return_X_y=True)
X, Y = (X[:200] / 16).astype(np.float32), Y[:200]

SMALL = AdversarialMaxoutClassifier(
    (16,), n_pieces=2, input_dropout=0.2, hidden_dropout=0.5, max_iter=3, random_state=0
)
KINDS = {
    "dropout": {},
    "bfloat16": {"precision": "bfloat16"},
    "pgd": {"attack": "pgd", "attack_params": {"n_steps": 2}},
    "noise": {"attack": "uniform_noise"},
    "held out": {"early_stopping": True, "refit_full": True},
}


def fitted(**params):
    return clone(SMALL).set_params(**params).fit(X, Y)


def are_equal(one, other):
    """Whether two networks have the same weights, bit for bit."""
    states = (model.net_.module_.state_dict() for model in (one, other))
    return all(map(torch.equal, *(state.values() for state in states)))


class OnlyOwnGenerators(TorchDispatchMode):
    """Fails at each operation that draws from a global generator, and counts the others."""

    n_draws = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = [*args, *(kwargs or {}).values()]
        # On the meta device nothing is drawn.
        is_meta = any(isinstance(part, torch.Tensor) and part.is_meta for part in given)
        if torch.Tag.nondeterministic_seeded in function.tags and not is_meta:
            assert any(isinstance(part, torch.Generator) for part in given), function
            self.n_draws += 1
        return function(*args, **kwargs or {})


@contextmanager
def others_drawing():
    """Another thread that draws from the global generators, and seeds them, again and again."""
    is_over = threading.Event()

    def draw():
        while not is_over.wait(0.0001):
            torch.manual_seed(5)
            torch.rand(10)
            np.random.rand(10)

    other = threading.Thread(target=draw)
    other.start()
    try:
        yield
    finally:
        is_over.set()
        other.join()


@pytest.mark.parametrize("kind", KINDS)
def test_fits_in_threads_give_the_weights_of_a_fit_alone(kind):
    alone = fitted(**KINDS[kind])
    with others_drawing(), ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda k: fitted(**KINDS[kind]), range(3)))
    assert all(are_equal(model, alone) for model in together)


def test_a_search_in_threads_gives_the_results_of_a_search_in_turn():
    search = GridSearchCV(
        SMALL, {"alpha": [0.0, 0.5]}, cv=3, scoring="neg_log_loss", n_jobs=2, refit=False
    )
    alone = clone(search).set_params(n_jobs=None).fit(X, Y)
    with parallel_config("threading"):
        together = search.fit(X, Y)
    for k in range(3):
        name = f"split{k}_test_score"
        np.testing.assert_array_equal(together.cv_results_[name], alone.cv_results_[name])


@pytest.mark.parametrize("kind", KINDS)
def test_every_draw_of_the_classifier_names_its_generator(kind, tmp_path):
    model = clone(SMALL).set_params(**KINDS[kind])
    with OnlyOwnGenerators() as mode:
        model.fit(X, Y).partial_fit(X, Y)
        assert mode.n_draws > 10
        pickle.loads(pickle.dumps(model)).predict_proba(X)
        copy.deepcopy(model).partial_fit(X, Y)
        model.set_params(callbacks=[Checkpoint(tmp_path / "a", resume=True)])
        model.set_params(max_iter=1).fit(X, Y)
        model.set_params(max_iter=2).fit(X, Y)


@pytest.mark.parametrize("attack", [name for name in ATTACKS if name != "exact"])
def test_every_draw_of_an_attack_names_its_generator(attack):
    model = fitted()
    options = {"attack": attack, "random_state": 0}
    if ATTACKS[attack].takes("n_queries"):
        options["attack_params"] = {"n_queries": 20}
    with OnlyOwnGenerators() as mode:
        copies = [
            perturb(model, X, Y, epsilon=0.1, norm=norm, **options) for norm in (2, 2, np.inf)
        ]
    np.testing.assert_array_equal(copies[0], copies[1])
    assert (mode.n_draws > 0) == ATTACKS[attack].is_random


class Witness(Callback):
    """Reads the global states in the midst of a training, and then draws from them itself."""

    def on_epoch_end(self, net, **kwargs):
        self.states = [torch.get_rng_state(), torch.tensor(np.random.get_state()[1])]
        self.drawn = torch.rand(3), np.random.rand(3)


@pytest.mark.parametrize("kind", KINDS)
def test_training_neither_moves_nor_reads_the_global_states(kind):
    models = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        expected = torch.get_rng_state(), torch.tensor(np.random.get_state()[1])
        drawn = torch.rand(3, generator=torch.Generator().manual_seed(seed))
        witness = Witness()
        models.append(fitted(**KINDS[kind], max_iter=1, callbacks=[witness]))
        if kind != "held out":  # a second training follows, which draws anew
            assert all(map(torch.equal, witness.states, expected))
            assert torch.equal(witness.drawn[0], drawn)
    assert are_equal(*models)


def test_without_a_seed_one_is_drawn_from_numpy_as_by_scikit_learn():
    models, left = [], []
    for kind in (SMALL, SMALL, MLPClassifier((4,), max_iter=1)):
        np.random.seed(7)
        models.append([clone(kind).set_params(random_state=None).fit(X, Y) for _ in range(2)])
        state = np.random.RandomState(7)
        clone(kind).set_params(random_state=state).fit(X, Y)
        left.append(state.randint(2**31))
    assert are_equal(models[0][0], models[1][0]) and are_equal(models[0][1], models[1][1])
    assert not are_equal(*models[0])
    # A RandomState of the user's is moved, as it is by MLPClassifier.
    assert left[0] == left[1] and np.random.RandomState(7).randint(2**31) not in left


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_training_is_a_bare_loop_on_the_global_generator_with_the_same_seed(alpha, tmp_path):
    options = {"epsilon": 0.25, "batch_size": 64, "precision": "float32"}
    model = fitted(alpha=alpha, **options, callbacks=[Checkpoint(tmp_path / "a")])
    seed = check_random_state(0).randint(np.iinfo(np.int32).max)
    inputs, labels, criterion = torch.as_tensor(X), torch.as_tensor(Y), LogOddsCrossEntropy()
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        module = MaxoutNet(64, 10, (16,), 2, input_dropout=0.2, hidden_dropout=0.5)
        assert type(module.hidden_dropout) is torch.nn.Dropout
        optimizer = torch.optim.Adam(module.parameters(), fused=True)
        for _ in range(3):
            for rows in torch.randperm(len(X)).split(64):
                clean, y = inputs[rows].requires_grad_(True), labels[rows]
                optimizer.zero_grad()
                (alpha * criterion(module(clean), y)).backward()
                if alpha < 1:
                    copies = clean.detach() + 0.25 * clean.grad.sign()
                    ((1 - alpha) * criterion(module(copies), y)).backward()
                optimizer.step()
        state = torch.get_rng_state()
    # Checkpoints of versions that seeded the global generator go on in the same way.
    saved = torch.load(io.BytesIO((tmp_path / "a").read_bytes()[:-64]), weights_only=True)
    assert torch.equal(saved["random"], state)
    assert all(map(torch.equal, module.parameters(), model.net_.module_.parameters()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("p", [0.0, 0.2, 0.5])
def test_seeded_dropout_is_that_of_torch_bit_for_bit(dtype, p):
    layer, inputs = SeededDropout(p), torch.randn(40, 7).to(dtype)
    found, expected = (inputs.clone().requires_grad_(True) for _ in range(2))
    with drawing_from(Generators(3)):
        outputs = layer(found)
        assert torch.equal(layer.eval()(inputs), inputs)
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        assert torch.equal(torch.nn.functional.dropout(expected, p), outputs)
        torch.manual_seed(3)
        # Outside of a training torch's own generator is used.
        assert torch.equal(layer.train()(inputs), outputs)
        torch.manual_seed(3)
        torch.nn.functional.dropout(expected, p).square().sum().backward()
    outputs.square().sum().backward()
    assert torch.equal(found.grad, expected.grad)


@pytest.mark.parametrize("size", [1, 3, 7, 240, 1600])
def test_the_weights_of_the_output_are_those_of_torchs_layer(size):
    with torch.random.fork_rng([]):
        torch.manual_seed(4)
        expected = torch.nn.Linear(size, 10)
    with drawing_from(Generators(4)):
        found = _linear(size, 10)
    assert all(map(torch.equal, found.parameters(), expected.parameters()))


class Noisy(Callback):
    """Moves the global generators after each epoch."""

    def on_epoch_end(self, net, **kwargs):
        torch.manual_seed(len(net.history) % 2)


@pytest.mark.parametrize("kind", ["dropout", "bfloat16", "pgd"])
def test_a_resumed_training_goes_on_whatever_happens_to_the_global_state(kind, tmp_path):
    checkpoint = Checkpoint(tmp_path / "a", resume=True)
    whole = fitted(**KINDS[kind], max_iter=4)
    fitted(**KINDS[kind], max_iter=2, callbacks=[checkpoint])
    torch.manual_seed(8)
    before = torch.get_rng_state()
    resumed = fitted(**KINDS[kind], max_iter=4, callbacks=[checkpoint])
    assert torch.equal(torch.get_rng_state(), before)
    assert are_equal(resumed, whole)
    assert are_equal(fitted(**KINDS[kind], max_iter=4, callbacks=[Noisy()]), whole)


def test_compiled_training_draws_the_same_masks(monkeypatch):
    # Without code generation, which takes a minute.
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: compiler(module, backend="eager"))
    compiled, plain = (fitted(compile=on, max_iter=2) for on in (True, False))
    np.testing.assert_allclose(compiled.predict_proba(X), plain.predict_proba(X), atol=1e-5)


def test_a_cuda_graph_is_told_of_the_generator_before_the_capture(monkeypatch):
    # The calls only, since this must be known without CUDA.
    calls, own = [], object()

    class Graph:
        def register_generator_state(self, generator):
            calls.append(("register", generator))

        def replay(self):
            calls.append("replay")

    class Own:
        def on(self, device):
            assert torch.device(device).type == "cuda"
            return own

    @contextmanager
    def capture(graph):
        calls.append("capture")
        yield

    class Stream:
        def wait_stream(self, other):
            pass

    for name, fake in {
        "CUDAGraph": Graph,
        "graph": capture,
        "Stream": Stream,
        "current_stream": Stream,
        "stream": lambda stream: nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)

    step = object.__new__(CudaGraphStep)
    step.graph, step.n_steps, step.device = None, 3, torch.device("cuda")
    step.rows, step.loss, step._step = torch.zeros(2), torch.zeros(()), lambda: None
    with drawing_from(Own()):
        step(torch.zeros(2))
        step(torch.zeros(2))
    assert calls == [("register", own), "capture", "replay", "replay"]
    step.graph = None
    step(torch.zeros(2))
    assert calls[4:] == ["capture", "replay"]
