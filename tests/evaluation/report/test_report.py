"""Figures, LaTeX and the page from scores alone."""

import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from synthfm.evaluation.report import figures
from synthfm.evaluation.report.report import PAGE, write_report, write_tables
from synthfm.evaluation.scoring.scores import read_scores
from tests.support.scores import clicks, two


def test_every_method_stands_in_the_legend_by_its_name(tmp_path):
    """matplotlib leaves out what begins with an underscore, and would read $ as mathematics."""
    curves = [[0.5, 0.86, 0.91], [0.9, 0.7, 0.7]]
    names = ["_own", r"$\frac{2$", "plain"]
    scores = pd.concat([clicks(curves, name) for name in names], ignore_index=True)
    figure = figures.clicks(scores, dict.fromkeys(names, "black"))
    assert [text.get_text().strip() for text in figure.axes[0].get_legend().get_texts()] == names
    assert figures.write_figures(scores, tmp_path)


def test_a_method_of_the_second_dataset_alone_stands_in_the_legend():
    curves = [[0.5, 0.86], [0.9, 0.7]]
    scores = pd.concat([clicks(curves, "a"), *(clicks(curves, name).assign(dataset="us") for name in "ab")])
    colours = {"a": "black", "b": "red"}
    for figure in (figures.clicks(scores, colours), figures.calibration(scores, colours)):
        shown = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert shown == ["a", "b"]


def test_methods_that_share_no_object_are_reported_without_figures_of_both(tmp_path):
    curves = clicks([[0.5, 0.86], [0.9, 0.7]])
    one, other = curves[curves["case"] == "c0"], curves[curves["case"] == "c1"].assign(method="b")
    scores = pd.concat([two(prompt="point1", volumes=2), one, other])
    files = figures.write_figures(scores, tmp_path)
    assert [path.name for path in files if "clicks" in path.name] == []
    assert any("scatter" in path.name for path in files)
    sets = pd.concat([two().query("method == 'a'"), two(dataset="us").query("method == 'b'")])
    names = [path.name for path in figures.write_figures(sets, tmp_path)]
    assert not any("scatter" in name for name in names)
    assert any("structures" in name for name in names)


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
from synthfm.evaluation.report import figures
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
