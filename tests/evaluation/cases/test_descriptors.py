"""Descriptors: every shipped one reads its dataset's public layout; a user's own is checked key by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from synthfm.data.console import InputError
from synthfm.evaluation.cases import patterns
from synthfm.evaluation.cases.case import Case, Failure
from synthfm.evaluation.cases.cases import iter_cases
from synthfm.evaluation.cases.descriptor import describe, descriptor_names, find, load_descriptor
from tests.support.cases import OWN, cases_of, write_own
from tests.support.files import REALDATA, blocks, needs_realdata, picture_of, write_itk, write_picture
from tests.support.trees import TREES, acdc, camus, ddti


def test_every_shipped_descriptor_has_a_tree() -> None:
    assert {name for name, _, _ in TREES.values()} == set(descriptor_names())


@pytest.mark.parametrize("tree", TREES)
def test_a_miniature_of_the_public_layout_is_read(tree: str, tmp_path: Path) -> None:
    name, build, structures = TREES[tree]
    count = build(tmp_path)
    descriptor = load_descriptor(name)
    found = find(descriptor, tmp_path)
    assert (found.images, found.without_mask) == (count, 0)
    cases = cases_of(name, tmp_path)
    assert len({case.case for case in cases}) == len(cases)
    assert len({case.volume for case in cases}) == count
    assert {thing.structure for case in cases for thing in case.objects} == set(structures)
    for case in cases:
        assert case.image.dtype == np.uint8
        for thing in case.objects:
            assert thing.mask.shape == case.image.shape
            # Every block is brighter than the ground by construction: image and mask lie on each other.
            outside = case.image[~np.any([other.mask for other in case.objects], axis=0)]
            assert np.mean(case.image[thing.mask] > np.median(outside)) > 0.97


@pytest.mark.parametrize(
    ("tree", "patients"), [("acdc", 2), ("camus (NIfTI)", 1), ("chaos-mr", 1), ("hc18", 2)]
)
def test_images_of_one_patient_are_known_as_such(tree: str, patients: int, tmp_path: Path) -> None:
    name, build, _ = TREES[tree]
    build(tmp_path)
    cases = cases_of(name, tmp_path)
    assert len({case.patient for case in cases}) == patients < len({case.volume for case in cases})


def test_the_structures_that_matter_are_covered() -> None:
    wanted = "liver, spleen, left kidney, right kidney, gallbladder, stomach, pancreas, aorta, bladder"
    wanted += ", left ventricle, right ventricle, myocardium, left atrium, prostate, hippocampus, fetal head"
    wanted += ", breast lesion, thyroid nodule"
    covered = {name for known in descriptor_names() for name in load_descriptor(known).structures()}
    assert set(wanted.split(", ")) <= covered


@pytest.mark.parametrize("name", descriptor_names())
def test_a_descriptor_says_how_to_get_the_dataset(name: str) -> None:
    descriptor = load_descriptor(name)
    text = describe(descriptor)
    for part in (descriptor.title, descriptor.url, descriptor.licence, descriptor.tree.split("\n")[0]):
        assert part
        assert part in text
    assert descriptor.citation.split(",")[0] in text
    assert descriptor.get


def test_the_data_root_may_lie_inside_the_download(tmp_path: Path) -> None:
    acdc(tmp_path)
    for inside in (tmp_path / "ACDC", tmp_path / "ACDC" / "database"):
        assert find(load_descriptor("acdc"), inside).images == 4
    assert str(find(load_descriptor("btcv"), tmp_path)) == "not found"


def test_nothing_found_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"hc18: nothing found.*HC18/training_set"):
        list(iter_cases(load_descriptor("hc18"), tmp_path))


def test_an_unknown_dataset_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown dataset 'chaos'.*chaos-ct"):
        load_descriptor("chaos")
    with pytest.raises(InputError, match=r"no/such.yaml: no such descriptor"):
        load_descriptor("no/such.yaml")


def test_a_users_own_descriptor_works_the_same(tmp_path: Path) -> None:
    label = blocks((30, 40), [1])
    write_picture(tmp_path / "a.png", picture_of(label, np.random.default_rng(0), "uint8"))
    write_picture(tmp_path / "masks" / "a.png", label * np.uint8(255))
    descriptor = load_descriptor(str(write_own(tmp_path, spacing=[0.2, 0.3])))
    (case,) = iter_cases(descriptor, tmp_path)
    assert isinstance(case, Case)
    assert (case.dataset, case.case, case.volume, case.slice, case.spacing) == (
        "mine",
        "a",
        "a",
        0,
        (0.2, 0.3),
    )
    np.testing.assert_array_equal(case.objects[0].mask, label == 1)
    assert case.objects[0].volume_voxels is None


def test_the_example_in_the_docs_is_a_descriptor(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text()
    (tmp_path / "cysts.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    label = blocks((30, 40), [1, 2])
    folder = tmp_path / "kidney-cysts" / "7"
    write_picture(folder / "image_left.png", picture_of(label, np.random.default_rng(0), "uint8"))
    for number in (1, 2):
        write_picture(folder / f"mask_left_{number}.png", (label == number) * np.uint8(255))
    (case,) = cases_of(str(tmp_path / "cysts.yaml"), tmp_path)
    assert (case.case, case.spacing, len(case.objects)) == ("7/left", (0.2, 0.2), 2)


def test_the_example_of_colours_in_the_docs_is_a_descriptor(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text()
    (tmp_path / "colours.yaml").write_text(text.split("```yaml\n")[2].split("```")[0])
    label = blocks((30, 40), [1, 2, 3])
    folder = tmp_path / "laparoscopy"
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255), (0, 255, 255)], np.uint8)
    write_picture(folder / "images" / "7.png", picture_of(label, np.random.default_rng(0), "uint8"))
    write_picture(folder / "masks" / "7.png", colours[label])
    (case,) = cases_of(str(tmp_path / "colours.yaml"), tmp_path)
    assert {thing.structure: thing.mask.sum() for thing in case.objects} == {"liver": 81, "kidneys": 162}


def _masks(**keys: Any) -> dict[str, Any]:
    return {"sources": [{"folder": ".", "image": "{id}.png", "masks": [{"file": "m/{id}.png", **keys}]}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modalty": "CT"}, "unknown key 'modalty'; did you mean 'modality'"),
        ({"modality": "PET"}, "'modality'.*'CT', 'MR', 'US', 'XR'"),
        ({"sources": []}, "'sources' is missing"),
        (_masks(), "sources.0.masks.0.*exactly one of labels, structure, structures"),
        (_masks(structure="a", labels={"b": 1}), "exactly one of"),
        (_masks(label={"b": 1}), "unknown key 'sources.0.masks.0.label'; did you mean 'labels'"),
        (_masks(labels={"b": 1.5}), "sources.0.masks.0.labels.b.*label number"),
        (_masks(labels={"b": "9..3"}), "range of labels as 55..70"),
        (_masks(labels={}), "labels.*at least 1"),
        (_masks(labels={"b": []}), "labels.b.*at least one label"),
        (_masks(labels={"b": [1, -2]}), "labels.b.*count from 0"),
        (_masks(labels={"b": "1"}), "labels.b.*without quotes"),
        (_masks(labels={"b": "-1.5"}), "labels.b.*without quotes"),
        (_masks(labels={"b": None}), "labels.b.*a colour in quotes"),
        (_masks(labels={"b": "#ff00"}), "labels.b.*write a colour as '#ff0000'"),
        (_masks(labels={"b": "#ff0000", "c": 1}), "colours or numbers, not both"),
        (_masks(labels={"b": 1}, threshold=100), "threshold goes with structure"),
        (_masks(labels={"": 1}), "the structure's name"),
        (_masks(structure=""), "structure.*the structure's name"),
        (_masks(structures={}), "structures.*at least 1"),
        (_masks(structures={"b": "c"}), "needs a group {structure}"),
        ({"sources": [{**OWN["sources"][0], "image": "{id.png"}]}, "sources.0.image.*brace is not closed"),
        ({"sources": [{**OWN["sources"][0], "image": "{id:[}.png"}]}, "not a regular expression"),
        ({"sources": [{**OWN["sources"][0], "image": "{id:(?i)a}.png"}]}, "not a regular expression"),
        ({"sources": [{**OWN["sources"][0], "image": r"{id:([a-z])\1}.png"}]}, "not a regular expression"),
        ({"sources": [{**OWN["sources"][0], "folder": []}]}, "sources.0.folder.*at least 1"),
        ({"sources": [{**OWN["sources"][0], "id": "{patient}"}]}, r"{patient} is no group.*groups: id"),
        ({"slices": {"policy": "some"}}, "slices.policy"),
        ({"slices": {"min_area": 0}}, "slices.min_area"),
        ({"slices": {"step": 5}}, "slices.*step 5 goes with policy: step"),
        ({"intensity": {"window": [5, 1]}}, "intensity.*smaller"),
        ({"intensity": {"window": [1, 5], "as_is": True}}, "intensity.*one of"),
        ({"image": {"axes": "zyy"}}, "image.axes.*each axis once"),
        ({"image": {"frame": "second"}}, "image.frame"),
        ({"image": {"frame": "{time}"}}, "{time} is no group"),
        ({"spacing": [1, -1]}, "spacing.1"),
    ],
)
def test_a_wrong_key_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_descriptor(str(write_own(tmp_path, **changes)))
    assert "mine.yaml" in str(error.value)


def test_a_key_that_stands_twice_is_named(tmp_path: Path) -> None:
    path = write_own(tmp_path)
    path.write_text(path.read_text() + "\nmodality: MR\n")
    with pytest.raises(InputError, match="key 'modality' stands twice"):
        load_descriptor(str(path))


def test_not_yaml_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: [1")
    with pytest.raises(InputError, match="not valid YAML"):
        load_descriptor(str(tmp_path / "mine.yaml"))


def test_two_downloads_of_one_dataset_count_once(tmp_path: Path) -> None:
    camus(tmp_path)
    camus(tmp_path, meta=True)
    assert find(load_descriptor("camus"), tmp_path).images == 4
    assert {case.case for case in cases_of("camus", tmp_path)} == {
        f"patient0001_{view}_{phase}" for view in ("2CH", "4CH") for phase in ("ED", "ES")
    }


def test_polygons_belong_to_their_image(tmp_path: Path) -> None:
    ddti(tmp_path, xml=True)
    objects = {case.case: case.objects for case in cases_of("ddti", tmp_path)}
    assert {name: len(things) for name, things in objects.items()} == {"7_1": 2, "7_2": 1}
    np.testing.assert_array_equal(objects["7_1"][0].mask, blocks((40, 60), [1, 2]) == 1)


def test_ringing_around_a_jpeg_mask_is_not_mask(tmp_path: Path) -> None:
    label = np.kron(blocks((30, 40), [1]), np.ones((2, 2), np.uint8))
    write_picture(tmp_path / "a.png", picture_of(label, np.random.default_rng(0), "uint8"))
    write_picture(tmp_path / "masks" / "a.jpg", label * np.uint8(255))
    masks = {"file": "masks/{id}.jpg", "structure": "cyst"}
    path = write_own(tmp_path, sources=[{"folder": ".", "image": "{id}.png", "masks": [masks]}])
    (case,) = cases_of(str(path), tmp_path)
    np.testing.assert_array_equal(case.objects[0].mask, label == 1)


@needs_realdata
@pytest.mark.parametrize(
    ("name", "volumes", "cases"),
    [
        ("chaos-ct", 1, 71),
        ("msd-hippocampus", 50, 1153),
        ("hc18", 80, 80),
        ("totalsegmentator-example", 1, 30),
        ("sct-t2", 1, 55),
    ],
)
def test_the_excerpts_of_real_datasets_are_read(name: str, volumes: int, cases: int) -> None:
    if find(load_descriptor(name), REALDATA).images == 0:
        pytest.skip(f"no excerpt of {name} in {REALDATA}")
    found = cases_of(name, REALDATA)
    assert len({case.volume for case in found}) == volumes
    assert len(found) == cases


@needs_realdata
def test_the_liver_of_chaos_ct_is_liver() -> None:
    """Portal-phase liver has 80 to 160 HU; a mask that lies wrong takes in lung, air or bone.

    The picture's window, -160 to 240 HU, maps that to 153 to 204.
    """
    cases = cases_of("chaos-ct", REALDATA)
    inside = np.concatenate([case.image[thing.mask] for case in cases for thing in case.objects])
    assert 153 < np.median(inside) < 204
    assert np.mean((inside > 120) & (inside < 250)) > 0.97
    for case in cases:  # radiological view: the liver lies on the picture's left
        columns = np.flatnonzero(case.objects[0].mask.any(0))
        assert columns.mean() < case.image.shape[1] / 2


@needs_realdata
def test_a_mask_of_another_size_in_busi_is_reported_and_the_rest_read() -> None:
    found = list(iter_cases(load_descriptor("busi"), REALDATA))
    (failure,) = [item for item in found if isinstance(item, Failure)]
    assert "benign (4)_mask_1.png" in failure.file
    assert "465 x 555 differs from the image's 416 x 416" in failure.reason
    cases = {item.case: item for item in found if isinstance(item, Case)}
    assert len(cases) == 48
    assert "benign (4)" not in cases  # a union without one of its parts is not the lesion
    assert len(cases["benign (25)"].objects) == 1


def test_a_4d_image_follows_the_frame_in_its_masks_names(tmp_path: Path) -> None:
    labels = [blocks((6, 30, 40), [1]), np.roll(blocks((6, 30, 40), [1]), 5, axis=2)]
    rng = np.random.default_rng(0)
    pictures = np.stack([picture_of(label, rng) for label in labels])
    write_itk(tmp_path / "p1" / "p1_4d.nii.gz", pictures, (1, 1, 8, 1))
    for frame, label in enumerate(labels, start=1):
        write_itk(tmp_path / "p1" / f"p1_frame{frame:02d}_gt.nii.gz", label, (1, 1, 8))
    masks = {"file": "{patient}/{patient}_frame{frame}_gt.nii.gz", "labels": {"left ventricle": 1}}
    source = {"folder": ".", "image": "{patient}/{patient}_4d.nii.gz", "masks": [masks]}
    image = {"frame": "{frame}", "first_frame": 1}
    path = write_own(tmp_path, modality="MR", sources=[source], image=image)
    cases = cases_of(str(path), tmp_path)
    assert {case.volume for case in cases} == {"p1/frame01", "p1/frame02"}
    for case in cases:
        (thing,) = case.objects
        assert case.image[thing.mask].mean() > case.image[~thing.mask].mean() + 20


@pytest.mark.parametrize("suffix", ["nii.gz", "npz", "tif"])
def test_every_frame_of_a_4d_pair(suffix: str, tmp_path: Path) -> None:
    label = np.stack([blocks((6, 30, 40), [1]), np.roll(blocks((6, 30, 40), [1]), 5, axis=2)])
    image = picture_of(label, np.random.default_rng(0))
    for folder, array in ((tmp_path, image), (tmp_path / "masks", label)):
        folder.mkdir(exist_ok=True)
        if suffix == "npz":
            np.savez(folder / "a.npz", array=array)
        elif suffix == "tif":
            metadata = {"axes": "TZYX"}
            tifffile.imwrite(folder / "a.tif", array, photometric="minisblack", metadata=metadata)
        else:
            write_itk(folder / "a.nii.gz", array, (1, 1, 8, 1))
    masks = {"file": f"masks/{{id}}.{suffix}", "labels": {"left ventricle": 1}}
    source = {"folder": ".", "image": f"{{id}}.{suffix}", "masks": [masks]}
    path = write_own(tmp_path, modality="MR", sources=[source], image={"frame": "each"})
    cases = cases_of(str(path), tmp_path)
    assert [case.case for case in cases] == [f"a/frame0{t}/z00{z}" for t in (0, 1) for z in (3, 4)]
    for case in cases:
        (thing,) = case.objects
        assert case.image[thing.mask].mean() > case.image[~thing.mask].mean() + 20


def test_a_regular_expression_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "PATIENCE", 0.2)
    (tmp_path / ("a" * 60 + ".png")).touch()
    wanted = load_descriptor(
        str(write_own(tmp_path, sources=[OWN["sources"][0] | {"image": "{id:(a|a)+b}.png"}]))
    )
    with pytest.raises(
        InputError, match=r"pattern '\{id:\(a\|a\)\+b\}\.png': its regular expression takes more than"
    ):
        find(wanted, tmp_path)
