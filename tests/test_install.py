"""The wheel beside folders of a user's own that bear the packages' short names; what images are made of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support import wheels

ROOT = Path(__file__).parents[1]
PACKAGES = ("data", "generator", "trainer", "evaluation")


def test_every_folder_of_modules_is_installed():
    """setup.cfg lists them one by one, as setuptools finds none under another name."""
    listed = wheels.metadata()["options"]["packages"].split()
    folders = [path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    names = {"synthfm." + ".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(listed) == names
    assert all((folder / "__init__.py").is_file() for folder in folders)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder of what the wheel holds, as pip unpacks it, built from what a container's image copies."""
    built = tmp_path_factory.mktemp("wheel")
    wheels.copy_for(wheels.DOCKERFILES[0], built / "copied")
    wheel = wheels.build(built / "copied", built)
    with zipfile.ZipFile(wheel) as file:
        file.extractall(built / "site")
    return built / "site"


def test_the_wheel_works_beside_a_users_own_data_and_trainer(installed, tmp_path):
    (tmp_path / "data.py").write_text("raise SystemExit('my own')")
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "__init__.py").write_text("")
    program = (
        "from synthfm.trainer.model import models; from synthfm.data import prompts, shards\n"
        "from synthfm.generator.config import load_config; import trainer\n"
        "print(models.__file__); models.load('tiny'); print(load_config('oct').size, trainer.__file__)"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{installed}"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith(str(installed))
    assert second == f"256 {tmp_path / 'trainer' / '__init__.py'}"
    for name in (
        "index.html",
        "page.html",
        "tiny.pth",
        "hc18.yaml",
        "full.yaml",
        "tiny.yaml",
        "samples.yaml",
    ):
        assert list(installed.rglob(name)), name


@pytest.mark.parametrize("package", PACKAGES)
def test_an_old_import_name_says_the_new_one(package):
    done = subprocess.run(
        [sys.executable, "-c", f"import {package}"], cwd=ROOT, capture_output=True, text=True
    )
    assert f"ImportError: the package {package} is synthfm.{package} now" in done.stderr


@pytest.mark.parametrize("file", wheels.DOCKERFILES, ids=lambda file: file.name)
def test_an_image_is_made_of_what_is_there(file):
    text, config = file.read_text(), wheels.metadata()
    for source, _ in wheels.copied(file):
        assert (ROOT / source).exists(), source
    assert wheels.copied(file) == wheels.copied(wheels.DOCKERFILES[0])  # of which the wheel is tested
    for base in re.findall(r"^FROM (.+)", text, re.M):
        assert re.fullmatch(r"python:3\.\d+-slim", base), base
        assert f"lock-{base[7:-5]}.txt" in text
    for extras in re.findall(r"'\.\[(.+?)\]'", text):
        assert set(extras.split(",")) <= set(config["options.extras_require"]), extras
    (program,) = re.findall(r'^CMD \["([\w-]+)"', text, re.M)
    assert f"{program} = " in config["options.entry_points"]["console_scripts"]


def test_images_pass_their_linter():
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if linter is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([linter, *map(str, wheels.DOCKERFILES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
