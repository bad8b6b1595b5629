"""Miniature trees of the public datasets: each laid out and named as the real one is.

A builder writes a tree under a root and returns the number of images or volumes with masks that are in it.
The label numbers are the public ones, written down here a second time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.support.files import blocks, picture_of, write_dicom_series, write_itk, write_picture

SHAPE = (6, 50, 60)
RNG = np.random.default_rng(0)

AMOS = {
    "spleen": 1,
    "right kidney": 2,
    "left kidney": 3,
    "gallbladder": 4,
    "liver": 6,
    "stomach": 7,
    "aorta": 8,
}
AMOS |= {"pancreas": 10, "bladder": 14, "prostate or uterus": 15}
BTCV = {"spleen": 1, "right kidney": 2, "left kidney": 3, "gallbladder": 4, "oesophagus": 5, "liver": 6}
BTCV |= {"stomach": 7, "aorta": 8, "inferior vena cava": 9, "pancreas": 11}
FLARE = {"liver": 1, "right kidney": 2, "spleen": 3, "pancreas": 4, "aorta": 5, "inferior vena cava": 6}
FLARE |= {"gallbladder": 9, "oesophagus": 10, "stomach": 11, "duodenum": 12, "left kidney": 13}
TOTAL = {"liver": "liver", "spleen": "spleen", "kidney_right": "right kidney", "kidney_left": "left kidney"}
TOTAL |= {"gallbladder": "gallbladder", "stomach": "stomach", "pancreas": "pancreas", "aorta": "aorta"}
TOTAL |= {"urinary_bladder": "bladder", "prostate": "prostate"}
EXAMPLE = {"spleen": 1, "right kidney": 2, "left kidney": 3, "gallbladder": 4, "liver": 5, "stomach": 6}
EXAMPLE |= {"pancreas": 7, "aorta": 52}
CHAOS_MR = {"liver": 63, "right kidney": 126, "left kidney": 189, "spleen": 252}
ACDC = {"right ventricle": 1, "myocardium": 2, "left ventricle": 3}
CAMUS = {"left ventricle": 1, "myocardium": 2, "left atrium": 3}


def pair(
    image: Path,
    mask: Path,
    labels: Iterable[int],
    *,
    spacing: tuple[float, ...] = (0.8, 0.8, 5.0),
    direction: str = "LPS",
) -> None:
    """A volume and its label map."""
    label = blocks(SHAPE, list(labels))
    write_itk(image, picture_of(_ranks(label), RNG), spacing, direction)
    write_itk(mask, label, spacing, direction)


def _ranks(label: NDArray) -> NDArray:
    """Label numbers to 1, 2, 3 ..., so that the brightness stays within any window."""
    return np.searchsorted(np.unique(label), label)


def amos(root: Path) -> int:
    folder = root / "AMOS" / "amos22"
    for split, case in (("Tr", "amos_0001"), ("Va", "amos_0008"), ("Tr", "amos_0507"), ("Va", "amos_0600")):
        labels = range(1, 16) if case != "amos_0008" else (1, 6)  # a scan of the upper abdomen
        image, mask = (folder / f"{kind}{split}/{case}.nii.gz" for kind in ("images", "labels"))
        pair(image, mask, labels, direction="RAS")
    pair(folder / "imagesTs/amos_0002.nii.gz", root / "away.nii.gz", [1])  # test images have no labels
    return 2


def btcv(root: Path) -> int:
    folder = root / "BTCV" / "RawData" / "Training"
    for case in ("0001", "0040"):
        pair(folder / f"img/img{case}.nii.gz", folder / f"label/label{case}.nii.gz", range(1, 14))
    return 2


def flare22(root: Path) -> int:
    folder = root / "FLARE22" / "FLARE22Train"
    for case in ("FLARE22_Tr_0001", "FLARE22_Tr_0050"):
        pair(folder / f"images/{case}_0000.nii.gz", folder / f"labels/{case}.nii.gz", range(1, 14))
    return 2


def chaos_ct(root: Path) -> int:
    label = blocks(SHAPE, [1])
    for patient, name in (("1", "i{:04d},0000b.dcm"), ("21", "IMG-0002-{:05d}.dcm")):
        folder = root / "CHAOS" / "Train_Sets" / "CT" / patient
        names = [name.format(k + 1) for k in range(len(label))]
        stored = picture_of(label, RNG) + 1000
        # The first file is the topmost slice, as in the real set: file order is not position order.
        write_dicom_series(folder / "DICOM_anon", stored, names, intercept=-1000.0, descending=True)
        for k, mask in enumerate(label):
            write_picture(folder / "Ground" / f"liver_GT_{k:03d}.png", mask * np.uint8(255))
    return 2


def chaos_mr(root: Path) -> int:
    label = blocks(SHAPE, list(CHAOS_MR.values()))
    folder = root / "CHAOS" / "Train_Sets" / "MR" / "1"
    picture = picture_of(_ranks(label), RNG)
    even = [f"IMG-0004-{2 * k + 2:05d}" for k in range(len(label))]
    odd = [f"IMG-0004-{2 * k + 1:05d}" for k in range(len(label))]
    plain = [f"IMG-0002-{k + 1:05d}" for k in range(len(label))]
    series = {
        "T1DUAL/DICOM_anon/InPhase": even,
        "T1DUAL/DICOM_anon/OutPhase": odd,
        "T2SPIR/DICOM_anon": plain,
    }
    for place, names in series.items():
        write_dicom_series(folder / place, picture, [f"{name}.dcm" for name in names], descending=True)
    for sequence, names in (("T1DUAL", even), ("T2SPIR", plain)):
        for name, mask in zip(names, label, strict=True):
            write_picture(folder / sequence / "Ground" / f"{name}.png", mask)
    return 3


def total(folder: Path, image: str) -> int:
    names = [*TOTAL, "lung_upper_lobe_left"]
    label = blocks(SHAPE, list(range(1, len(names) + 1)))
    for case in ("s0001", "s0011"):
        write_itk(folder / case / f"{image}.nii.gz", picture_of(label, RNG), (1.5, 1.5, 1.5))
        for number, name in enumerate(names, start=1):
            there = not (case == "s0011" and name == "prostate")  # out of the field of view: an empty file
            mask = ((label == number) & there).astype(np.uint8)
            write_itk(folder / case / "segmentations" / f"{name}.nii.gz", mask, (1.5, 1.5, 1.5))
    return 2


def msd(
    task: str, prefix: str, numbers: list[str], labels: list[int], *, channels: int = 1
) -> Callable[[Path], int]:
    def build(root: Path) -> int:
        folder = root / "MSD" / task
        label = blocks(SHAPE, labels)
        for number in numbers:
            picture = picture_of(_ranks(label), RNG)
            if channels > 1:
                picture = np.stack([picture, *(np.zeros_like(picture) + 7 for _ in range(channels - 1))])
            write_itk(folder / "imagesTr" / f"{prefix}_{number}.nii.gz", picture, (0.8, 0.8, 5.0))
            write_itk(folder / "labelsTr" / f"{prefix}_{number}.nii.gz", label, (0.8, 0.8, 5.0))
        write_itk(folder / "imagesTs" / f"{prefix}_999.nii.gz", label)
        return len(numbers)

    return build


def acdc(root: Path) -> int:
    patients = [("training", "patient001", ("01", "12")), ("testing", "patient101", ("01", "14"))]
    for split, patient, frames in patients:
        folder = root / "ACDC" / "database" / split / patient
        for frame in frames:
            path = folder / f"{patient}_frame{frame}.nii.gz"
            pair(path, folder / f"{patient}_frame{frame}_gt.nii.gz", [1, 2, 3], spacing=(1.4, 1.4, 10.0))
        write_itk(folder / f"{patient}_4d.nii.gz", np.zeros((2, *SHAPE), np.int16), (1.4, 1.4, 10.0, 1.0))
        (folder / "Info.cfg").write_text("ED: 1\nES: 12\n")
    return 4


def camus(root: Path, *, meta: bool = False) -> int:
    label = blocks(SHAPE[1:], [1, 2, 3])
    picture = picture_of(label, RNG, "uint8")
    for view in ("2CH", "4CH"):
        for phase in ("ED", "ES"):
            name = f"patient0001_{view}_{phase}"
            if meta:  # one slice of a volume
                folder = root / "CAMUS" / "training" / "patient0001"
                write_itk(folder / f"{name}.mhd", picture[None], (0.3, 0.15, 1.0))
                write_itk(folder / f"{name}_gt.mhd", label[None], (0.3, 0.15, 1.0))
            else:
                folder = root / "CAMUS" / "database_nifti" / "patient0001"
                write_itk(folder / f"{name}.nii.gz", picture, (0.3, 0.15))
                write_itk(folder / f"{name}_gt.nii.gz", label, (0.3, 0.15))
    return 4


def hc18(root: Path) -> int:
    y, x = np.mgrid[:120, :160]
    names = ["000_HC", "010_HC", "010_2HC"]
    for k, name in enumerate(names):
        radius = np.hypot((y - 55) / 35, (x - 70 - k) / 50)
        image = np.where(radius < 1, 120, 30).astype(np.uint8)
        write_picture(root / "HC18" / "training_set" / f"{name}.png", image)
        outline = np.where((radius < 1) & (radius > 0.93), 255, 0).astype(np.uint8)
        write_picture(root / "HC18" / "training_set" / f"{name}_Annotation.png", outline)
    rows = [f"{name}.png,0.0{k + 1},200.5" for k, name in enumerate(names)]
    header = "filename,pixel size(mm),head circumference (mm)"
    (root / "HC18" / "training_set_pixel_size_and_HC.csv").write_text("\n".join([header, *rows]) + "\n")
    return 3


def busi(root: Path) -> int:
    folder = root / "BUSI" / "Dataset_BUSI_with_GT"
    label = blocks((40, 60), [1, 2])
    for name in ("benign (1)", "benign (10)", "malignant (1)", "normal (1)"):
        kind = name.split()[0]
        picture = np.repeat(picture_of(label, RNG, "uint8")[..., None], 3, axis=-1)
        write_picture(folder / kind / f"{name}.png", picture)
        there = kind != "normal"
        write_picture(folder / kind / f"{name}_mask.png", ((label == 1) & there) * np.uint8(255))
    write_picture(folder / "benign" / "benign (10)_mask_1.png", (label == 2) * np.uint8(255))
    return 3


def tn3k(root: Path) -> int:
    label = np.kron(blocks((40, 60), [1, 2]), np.ones((4, 4), np.uint8))
    folder = root / "TN3K" / "tn3k"
    for split, name in (("test", "0000"), ("test", "0001"), ("trainval", "0000")):
        write_picture(folder / f"{split}-image" / f"{name}.jpg", picture_of(label, RNG, "uint8"))
        write_picture(folder / f"{split}-mask" / f"{name}.jpg", (label > 0) * np.uint8(255))
    return 3


def montgomery(root: Path) -> int:
    label = blocks((40, 60), [1, 2])
    folder = root / "MontgomerySet"
    for name in ("MCUCXR_0001_0", "MCUCXR_0104_1"):
        write_picture(folder / "CXR_png" / f"{name}.png", picture_of(label, RNG, "uint8"))
        for number, side in ((1, "left"), (2, "right")):
            write_picture(
                folder / "ManualMask" / f"{side}Mask" / f"{name}.png", (label == number) * np.uint8(255)
            )
    return 2


def ddti(root: Path, *, xml: bool = False) -> int:
    label = blocks((40, 60), [1, 2])
    if not xml:
        folder = root / "DDTI" / "1_or_data"
        for name in ("1", "10"):
            write_picture(folder / "image" / f"{name}.PNG", picture_of(label, RNG, "uint8"))
            write_picture(folder / "mask" / f"{name}.PNG", (label > 0) * np.uint8(255))
        return 2
    folder = root / "DDTI" / "original"
    regions = []
    for number in (1, 2):
        ys, xs = np.nonzero(label == number)
        corners = [(xs.min(), ys.min()), (xs.max(), ys.min()), (xs.max(), ys.max()), (xs.min(), ys.max())]
        points = [{"x": int(px), "y": int(py)} for px, py in corners]
        regions.append({"points": points, "annotation": {}, "regionType": "freehand"})
    drawn = {1: regions, 2: regions[:1]}
    marks = "".join(f"<mark><image>{k}</image><svg>{json.dumps(r)}</svg></mark>" for k, r in drawn.items())
    for k in (1, 2):
        write_picture(folder / f"7_{k}.jpg", picture_of(label, RNG, "uint8"))
    (folder / "7.xml").write_text(f"<case><number>7</number><tirads>4a</tirads>{marks}</case>")
    return 2


def example(root: Path) -> int:
    folder = root / "TotalSegmentator" / "s0000"
    image, mask = folder / "ct.nii.gz", folder / "labels.nii.gz"
    pair(image, mask, [*range(1, 8), 52, 90], spacing=(3.0, 3.0, 3.0), direction="RAS")
    return 1


def sct(root: Path) -> int:
    folder = root / "SCT" / "t2"
    label = np.zeros((30, 20, 25), np.uint8)  # sagittal slices, as stored
    label[10:18, :, 8:15] = 1
    write_itk(folder / "t2.nii.gz", picture_of(label, RNG), (1.0, 1.0, 1.0), "PSR")
    write_itk(folder / "t2_seg-manual.nii.gz", label, (1.0, 1.0, 1.0), "PSR")
    return 1


TREES: dict[str, tuple[str, Callable[[Path], int], list[str]]] = {
    "amos-ct": ("amos-ct", amos, list(AMOS)),
    "amos-mr": ("amos-mr", amos, list(AMOS)),
    "btcv": ("btcv", btcv, list(BTCV)),
    "flare22": ("flare22", flare22, list(FLARE)),
    "chaos-ct": ("chaos-ct", chaos_ct, ["liver"]),
    "chaos-mr": ("chaos-mr", chaos_mr, list(CHAOS_MR)),
    "totalsegmentator": (
        "totalsegmentator",
        lambda root: total(root / "TotalSegmentator" / "Totalsegmentator_dataset_v201", "ct"),
        list(TOTAL.values()),
    ),
    "totalsegmentator-mri": (
        "totalsegmentator-mri",
        lambda root: total(root / "TotalsegmentatorMRI_dataset_v200", "mri"),  # without the outer folder
        list(TOTAL.values()),
    ),
    "totalsegmentator-example": ("totalsegmentator-example", example, list(EXAMPLE)),
    "sct-t2": ("sct-t2", sct, ["spinal cord"]),
    "msd-spleen": ("msd-spleen", msd("Task09_Spleen", "spleen", ["2", "10"], [1]), ["spleen"]),
    "msd-liver": ("msd-liver", msd("Task03_Liver", "liver", ["0", "130"], [1, 2]), ["liver"]),
    "msd-heart": ("msd-heart", msd("Task02_Heart", "la", ["003", "030"], [1]), ["left atrium"]),
    "msd-hippocampus": (
        "msd-hippocampus",
        msd("Task04_Hippocampus", "hippocampus", ["001", "367"], [1, 2]),
        ["hippocampus"],
    ),
    "msd-prostate": (
        "msd-prostate",
        msd("Task05_Prostate", "prostate", ["00", "47"], [1, 2], channels=2),
        ["prostate"],
    ),
    "acdc": ("acdc", acdc, list(ACDC)),
    "camus (NIfTI)": ("camus", camus, list(CAMUS)),
    "camus (MetaImage)": ("camus", lambda root: camus(root, meta=True), list(CAMUS)),
    "hc18": ("hc18", hc18, ["fetal head"]),
    "busi": ("busi", busi, ["breast lesion"]),
    "tn3k": ("tn3k", tn3k, ["thyroid nodule"]),
    "montgomery": ("montgomery", montgomery, ["left lung", "right lung"]),
    "ddti (PNG)": ("ddti", ddti, ["thyroid nodule"]),
    "ddti (XML)": ("ddti", lambda root: ddti(root, xml=True), ["thyroid nodule"]),
}
"""Tree: (descriptor, builder, structures)."""
