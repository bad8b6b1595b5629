"""``synthfm-eval`` as a user meets it."""

import json
import shlex
import shutil

import pytest
from click.testing import CliRunner
from PIL import Image

from synthfm.data.files import locked
from synthfm.evaluation.cli import main
from tests.support.cases import disc_folder, random_tiny


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(item) for item in arguments])
    assert result.exit_code == code, result.output
    if code == 2:
        assert "Traceback" not in result.output
    return result.output


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    root, descriptor = disc_folder(folder)
    return root, descriptor, random_tiny(folder / "rand.pth")


def test_a_run_prints_the_table_and_writes_what_it_promises(discs, tmp_path):
    root, descriptor, weights = discs
    out = tmp_path / "out"
    arguments = ["run", "--checkpoint", f"mine={weights}", "--data-root", root, "--dataset", descriptor,
                 "--prompts", "box,point1", "--out", out, "--limit", 3]  # fmt: skip
    text = call(*arguments)
    assert "| discs | disc | 3 / 3 |" in text
    assert "mine" in text
    assert "ellipse" in text
    for name in ("scores.csv", "table.md", "table.csv", "table.tex", "failures.csv", "settings.json"):
        assert (out / name).is_file()
    assert list((out / "overlays").rglob("*.png"))
    assert call(*arguments).split("###")[1] == text.split("###")[1]  # again: the same table
    page = call("report", out, "--baseline", "ellipse")
    assert "report.html" in page
    assert (out / "report.html").is_file()
    assert "seed: 0 there, 7 now" in call(*arguments, "--seed", 7, code=2)


def test_a_file_name_may_hold_an_equals_sign(discs, tmp_path):
    root, descriptor, weights = discs
    file = tmp_path / "epoch=3-step=100.pth"
    file.write_bytes(weights.read_bytes())
    text = call("run", "--checkpoint", file, "--method", "none", "--data-root", root, "--dataset", descriptor,
                "--prompts", "box", "--out", tmp_path / "out", "--limit", 1)  # fmt: skip
    assert "epoch=3-step=100" in text


def test_pictures_are_kept_when_a_finished_run_is_started_again(discs, tmp_path):
    root, descriptor, _ = discs
    arguments = ["run", "--data-root", root, "--dataset", descriptor, "--prompts", "box", "--out", tmp_path,
                 "--set", "overlays=1"]  # fmt: skip
    call(*arguments)
    before = sorted((tmp_path / "overlays").rglob("*.png"))
    for _ in range(2):
        call(*arguments)
        assert sorted((tmp_path / "overlays").rglob("*.png")) == before


def test_a_dataset_whose_table_cannot_be_read_does_not_hide_the_others(tmp_path):
    folder = tmp_path / "HC18" / "training_set"
    folder.mkdir(parents=True)
    for name in ("000_HC.png", "000_HC_Annotation.png"):
        Image.new("L", (8, 8)).save(folder / name)
    (tmp_path / "HC18" / "training_set_pixel_size_and_HC.csv").write_text("name,size\n000_HC.png,0.1\n")
    text = call("datasets", "--data-root", tmp_path)
    assert "unusable: " in next(line for line in text.splitlines() if line.startswith("hc18"))
    assert any(line.startswith("tn3k") for line in text.splitlines())


def test_prompts_go_out_and_masks_come_back(discs, tmp_path):
    root, descriptor, _ = discs
    out = tmp_path / "exchange"
    common = ["--data-root", root, "--dataset", descriptor, "--prompts", "box,point3_neg2"]
    call("prompts", *common, "--out", out)
    content = json.loads((out / "prompts.json").read_text())
    assert len(content["cases"]) == 4
    for case in content["cases"]:
        image = Image.open(out / case["image"])
        assert list(image.size) == case["size"]
        for prompt in case["prompts"]:
            mask = image.point(lambda value: 255 * (value > 135))  # another system's method: a threshold
            (out / prompt["mask"]).parent.mkdir(parents=True, exist_ok=True)
            mask.save(out / prompt["mask"])
    text = call("run", *common, "--method", f"threshold=masks:{out},ellipse", "--out", tmp_path / "scored")
    row = next(line for line in text.splitlines() if line.startswith("| discs"))
    assert float(row.split("**")[1]) > 0.95
    assert "threshold" in text
    wrong = call("run", *common, "--method", f"threshold=masks:{out}", "--seed", 5, "--out", tmp_path / "b",
                 code=2)  # fmt: skip
    assert "--seed" in wrong
    before = (out / "prompts.json").read_bytes()
    again = call("prompts", *common, "--seed", 5, "--out", out, code=2)  # else its masks would pass for these
    assert "another --seed; give another --out" in again
    assert (out / "prompts.json").read_bytes() == before
    call("prompts", *common, "--out", out)


def test_the_command_for_figures_tests_against_the_same_baseline(discs, tmp_path):
    root, descriptor, _ = discs
    out = tmp_path / "an out"
    text = call("run", "--data-root", root, "--dataset", descriptor, "--prompts", "box", "--method",
                "ellipse,_other=ellipse", "--baseline", "ellipse", "--out", out)  # fmt: skip
    command = shlex.split(next(line for line in text.splitlines() if "report" in line).split("page: ")[1])
    table = (out / "table.md").read_text()
    assert "* differs from ellipse" in table
    call(*command[1:])
    assert (out / "table.md").read_text() == table


def test_a_failed_case_is_told_with_exit_code_1(tmp_path):
    root, descriptor = disc_folder(tmp_path)
    (root / "discs" / "images" / "p1.png").write_bytes(b"nothing")
    out = tmp_path / "out"
    text = call("run", "--data-root", root, "--dataset", descriptor, "--prompts", "box", "--out", out, code=1)
    assert "p1.png" in text
    assert "| discs | disc | 3 / 3 |" in text


def test_a_folder_without_masks_is_told_with_exit_code_1(discs, tmp_path):
    root, descriptor, _ = discs
    (tmp_path / "empty").mkdir()
    common = ["--data-root", root, "--dataset", descriptor, "--prompts", "box", "--out", tmp_path / "out"]
    text = call("run", *common, "--method", f"ellipse,vendor=masks:{tmp_path / 'empty'}", code=1)
    assert f"failed: {tmp_path / 'empty'} (vendor): no mask for box; expected SETTING/" in text


def test_a_dataset_that_is_not_there_fails_and_the_others_are_scored(discs, tmp_path):
    root, descriptor, _ = discs
    common = ["--data-root", root, "--dataset", f"acdc,{descriptor}", "--prompts", "box"]
    text = call("run", *common, "--out", tmp_path / "out", code=1)
    assert "| discs | disc | 4 / 4 |" in text
    assert f"failed: acdc {root}: nothing found; expected images" in text
    assert "acdc" in (tmp_path / "out" / "failures.csv").read_text()
    assert "failed: acdc" in call("prompts", *common, "--out", tmp_path / "exchange", code=1)
    none = ["--data-root", root, "--dataset", "acdc,hc18", "--out", tmp_path / "none"]
    assert "dataset acdc: nothing found under" in call("run", *none, code=2)
    assert not (tmp_path / "none").exists()


WRONG = {
    "dataset": (["--dataset", "chaos-tc"], "chaos-ct"),
    "root": (["--data-root", "nowhere"], "nowhere"),
    "prompt": (["--prompts", "bx"], "box_loose"),
    "method": (["--method", "elipse"], "grabcut"),
    "checkpoint": (["--checkpoint", "missing.pth"], "missing.pth"),
    "preset": (["--preset", "paper"], "default"),
    "set": (["--set", "tolerance=3"], "tolerance_mm"),
    "value": (["--set", "tolerance_mm=-1"], "tolerance_mm"),
    "none": (["--method", "none"], "no method"),
    "baseline": (["--baseline", "sam"], "ellipse"),
    "device": (["--checkpoint", "rand", "--device", "quantum"], "quantum"),
    "jobs": (["--jobs", "0"], "--jobs 0"),
    "no dataset": (["--dataset", ""], "--dataset is given, but empty"),
    "no prompts": (["--prompts", ","], "--prompts is given, but empty"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_one_clear_line_and_leaves_nothing(discs, tmp_path, name):
    root, descriptor, weights = discs
    wrong, message = WRONG[name]
    wrong = [str(weights) if item == "rand" else item for item in wrong]
    given = {"--data-root": str(root), "--dataset": str(descriptor), "--out": str(tmp_path / "out")}
    given |= dict(zip(wrong[::2], wrong[1::2], strict=True))
    text = call("run", *(part for pair in given.items() for part in pair), code=2)
    assert message in text
    assert len(text.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_two_runs_do_not_fill_one_folder(discs, tmp_path):
    root, descriptor, _ = discs
    arguments = ["run", "--data-root", root, "--dataset", descriptor, "--prompts", "box", "--out", tmp_path]
    with locked(tmp_path, "synthfm-eval"):
        assert "another synthfm-eval is filling this folder" in call(*arguments, code=2)
    assert not list(tmp_path.iterdir())
    call(*arguments)


def test_an_empty_folder_is_not_the_current_one(discs, tmp_path, monkeypatch):
    root, descriptor, _ = discs
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        main, ["run", "--data-root", str(root), "--dataset", str(descriptor), "--out", ""]
    )
    assert result.exit_code == 2
    assert "'--out': is empty" in result.output
    assert not list(tmp_path.iterdir())


def test_datasets_and_methods_are_listed(discs):
    text = call("datasets", "--data-root", discs[0])
    assert "chaos-ct" in text
    assert "not found" in text
    assert "expected under the data root" in call("datasets", "hc18")
    assert "did you mean 'hc18'? choose one of" in call("datasets", "hc19", code=2)
    text = call("methods")
    assert "random_walker" in text
    assert "clicks:K" in text


def test_a_descriptor_shows_which_masks_go_with_which_image(discs, tmp_path):
    root, descriptor, _ = discs
    text = call("datasets", descriptor, "--data-root", root)
    assert text.endswith(
        f"under {root}: 4 volumes\n"
        + "".join(f"p{k}: discs/images/p{k}.png\n    discs/masks/p{k}.png (disc)\n" for k in range(4))
    )
    assert "under" not in call("datasets", descriptor)
    many = tmp_path / "many.yaml"
    many.write_text(descriptor.read_text().replace("{id}.png", "{id:p0}.png", 1).replace("{id}", "*"))
    for k in range(4, 8):
        (root / "discs" / "masks" / f"p{k}.png").write_bytes(b"")
    try:
        assert "p4.png (disc)\n    and 3 more masks\n" in call("datasets", many, "--data-root", root)
    finally:
        for k in range(4, 8):
            (root / "discs" / "masks" / f"p{k}.png").unlink()
    assert "nothing found under" in call("datasets", descriptor, "--data-root", tmp_path, code=2)
    assert "no such folder" in call("datasets", descriptor, "--data-root", tmp_path / "no", code=2)


def test_where_nothing_can_be_scored_the_list_of_what_failed_is_named(discs, tmp_path):
    root, descriptor, _ = discs
    bad = tmp_path / "data" / "discs"
    shutil.copytree(root / "discs", bad)
    for path in (bad / "masks").iterdir():
        path.write_bytes(b"torn")
    text = call("run", "--data-root", tmp_path / "data", "--dataset", descriptor, "--out", tmp_path / "out",
                code=2)  # fmt: skip
    assert f"all that failed is in {tmp_path / 'out' / 'failures.csv'} (4), the first" in text


def test_a_case_with_a_very_long_name_has_its_picture(discs, tmp_path):
    root, descriptor, _ = discs
    deep = tmp_path / "data" / "discs"
    names = [f"{letter * 60}.{'1' * 60}" for letter in "abc"]
    for kind in ("images", "masks"):
        (deep / kind).joinpath(*names).mkdir(parents=True)
        for k in range(2):
            path = root / "discs" / kind / f"p{k}.png"
            shutil.copy(path, (deep / kind).joinpath(*names, path.name))
    own = tmp_path / "long.yaml"
    own.write_text(descriptor.read_text().replace("{id}", "{a}/{b}/{c}/{d}"))
    call("run", "--data-root", tmp_path / "data", "--dataset", own, "--prompts", "box", "--out",
         tmp_path / "out")  # fmt: skip
    assert len(list((tmp_path / "out" / "overlays").rglob("*.png"))) == 2
    call("prompts", "--data-root", tmp_path / "data", "--dataset", own, "--prompts", "box", "--out",
         tmp_path / "prompts")  # fmt: skip
    assert len(list((tmp_path / "prompts" / "images").rglob("*.png"))) == 2
