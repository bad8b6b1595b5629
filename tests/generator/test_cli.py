"""synthfm-generate as a user types it: what is printed, and with which exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from synthfm.generator.cli import main


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def message_of(result: Result) -> str:
    """The one line of an error."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "data"
    result = invoke("run", "--out", folder, "--num", 8, "--size", 48, "--jobs", 1, "--shard-size", 4)
    assert result.exit_code == 0, result.stderr
    assert "8 samples" in result.stdout
    assert "2 shards" in result.stdout
    return folder


def test_a_second_run_says_the_same_and_other_settings_are_refused(dataset):
    command = ("run", "--out", dataset, "--size", 48, "--jobs", 1, "--shard-size", 4)
    assert invoke(*command, "--num", 8).exit_code == 0
    refused = invoke(*command, "--num", 9, "--set", "texture.enabled=false")
    assert refused.exit_code == 2
    assert "texture.enabled: True there, False now; num: 8 there, 9 now" in message_of(refused)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num", 0], "--num 0"),
        (["--num", 3, "--size", 8], "'size'"),
        (["--num", 3, "--size", 99999], "'size'"),
        (["--num", 3, "--preset", "nix"], "unknown preset 'nix'; choose one of"),
        (["--num", 3, "--preset", "nix.yaml"], "unknown preset 'nix.yaml'"),
        (["--num", 3, "--set", "boundary.low_contrast=0.5"], "boundary.low_contrast"),
        (["--num", 3, "--set", "boundery.enabled=no"], "did you mean 'boundary'"),
        (["--num", 3, "--set", "boundary"], "key.subkey=value"),
        (["--num", 3, "--set", "modality.CT=-1"], "modality.CT"),
        (["--num", 3, "--jobs", 0], "--jobs 0"),
        (["--num", 3, "--backend", "dask"], "--scheduler ADDRESS"),
        (["--num", "many"], "'many' is not a valid integer"),
        ([], "Missing option '--num'"),
    ],
)
def test_wrong_arguments_are_one_line_and_leave_nothing(tmp_path, arguments, message):
    result = invoke("run", "--out", tmp_path / "data", *arguments)
    assert result.exit_code == 2
    assert message in message_of(result)
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_none_is_one_line_to_the_end_of_the_program(tmp_path):
    command = ["-m", "synthfm.generator.cli", "run", "--out", tmp_path / "data", "--num", "1"]
    command += ["--backend", "dask", "--scheduler", "nonsense"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr == "Error: --scheduler nonsense: no Dask scheduler answers there\n"


def test_an_unwritable_place_is_one_line():
    result = invoke("run", "--out", "/proc/data", "--num", 1)
    assert result.exit_code == 2
    assert "/proc/data" in message_of(result)


def test_presets_are_listed_with_a_line_each():
    result = invoke("presets")
    assert result.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert set(lines) == {
        *("full", "shape_only", "boundary_only", "neither", "ct", "mr", "us", "xr", "oct", "mild", "demo"),
        *("objects", "vessels", "volumes", "volumes_ct", "volumes_mr", "volumes_cine"),
    }
    assert all(len(line) > 10 for line in lines.values())


def test_preview_writes_a_sheet_of_what_was_asked(dataset, tmp_path):
    out = tmp_path / "sheet.png"
    assert "8 samples" in invoke("preview", dataset, "--out", out).stdout
    everything = Image.open(out).size
    assert "2 samples" in invoke("preview", dataset, "--out", out, "--count", 2).stdout
    few = Image.open(out).size
    assert few[1] < everything[1]
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--family", "nix"], "no sample with family 'nix'; there are families "),
        (["--modality", "PET"], "one of CT, generic, MR"),
        (["--count", 0], "--count 0"),
        (["--out", "a.jpg"], "ends in .png"),
        (["--out", "nix/a.png"], "no such folder"),
    ],
)
def test_preview_tells_what_is_wrong(dataset, tmp_path, arguments, message):
    result = invoke("preview", dataset, "--out", tmp_path / "a.png", *arguments)
    assert result.exit_code == 2
    assert message in message_of(result)
    assert list(tmp_path.iterdir()) == []


def test_verify_is_silent_on_a_good_folder_and_fails_on_a_damaged_one(dataset, tmp_path):
    good = invoke("verify", dataset)
    assert good.exit_code == 0
    assert "2 shards, no damage" in good.stdout
    for path in dataset.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = tmp_path / "shard-00001.h5"
    shard.write_bytes(shard.read_bytes()[:-1])
    bad = invoke("verify", tmp_path)
    assert bad.exit_code == 1
    assert "shard-00001.h5: truncated" in bad.stdout
    assert "1 problem in 2 shards and their manifest" in message_of(bad)
    shard.unlink()
    assert invoke("verify", tmp_path).exit_code == 1


@pytest.mark.parametrize("command", [["verify"], ["stats"], ["preview", "--out", "a.png"]])
def test_a_folder_without_a_dataset_is_told_by_name(tmp_path, command):
    for folder, message in ((tmp_path / "nix", "no such folder"), (tmp_path, "no manifest.json here")):
        result = invoke(command[0], folder, *command[1:])
        assert result.exit_code == 2
        assert f"{folder}: {message}" in message_of(result)


def test_stats_prints_a_page_and_draws_it(dataset, tmp_path):
    result = invoke("stats", dataset, "--out", tmp_path / "page.png")
    assert result.exit_code == 0
    for word in (
        "8 samples",
        "area",
        "contrast",
        "edge width",
        "objects per image",
        "modalities",
        "families",
    ):
        assert word in result.stdout
    assert Image.open(tmp_path / "page.png").size[0] > 500


@pytest.mark.parametrize("command", [[], ["run"], ["presets"], ["preview"], ["verify"], ["stats"]])
def test_every_command_has_help(command):
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_help_loads_nothing_heavy_and_the_program_no_torch():
    code = "import sys, synthfm.generator.cli; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
    code = (
        "import sys; from synthfm.generator.folder import factory, preview, stats;"
        "print([name for name in ('torch', 'pandas', 'matplotlib') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
