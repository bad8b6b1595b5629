"""Label maps that are given: what becomes of them, of their images, and of files that are wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest
import skimage.io
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synthfm.data.folder import read_manifest, verify
from synthfm.data.shards import Shard, object_masks
from synthfm.generator.cli import main
from synthfm.generator.folder.label_files import read_labels
from synthfm.generator.folder.stats import measure, shares
from synthfm.generator.labelled import LabelsConfig, fitted

PLAIN = LabelsConfig(sha256="")


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["from-labels", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def message_of(result: Result) -> str:
    """The one line of an error."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def organs(height: int = 60, width: int = 80) -> np.ndarray:
    """An organ, 1, with a lesion, 2, and two round things far apart, 7."""
    y, x = np.mgrid[:height, :width]
    label = np.zeros((height, width), np.uint8)
    label[((x - 40) / 18) ** 2 + ((y - 30) / 14) ** 2 < 1] = 1
    label[(x - 45) ** 2 + (y - 30) ** 2 < 25] = 2
    for cx, cy in ((8, 8), (70, 54)):  # the second reaches the lower edge
        label[(x - cx) ** 2 + (y - cy) ** 2 < 36] = 7
    return label


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A folder of three label maps."""
    folder = tmp_path / "labels"
    folder.mkdir()
    for k in range(3):
        Image.fromarray(np.roll(organs(), k, axis=1)).save(folder / f"case{k}.png")
    return folder


@pytest.fixture
def images(labels: Path) -> Path:
    """Their images."""
    folder = labels.parent / "images"
    folder.mkdir()
    for path in labels.iterdir():
        grey = 40 + 25 * read_labels(path)[0].astype(np.uint8)
        Image.fromarray(grey + np.random.default_rng(0).integers(0, 9, grey.shape, np.uint8)).save(
            folder / path.name
        )
    return folder


def samples_of(folder: Path) -> list:
    assert [problem for _, problem in verify(folder) if problem] == []
    samples = []
    for line in read_manifest(folder).shards:
        with Shard(folder / line.file) as shard:
            samples += list(shard)
    return samples


def test_real_images_and_their_masks_become_samples_with_prompts(labels, images, tmp_path):
    result = invoke(labels, "--images", images, "--out", tmp_path / "out", "--size", 80, "--jobs", 1,
                    "--modality", "CT", "--parent", "2=1", "--set", "prompts.strokes=2")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "3 samples of 3 label maps, 9 objects" in result.stdout
    assert {share.wanted for share in shares(measure(tmp_path / "out"))} == {None}  # no preset asked for them
    for k, sample in enumerate(samples_of(tmp_path / "out")):
        given = np.roll(organs(), k, axis=1)
        assert (sample.image[:60] == skimage.io.imread(images / f"case{k}.png")).all()
        assert not sample.image[60:].any()
        assert sample.modality == "CT"
        masks = dict(
            zip(sample.objects.family.tolist(), object_masks(sample.label, sample.objects), strict=True)
        )
        assert (masks["label 1"][:60] == np.isin(given, (1, 2))).all()  # the lesion is part of it
        assert (masks["label 2"][:60] == (given == 2)).all()
        assert (masks["label 7"][:60] == (given == 7)).all()
        assert (sample.objects.point_labels == 1).sum() == 5 * len(sample.objects)
        used = sample.objects.points[sample.objects.point_labels == 0]
        assert len(used)
        assert (used[:, 1] < 60).all()  # nobody clicks beyond the image
        for strokes in sample.objects.strokes:
            assert [stroke.inside for stroke in strokes] == [True, True, False, False]
            assert all((stroke.pixels[:, 1] < 60).all() for stroke in strokes)  # nor draws there


def test_an_image_is_painted_for_a_label_map_that_stays(labels, tmp_path):
    painted = ("--copies", 3, "--preset", "ct", "--tissue", "1=organ", "--tissue", "2=lesion")
    result = invoke(labels, "--out", tmp_path / "out", "--size", 80, "--jobs", 1, *painted)
    assert result.exit_code == 0, result.stderr
    samples = samples_of(tmp_path / "out")
    assert len(samples) == 9
    assert {sample.modality for sample in samples} == {"CT"}
    for k, sample in enumerate(samples):
        given = np.roll(organs(), k % 3, axis=1)
        assert not sample.image[60:].any()
        for family, mask in zip(
            sample.objects.family, object_masks(sample.label, sample.objects), strict=True
        ):
            inside = given == int(family.removeprefix("label "))
            assert not (mask[:60] & ~inside).any()  # a round field of view may cut it
    assert len({sample.image.tobytes() for sample in samples}) == 9  # each copy has its own look


def test_the_bytes_do_not_depend_on_workers_or_on_where_the_files_lie(labels, tmp_path):
    elsewhere = labels.rename(tmp_path / "elsewhere")
    for name, jobs in (("one", 1), ("two", 2)):
        command = (elsewhere, "--out", tmp_path / name, "--size", 64, "--jobs", jobs, "--shard-size", 2)
        assert invoke(*command).exit_code == 0
        assert invoke(*command).exit_code == 0  # finds what is there
        elsewhere = elsewhere.rename(tmp_path / f"moved-{name}")
    shards = [[path.read_bytes() for path in sorted((tmp_path / name).glob("*"))] for name in ("one", "two")]
    assert shards[0] == shards[1]
    assert len(shards[0]) == 3
    Image.fromarray(organs()[::-1].copy()).save(elsewhere / "case1.png")
    refused = invoke(elsewhere, "--out", tmp_path / "two", "--size", 64, "--jobs", 1, "--shard-size", 2)
    assert "labels.sha256" in message_of(refused)


def test_slices_of_volumes_are_samples_and_empty_ones_are_left_out(tmp_path):
    volume = np.stack([np.zeros((60, 80), np.int16), organs(), organs()[::-1]])
    volume[volume == 7] = 1007
    np.savez(tmp_path / "volume.npz", volume)
    result = invoke(tmp_path / "volume.npz", "--out", tmp_path / "out", "--size", 64, "--jobs", 1)
    assert "2 samples of 2 label maps (1 without an object left out)" in result.stdout
    families = {str(name) for sample in samples_of(tmp_path / "out") for name in sample.objects.family}
    assert families <= {"label 1", "label 2", "label 1007"}


def test_images_are_found_by_name_in_sub_folders_and_as_nnu_net_names_them(labels, images, tmp_path):
    for folder, suffix in ((labels, ""), (images, "_0000")):
        (folder / "more").mkdir()
        (folder / "case1.png").rename(folder / "more" / f"case1{suffix}.png")
    command = (labels, "--images", images, "--size", 80, "--jobs", 1)
    assert invoke(*command, "--out", tmp_path / "a").exit_code == 0
    second = skimage.io.imread(images / "case2.png"), skimage.io.imread(images / "more" / "case1_0000.png")
    for sample, image in zip(samples_of(tmp_path / "a")[1:], second, strict=True):
        assert (sample.image[:60] == image).all()
    np.save(images / "case2.npy", np.zeros((60, 80), np.uint8))
    assert "case2.png, case2.npy may both be its image" in message_of(
        invoke(*command, "--out", tmp_path / "b")
    )


def test_components_are_objects_where_that_is_asked(labels, images, tmp_path):
    command = (labels / "case0.png", "--images", images / "case0.png", "--size", 80, "--jobs", 1)
    assert "3 objects" in invoke(*command, "--out", tmp_path / "a").stdout
    assert "4 objects" in invoke(*command, "--out", tmp_path / "b", "--instances", "components").stdout


def test_nifti_is_shown_as_a_radiologist_sees_it(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    array = np.zeros((80, 60, 4), np.uint8)  # x to the right, y forward, z up
    array[60:70, 5:15, 1] = 1  # right and behind
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1, 1, 4, 1])), tmp_path / "a.nii.gz")
    read = read_labels(tmp_path / "a.nii.gz")
    assert read.shape == (4, 60, 80)
    (z, *_), y, x = np.nonzero(read)
    assert z == 1
    assert (x.min(), x.max(), y.min(), y.max()) == (10, 19, 45, 54)  # on the left, at the bottom
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-1, 1, 4, 1])), tmp_path / "b.nii.gz")
    assert (read_labels(tmp_path / "b.nii.gz") == read[:, :, ::-1]).all()


def test_a_palette_s_numbers_are_the_labels(tmp_path):
    picture = Image.fromarray(organs(), "P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [9] * 30)
    picture.save(tmp_path / "a.png")
    assert (read_labels(tmp_path / "a.png")[0] == organs()).all()


@given(st.integers(32, 200), st.integers(20, 120), st.integers(20, 120), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_label_map_in_a_frame_has_its_labels_where_they_were(size, height, width, seed):
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 3, 500], (4, 4))
    label = np.kron(label, np.ones((height // 4, width // 4), int))
    shown = fitted(label, size, PLAIN)
    assert shown.values == tuple(np.unique(label[label > 0]).tolist())
    rows, columns = np.flatnonzero(shown.seen.any(1)), np.flatnonzero(shown.seen.any(0))
    assert max(len(rows), len(columns)) == size
    ys = ((rows + 0.5) * label.shape[0] / len(rows)).astype(int)
    xs = ((columns + 0.5) * label.shape[1] / len(columns)).astype(int)
    table = np.array([0, *shown.values])
    same = table[shown.numbers[shown.seen].reshape(len(rows), len(columns))] == label[ys][:, xs]
    # Along the borders of the sixteen fields, of at most a pixel to either side, it may be the other.
    assert same.mean() >= 1 - 2 * (8 / len(rows) + 8 / len(columns))
    assert not shown.numbers[~shown.seen].any()


def test_specks_vanish_where_another_label_has_most_of_a_pixel():
    label = np.kron(np.arange(1, 65).reshape(8, 8) % 3 + 1, np.ones((16, 16), int))
    label[1::4, 1::4], label[2::4, 1::4], label[2::4, 2::4] = 8, 9, 9
    shown = fitted(label, 32, PLAIN)
    table = np.array([0, *shown.values])
    assert (table[shown.numbers][2::4, 2::4] == np.arange(1, 65).reshape(8, 8) % 3 + 1).all()


def test_parts_of_what_is_not_there_are_parts_of_what_that_is_part_of():
    given = LabelsConfig(sha256="", parents=((5, 4), (4, 9)))
    shown = fitted(np.array([[5, 9], [9, 2]]), 64, given)
    assert shown.values == (2, 9, 5)
    assert shown.parents == (0, 0, 2)


def wrong_file(folder: Path, kind: str) -> Path:
    """A file that is no label map."""
    path = folder / {"cut.nii": "cut.nii.gz"}.get(kind, kind)
    if kind == "colour.png":
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(path)
    elif kind == "fractions.npy":
        np.save(path, np.full((40, 40), 0.5))
    elif kind == "axes.npy":
        np.save(path, np.ones((2, 2, 40, 40), int))
    elif kind == "two.npz":
        np.savez(path, a=np.ones((9, 9), int), b=np.ones((9, 9), int))
    elif kind == "objects.npy":
        np.save(path, np.array([{}]))
    elif kind == "empty.npy":
        np.save(path, np.zeros((40, 40), int))
    elif kind == "many.npy":
        np.save(path, np.arange(400).reshape(20, 20))
    elif kind == "cut.nii":
        path.write_bytes(gzip.compress(b"n" * 400)[:-9])
    else:
        path.write_bytes(b"no picture")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("colour.png", "a colour picture"),
        ("fractions.npy", "holds fractions"),
        ("axes.npy", "has 4 axes"),
        ("two.npz", "holds the arrays a, b"),
        ("objects.npy", "cannot be read"),
        ("empty.npy", "no slice holds an object of at least 16 pixels at size 64"),
        ("many.npy", "399 objects in one image; at most 200"),
        ("cut.nii", "cut.nii.gz: "),
        ("bytes.png", "cannot be read as .png"),
        ("bytes.tif", "cannot be read as .tif"),
        ("notes.txt", "unknown kind of file"),
    ],
)
def test_a_wrong_file_is_one_line_and_leaves_nothing(tmp_path, kind, message):
    path = wrong_file(tmp_path, kind)
    line = message_of(invoke(path, "--out", tmp_path / "out", "--size", 64, "--jobs", 1))
    assert message in line
    assert str(path) in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images", "nowhere"], "nowhere: no such folder of images"),
        (["--images", "{labels}"], "has no image; expected one file"),
        (["--images", "{small}"], "is 20 x 20, its label map"),
        (["--images", "{images}", "--copies", 2], "--copies is for images that are painted"),
        (["--images", "{images}", "--window", 5, 5], "--window 5 5"),
        (["--modality", "CT"], "of given --images"),
        (["--copies", 0], "--copies 0"),
        (["--parent", "1=2", "--parent", "2=1"], "label 1 would be part of itself"),
        (["--parent", "1"], "write LABEL=LABEL"),
        (["--parent", "1=2", "--parent", "1=3"], "label 1 is given twice"),
        (["--parent", "1=2", "--instances", "components"], "--parent goes with --instances labels"),
        (["--tissue", "1=liver"], "no such tissue; one of air, lung"),
        (["--preset", "volumes"], "from-labels makes single images"),
        (["--preset", "nix"], "unknown preset 'nix'"),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(labels, images, tmp_path, options, message):
    small = tmp_path / "small"
    small.mkdir()
    for path in labels.iterdir():
        Image.fromarray(np.zeros((20, 20), np.uint8)).save(small / path.name)
    places = {"labels": labels, "images": images, "small": small}
    given = [str(option).format(**places) for option in options]
    out = tmp_path / "out"
    assert message in message_of(invoke(labels, "--out", out, "--size", 64, "--jobs", 1, *given))
    assert not out.exists()


def test_deep_images_are_shown_between_percentiles_or_in_a_window(tmp_path):
    deep = np.where(organs() > 0, 900, -1000).astype(np.int16)
    np.save(tmp_path / "ct.npy", deep)
    Image.fromarray(organs()).save(tmp_path / "a.png")
    command = (tmp_path / "a.png", "--images", tmp_path / "ct.npy", "--size", 80, "--jobs", 1)
    assert invoke(*command, "--out", tmp_path / "a", "--window", -1000, 1000).exit_code == 0
    (sample,) = samples_of(tmp_path / "a")
    assert set(np.unique(sample.image[:60])) == {0, round(255 * 1900 / 2000)}
    with h5py.File(tmp_path / "a" / "shard-00000.h5") as shard:
        assert b'"window": [-1000.0, 1000.0]' in shard.attrs["config"]
