"""What a folder of results is bound to: other inputs are refused by name; masks that others saved."""

import os

import numpy as np
import pytest
from PIL import Image

from synthfm.data.console import InputError
from synthfm.evaluation.config import EvalConfig
from synthfm.evaluation.session import evaluate
from tests.support.cases import disc_folder, random_tiny
from tests.support.files import blocks, picture_of, write_dicom_series, write_itk


def test_another_checkpoint_under_the_same_name_is_refused(tmp_path):
    from synthfm.trainer.model import models

    root, descriptor = disc_folder(tmp_path, count=1)
    weights = random_tiny(tmp_path / "m.pth")
    spec, config = [f"m=checkpoint:{weights}"], EvalConfig(prompts=("box",))
    evaluate(spec, [str(descriptor)], root, config, tmp_path / "out")
    with pytest.raises(InputError, match="methods"):
        evaluate([f"m=zoom:{weights}"], [str(descriptor)], root, config, tmp_path / "out")
    models.export(models.build("tiny", image_size=64, seed=2), weights)
    with pytest.raises(InputError, match="methods"):
        evaluate(spec, [str(descriptor)], root, config, tmp_path / "out")


def test_another_embedded_checkpoint_is_refused(tmp_path, monkeypatch):
    from synthfm.trainer.model import checkpoints, models

    root, descriptor = disc_folder(tmp_path, count=1)
    weights = random_tiny(tmp_path / "shipped.pth")
    monkeypatch.setattr(checkpoints, "SHIPPED", weights)
    arguments = (["checkpoint:tiny"], [str(descriptor)], root, EvalConfig(prompts=("box",)), tmp_path / "out")
    evaluate(*arguments)
    evaluate(*arguments)
    models.export(models.build("tiny", image_size=64, seed=2), weights)
    with pytest.raises(InputError, match="methods"):
        evaluate(*arguments)


def test_another_definition_of_a_dataset_is_refused(tmp_path):
    root, descriptor = disc_folder(tmp_path, count=2)
    arguments = (["ellipse"], [str(descriptor)], root, EvalConfig(prompts=("box",)), tmp_path / "out")
    evaluate(*arguments)
    evaluate(*arguments)
    descriptor.write_text(descriptor.read_text() + "intensity: {window: [100, 200]}\n")
    with pytest.raises(InputError, match=r"descriptors.*another --out"):
        evaluate(*arguments)


@pytest.mark.parametrize("what", ["an image", "a mask", "one more", "one less", "a table"])
def test_other_data_is_refused(tmp_path, what):
    root, descriptor = disc_folder(tmp_path, count=3)
    descriptor.write_text(
        descriptor.read_text() + "spacing_table: {table: sizes.csv, name: file, column: mm}\n"
    )
    (root / "discs" / "sizes.csv").write_text("file,mm\np0.png,0.1\n")
    arguments = (["ellipse"], [str(descriptor)], root, EvalConfig(prompts=("box",)), tmp_path / "out")
    evaluate(*arguments)
    (root / "discs" / "notes.txt").write_text("not of the dataset")
    evaluate(*arguments)
    images, masks = root / "discs" / "images", root / "discs" / "masks"
    if what == "an image":
        os.utime(images / "p1.png", (1, 1))  # of the same size
    elif what == "a mask":
        Image.new("L", (72, 60), 1).save(masks / "p1.png")
    elif what == "one more":
        (images / "p9.png").write_bytes((images / "p1.png").read_bytes())
    elif what == "one less":
        (images / "p2.png").unlink()
    else:
        (root / "discs" / "sizes.csv").write_text("file,mm\np0.png,0.25\n")
    with pytest.raises(InputError, match=r"data files\.discs: 7 files, .*another --out"):
        evaluate(*arguments)


def test_other_slices_of_a_series_and_other_voxels_of_a_header_are_refused(tmp_path):
    label = blocks((6, 30, 40), [1])
    image = picture_of(label, np.random.default_rng(0))
    paths = write_dicom_series(tmp_path / "a" / "dicom", image)
    write_itk(tmp_path / "a" / "label.mhd", label, (1.0, 1.0, 5.0))
    descriptor = tmp_path / "own.yaml"
    descriptor.write_text(
        "{title: t, modality: CT, sources: [{folder: ., image: '{id}/dicom', "
        "masks: [{file: '{id}/label.mhd', structure: liver}]}]}"
    )
    for number, changed in enumerate((paths[2], tmp_path / "a" / "label.zraw")):
        arguments = (["ellipse"], [str(descriptor)], tmp_path, EvalConfig(prompts=("box",)))
        evaluate(*arguments, tmp_path / f"out{number}")
        os.utime(changed, (1, 1))
        with pytest.raises(InputError, match="data files"):
            evaluate(*arguments, tmp_path / f"out{number}")


def test_another_version_of_the_program_is_refused(tmp_path, monkeypatch):
    root, descriptor = disc_folder(tmp_path, count=1)
    arguments = (["ellipse"], [str(descriptor)], root, EvalConfig(prompts=("box",)), tmp_path / "out")
    evaluate(*arguments)
    monkeypatch.setattr("importlib.metadata.version", lambda _: "99.0")
    with pytest.raises(InputError, match=r"synthfm version: [0-9.]+ there, 99.0 now"):
        evaluate(*arguments)


def saved_masks(root, folder, cases, setting="box"):
    """Another system's masks of discs: the references."""
    for name in cases:
        path = folder / setting / "discs" / name / "disc.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((root / "discs" / "masks" / f"{name}.png").read_bytes())


def test_other_saved_masks_are_refused(tmp_path):
    root, descriptor = disc_folder(tmp_path, count=2)
    masks = tmp_path / "masks"
    saved_masks(root, masks, ["p0", "p1"])
    arguments = ([f"masks:{masks}"], [str(descriptor)], root, EvalConfig(prompts=("box",)), tmp_path / "out")
    evaluate(*arguments)
    (masks / "prompts.txt").write_text("not a mask")
    evaluate(*arguments)
    Image.new("L", (72, 60)).save(masks / "box" / "discs" / "p1" / "disc.png")
    with pytest.raises(InputError, match="methods"):
        evaluate(*arguments)


def test_a_setting_without_saved_masks_is_told(tmp_path, caplog):
    root, descriptor = disc_folder(tmp_path, count=2)
    masks = tmp_path / "masks"
    saved_masks(root, masks, ["p0", "p1"])
    (masks / "point1").mkdir()
    config = EvalConfig(prompts=("box", "point1", "clicks:2"))
    _, failures = evaluate([f"vendor=masks:{masks}"], [str(descriptor)], root, config, tmp_path / "out")
    assert failures == []
    assert [record.getMessage() for record in caplog.records] == [f"vendor: {masks} holds no mask for point1"]


def test_a_folder_without_any_mask_is_a_failure(tmp_path):
    root, descriptor = disc_folder(tmp_path, count=2)
    (tmp_path / "masks" / "box").mkdir(parents=True)
    specs = ["ellipse", f"vendor=masks:{tmp_path / 'masks'}"]
    config = EvalConfig(prompts=("box", "point1"))
    _, (failure,) = evaluate(specs, [str(descriptor)], root, config, tmp_path / "out")
    assert (failure.method, failure.file) == ("vendor", str(tmp_path / "masks"))
    assert "no mask for box, point1" in failure.reason
    assert "vendor" in (tmp_path / "out" / "failures.csv").read_text()
    with pytest.raises(InputError, match="no mask for box, point1"):
        evaluate(specs[1:], [str(descriptor)], root, config, tmp_path / "alone")
