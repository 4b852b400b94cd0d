"""A5: an ensemble of twelve networks is as vulnerable as one. Section 8 of the paper."""

from _lab.lab import error_under
from _lab.models import maxout
from _lab.rows import row
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator

# Each step of PGD goes through all members.
N_FOR_PGD = 1000


@row(
    "A5",
    "ensemble of twelve maxout networks: copies made on the whole ensemble, then on one member",
    paper={"FGSM error": 0.911, "FGSM on one member": 0.879},
    verdict=lambda ours: (
        "agrees: an ensemble is no defence"
        if ours["FGSM error"] > 0.8 and ours["FGSM on one member"] > 0.7
        else "differs"
    ),
    n_seeds=1,
    note="The members are trained as M2, but on clean digits alone and for 5 epochs, so that "
    "twelve do not take hours. The ensemble's answer is the mean of their probabilities, and the "
    "gradient goes through all of them. PGD on the whole ensemble is measured on the first 1,000 "
    "test digits.",
)
def ensemble(lab, seed):
    """Twelve members, each with its own seed."""
    n_members, n_epochs = (3, 12) if lab.quick else (12, 5)
    seeds = range(n_members * seed, n_members * (seed + 1))
    members = [maxout(lab, member, max_iter=n_epochs) for member in seeds]
    # Frozen members are not fitted again: fit only reads the classes.
    voting = VotingClassifier(
        [(f"member {i}", FrozenEstimator(member)) for i, member in enumerate(members)],
        voting="soft",
    ).fit(lab.digits.X_train, lab.digits.y_train)
    X, y, member = lab.digits.X_test, lab.digits.y_test, FrozenEstimator(members[0])

    def on_one_member(**attack):
        return error_under(voting, X, y, surrogate=member, **attack)

    return lab.figures(voting, lab.digits, n_for_pgd=N_FOR_PGD) | {
        "FGSM on one member": on_one_member(),
        "FGSM on one member, clipped": on_one_member(bounds=(0, 1)),
        "PGD on one member": on_one_member(**lab.pgd),
    }
