"""Means, intervals, tests and tables from scores alone, and reading the scores."""

import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthfm.data.console import InputError
from synthfm.evaluation.report import statistics, tables, typeset
from synthfm.evaluation.report.report import write_tables
from synthfm.evaluation.scoring.scores import read_scores
from tests.support.scores import clicks, rows, two


def write_tables_of(scores, **options):
    with tempfile.TemporaryDirectory() as folder:
        return write_tables(scores, Path(folder), **options)


def test_means_counts_and_spread_are_pandas():
    scores = two()
    line = tables.summarise(scores).set_index("method").loc["a"]
    values = scores["dsc"][scores["method"] == "a"]
    assert (line["n"], line["patients"]) == (18, 6)
    assert line["mean"] == pytest.approx(values.mean())
    assert line["sd"] == pytest.approx(values.std())
    assert line["low"] < line["mean"] < line["high"]


def test_the_interval_is_that_of_whole_patients():
    # Images of a patient that are copies of each other add no information: the interval must not shrink.
    one = rows(slices=1, volumes=12)
    copies = pd.concat(
        [one.assign(case=one["case"] + f"/{k}", volume=one["volume"] + f"-{k}") for k in range(20)]
    )
    narrow, same = (tables.summarise(table).iloc[0] for table in (one, copies))
    assert same["high"] - same["low"] == pytest.approx(narrow["high"] - narrow["low"], rel=0.01)


@pytest.mark.parametrize("patients", [5, 6, 10, 40])
def test_the_bootstrap_interval_covers_the_mean_of_a_normal_sample(patients):
    """Plain percentiles cover some 85 % of the means of five and 89 % of those of ten."""
    rng = np.random.default_rng(5)
    hits, times = 0, 1500
    for _ in range(times):
        drawn = rng.normal(size=patients)
        means = statistics.bootstrap_means(drawn, np.arange(patients), rng, resamples=1000)
        low, high = statistics.interval(means, patients)
        hits += low < 0 < high
    assert 0.9 < hits / times < 0.965


@pytest.mark.parametrize("patients", [1, 4])
def test_few_patients_have_no_interval(patients):
    line = tables.summarise(rows(volumes=patients)).iloc[0]
    assert line["patients"] == patients
    assert np.isnan(line["low"])
    assert np.isnan(line["high"])


def test_the_paired_test_is_scipys_on_patients_means():
    from scipy.stats import wilcoxon

    scores = two()
    scores["patient"] = scores["volume"].str[-1].astype(int).mod(3)  # two volumes of each
    summary = tables.summarise(scores, baseline="b").set_index("method")
    means = scores.groupby(["method", "patient"])["dsc"].mean().unstack(0)
    assert summary.loc["a", "p"] == pytest.approx(wilcoxon(means["a"] - means["b"]).pvalue)
    assert np.isnan(summary.loc["b", "p"])


def test_holm_is_over_all_tests_of_the_table():
    parts = [two(structure=name) for name in ("liver", "spleen", "kidney")]
    summary = tables.summarise(pd.concat(parts), baseline="b")
    tested = summary[summary["method"] == "a"]
    assert tested["p_holm"].tolist() == pytest.approx([min(1, 3 * p) for p in tested["p"]])


def test_holm_against_a_worked_example():
    corrected = statistics.holm([0.01, np.nan, 0.02, 0.3, 0.015])
    assert np.isnan(corrected[1])
    assert [corrected[k] for k in (0, 2, 3, 4)] == pytest.approx([0.04, 0.045, 0.3, 0.045])


def test_equal_scores_differ_from_nothing():
    same = pd.concat([rows("a"), rows("b")])
    assert tables.summarise(same, baseline="b").set_index("method").loc["a", "p"] == 1.0


def test_an_unknown_baseline_is_named_with_the_methods():
    with pytest.raises(InputError, match="takes one of a, b"):
        tables.summarise(two(), baseline="c")


def test_a_method_gains_nothing_from_cases_it_crashed_on():
    scores = two()
    hard = scores["case"].str.startswith("v0/")
    scores.loc[hard, "dsc"] = 0.1
    crashed = scores[~(hard & (scores["method"] == "b"))]
    summary = tables.summarise(crashed).set_index("method")
    assert summary["n"].tolist() == [15, 15]
    assert summary.loc["a", "mean"] > 0.8
    assert tables.common(crashed)[1] == 3


def test_a_method_without_a_setting_takes_no_rows_from_the_others():
    scores = pd.concat([two(), rows("a", prompt="point1")])
    summary = tables.summarise(scores)
    assert summary[summary["prompt"] == "point1"]["n"].tolist() == [18]
    point = list(typeset.grids(summary))[1]
    assert point.methods == ["a"]


def test_a_method_that_answered_the_easy_dataset_alone_does_not_win_its_modality():
    scores = pd.concat(
        [two(dataset="ct1"), rows("b", dataset="ct2", dsc=0.2, seed=2), rows("b", dataset="mr", dsc=0.3)]
    )
    table = tables.by_modality(scores).set_index(["modality", "method"])
    assert table["rows"].to_dict() == {
        ("CT", "a"): 1, ("CT", "b"): 1, ("MR", "b"): 1, ("all", "a"): 1, ("all", "b"): 1,
    }  # fmt: skip
    assert table.loc[("CT", "b"), "mean"] == pytest.approx(
        two(dataset="ct1").query("method == 'b'")["dsc"].mean()
    )


def test_millimetres_and_pixels_have_no_mean():
    scores = pd.concat([two(structure="liver"), two(structure="spleen")], ignore_index=True)
    some = (scores["structure"] == "liver") & scores["case"].str.startswith("v0/")
    scores.loc[some, "unit"] = "px"
    for metric in ("hd95", "surface_dice"):
        assert set(tables.summarise(scores, metric)["structure"]) == {"spleen"}
    assert set(tables.summarise(scores)["structure"]) == {"liver", "spleen"}
    text = write_tables_of(scores)
    assert "Surface scores are left out where some are in millimetres" in text


def test_scores_of_which_no_object_is_common_have_empty_tables():
    scores = pd.concat([rows("a").iloc[:9], rows("b").iloc[9:]], ignore_index=True)
    text = write_tables_of(scores, baseline="a")
    assert "18 objects are left out" in text


def test_methods_stand_in_the_order_of_the_run(tmp_path):
    two().iloc[::-1].to_csv(tmp_path / "scores.csv", index=False)
    assert tables.method_names(read_scores(tmp_path)) == ["b", "a"]
    (tmp_path / "settings.json").write_text('{"methods": {"c": "", "a": "", "b": ""}}')
    assert tables.method_names(read_scores(tmp_path)) == ["a", "b"]


def test_modalities_weigh_structures_alike():
    scores = pd.concat([
        rows(dataset="ct", structure="liver", dsc=0.9, spread=0, volumes=20),
        rows(dataset="ct", structure="aorta", dsc=0.5, spread=0, volumes=2),
        rows(dataset="mr", structure="liver", dsc=0.2, spread=0),
    ])  # fmt: skip
    table = tables.by_modality(scores).set_index("modality")
    assert table.loc["CT", "mean"] == pytest.approx(0.7)
    assert table.loc["all", "mean"] == pytest.approx((0.9 + 0.5 + 0.2) / 3)


def test_organs_of_a_patient_are_drawn_together():
    # Of organs that all score as their patient does, the mean is as uncertain as that of one.
    organs = [rows(structure=name, slices=1, volumes=15) for name in ("liver", "spleen", "kidney", "aorta")]
    one, four = (tables.by_modality(pd.concat(parts)).iloc[0] for parts in (organs[:1], organs))
    assert four["high"] - four["low"] == pytest.approx(one["high"] - one["low"])
    assert four["mean"] == pytest.approx(one["mean"])


@pytest.mark.parametrize(("patients", "known"), [(1, False), (4, False), (5, True)])
def test_a_mean_over_organs_of_which_few_patients_have_one_has_no_interval(patients, known):
    common = rows(slices=1, volumes=8, dsc=0.8)
    rare = rows(structure="tumour", slices=1, volumes=patients, dsc=0.4)
    table = tables.by_modality(pd.concat([common, rare])).iloc[0]
    assert table["mean"] == pytest.approx((common["dsc"].mean() + rare["dsc"].mean()) / 2)
    assert np.isfinite([table["low"], table["high"]]).tolist() == [known, known]


def test_an_organ_of_some_patients_is_centred_on_its_mean_where_a_draw_holds_none():
    frequent, rare = (
        rows(slices=1, volumes=30, dsc=0.8, spread=0),
        rows(structure="tumour", slices=1, volumes=5, dsc=0.4, spread=0),
    )
    table = tables.by_modality(pd.concat([frequent, rare])).iloc[0]
    assert (table["low"], table["high"]) == (pytest.approx(0.6), pytest.approx(0.6))


def test_the_star_is_of_the_corrected_test():
    parts = [
        two(structure=f"s{k}", volumes=6, slices=1) for k in range(12)
    ]  # the least p of six pairs is 0.031
    summary = tables.summarise(pd.concat(parts), baseline="b")
    assert (summary.loc[summary["method"] == "a", "p"] < 0.05).any()
    (grid,) = typeset.grids(summary)
    assert not any(cell.differs for _, cells in grid.rows for cell in cells)


def test_stacked_slices_weigh_by_area():
    scores = rows(volumes=1, slices=2)
    scores["reference_pixels"] = [10, 190]
    scores["predicted_pixels"] = [10, 210]
    scores["shared_pixels"] = [0, 180]
    (line,) = tables.stacked(scores).to_dict("records")
    assert line["dsc"] == pytest.approx(2 * 180 / (200 + 220))
    assert line["coverage"] == pytest.approx(0.5)


def test_each_object_has_a_stack_of_its_own():
    scores = pd.concat([rows(volumes=1, instance=1), rows(volumes=1, instance=2, dsc=0.3)])
    assert len(tables.stacked(scores)) == 2


def test_two_dimensional_images_have_no_stack():
    assert tables.stacked(rows().assign(volume_voxels=np.nan)).empty


def test_clicks_to_reach_a_target():
    (line,) = tables.clicks_to_reach(clicks([[0.5, 0.86, 0.91], [0.9, 0.7, 0.7], [0.1, 0.2, 0.3]])).to_dict(
        "records"
    )
    assert line["noc85"] == pytest.approx((2 + 1 + 3) / 3)
    assert line["noc90"] == pytest.approx((3 + 1 + 3) / 3)
    assert line["missed85"] == pytest.approx(1 / 3)


def test_the_tables_show_the_last_round():
    summary = tables.summarise(clicks([[0.1, 0.8], [0.2, 0.6]]))
    assert summary["mean"].tolist() == [pytest.approx(0.7)]


def test_calibration_is_a_rank_correlation():
    (line,) = tables.calibration(rows()).to_dict("records")
    assert line["pooled"] == pytest.approx(1.0)
    assert line["within"] == pytest.approx(1.0)
    assert tables.calibration(rows().assign(predicted_iou=np.nan)).empty
    crashed = pd.concat([rows("a"), rows("b", volumes=4)])  # of objects that both have scored
    assert tables.calibration(crashed)["n"].tolist() == [12, 12]
    assert "6 objects are left out" in write_tables_of(crashed)


def test_best_is_bold_second_underlined_and_ties_share():
    scores = pd.concat([
        rows("a", dsc=0.9, spread=0), rows("b", dsc=0.8, spread=0), rows("c", dsc=0.7, spread=0),
        rows("d", dsc=0.9, spread=0),
    ])  # fmt: skip
    (grid,) = typeset.grids(tables.summarise(scores))
    text = typeset.markdown(grid)
    assert re.search(r"\| \*\*0\.900\*\* .* \| 0\.800 .* \| 0\.700 .* \| \*\*0\.900\*\*", text)
    (grid,) = typeset.grids(tables.summarise(scores[scores["method"] != "d"]))
    assert "<u>0.800</u>" in typeset.markdown(grid)


def test_the_smallest_distance_is_best():
    (grid,) = typeset.grids(tables.summarise(two(), "hd95"), "hd95")
    assert [cell.rank for cell in grid.rows[0][1]] == [1, 2]
    assert "(mm)" in grid.rows[0][0][1]


def test_a_setting_that_a_method_cannot_use_is_a_dash():
    scores = pd.concat([two(), rows("a", dataset="us", structure="head")])
    (grid,) = typeset.grids(tables.summarise(scores))
    assert grid.rows[1][1][1] is None
    assert typeset.DASH in typeset.markdown(grid)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="hd95"), "'hd95' is missing"),
        (lambda table: table.assign(dsc="good"), "'dsc'"),
        (lambda table: table.iloc[:0], "no scores"),
        (lambda table: table.assign(dsc=[0.5] * 17 + [None]), "line 19 has no dsc"),
        (lambda table: table.assign(hd95=[3.0] * 16 + [None, 2.0]), "line 18 has no hd95"),
        (lambda table: pd.concat([table, table.iloc[3:4]]), "line 20 scores what an earlier line"),
    ],
)
def test_a_damaged_scores_file_is_named(tmp_path, change, message):
    change(rows()).to_csv(tmp_path / "scores.csv", index=False)
    with pytest.raises(InputError, match=message):
        read_scores(tmp_path)


def test_a_last_line_that_was_cut_short_is_left_out(tmp_path):
    rows().to_csv(tmp_path / "scores.csv", index=False)
    whole = (tmp_path / "scores.csv").read_bytes()
    for lost in (1, 5, 60):
        (tmp_path / "scores.csv").write_bytes(whole[:-lost])
        assert len(read_scores(tmp_path)) == 17


def test_a_missing_scores_file_is_named(tmp_path):
    with pytest.raises(InputError, match="synthfm-eval run"):
        read_scores(tmp_path)


def test_a_structure_called_na_is_kept(tmp_path):
    rows(structure="NA").to_csv(tmp_path / "scores.csv", index=False)
    assert set(read_scores(tmp_path)["structure"]) == {"NA"}
