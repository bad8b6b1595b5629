"""Intervals and tests for scores that come in clusters: slices and organs of a patient are not independent.

The unit of both the bootstrap and the test is the patient (the volume or image, where a dataset does not
say more).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
FEWEST = 5
"""Patients of whom there is an interval: of fewer the furthest resample is too near."""
Values = NDArray[np.float64]


def bootstrap_means(
    values: Values,
    clusters: NDArray,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    *,
    rows: NDArray | None = None,
) -> Values:
    """Means of resampled data, float64 (resamples,): whole clusters are drawn with replacement.

    Parameters
    ----------
    values
        (N,) scores.
    clusters
        (N,) the cluster of each, any sortable type.
    rows
        (N,) the row of a table that each belongs to: the mean over the rows of the mean of each, where one
        draw of the clusters serves all rows. A row of which a draw holds nothing counts there with its own
        mean.

    References
    ----------
    Field and Welsh (2007), Bootstrapping clustered data. J. R. Stat. Soc. B 69(3).
    """
    names, place = np.unique(clusters, return_inverse=True)
    kinds, row = np.unique(np.zeros(len(values)) if rows is None else rows, return_inverse=True)
    sums, counts = np.zeros((2, len(names), len(kinds)))
    np.add.at(sums, (place, row), values)
    np.add.at(counts, (place, row), 1)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    with np.errstate(invalid="ignore"):
        means = (drawn @ sums) / (drawn @ counts)
    return np.asarray(np.where(np.isnan(means), sums.sum(0) / counts.sum(0), means).mean(1))


def interval(means: Values, clusters: int, level: float = 0.95) -> tuple[float, float]:
    """Expanded percentile interval of means bootstrapped from so many clusters.

    NaN for fewer than :data:`FEWEST`. The percentiles are those at which a normal sample's interval is
    Student's t: the plain ones cover some 80 % of the means of samples of four instead of 95 %, and 89 % of
    samples of ten.

    References
    ----------
    Hesterberg (2015), What teachers should know about the bootstrap. The American Statistician 69(4), 5.3.
    """
    from scipy.stats import norm, t

    if clusters < FEWEST:
        return float("nan"), float("nan")
    spread = np.sqrt(clusters / (clusters - 1)) * t.ppf((1 + level) / 2, clusters - 1)
    tail = 100 * norm.cdf(-spread)
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def paired_test(first: Values, second: Values, clusters: NDArray) -> float:
    """Two-sided Wilcoxon signed-rank test of paired scores, on the clusters' mean differences: p.

    1.0 where no cluster differs; NaN with fewer than two clusters.

    References
    ----------
    Wilcoxon (1945), Individual comparisons by ranking methods. Biometrics Bulletin 1(6). Zero differences
    are dropped, as he did.
    """
    from scipy.stats import wilcoxon

    _, place = np.unique(clusters, return_inverse=True)
    differences = np.bincount(place, first - second) / np.bincount(place)
    if len(differences) < 2:
        return float("nan")
    if np.allclose(differences, 0):
        return 1.0
    return float(wilcoxon(differences).pvalue)


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's step-down correction; NaN (no test) stays NaN and does not count.

    References
    ----------
    Holm (1979), A simple sequentially rejective multiple test procedure. Scand. J. Stat. 6(2).

    >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(pvalues, float)
    corrected = np.full(len(values), np.nan)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    if len(order):
        steps = values[order] * np.arange(len(order), 0, -1)
        corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected.tolist()


def spearman(first: Values, second: Values) -> float:
    """Spearman's rank correlation; NaN where it is not defined (fewer than three pairs, or all alike)."""
    from scipy.stats import spearmanr

    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first, second).statistic)
