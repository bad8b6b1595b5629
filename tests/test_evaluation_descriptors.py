"""Descriptors: every shipped one reads its dataset's public layout; a user's own is checked key by key."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from evaluation_files import REALDATA, blocks, needs_realdata, picture_of, write_itk, write_picture
from evaluation_trees import TREES, acdc, camus, ddti
from hypothesis import given
from hypothesis import strategies as st

from data.console import InputError
from evaluation.cases import Case, Failure, iter_cases
from evaluation.descriptor import describe, descriptor_names, find, load_descriptor
from evaluation.patterns import Folders, fill, group_names, match

OWN: dict[str, Any] = {
    "title": "mine",
    "modality": "US",
    "sources": [
        {"folder": ".", "image": "{id}.png", "masks": [{"file": "masks/{id}.png", "structure": "cyst"}]}
    ],
}


def cases_of(name: str, root: Path) -> list[Case]:
    """All cases of a dataset, none of which may fail."""
    found = list(iter_cases(load_descriptor(name), root))
    failures = [item for item in found if isinstance(item, Failure)]
    assert not failures, failures[:3]
    return [item for item in found if isinstance(item, Case)]


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


def _own(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**OWN, **changes}))
    return path


def test_a_users_own_descriptor_works_the_same(tmp_path: Path) -> None:
    label = blocks((30, 40), [1])
    write_picture(tmp_path / "a.png", picture_of(label, np.random.default_rng(0), "uint8"))
    write_picture(tmp_path / "masks" / "a.png", label * np.uint8(255))
    descriptor = load_descriptor(str(_own(tmp_path, spacing=[0.2, 0.3])))
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
    text = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text()
    (tmp_path / "cysts.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    label = blocks((30, 40), [1, 2])
    folder = tmp_path / "kidney-cysts" / "7"
    write_picture(folder / "image_left.png", picture_of(label, np.random.default_rng(0), "uint8"))
    for number in (1, 2):
        write_picture(folder / f"mask_left_{number}.png", (label == number) * np.uint8(255))
    (case,) = cases_of(str(tmp_path / "cysts.yaml"), tmp_path)
    assert (case.case, case.spacing, len(case.objects)) == ("7/left", (0.2, 0.2), 2)


def test_the_example_of_colours_in_the_docs_is_a_descriptor(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text()
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
        load_descriptor(str(_own(tmp_path, **changes)))
    assert "mine.yaml" in str(error.value)


def test_a_pattern_that_gives_all_images_the_same_masks_is_named(tmp_path: Path) -> None:
    label = blocks((30, 40), [1])
    for name in ("a1", "a2", "m1", "m2"):
        write_picture(tmp_path / f"{name}.png", label)
    masks = [{"file": "m{k}.png", "structure": "b"}]
    path = _own(tmp_path, sources=[{"folder": ".", "image": "a{id}.png", "masks": masks}])
    with pytest.raises(InputError, match=r"'m{k}.png' holds no group .* all 2 images .*groups: {id}"):
        list(iter_cases(load_descriptor(str(path)), tmp_path))


def test_a_key_that_stands_twice_is_named(tmp_path: Path) -> None:
    path = _own(tmp_path)
    path.write_text(path.read_text() + "\nmodality: MR\n")
    with pytest.raises(InputError, match="key 'modality' stands twice"):
        load_descriptor(str(path))


def test_not_yaml_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: [1")
    with pytest.raises(InputError, match="not valid YAML"):
        load_descriptor(str(tmp_path / "mine.yaml"))


def test_patterns_pair_by_named_groups(tmp_path: Path) -> None:
    for name in (
        "s10/ct.nii.gz",
        "s9/ct.nii.gz",
        "s9/deep/er/m_liver.nii.gz",
        "s9/m_left.nii",
        "x/ct.nii.gz",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folders = Folders()
    images = list(match(tmp_path, "{case:s[0-9]+}/ct.nii*", folders))
    assert [groups for _, groups in images] == [{"case": "s9"}, {"case": "s10"}]
    masks = list(match(tmp_path, "{case}/**/m_{structure}.{:nii|nii.gz}", folders, images[0][1]))
    assert {groups["structure"] for _, groups in masks} == {"left", "liver"}


def test_a_name_that_comes_twice_in_a_part_is_the_same(tmp_path: Path) -> None:
    for name in ("p1_p1.png", "p1_p2.png"):
        (tmp_path / name).touch()
    assert [path.name for path, _ in match(tmp_path, "{case:p.}_{case}.png", Folders())] == ["p1_p1.png"]


NAMES = [
    f"{start}{k}{end}" for k in range(1, 13) for start in ("a", "ba") for end in ("", "_m", "_m_2", "_mm")
]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a{id}_m{n:(_[0-9]+)?}", r"a{}_m(_[0-9]+)?"),
        ("{start:[ab]+}{id}_m", r"[ab]+{}_m"),
        ("*{id}_m*", r".*{}_m.*"),
        ("{id}*", r"{}.*"),
        ("a{id}*", r"a{}.*"),
        ("*{id}", r".*{}"),
        ("a{id}{x:.?}{id}", r"a{0}.?{0}"),
    ],
)
@given(number=st.sampled_from(["1", "2", "12", "_m", "m"]))
def test_names_are_found_as_if_each_were_tried(
    tmp_path_factory: pytest.TempPathFactory, pattern: str, expected: str, number: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "names"
    if not folder.exists():
        folder.mkdir()
        for name in (*NAMES, "_m", "12"):
            (folder / name).touch()
    found = [path.name for path, _ in match(folder, pattern, Folders(), {"id": number})]
    tried = [name for name in Folders().names(folder) if re.fullmatch(expected.format(number), name)]
    assert found == tried


@pytest.mark.parametrize("pattern", ["{id}_mask{n:(_[0-9]+)?}.png", "{kind:.*}_{id}.png", "**/{id}_mask.png"])
def test_the_masks_of_many_images_do_not_take_the_square_of_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    count = 100
    for k in range(count):
        for name in (f"i{k:03d}_mask.png", f"mask_i{k:03d}.png"):
            (tmp_path / name).touch()
    looked: list[str] = []

    class Counted(Folders):
        def likely(self, *place: Any) -> list[str]:
            names = super().likely(*place)
            looked.extend(names)
            return names

    is_dir = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: looked.append(path.name) or is_dir(path))
    folders = Counted()
    for k in range(count):
        assert len(list(match(tmp_path, pattern, folders, {"id": f"i{k:03d}"}))) == 1
    assert len(looked) <= 2 * count


def test_two_downloads_of_one_dataset_count_once(tmp_path: Path) -> None:
    camus(tmp_path)
    camus(tmp_path, meta=True)
    assert find(load_descriptor("camus"), tmp_path).images == 4
    assert {case.case for case in cases_of("camus", tmp_path)} == {
        f"patient0001_{view}_{phase}" for view in ("2CH", "4CH") for phase in ("ED", "ES")
    }


@pytest.mark.parametrize(("masks", "instances"), [("{id}*.png", "union"), ("{id}_{number}.png", "files")])
def test_a_mask_belongs_to_one_image(masks: str, instances: str, tmp_path: Path) -> None:
    label = blocks((30, 40), [1])
    for name in ("p1", "p1_2"):
        write_picture(tmp_path / "img" / f"{name}.png", picture_of(label, np.random.default_rng(0), "uint8"))
        write_picture(tmp_path / f"{name}_0.png", label)
    kind = {"file": masks, "structure": "cyst", "instances": instances}
    sources = [{"folder": ".", "image": "img/{id}.png", "masks": [kind]}]
    with pytest.raises(InputError, match=r"p1_2_0\.png is a mask of p1\.png and of p1_2\.png by masks\.file"):
        cases_of(str(_own(tmp_path, sources=sources)), tmp_path)
    kind["file"] = masks.replace("*", "_{:[0-9]}").replace("{number}", "{number:[0-9]}")
    assert len(cases_of(str(_own(tmp_path, sources=sources)), tmp_path)) == 2
    kind["file"] = "{patient:p.}_0.png"  # meant: two images of a patient share what does not tell them apart
    sources[0]["image"] = "img/{patient:p1}{view}.png"
    write_picture(tmp_path / "img" / "p1_3.png", picture_of(label, np.random.default_rng(0), "uint8"))
    assert len(cases_of(str(_own(tmp_path, sources=sources)), tmp_path)) == 2


@pytest.mark.parametrize(("typed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_the_same_composed_or_not(typed: str, stored: str, tmp_path: Path) -> None:
    """As archives made on macOS hold them."""
    label = blocks((30, 40), [1])
    folder = tmp_path / unicodedata.normalize(stored, "Größe")
    for k, name in enumerate(("Müller", "Noël")):
        form = (stored, typed)[k]  # masks may have come another way
        file = folder / unicodedata.normalize(stored, name) / "a.png"
        write_picture(file, picture_of(label, np.random.default_rng(0), "uint8"))
        write_picture(folder / "masks" / (unicodedata.normalize(form, name) + ".png"), label)
    source = {"folder": "Größe", "image": "{id:[MN].*}/a.png", "masks": [{"file": "masks/{id}.png"}]}
    source["masks"][0]["structure"] = "zyste"
    text = unicodedata.normalize(typed, yaml.safe_dump({**OWN, "sources": [source]}, allow_unicode=True))
    (tmp_path / "mine.yaml").write_text(text)
    cases = cases_of(str(tmp_path / "mine.yaml"), tmp_path)
    assert [case.case for case in cases] == ["Müller", "Noël"]
    pattern = unicodedata.normalize(typed, "Größe/*/a.png")
    assert all(path.exists() for path, _ in match(tmp_path, pattern, Folders()))
    assert len(list(match(tmp_path, pattern, Folders()))) == 2


def test_a_table_of_spacings_that_names_no_image_is_told(tmp_path: Path) -> None:
    label = blocks((30, 40), [1])
    write_picture(tmp_path / "a.png", picture_of(label, np.random.default_rng(0), "uint8"))
    write_picture(tmp_path / "masks" / "a.png", label)
    table = {"table": "mm.csv", "name": "file", "column": "mm"}
    own = str(_own(tmp_path, spacing_table=table))
    (tmp_path / "mm.csv").write_text("file,mm\na,0.2\nb,0.2\n")
    with pytest.raises(
        InputError, match=r"mm\.csv: no 'file' is the name of an image, such as 'a\.png'.*'a'"
    ):
        cases_of(own, tmp_path)
    (tmp_path / "mm.csv").write_text("file,mm\nb.png,0.3\na.png,0.2\n")
    assert cases_of(own, tmp_path)[0].spacing == (0.2, 0.2)


def test_nothing_found_says_what_is_there_instead(tmp_path: Path) -> None:
    sources = [{**OWN["sources"][0], "folder": "us", "image": "images/{id}.png"}]
    own = str(_own(tmp_path, sources=sources))
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match=r"in the folder 'us'; \S+ holds mine.yaml, other$"):
        cases_of(own, tmp_path)
    (tmp_path / "us" / "images").mkdir(parents=True)
    with pytest.raises(InputError, match=r"us/images holds nothing$"):
        cases_of(own, tmp_path)
    for k in range(5):
        (tmp_path / "us" / "images" / f"{k}.PNG").touch()
    with pytest.raises(InputError, match=r"us/images holds 0.PNG, 1.PNG, 2.PNG and 2 more$"):
        cases_of(own, tmp_path)
    sources[0]["folder"] = "us/series"
    with pytest.raises(InputError, match=r"images 'images/\{id\}.png' in the folder 'us/series'"):
        cases_of(str(_own(tmp_path, sources=sources)), tmp_path)


def test_two_images_of_one_id_are_named(tmp_path: Path) -> None:
    label = blocks((30, 40), [1])
    for name in ("p1/1", "p1/2", "p2/1"):
        write_picture(tmp_path / f"{name}.png", picture_of(label, np.random.default_rng(0), "uint8"))
        write_picture(tmp_path / f"{name}_mask.png", label)
    masks = [{"file": "{patient}/{view}_mask.png", "structure": "cyst"}]
    source = {"folder": ".", "image": "{patient}/{view:[0-9]}.png", "masks": masks}
    with pytest.raises(
        InputError, match=r"p1/1.png and .*p1/2.png both have the id 'p1'.*{patient}, {view}\)"
    ):
        cases_of(str(_own(tmp_path, sources=[{**source, "id": "{patient}"}])), tmp_path)
    assert len(cases_of(str(_own(tmp_path, sources=[source])), tmp_path)) == 3
    by_patient = {
        **source,
        "image": "{patient}/{view:1}.png",
        "id": "{patient}",
    }
    assert len(cases_of(str(_own(tmp_path, sources=[by_patient, by_patient])), tmp_path)) == 2


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
    path = _own(tmp_path, sources=[{"folder": ".", "image": "{id}.png", "masks": [masks]}])
    (case,) = cases_of(str(path), tmp_path)
    np.testing.assert_array_equal(case.objects[0].mask, label == 1)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text("xyz_-. ()0123", min_size=1), min_size=1))
def test_a_filled_pattern_matches_itself(groups: dict[str, str]) -> None:
    template = "/".join(f"f_{{{name}}}" for name in groups)
    assert group_names(template) == set(groups)
    assert fill(template, groups) == "/".join(f"f_{value}" for value in groups.values())


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
    path = _own(tmp_path, modality="MR", sources=[source], image=image)
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
    path = _own(tmp_path, modality="MR", sources=[source], image={"frame": "each"})
    cases = cases_of(str(path), tmp_path)
    assert [case.case for case in cases] == [f"a/frame0{t}/z00{z}" for t in (0, 1) for z in (3, 4)]
    for case in cases:
        (thing,) = case.objects
        assert case.image[thing.mask].mean() > case.image[~thing.mask].mean() + 20
