"""What the pages of README and docs hold: blocks of code, and the command lines in them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += [*sorted(DOCS.glob("*.md")), *sorted((ROOT / "data" / "weights").glob("*.md"))]
PACKAGES = {"synthfm-generate": "generator", "synthfm-train": "trainer", "synthfm-eval": "evaluation"}
STARTS = (*PACKAGES, "make", "python")


def all_blocks(page: Path) -> list[tuple[str, str]]:
    """The language ('' where none is named) and the text of each block of code, fenced or indented."""
    found = r"^```(\w*)\n(.*?)^```|(?<=\n\n)((?:    \S.*\n)+)"
    return [
        (match[1] or "", match[2] if match[2] is not None else re.sub(r"^    ", "", match[3], flags=re.M))
        for match in re.finditer(found, page.read_text(), re.M | re.S)
    ]


def blocks(page: Path, kind: str) -> list[str]:
    """Its blocks of one language."""
    return [text for name, text in all_blocks(page) if name == kind]


def lines_of(block: str) -> list[str]:
    """The command lines of a block, without prompt, comment and line breaks."""
    lines = (line.removeprefix("$ ").strip() for line in re.sub(r"\\\n\s*", " ", block).splitlines())
    return [re.sub(r"\s+#.*$", "", line) for line in lines if line.split(" ")[0] in STARTS]


def commands(page: Path) -> list[str]:
    """The command lines of a page."""
    return [line for kind, text in all_blocks(page) if kind in ("", "bash") for line in lines_of(text)]


def made_by(line: str) -> list[str]:
    """The programs' command lines that a `make` line stands for."""
    words = ["make", "--no-print-directory", "--dry-run", *line.split()[1:]]
    shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    joined = shown.replace("\\\n", " ").splitlines()
    return [line.split("/", 2)[-1].strip() for line in joined if re.match(r"\S*bin/synthfm-", line)]
