"""Tables and pages from scores alone."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.console import InputError
from evaluation import figures, statistics, tables, typeset
from evaluation.report import PAGE, write_report, write_tables
from evaluation.scores import COLUMNS, read_scores


def rows(method="a", *, dataset="ct", structure="liver", volumes=6, slices=3, dsc=0.8, spread=0.05, seed=0,
         prompt="box", **change):  # fmt: skip
    """Rows of one method on one structure, DSC drawn around `dsc`."""
    rng = np.random.default_rng(seed)
    lines = []
    for volume in range(volumes):
        for k in range(slices):
            value = float(np.clip(dsc + spread * rng.normal(), 0, 1))
            lines.append(
                dict.fromkeys(COLUMNS, 0)
                | {"dataset": dataset, "modality": dataset.upper()[:2], "case": f"v{volume}/z{k}"}
                | {
                    "volume": f"v{volume}",
                    "patient": f"p{volume}",
                    "slice": k,
                    "structure": structure,
                    "prompt": prompt,
                    "round": 1,
                }
                | {"clicks": 1, "method": method, "dsc": value, "iou": value / (2 - value), "unit": "mm"}
                | {"hd95": 10 * (1 - value), "surface_dice": value, "tolerance": 2.0}
                | {"predicted_iou": value**2, "reference_pixels": 100, "predicted_pixels": 100}
                | {"shared_pixels": int(100 * value), "volume_voxels": 400}
                | {"encode_seconds": 0.2, "predict_seconds": 0.01}
                | change
            )
    return pd.DataFrame(lines, columns=COLUMNS)


def write_tables_of(scores, **options):
    with tempfile.TemporaryDirectory() as folder:
        return write_tables(scores, Path(folder), **options)


def two(**change):
    return pd.concat(
        [rows("a", dsc=0.85, **change), rows("b", dsc=0.75, seed=1, **change)], ignore_index=True
    )


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
    assert "18 rows are left out" in text


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


def test_an_organ_that_few_patients_have_counts_in_the_draws_that_hold_one():
    rare = rows(structure="tumour", slices=1, volumes=1, dsc=0.4, spread=0)
    table = tables.by_modality(pd.concat([rows(slices=1, volumes=8, dsc=0.8, spread=0), rare])).iloc[0]
    assert table["mean"] == pytest.approx(0.6)
    assert table["low"] == pytest.approx(0.6)
    assert table["high"] == pytest.approx(0.8)  # of draws without that patient


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


def clicks(curves, method="a"):
    lines = []
    for case, curve in enumerate(curves):
        for turn, dsc in enumerate(curve, start=1):
            lines.append(
                rows(method, volumes=1, slices=1, prompt=f"clicks:{len(curve)}").iloc[0].to_dict()
                | {"case": f"c{case}", "volume": f"c{case}", "round": turn, "clicks": turn, "dsc": dsc}
            )
    return pd.DataFrame(lines)


def test_clicks_to_reach_a_target():
    (line,) = tables.clicks_to_reach(clicks([[0.5, 0.86, 0.91], [0.9, 0.7, 0.7], [0.1, 0.2, 0.3]])).to_dict(
        "records"
    )
    assert line["noc85"] == pytest.approx((2 + 1 + 3) / 3)
    assert line["noc90"] == pytest.approx((3 + 1 + 3) / 3)
    assert line["missed85"] == pytest.approx(1 / 3)


def test_every_method_stands_in_the_legend_by_its_name(tmp_path):
    """matplotlib leaves out what begins with an underscore, and would read $ as mathematics."""
    curves = [[0.5, 0.86, 0.91], [0.9, 0.7, 0.7]]
    names = ["_own", r"$\frac{2$", "plain"]
    scores = pd.concat([clicks(curves, name) for name in names], ignore_index=True)
    figure = figures.clicks(scores, dict.fromkeys(names, "black"))
    assert [text.get_text().strip() for text in figure.axes[0].get_legend().get_texts()] == names
    assert figures.write_figures(scores, tmp_path)


def test_figures_are_replaced_whole_and_those_of_before_go(tmp_path):
    scores = clicks([[0.5, 0.86, 0.91], [0.9, 0.7, 0.7]])
    first = figures.write_figures(scores, tmp_path)
    (tmp_path / "old.png").touch()
    (tmp_path / "old.pdf").touch()
    assert figures.write_figures(scores, tmp_path) == first
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(kept) == {path.with_suffix(suffix).name for path in first for suffix in (".png", ".pdf")}
    assert all(kept[path.name][:4] == b"\x89PNG" for path in first)
    program = """
import resource, signal, sys
from pathlib import Path
import pandas as pd
from evaluation import figures
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
scores = pd.read_pickle(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))
try:
    figures.write_figures(scores, Path(sys.argv[2]))
except OSError as error:
    print(error.filename, error.strerror)
"""
    pickled = tmp_path.with_name("scores.pkl")
    scores.to_pickle(pickled)
    done = subprocess.run(
        [sys.executable, "-c", program, str(pickled), str(tmp_path)], capture_output=True, text=True
    )
    assert done.stdout.startswith(str(tmp_path)), done.stderr
    assert "File too large" in done.stdout
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_the_tables_show_the_last_round():
    summary = tables.summarise(clicks([[0.1, 0.8], [0.2, 0.6]]))
    assert summary["mean"].tolist() == [pytest.approx(0.7)]


def test_calibration_is_a_rank_correlation():
    (line,) = tables.calibration(rows()).to_dict("records")
    assert line["pooled"] == pytest.approx(1.0)
    assert line["within"] == pytest.approx(1.0)
    assert tables.calibration(rows().assign(predicted_iou=np.nan)).empty


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


AWKWARD = "50%_a&b #1 {x} ~^ \\ $ <c> |d| caf\u00e9 \u4e2d"


def awkward_scores():
    scores = pd.concat([two(), two(prompt="point1"), clicks([[0.3, 0.7]] * 3), clicks([[0.2, 0.9]] * 3, "b")])
    return scores.replace({"structure": {"liver": AWKWARD}, "method": {"b": AWKWARD}})


def test_latex_compiles_alone_and_inside_a_paper(tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    write_tables(awkward_scores(), tmp_path, baseline="a")
    head = r"\documentclass{article}\usepackage{booktabs,graphicx}"
    (tmp_path / "paper.tex").write_text(head + r"\begin{document}\input{table}Text.\end{document}")
    for name in ("table", "paper"):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name],
            cwd=tmp_path,
            capture_output=True,
        )
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-1500:]
        assert (tmp_path / f"{name}.pdf").stat().st_size > 5000


def test_latex_is_balanced_and_escaped(tmp_path):
    write_tables(awkward_scores(), tmp_path)
    text = (tmp_path / "table.tex").read_text()
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") > 8
    assert r"50\%\_a\&b \#1 \{x\}" in text
    for columns, body in re.findall(r"begin{tabular}{(l*r+)}(.*?)\\end{tabular}", text, flags=re.S):
        lines = re.findall(r"^.*\\\\$", body, flags=re.M)
        assert len(lines) > 1
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(columns)}


def test_table_csv_holds_every_score(tmp_path):
    write_tables(two(), tmp_path)
    table = pd.read_csv(tmp_path / "table.csv")
    assert set(table["score"]) == {"dsc", "iou", "hd95", "surface_dice"}
    assert len(table) == 8


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    scores = awkward_scores()
    scores.to_csv(folder / "scores.csv", index=False)
    write_report(read_scores(folder), folder, baseline="a")
    return folder, (folder / PAGE).read_text()


def test_every_table_stands_in_markdown_latex_and_csv(report):
    folder, page = report
    titles = ["DSC, prompt box", "DSC by modality", "surface Dice, prompt box", "HD95, prompt box",
              "stacked slices", "Number of clicks", "Median seconds"]  # fmt: skip
    for text in ((folder / "table.md").read_text(), (folder / "table.tex").read_text(), page):
        assert [title for title in titles if title not in text] == []
    clicks_table = pd.read_csv(folder / "tables" / "clicks.csv")
    assert {"noc85", "noc90", "missed85"} <= set(clicks_table)
    assert set(pd.read_csv(folder / "tables" / "modality.csv")["modality"]) == {"CT"}
    assert {path.stem for path in (folder / "tables").glob("*.csv")} >= {"volumes", "seconds"}


def test_the_page_is_whole_in_itself(report):
    folder, text = report
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert text.count("data:image/png;base64,") == len(list((folder / "figures").glob("*.png")))
    assert "&lt;c&gt;" in text
    assert "<c>" not in text


def test_pictures_of_rows_that_are_gone_are_left_out(report, tmp_path):
    folder = tmp_path / "a"
    shutil.copytree(report[0], folder)
    picture = folder / "overlays" / "gone" / "liver" / "box" / "0.500__a.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"")
    write_report(read_scores(folder), folder)
    assert "gone" not in (folder / PAGE).read_text()


def test_every_figure_is_there(report):
    names = {path.stem.split("-")[0] for path in (report[0] / "figures").glob("*.png")}
    assert names == {"clicks", "structures", "scatter", "calibration"}


def test_the_page_sorts_and_filters_in_a_browser(report, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here to run the page in")
    check = """<script>
      const table = document.querySelector("#cases ~ .cases table");
      const column = [...table.querySelectorAll("th")].findIndex(head => head.textContent === "dsc");
      const values = () => [...table.tBodies[0].rows].map(row => Number(row.cells[column].dataset.value));
      const button = table.querySelectorAll("th button")[column];
      const sorted = list => list.every((value, k) => k === 0 || list[k - 1] <= value);
      button.click(); const up = sorted(values());
      button.click(); const down = sorted(values().reverse());
      const before = rows.length; filter.value = "point1"; filter.dispatchEvent(new Event("input"));
      const shown = rows.filter(row => !row.hidden).length;
      document.title = `up=${up} down=${down} filtered=${shown > 0 && shown < before}`;
    </script></body>"""
    page = tmp_path / "page.html"
    page.write_text(report[1].replace("</body>", check))
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom",
         f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        capture_output=True, timeout=120,
    )  # fmt: skip
    assert b"<title>up=true down=true filtered=true</title>" in done.stdout, done.stderr[-800:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="hd95"), "'hd95' is missing"),
        (lambda table: table.assign(dsc="good"), "'dsc'"),
        (lambda table: table.iloc[:0], "no scores"),
        (lambda table: table.assign(dsc=[0.5] * 17 + [None]), "line 19 has no dsc"),
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
