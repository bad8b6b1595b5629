"""Objects in whole volumes: cases, prompts, methods, scores, tables, and the way through the command."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from synthfm.data.console import InputError
from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases.cases import iter_cases
from synthfm.evaluation.cases.prompting import (
    VOLUME_SETTINGS,
    DrawnVolumePrompt,
    Key,
    correct_volume,
    make_volume_prompt,
    parse_setting,
)
from synthfm.evaluation.cli import main
from synthfm.evaluation.config import EvalConfig
from synthfm.evaluation.methods import registry
from synthfm.evaluation.report import tables
from synthfm.evaluation.scoring.metrics import score
from synthfm.evaluation.scoring.scores import read_scores
from tests.support.cases import descriptor, random_tiny, source, split
from tests.support.files import write_pair, write_picture

KEY = ("test", "a/ball", "ball")


def ball(
    shape: tuple[int, int, int] = (12, 48, 56), radius: float = 14.0, between: float = 3.0
) -> np.ndarray:
    """A ball of `radius` pixels in the middle of a volume whose slices lie `between` pixels apart."""
    z, y, x = (np.indices(shape).T - (np.array(shape) - 1) / 2).T
    return np.hypot(np.hypot(z * between, y), x) < radius


def picture(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 8, mask.shape)
    return np.clip(np.where(mask, 170, 70) + ndimage.gaussian_filter(noise, (0, 1, 1)), 0, 255).astype(
        np.uint8
    )


def asked(mask: np.ndarray, setting: str, seed: int = 0) -> DrawnVolumePrompt:
    return make_volume_prompt(mask, Key(*KEY, setting), seed)


def test_each_object_of_a_volume_is_a_case(tmp_path):
    label = ball().astype(np.uint8)
    label[2:9, 2:9, 2:9] = 2
    label[5, 40:42, 2:4] = 0
    image = write_pair(
        tmp_path, "a", label, np.where(label > 0, 150, 20).astype(np.int16), spacing=(0.8, 0.9, 3)
    )
    cases, failures = split(iter_cases(descriptor(), tmp_path, dims=3))
    assert not failures
    assert [case.case for case in cases] == ["a/liver", "a/spleen"]
    for number, case in enumerate(cases, start=1):
        assert case.spacing == pytest.approx((3, 0.9, 0.8))
        assert case.image.shape == image.shape
        (item,) = case.objects
        np.testing.assert_array_equal(item.mask, label == number)
    limited, _ = split(iter_cases(descriptor(), tmp_path, dims=3, limit=1))
    assert len(limited) == 1


def test_a_single_image_is_no_volume(tmp_path):
    write_picture(tmp_path / "a.png", picture(ball())[5])
    write_picture(tmp_path / "a_label.png", ball()[5].astype(np.uint8))
    two = source("{id:[a-z]}.png", {"file": "{id}_label.png", "labels": {"liver": 1}})
    cases, failures = split(iter_cases(two, tmp_path, dims=3))
    assert not cases
    assert "2-D image where a 3-D volume is expected" in failures[0].reason


@given(st.integers(0, 10**6), st.sampled_from(sorted(VOLUME_SETTINGS)))
@settings(max_examples=40, deadline=None)
def test_prompts_lie_on_the_object_in_slices_that_hold_it(seed, name):
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.normal(size=(7, 24, 30)), (1, 3, 3)) > 0.02
    drawn = asked(mask, name, seed)
    low, high = drawn.ends
    assert mask[[low, high]].any((1, 2)).all()
    assert not mask[:low].any()
    assert not mask[high + 1 :].any()
    for k, prompt in drawn.prompts.items():
        assert mask[k].any()
        for x, y in prompt.points:
            assert mask[k, y, x]
    wanted = parse_setting(name).slices
    filled = np.flatnonzero(mask.any((1, 2)))
    assert len(drawn.prompts) == (len(filled) if wanted is None else min(wanted, len(filled)))
    if wanted == 1:
        assert mask[next(iter(drawn.prompts))].sum() == mask.sum((1, 2)).max()
    assert (drawn.span == (low, high)) is (wanted is None)


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_corrective_click_lies_deepest_in_the_largest_error(seed):
    """Against the definition, written plainly: 26-connected, depth in mm."""
    rng = np.random.default_rng(seed)
    spacing = (rng.uniform(0.5, 4), 1.0, rng.uniform(0.5, 2))
    mask, predicted = (ndimage.gaussian_filter(rng.normal(size=(6, 14, 16)), 1.2) > 0.05 for _ in range(2))
    first = asked(mask, "clicks3d:3")
    second = correct_volume(first, predicted, mask, spacing)
    assert second.clicks == first.clicks + 1
    point = second.prompts[second.last].points[-1]
    place = (second.last, int(point[1]), int(point[0]))
    numbered, _ = ndimage.label(predicted ^ mask, np.ones((3, 3, 3)))
    sizes = np.bincount(numbered.ravel())[1:]
    assert sizes[numbered[place] - 1] == sizes.max()
    region = np.pad(numbered == numbered[place], 1)
    depth = ndimage.distance_transform_edt(region, sampling=spacing)[1:-1, 1:-1, 1:-1]
    assert depth[place] == pytest.approx(depth.max())
    assert second.prompts[second.last].labels[-1] == mask[place]


def test_a_perfect_mask_is_clicked_where_it_is_deepest():
    mask = ball()
    clicked = correct_volume(asked(mask, "clicks3d:2"), mask, mask, (3.0, 1.0, 1.0))
    assert clicked.last in (5, 6)
    assert clicked.prompts[clicked.last].labels[-1] == 1


@pytest.mark.parametrize("name", ["ellipsoid", "copy:ellipse", "random_walker", "region_growing"])
def test_a_ball_is_found_from_a_box_in_its_middle(name):
    mask = ball()
    method = registry.build_for_volumes(name)
    found = method.predict(method.encode(picture(mask), (3.0, 1.0, 1.0)), asked(mask, "slice_box")).mask
    least = {"copy:ellipse": 0.75}.get(name, 0.9)  # a copy is a cylinder
    assert score(found, mask, (3.0, 1.0, 1.0), 2.0).dsc > least


def test_interpolation_fills_between_prompted_slices_alone():
    mask = ball()
    method = registry.build_for_volumes("interpolation:ellipse")
    assert not method.accepts(parse_setting("slice_box"))
    prompt = asked(mask, "slices3_box")
    found = method.predict(method.encode(picture(mask), None), prompt).mask
    first, last = min(prompt.prompts), max(prompt.prompts)
    assert np.flatnonzero(found.any((1, 2))).tolist() == [*range(first, last + 1)]
    within = np.s_[first : last + 1]
    assert score(found[within], mask[within], None, 2.0).dsc > 0.9


@pytest.mark.parametrize("setting", ["slice_box", "slice_point1", "slices3_box", "every_slice_box"])
def test_tiny_carries_its_mask_through_a_ball(setting):
    mask = ball()
    method = registry.build_for_volumes("second-look:tiny")
    found = method.predict(method.encode(picture(mask), (3.0, 1.0, 1.0)), asked(mask, setting))
    assert score(found.mask, mask, (3.0, 1.0, 1.0), 2.0).dsc > 0.85
    assert 0 < found.iou <= 1


def test_a_correction_goes_on_from_the_answer_before():
    """A part that the first click does not mean is added by the second, and the rest stays."""
    mask = ball()
    mask[5:, 4:12, 4:12] = True
    method = registry.build_for_volumes("second-look:tiny")
    encoded = method.encode(picture(mask), (3.0, 1.0, 1.0))
    first = asked(mask, "clicks3d:2")
    before = method.predict(encoded, first)
    second = correct_volume(first, before.mask, mask, (3.0, 1.0, 1.0))
    after = method.predict(encoded, second, before)
    x, y = second.prompts[second.last].points[-1]
    assert after.mask[second.last, y, x]
    assert not (before.mask & ~after.mask).any()
    found, known = (score(answer.mask, mask, None, 2.0) for answer in (after, before))
    assert found.surface_dice > known.surface_dice
    assert found.hd95 < known.hd95


def test_no_mask_leaves_the_slices_that_a_prompt_in_all_of_them_names():
    mask = ball()
    for name in ("second-look:tiny", "ellipsoid", "random_walker", "region_growing", "copy:ellipse"):
        method = registry.build_for_volumes(name)
        found = method.predict(method.encode(picture(mask), None), asked(mask, "every_slice_box")).mask
        assert not found[~mask.any((1, 2))].any(), name


def test_scores_count_all_slices_and_the_ends():
    mask = np.zeros((10, 8, 8), bool)
    mask[3:7, 2:6, 2:6] = True
    longer = mask.copy()
    longer[7:10, 2:6, 2:6] = True
    found = score(longer, mask, (2.0, 1.0, 1.0), 2.0)
    assert found.dsc == pytest.approx(2 * 4 / 11)
    assert (found.slices_beyond, found.slices_missed, found.end_error) == (3, 0, 3)
    assert found.hd95 == pytest.approx(6.0)  # three slices of 2 mm
    empty = score(np.zeros_like(mask), mask, (2.0, 1.0, 1.0), 2.0)
    assert (empty.dsc, empty.slices_missed, empty.end_error) == (0, 4, 4)
    assert empty.hd95 == pytest.approx(np.linalg.norm([20, 8, 8]))


@pytest.fixture
def volumes(tmp_path):
    """Two volumes of a ball each, and their descriptor."""
    for name, radius in (("a", 14.0), ("b", 11.0)):
        label = ball(radius=radius).astype(np.uint8)
        write_pair(tmp_path, name, label, picture(label > 0).astype(np.int16), spacing=(1, 1, 3))
    path = tmp_path / "own.yaml"
    path.write_text(
        "title: Balls\nmodality: MR\nsources:\n- folder: .\n  image: '{id:[a-z]}.nii.gz'\n  masks:\n"
        "  - {file: '{id}_label.nii.gz', labels: {ball: 1}}\n"
    )
    return tmp_path, path


def evaluate(volumes, out, *more: str):
    root, path = volumes
    arguments = ["run", "--data-root", str(root), "--dataset", str(path), "--out", str(out), *more]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_the_command_scores_volumes_and_goes_on(volumes, tmp_path):
    out = tmp_path / "out"
    more = ["--dims", "3", "--method", "ellipsoid,copy:ellipse", "--prompts", "slice_box,slices3_box"]
    result = evaluate(volumes, out, *more)
    assert result.exit_code == 0, result.output
    assert "slices3_box" in result.output
    scores = read_scores(out)
    assert len(scores) == 2 * 2 * 2
    assert set(scores["case"]) == {"a/ball", "b/ball"}
    assert scores["slices_beyond"].notna().all()
    assert (out / "tables" / "ends.csv").is_file()
    assert not (out / "tables" / "volumes.csv").exists()
    assert list((out / "overlays").rglob("*.png"))
    first = (out / "scores.csv").read_text()
    assert evaluate(volumes, out, *more).exit_code == 0
    second = read_scores(out)
    assert len((out / "scores.csv").read_text().splitlines()) == len(first.splitlines())
    assert scores["dsc"].tolist() == pytest.approx(second["dsc"].tolist())


def test_masks_of_another_system_come_back_as_nifti(volumes, tmp_path):
    root, path = volumes
    exchange, out = tmp_path / "exchange", tmp_path / "out"
    given = ["--data-root", str(root), "--dataset", str(path), "--dims", "3", "--prompts", "slice_box"]
    result = CliRunner().invoke(main, ["prompts", *given, "--out", str(exchange)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for case in json.loads((exchange / "prompts.json").read_text())["cases"]:
        image = sitk.ReadImage(str(exchange / case["image"]))
        assert list(image.GetSize()) == case["size"]
        assert image.GetSpacing() == pytest.approx((1, 1, 3))
        (prompt,) = case["prompts"]
        (asked_in,) = prompt["slices"]
        assert asked_in["box"] is not None
        (exchange / prompt["mask"]).parent.mkdir(parents=True)
        sitk.WriteImage(sitk.Cast(image > 120, sitk.sitkUInt8), str(exchange / prompt["mask"]))
    result = CliRunner().invoke(
        main, ["run", *given, "--method", f"theirs=masks:{exchange}", "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    scores = read_scores(out)
    assert len(scores) == 2
    assert (scores["dsc"] > 0.95).all()


def test_clicks_are_followed_round_by_round(volumes, tmp_path):
    checkpoint = random_tiny(tmp_path / "random.pth")
    more = ["--dims", "3", "--checkpoint", f"m={checkpoint}", "--method", "none", "--limit", "1"]
    result = evaluate(volumes, tmp_path / "out", *more, "--prompts", "clicks3d:2,box_clicks3d:2")
    assert result.exit_code == 0, result.output
    scores = read_scores(tmp_path / "out")
    rounds = scores.sort_values("round").groupby("prompt")["clicks"].apply(list).to_dict()
    assert rounds == {"clicks3d:2": [1, 2], "box_clicks3d:2": [0, 1, 2]}
    areas = tables.click_areas(scores).set_index("prompt")["dsc"]
    of_box = scores[scores["prompt"] == "box_clicks3d:2"].sort_values("round")["dsc"].to_numpy()
    assert areas["box_clicks3d:2"] == pytest.approx((of_box[0] / 2 + of_box[1] + of_box[2] / 2) / 2)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--dims", "3", "--prompts", "box"], "box is for single images, dims is 3"),
        (["--prompts", "slice_box"], "slice_box is for volumes, dims is 2"),
        (["--dims", "3", "--method", "grabcut"], "unknown method 'grabcut' for volumes"),
        (["--dims", "3", "--method", "copy:nothing"], "unknown method 'nothing'"),
        (["--dims", "3", "--prompts", "clicks3d:0"], "unknown prompt setting 'clicks3d:0'"),
        (["--dims", "3", "--dataset", "SHARDS"], "shards are scored image by image"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(volumes, tmp_path, more: Sequence[str], reason, shards):
    root, path = volumes
    out = tmp_path / "out"
    named = [str(shards) if item == "SHARDS" else item for item in more]
    data = ["--data-root", str(root), *([] if "SHARDS" in more else ["--dataset", str(path)])]
    result = CliRunner().invoke(main, ["run", *data, "--out", str(out), *named])
    assert result.exit_code == 2, result.output
    assert reason in result.output
    assert len(result.output.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    from synthfm.generator.cli import main as generate

    folder = tmp_path_factory.mktemp("shards") / "s"
    arguments = ["run", "--out", str(folder), "--num", "2", "--size", "64", "--jobs", "1"]
    assert CliRunner().invoke(generate, arguments).exit_code == 0
    return folder


def test_settings_of_volumes_and_of_images_do_not_mix():
    with pytest.raises((InputError, ValueError), match="is for single images"):
        EvalConfig(dims=3, prompts=("slice_box", "box"))


def test_sam2s_own_video_predictor_carries_a_mask():
    """With random weights: every slice is answered, and a box in another slice changes the answer."""
    pytest.importorskip("sam2")
    from sam2.build_sam import build_sam2_video_predictor

    from synthfm.evaluation.methods.volumes.sam2 import Sam2Volume

    model = build_sam2_video_predictor("configs/sam2.1/sam2.1_hiera_t.yaml", None, device="cpu")
    mask = ball((3, 48, 56), between=6.0)
    method = Sam2Volume("SAM 2", model)
    encoded = method.encode(picture(mask), (6.0, 1.0, 1.0))
    found = method.predict(encoded, asked(mask, "slice_box"))
    assert found.mask.shape == mask.shape
    both = DrawnVolumePrompt(
        prompts={0: Prompt(box=[2, 2, 20, 20]), 2: Prompt([[30, 20]], [1])},
        ends=(0, 2),
        setting=parse_setting("clicks3d:1"),
        key=asked(mask, "slice_box").key,
        seed=0,
    )
    again = method.predict(encoded, both)
    assert again.mask.shape == mask.shape
