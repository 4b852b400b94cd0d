"""M4: copies made against one network fool the other. Sections 6 and 8 of the paper."""

from _lab.lab import EPSILON
from _lab.models import both_maxouts
from _lab.rows import picture, row

from sk_adv.inspection import TransferMatrixDisplay
from sk_adv.metrics import transfer_error_matrix


def judge(ours):
    """Check that M2 errs less often than M1 under each attack."""
    less, more = [], []
    for name, suffix in (("FGSM", ""), ("clipped FGSM", ", clipped"), ("PGD", ", PGD")):
        is_less = ours[f"M1 to M2{suffix}"] < ours[f"M2 to M1{suffix}"]
        (less if is_less else more).append(name)
    return "; ".join(
        f"{verdict} under {' and '.join(names)}: M2 is hurt {how} by M1's copies than M1 by M2's"
        for verdict, how, names in (("agrees", "less", less), ("differs", "more", more))
        if names
    )


@row(
    "M4",
    "copies made on one network, tested on the other",
    paper={"M1 to M2": 0.196, "M2 to M1": 0.409},
    verdict=judge,
    note="M1 and M2 differ in more than adversarial training (see their notes). PGD's copies "
    "against M2 fit M2 closely: they fool M1 far less often than FGSM's. Clipped copies of M1 fool "
    "M2 more often than unclipped ones, probably because M2 was trained on unclipped ones. We do "
    "not know why M1's copies fool M2 more often than in the paper.",
)
def transfer(lab, seed):
    """Transfer in both directions, by FGSM and by PGD."""
    found = {}
    clipped = {"bounds": (0, 1)}
    attacks = {"": {}, ", clipped": clipped, ", PGD": lab.pgd}
    for suffix, attack in attacks.items():
        errors = transfer_error_matrix(
            both_maxouts(lab, seed), lab.digits.X_test, lab.digits.y_test, epsilon=EPSILON, **attack
        )
        found |= {f"M1 to M2{suffix}": errors[0, 1], f"M2 to M1{suffix}": errors[1, 0]}
    return {name: float(value) for name, value in found.items()}


@picture(
    "M4",
    "transfer",
    "Error of M1 and M2 (columns) on FGSM copies of the test digits made "
    "against each (rows), ε = 0.25, seed 0.",
)
def draw(lab):
    """The errors as a matrix."""
    display = TransferMatrixDisplay.from_estimators(
        both_maxouts(lab, 0), lab.digits.X_test, lab.digits.y_test, epsilon=EPSILON
    )
    return display.figure_
