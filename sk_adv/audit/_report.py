"""AuditReport: the numbers of an audit, as attributes, JSON and a page."""

import html
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sk_adv.audit._page import page
from sk_adv.audit._words import verdict_in_words
from sk_adv.metrics._verdicts import STATUSES

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class AuditReport:
    """The numbers that `audit` found.

    Parameters
    ----------
    name : str
        The model.
    n_samples, n_right : int
        The number of samples, and of those that are classified correctly as they are.
    status : ndarray of str of shape (n_samples,)
        "verified", "falsified" or "unknown" for each sample at the radius of the audit.
    columns : pandas.DataFrame
        For each column of X its `radius`, the `text` that asked for it, and `why_fixed`, which is
        empty if the column may change.
    factor : float
        The radius of all columns in the unit, or 1.
    unit : str or None
        "sd", "iqr" or "units" (those of X), if all columns that may change have the same radius in
        it; else None: radii are then multiples of each column's own.
    curve : pandas.DataFrame
        For each `multiple` of the radius the number of samples of each status, and the ends `lower`
        and `upper` of the accuracy under the worst case. Where they take next to no time, there are
        more radii.
    contribution : pandas.DataFrame or None
        For each column that may change what it gives to the adversary, the largest first:
        `contribution`, `lower` and `upper` of `sk_adv.metrics.adversarial_contribution`. Its
        `attrs` hold the `kind`, the `baseline`, and the positions of the `rows` if not all of them
        were taken. None if there was no time for it.
    fragile : pandas.DataFrame
        The samples that break first, as `sk_adv.metrics.fragile_samples` tells, by multiples of the
        radius, with their `position` in X. Its index is that of X. Its `attrs` hold the positions
        of the `rows` that were searched, the `time_limit`, and whether it `is_proved` that no other
        sample needs less.
    attacks : pandas.DataFrame
        `error` and `confidence` under each `attack` at the radius. "none" is the clean error, and
        "verdict" the share of the falsified samples.
    notes : list of str
        What a reader has to know besides, such as columns that could not change.
    settings, versions : dict
        The arguments and the seconds of the audit, and the `calls` of public functions, as `audit`
        describes them; the versions of the packages and the platform.

    See Also
    --------
    audit : Makes it, and has an example.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sk_adv.audit import audit
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> tree = DecisionTreeClassifier(max_depth=3, random_state=0).fit(X[::2], y[::2])
    >>> report = audit(tree, X[1::2], y[1::2], epsilon={"petal length (cm)": 0.3})
    >>> report.verified, report.unknown, report.falsified
    (71, 0, 4)
    >>> report.to_dict()["curve"][-1]["multiple"]
    2.0
    """

    name: str
    n_samples: int
    n_right: int
    status: np.ndarray
    columns: "pd.DataFrame"
    factor: float
    unit: str | None
    curve: "pd.DataFrame"
    contribution: "pd.DataFrame | None"
    fragile: "pd.DataFrame"
    attacks: "pd.DataFrame"
    notes: list
    settings: dict
    versions: dict

    @property
    def verified(self) -> int:
        """The number of samples that are proved to stay right at the radius."""
        return self._count("verified")

    @property
    def falsified(self) -> int:
        """The number of samples that a perturbation within the radius makes wrong."""
        return self._count("falsified")

    @property
    def unknown(self) -> int:
        """The number of samples of which neither is known."""
        return self._count("unknown")

    def _count(self, status):
        return int((self.status == status).sum())

    @property
    def verdict(self) -> str:
        """The result in two sentences; percentages never say more than is known."""
        return verdict_in_words(self)

    def __repr__(self) -> str:
        counts = ", ".join(f"{status}={self._count(status)}" for status in STATUSES)
        return f"AuditReport({self.name!r}, n_samples={self.n_samples}, {counts})"

    def to_dict(self) -> dict:
        """All numbers and texts in types that JSON knows.

        Returns
        -------
        dict
            Numbers that are not finite are None: a radius that is not bounded, or a confidence
            without errors.
        """
        contribution = None
        if self.contribution is not None:
            attrs = self.contribution.attrs
            contribution = {**attrs, "columns": self.contribution.to_dict("records")}
        fragile = self.fragile.assign(row=[str(label) for label in self.fragile.index])
        for_json = {
            "name": self.name,
            "verdict": {
                "text": self.verdict,
                "n_samples": self.n_samples,
                "n_right": self.n_right,
                **{status: self._count(status) for status in STATUSES},
                "lower": self.verified / self.n_samples,
                "upper": (self.n_samples - self.falsified) / self.n_samples,
            },
            "radius": {
                "factor": self.factor,
                "unit": self.unit,
                "columns": self.columns.to_dict("records"),
            },
            "curve": self.curve.to_dict("records"),
            "contribution": contribution,
            "fragile": {**self.fragile.attrs, "samples": fragile.to_dict("records")},
            "attacks": self.attacks.to_dict("records"),
            "status": self.status,
            "notes": self.notes,
            "settings": self.settings,
            "versions": self.versions,
        }
        return _plain(for_json)

    def to_json(self, path: str | os.PathLike) -> None:
        """Write `to_dict` as a JSON file.

        Parameters
        ----------
        path : str or path-like
            The file. An existing file is replaced.

        Raises
        ------
        OSError
            If the file can't be written.
        """
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        Path(path).write_text(text + "\n", encoding="utf-8")

    def to_html(self, path: str | os.PathLike) -> None:
        """Write the report as one HTML file that needs nothing else, in light and dark.

        Parameters
        ----------
        path : str or path-like
            The file. An existing file is replaced.

        Raises
        ------
        OSError
            If the file can't be written.
        """
        Path(path).write_text(page(self.to_dict()), encoding="utf-8")

    def _repr_html_(self) -> str:
        # A frame of its own, so that the styles of the page and the notebook don't mix.
        return (
            f'<iframe srcdoc="{html.escape(page(self.to_dict()))}" title="Audit" '
            'style="width:100%;height:40rem;border:0"></iframe>'
        )


def _plain(value):
    """Dicts, lists, texts and numbers in place of those of NumPy and pandas; None for NaN."""
    if isinstance(value, dict):
        return {_key(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def _key(key):
    return key if isinstance(key, str) else str(_plain(key))
