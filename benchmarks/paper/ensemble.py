"""A5: an ensemble of twelve networks falls as one does. Section 8 of the paper."""

from _lab.lab import EPSILON
from _lab.networks import maxout
from _lab.rows import row
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator

from sk_adv.metrics import adversarial_accuracy_score


@row(
    "A5",
    "ensemble of twelve M1s; copies made on the whole ensemble, then on one member",
    paper={"on the ensemble": 0.911, "on one member": 0.879},
    verdict=lambda ours: (
        "agrees: an ensemble is no defence" if ours["on the ensemble"] > 0.7 else "differs"
    ),
    n_seeds=1,
    note="The members are M1s of 15 epochs each, that twelve of them need no hours. The gradient "
    "goes through the mean of their probabilities. Copies made on one member leave the others more "
    "often right than the whole ensemble's own copies do.",
)
def ensemble(lab, seed):
    """The mean of the members' probabilities; the gradient goes through all of them."""
    n_members, n_epochs = (3, 12) if lab.quick else (12, 15)
    members = [maxout(lab, member, max_iter=n_epochs) for member in range(n_members)]
    # Frozen members are not fitted again: fit only looks at the classes.
    voting = VotingClassifier(
        [(f"member {i}", FrozenEstimator(member)) for i, member in enumerate(members)],
        voting="soft",
    ).fit(lab.digits.X_train, lab.digits.y_train)
    X, y = lab.digits.X_test, lab.digits.y_test

    def error(**attack):
        return float(1 - adversarial_accuracy_score(voting, X, y, epsilon=EPSILON, **attack))

    one_start = {**lab.pgd, "n_restarts": 1}
    return {
        "clean error": float(1 - voting.score(X, y)),
        "on the ensemble": error(),
        "on one member": error(surrogate=FrozenEstimator(members[0])),
        "PGD on the ensemble": error(**one_start),
    }
