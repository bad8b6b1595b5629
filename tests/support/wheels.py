"""Wheels of the project."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / ".ci").glob("Dockerfile.*"))


def metadata() -> ConfigParser:
    """What setup.cfg says."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def copied(dockerfile: Path) -> list[tuple[str, str]]:
    """Source and destination of each thing that an image takes from the repository."""
    lines = re.findall(r"^COPY (.+)", dockerfile.read_text(), re.M)
    return [(source, words[-1]) for words in map(str.split, lines) for source in words[:-1]]


def copy_for(dockerfile: Path, folder: Path) -> None:
    """Make the folder from which an image's wheel is built."""
    for source, destination in copied(dockerfile):
        path = folder / destination / (source if destination.endswith("/") else "")
        path.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, path)


def build(source: Path, folder: Path) -> Path:
    """The wheel of a checkout, or of what an image has copied of one."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*command, str(folder), str(source)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel
