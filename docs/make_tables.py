"""Writes the tables of README and docs from data/results/*.csv: ``python docs/make_tables.py``.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->`` and shows NAME.csv, cell by cell; columns
of figures are set to the right. With ``--check`` nothing is written.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "data" / "results"
TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.S)
FIGURE = re.compile(r"[*<u>]*[+-]?\d[^A-Za-z]*[*</u>]*")


def pages() -> list[Path]:
    """The Markdown files that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "data").rglob("*.md"))]


def table(name: str) -> str:
    """A CSV file as a Markdown table."""
    with open(RESULTS / f"{name}.csv", newline="", encoding="utf-8") as handle:
        header, *rows = csv.reader(handle)
    columns = [[cell for cell in column if cell] for column in zip(*rows, strict=True)]
    right = [bool(column) and all(FIGURE.fullmatch(cell) for cell in column) for column in columns]
    lines = [header, ["---:" if figures else "---" for figures in right], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def rewritten(text: str) -> str:
    """A page with its tables as the CSV files have them."""
    return TABLE.sub(lambda found: found[1] + table(found[2]) + found[3], text)


def main() -> int:
    """Rewrite the pages, or with ``--check`` name those that differ (exit code 1)."""
    stale = [page for page in pages() if rewritten(page.read_text("utf-8")) != page.read_text("utf-8")]
    for page in stale:
        print(f"{page.relative_to(ROOT)}: " + ("differs" if "--check" in sys.argv else "written"))
        if "--check" not in sys.argv:
            page.write_text(rewritten(page.read_text("utf-8")), "utf-8")
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
