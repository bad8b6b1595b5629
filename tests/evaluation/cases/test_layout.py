"""Which files belong together: patterns, the names that they match, and masks that belong to one image."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from synthfm.data.console import InputError
from synthfm.evaluation.cases.cases import iter_cases
from synthfm.evaluation.cases.descriptor import load_descriptor
from synthfm.evaluation.cases.patterns import Folders, fill, group_names, match
from synthfm.evaluation.cases.preview import examples
from synthfm.evaluation.config import EvalConfig
from synthfm.evaluation.export import export_prompts
from synthfm.evaluation.scans.listing import list_scans
from synthfm.evaluation.scoring.scores import read_scores
from synthfm.evaluation.session import evaluate
from tests.support.cases import OWN, cases_of, write_own
from tests.support.files import blocks, picture_of, write_picture


def test_a_pattern_that_gives_all_images_the_same_masks_is_named(tmp_path: Path) -> None:
    label = blocks((30, 40), [1])
    for name in ("a1", "a2", "m1", "m2"):
        write_picture(tmp_path / f"{name}.png", label)
    masks = [{"file": "m{k}.png", "structure": "b"}]
    path = write_own(tmp_path, sources=[{"folder": ".", "image": "a{id}.png", "masks": masks}])
    with pytest.raises(InputError, match=r"'m{k}.png' holds no group .* all 2 images .*groups: {id}"):
        list(iter_cases(load_descriptor(str(path)), tmp_path))


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


@pytest.mark.parametrize(("masks", "instances"), [("{id}*.png", "union"), ("{id}_{number}.png", "files")])
def test_a_mask_belongs_to_one_image(masks: str, instances: str, tmp_path: Path) -> None:
    label = blocks((30, 40), [1])
    for name in ("p1", "p1_2"):
        write_picture(tmp_path / "img" / f"{name}.png", picture_of(label, np.random.default_rng(0), "uint8"))
        write_picture(tmp_path / f"{name}_0.png", label)
    kind = {"file": masks, "structure": "cyst", "instances": instances}
    sources = [{"folder": ".", "image": "img/{id}.png", "masks": [kind]}]
    with pytest.raises(InputError, match=r"p1_2_0\.png is a mask of p1\.png and of p1_2\.png by masks\.file"):
        cases_of(str(write_own(tmp_path, sources=sources)), tmp_path)
    kind["file"] = masks.replace("*", "_{:[0-9]}").replace("{number}", "{number:[0-9]}")
    assert len(cases_of(str(write_own(tmp_path, sources=sources)), tmp_path)) == 2
    kind["file"] = "{patient:p.}_0.png"  # meant: two images of a patient share what does not tell them apart
    sources[0]["image"] = "img/{patient:p1}{view}.png"
    write_picture(tmp_path / "img" / "p1_3.png", picture_of(label, np.random.default_rng(0), "uint8"))
    assert len(cases_of(str(write_own(tmp_path, sources=sources)), tmp_path)) == 2


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
    own = str(write_own(tmp_path, spacing_table=table))
    (tmp_path / "mm.csv").write_text("file,mm\na,0.2\nb,0.2\n")
    with pytest.raises(
        InputError, match=r"mm\.csv: no 'file' is the name of an image, such as 'a\.png'.*'a'"
    ):
        cases_of(own, tmp_path)
    (tmp_path / "mm.csv").write_text("file,mm\nb.png,0.3\na.png,0.2\n")
    assert cases_of(own, tmp_path)[0].spacing == (0.2, 0.2)


def test_nothing_found_says_what_is_there_instead(tmp_path: Path) -> None:
    sources = [{**OWN["sources"][0], "folder": "us", "image": "images/{id}.png"}]
    own = str(write_own(tmp_path, sources=sources))
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
        cases_of(str(write_own(tmp_path, sources=sources)), tmp_path)


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
        cases_of(str(write_own(tmp_path, sources=[{**source, "id": "{patient}"}])), tmp_path)
    assert len(cases_of(str(write_own(tmp_path, sources=[source])), tmp_path)) == 3
    by_patient = {
        **source,
        "image": "{patient}/{view:1}.png",
        "id": "{patient}",
    }
    assert len(cases_of(str(write_own(tmp_path, sources=[by_patient, by_patient])), tmp_path)) == 2


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text("xyz_-. ()0123", min_size=1), min_size=1))
def test_a_filled_pattern_matches_itself(groups: dict[str, str]) -> None:
    template = "/".join(f"f_{{{name}}}" for name in groups)
    assert group_names(template) == set(groups)
    assert fill(template, groups) == "/".join(f"f_{value}" for value in groups.values())


def test_a_name_that_is_not_utf_8_is_read_and_written_as_text(tmp_path: Path) -> None:
    label = blocks((30, 40), [1])
    data = tmp_path / "data"
    try:
        for name, picture in (
            (b"M\xfcller", picture_of(label, np.random.default_rng(0), "uint8")),
            (b"M\xfcller_m", label),
        ):
            file = data / (os.fsdecode(name) + ".png")
            write_picture(file, picture)
            write_picture(file.with_name(file.name.replace("ller", "nz")), picture)
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    (data / (os.fsdecode(b"M\xfcnz") + "_m.png")).write_bytes(b"torn")
    own = tmp_path / "own.yaml"
    own.write_text("title: t\nmodality: US\nsources:\n- {folder: ., image: '{id:.*(ller|nz)}.png', "
                   "masks: [{file: '{id}_m.png', structure: cyst}]}\n")  # fmt: skip
    config = EvalConfig(prompts=["box"])
    table, (failure,) = evaluate(["ellipse"], [str(own)], data, config, tmp_path / "out")
    assert "| own | cyst | 1 / 1 |" in table
    assert read_scores(tmp_path / "out")["case"].tolist() == ["M\\xfcller"]
    assert failure.case == "M\\xfcnz"
    assert "M\\xfcnz_m.png" in (tmp_path / "out" / "failures.csv").read_text()
    assert len(list((tmp_path / "out" / "overlays").rglob("*.png"))) == 1
    assert export_prompts([load_descriptor(str(own))], data, config, tmp_path / "prompts")[0] == 1


def kidneys(tmp_path: Path, masks: dict[str, Any]) -> Path:
    """Two images with a liver and a left kidney each, and a descriptor of them."""
    for name in ("p1", "p2"):
        write_picture(tmp_path / f"{name}.png", blocks((30, 40), [3, 5]))
        for structure in ("liver", "left_kidney"):
            write_picture(tmp_path / "masks" / f"{name}_{structure}_1.png", blocks((30, 40), [1]))
    masks = {"file": "masks/{id}_{structure}_{number}.png", **masks}
    return write_own(tmp_path, sources=[{"folder": ".", "image": "{id}.png", "masks": [masks]}])


def test_the_preview_names_files_in_no_list_and_names_that_can_be_read_in_two_ways(tmp_path: Path) -> None:
    path = kidneys(tmp_path, {"structures": {"liver": "liver"}})
    lines = examples(load_descriptor(str(path)), tmp_path, 1)
    left = next(line for line in lines if "left out" in line)
    assert left == (
        "    left out: masks/p1_left_kidney_1.png: {structure} is 'left', which is not in 'structures'"
    )
    assert lines[-2] == "1 more images have files that match, but stand in no list"
    assert "p1_left_kidney_1.png as structure 'left', number 'kidney_1'" in lines[-1]
    assert "it may be structure 'left_kidney', number '1'" in lines[-1]
    assert lines[-1].endswith("its image is p1.png")


def test_a_pattern_that_reads_names_in_one_way_has_no_line(tmp_path: Path) -> None:
    path = kidneys(tmp_path, {"file": "masks/{id}_{structure}_{number:[0-9]+}.png", "structures": "*"})
    lines = examples(load_descriptor(str(path)), tmp_path, 1)
    assert len(lines) == 3  # the image and its two masks


def test_structures_may_be_named_by_the_files(tmp_path: Path) -> None:
    path = kidneys(tmp_path, {"file": "masks/{id}_{structure}_{number:[0-9]+}.png", "structures": "*"})
    found = [[item.structure for item in case.objects] for case in cases_of(str(path), tmp_path)]
    assert found == [["left_kidney", "liver"]] * 2


@pytest.mark.parametrize("links", [("up",), ("again",), ("up", "again")])
def test_folders_of_two_stars_come_once_whichever_links_lead_to_them(
    tmp_path: Path, links: tuple[str, ...]
) -> None:
    (tmp_path / "s" / "p1" / "deep").mkdir(parents=True)
    for name in ("p1/a1.png", "p1/deep/a2.png"):
        (tmp_path / "s" / name).touch()
    if "up" in links:
        (tmp_path / "s" / "p1" / "up").symlink_to("..")
    if "again" in links:
        (tmp_path / "s" / "again").symlink_to("../s")
    expected = ["s/p1/a1.png", "s/p1/deep/a2.png"]
    found = match(tmp_path / "s", "**/{id}.png", Folders())
    assert [str(path.relative_to(tmp_path)) for path, _ in found] == expected
    scans = list_scans([tmp_path / "s" / "**" / "*.png"])
    assert [str(path.relative_to(tmp_path)) for path in scans] == expected


def test_a_link_to_a_folder_that_is_not_there_otherwise_is_followed(tmp_path: Path) -> None:
    (tmp_path / "far" / "p1").mkdir(parents=True)
    (tmp_path / "far" / "p1" / "a.png").touch()
    (tmp_path / "s").mkdir()
    for name in ("first", "second"):
        (tmp_path / "s" / name).symlink_to("../far")
    found = [str(path.relative_to(tmp_path)) for path, _ in match(tmp_path / "s", "**/{id}.png", Folders())]
    assert found == ["s/first/p1/a.png"]


def write_pictures(folder: Path) -> None:
    label = blocks((30, 40), [1])
    write_picture(folder / "a.png", picture_of(label, np.random.default_rng(0), "uint8"))
    write_picture(folder / "masks" / "a.png", label)


@pytest.mark.parametrize("folder", ["../far", "{far}", "link", "data/../../far"])
def test_a_folder_out_of_the_data_root_is_not_entered(tmp_path: Path, folder: str) -> None:
    write_pictures(tmp_path / "far")
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path / "far")
    sources = [{**OWN["sources"][0], "folder": folder.format(far=tmp_path / "far")}]
    path = write_own(tmp_path, sources=sources)
    with pytest.raises(InputError, match=r"leads out of the data root to .*/far; give a root that holds it"):
        list(iter_cases(load_descriptor(str(path)), root))
    if folder == "{far}":  # below a root that is named it may be written so
        assert len(cases_of(str(path), tmp_path)) == 1


@pytest.mark.parametrize("linked", ["a.png", "masks/a.png"])
def test_a_file_that_is_a_link_out_of_the_data_root_costs_itself(tmp_path: Path, linked: str) -> None:
    write_pictures(tmp_path / "root")
    (tmp_path / "root" / linked).rename(tmp_path / "far.png")
    (tmp_path / "root" / linked).symlink_to(tmp_path / "far.png")
    path = write_own(tmp_path, sources=OWN["sources"])
    (failure,) = iter_cases(load_descriptor(str(path)), tmp_path / "root")
    assert failure.reason.startswith("a.png lies outside of the data root, in ")
    sources = [{**OWN["sources"][0], "folder": "root"}]
    assert len(cases_of(str(write_own(tmp_path, sources=sources)), tmp_path)) == 1


def test_a_table_of_spacings_out_of_the_data_root_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path / "root")
    (tmp_path / "t.csv").write_text("name,mm\na.png,0.5\n")
    table = {"table": "../t.csv", "name": "name", "column": "mm"}
    wanted = load_descriptor(str(write_own(tmp_path, spacing_table=table)))
    with pytest.raises(InputError, match="the table of spacings lies outside of the data root"):
        list(iter_cases(wanted, tmp_path / "root"))
