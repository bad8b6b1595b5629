"""From the rows of ``scores.csv`` to summaries: everything here takes and returns data frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.integrate import trapezoid

from synthfm.data.console import InputError
from synthfm.evaluation.cases.prompting import parse_setting
from synthfm.evaluation.report import statistics
from synthfm.evaluation.scoring.metrics import overlap

OBJECT = ["dataset", "case", "structure", "instance", "prompt"]
"""What names one object under one prompt setting."""
ROW = ["prompt", "dataset", "structure"]
"""What names one row of the tables."""
PATIENT = "patient"
"""The column of what is independent: the unit of intervals and tests."""
METRICS = {"dsc": "DSC", "surface_dice": "surface Dice", "hd95": "HD95", "iou": "IoU"}
HIGHER_IS_BETTER = {"dsc": True, "surface_dice": True, "iou": True, "hd95": False}
TARGETS = (0.85, 0.9)
"""The DSC that clicks are counted to."""


def method_names(scores: pd.DataFrame) -> list[str]:
    """The methods in the run's order (``scores.attrs["methods"]``), or that in which they first appear."""
    order = list(scores.attrs.get("methods", ()))
    present = dict.fromkeys(scores["method"])
    return sorted(present, key=lambda name: order.index(name) if name in order else len(order))


def last_round(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last round only: the only one, or round k of ``clicks:k``."""
    wanted = scores["prompt"].map({name: parse_setting(name).rounds for name in scores["prompt"].unique()})
    return scores[scores["round"] == wanted]


def common(scores: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Rows of objects that every method of the row's dataset and prompt setting has scored.

    A method that crashed on the hard cases must not gain from it.

    Returns
    -------
    rows, dropped
        The rows kept, and of how many objects there were others.
    """
    methods = scores.groupby(["dataset", "prompt"])["method"].transform("nunique")
    scored = scores.groupby([*OBJECT, "round"])["method"].transform("nunique")
    every = scored == methods
    return scores[every], len(scores[~every].drop_duplicates(OBJECT))


def summarise(
    scores: pd.DataFrame, metric: str = "dsc", *, baseline: str | None = None, seed: int = 0
) -> pd.DataFrame:
    """One line per prompt setting, dataset, structure and method.

    Parameters
    ----------
    scores
        As :func:`synthfm.evaluation.scoring.scores.read_scores` gives them.
    metric
        One of :data:`METRICS`.
    baseline
        Method that the others are tested against.
    seed
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        :data:`ROW`, ``modality`` (several joined by +), ``method``, ``n`` (objects), ``patients``,
        ``mean``, ``sd``, ``low`` and ``high`` (95 % bootstrap interval, NaN with fewer than five patients),
        ``unit``, ``p`` and ``p_holm`` (against the baseline; Holm's correction over all tests of this table).

    Raises
    ------
    InputError
        If there is no such baseline.
    """
    methods = method_names(scores)
    if baseline is not None and baseline not in methods:
        raise InputError(
            f"no method {baseline!r} in these scores; --baseline takes one of {', '.join(methods)}"
        )
    rows, _ = common(last_round(scores))
    lines: list[dict[str, Any]] = []
    for key, group in rows.groupby(ROW, sort=False):
        if metric in ("hd95", "surface_dice") and group["unit"].nunique() > 1:
            continue  # millimetres and pixels have no mean
        reference = None if baseline is None else _paired(group, baseline, metric)
        for method in methods:
            part = group[group["method"] == method]
            if part.empty:
                continue
            values, clusters = part[metric].to_numpy(float), part[PATIENT].to_numpy(str)
            means = statistics.bootstrap_means(values, clusters, np.random.default_rng(seed))
            patients = len(np.unique(clusters))
            low, high = statistics.interval(means, patients)
            p = np.nan
            if reference is not None and method != baseline and len(reference):
                own = _paired(group, method, metric).loc[reference.index]
                p = statistics.paired_test(
                    own["value"].to_numpy(float),
                    reference["value"].to_numpy(float),
                    reference[PATIENT].to_numpy(str),
                )
            lines.append(
                dict(zip(ROW, key, strict=True))
                | {"modality": "+".join(dict.fromkeys(part["modality"]))}
                | {"method": method, "n": len(part), "patients": patients, "mean": values.mean()}
                | {"sd": values.std(ddof=1) if len(values) > 1 else np.nan, "low": low, "high": high}
                | {"unit": part["unit"].iloc[0] if metric == "hd95" else "", "p": p}
            )
    names = ["n", "patients", "mean", "sd", "low", "high", "unit", "p"]
    table = pd.DataFrame(lines, columns=[*ROW, "modality", "method", *names])
    table["p_holm"] = statistics.holm(table["p"].tolist())
    return table.astype({"n": int, "patients": int})


def _paired(group: pd.DataFrame, method: str, metric: str) -> pd.DataFrame:
    part = group[group["method"] == method].set_index(OBJECT)
    return pd.DataFrame({"value": part[metric], PATIENT: part[PATIENT]})


def by_modality(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean DSC over the rows (dataset x structure) of each modality: every structure weighs the same.

    ``all`` is the mean over all rows. Only rows count that every method has which has any of them: one that
    answered the easy dataset alone must not gain from it. The interval resamples the patients of each
    dataset, with all their structures. There is none (NaN) where one of the structures has fewer than
    :data:`statistics.FEWEST` patients: how far its mean may lie off is not known.

    Returns
    -------
    pandas.DataFrame
        ``prompt``, ``modality``, ``method``, ``rows``, ``n``, ``mean``, ``low``, ``high``.
    """
    rows, _ = common(last_round(scores))
    kinds = list(dict.fromkeys(rows["modality"]))
    lines = []
    for prompt in dict.fromkeys(rows["prompt"]):
        for modality in [*kinds, "all"] if len(kinds) > 1 else kinds:
            here = rows[(rows["prompt"] == prompt) & ((rows["modality"] == modality) | (modality == "all"))]
            answered = here.groupby(["dataset", "structure"])["method"].transform("nunique")
            here = here[answered == here["method"].nunique()]
            for method in method_names(scores):
                part = here[here["method"] == method]
                if part.empty:
                    continue
                rng, means, patients = np.random.default_rng(0), np.zeros(statistics.RESAMPLES), 0
                each = part.groupby(["dataset", "structure"], sort=False)["dsc"].mean()
                for dataset, group in part.groupby("dataset", sort=False):
                    drawn = statistics.bootstrap_means(
                        group["dsc"].to_numpy(float),
                        group[PATIENT].to_numpy(str),
                        rng,
                        rows=group["structure"].to_numpy(str),
                    )
                    means += drawn * (len(each[dataset]) / len(each))
                    patients += group[PATIENT].nunique()
                fewest = part.groupby(["dataset", "structure"])[PATIENT].nunique().min()
                low, high = statistics.interval(means, patients if fewest >= statistics.FEWEST else 0)
                lines.append(
                    {"prompt": prompt, "modality": modality, "method": method, "rows": len(each)}
                    | {"n": len(part), "mean": each.mean(), "low": low, "high": high}
                )
    columns = ["prompt", "modality", "method", "rows", "n", "mean", "low", "high"]
    return pd.DataFrame(lines, columns=columns)


def stacked(scores: pd.DataFrame) -> pd.DataFrame:
    """DSC of the stacked slices of each volume: 2 sum abs(P & R) / (sum abs(P) + sum abs(R)).

    The sums run over the slices that were scored; ``coverage`` is the share of the structure's voxels that
    they hold.

    Returns
    -------
    pandas.DataFrame
        :data:`ROW`, ``volume``, ``method``, ``slices``, ``dsc``, ``coverage``: one line per volume.
    """
    rows, _ = common(last_round(scores))
    rows = rows[
        rows["volume_voxels"].notna() & rows["end_error"].isna()
    ]  # of volumes, the DSC is one already
    if rows.empty:
        return pd.DataFrame(columns=[*ROW, "volume", "instance", "method", "slices", "dsc", "coverage"])
    pixels = ["reference_pixels", "predicted_pixels", "shared_pixels"]
    grouped = rows.groupby([*ROW, "volume", "instance", "method"], sort=False)
    table = grouped[pixels].sum()
    table["slices"] = grouped.size()
    table["coverage"] = table["reference_pixels"] / grouped["volume_voxels"].first()
    table["dsc"] = [overlap(*map(int, line))[0] for line in table[pixels].to_numpy()]
    return table.drop(columns=pixels).reset_index()


CLOSE = 2
"""Slices by which an end may lie off and still count as right."""


def ends(scores: pd.DataFrame) -> pd.DataFrame:
    """Where objects in volumes were found to begin and end.

    Returns
    -------
    pandas.DataFrame
        :data:`ROW`, ``method``, ``n``; medians of the slices filled ``beyond`` the object's ends and of those
        ``missed``; ``right``, the share of objects of which neither end lies more than :data:`CLOSE` off.
    """
    rows, _ = common(last_round(scores))
    rows = rows[rows["end_error"].notna()]
    grouped = rows.assign(right=rows["end_error"] <= CLOSE).groupby([*ROW, "method"], sort=False)
    return grouped.agg(
        n=("right", "size"),
        beyond=("slices_beyond", "median"),
        missed=("slices_missed", "median"),
        right=("right", "mean"),
    ).reset_index()


def click_areas(scores: pd.DataFrame) -> pd.DataFrame:
    """Area under the curve of DSC and surface Dice over the rounds of clicks, as a mean (trapezoids).

    Returns
    -------
    pandas.DataFrame
        ``prompt``, ``dataset``, ``structure``, ``method``, ``n``, ``dsc``, ``surface_dice`` and the DSC of
        the ``last`` round; settings of one round have none.
    """
    rows, _ = common(scores[scores["prompt"].map(lambda name: parse_setting(name).interactive)])
    lines = []
    for key, group in rows.groupby(["prompt", "dataset", "structure", "method"], sort=False):
        line: dict[str, Any] = dict(zip(["prompt", "dataset", "structure", "method"], key, strict=True))
        curves = {
            metric: group.pivot_table(index=["case", "instance"], columns="round", values=metric).to_numpy()
            for metric in ("dsc", "surface_dice")
        }
        count, rounds = curves["dsc"].shape
        if rounds > 1:
            areas = {name: trapezoid(curve).mean() / (rounds - 1) for name, curve in curves.items()}
            lines.append(line | {"n": count} | areas | {"last": curves["dsc"][:, -1].mean()})
    return pd.DataFrame(lines)


def clicks_to_reach(scores: pd.DataFrame) -> pd.DataFrame:
    """Number of clicks until the DSC first reaches each of :data:`TARGETS` (NoC), for ``clicks:k``.

    As in interactive segmentation, an object that never reaches it counts k clicks; ``missed`` is the share
    of those.

    Returns
    -------
    pandas.DataFrame
        ``prompt``, ``dataset``, ``structure``, ``method``, ``n`` and for each target ``noc85``, ``missed85``.
    """
    rows, _ = common(scores[scores["prompt"].map(lambda name: parse_setting(name).interactive)])
    lines = []
    for key, group in rows.groupby(["prompt", "dataset", "structure", "method"], sort=False):
        grouped = group.pivot_table(index=["case", "instance"], columns="round", values="dsc")
        dsc = grouped.to_numpy()
        line: dict[str, Any] = dict(zip(["prompt", "dataset", "structure", "method"], key, strict=True))
        line["n"] = len(dsc)
        for target in TARGETS:
            reached = dsc >= target
            clicks = np.where(reached.any(1), reached.argmax(1) + 1, dsc.shape[1])
            line[f"noc{target * 100:.0f}"] = clicks.mean()
            line[f"missed{target * 100:.0f}"] = 1 - reached.any(1).mean()
        lines.append(line)
    return pd.DataFrame(lines)


def calibration(scores: pd.DataFrame) -> pd.DataFrame:
    """Spearman correlation of the method's own estimate with the DSC.

    ``within`` is the mean over the rows (dataset x structure) of the correlation inside each; ``pooled``
    that over all objects.
    """
    rows, _ = common(last_round(scores))
    rows = rows[rows["predicted_iou"].notna()]
    lines = []
    for (prompt, method), group in rows.groupby(["prompt", "method"], sort=False):
        inside = [
            statistics.spearman(part["predicted_iou"].to_numpy(float), part["dsc"].to_numpy(float))
            for _, part in group.groupby(["dataset", "structure"])
        ]
        pooled = statistics.spearman(group["predicted_iou"].to_numpy(float), group["dsc"].to_numpy(float))
        known = [value for value in inside if not np.isnan(value)]
        lines.append(
            {"prompt": prompt, "method": method, "n": len(group), "pooled": pooled}
            | {"within": np.mean(known) if known else np.nan}
        )
    return pd.DataFrame(lines, columns=["prompt", "method", "n", "pooled", "within"])


def seconds(scores: pd.DataFrame) -> pd.DataFrame:
    """Median seconds to encode an image and to predict one mask, by method."""
    images = scores.drop_duplicates(["dataset", "case", "method"]).groupby("method", sort=False)
    table = images["encode_seconds"].median().to_frame()
    table["predict_seconds"] = scores.groupby("method", sort=False)["predict_seconds"].median()
    table["images"] = images.size()
    return table.reset_index()
