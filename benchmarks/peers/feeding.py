"""Samples from disk into batches: shards through our stream, and the same samples as people keep them.

Each batch holds images, the masks of some of their objects, a click and a box for each; nothing is augmented.
Where prompts are `drawn`, all draw them from the masks by the same functions: a person's click, a click on
any pixel, a loose box. Ours has the loose box, the shard's further clicks, and sets of objects always; the
others leave sets out.
"""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from peers.turns import OURS, Contender
from synthfm.data.folder import shard_paths
from synthfm.data.prompts import loose_box, person_point, random_point
from synthfm.data.shards import Shard
from synthfm.generator.config import load_config as generator_config
from synthfm.generator.folder.factory import generate
from synthfm.trainer.config import load_config
from synthfm.trainer.stream.stream import Batches, Source

APIECE, BATCH = 4, 16
DRAW = np.random.default_rng(0)
STILL = "augment={flip: 0, rotate90: 0, affine: 0, gamma: 0}"

Item = dict[str, torch.Tensor]


def feeding(folder: Path, size: int, count: int, drawn: bool) -> list[Contender]:
    """Samples; `folder` takes the files."""
    shards = folder / "shards"
    generate(str(shards), generator_config("full", size=size), num=count, jobs=1)
    pictures, archive = write_pictures(shards, folder / "pictures"), folder / "samples.tar"
    with tarfile.open(archive, "w") as tar:
        for path in sorted(pictures.iterdir()):
            tar.add(path, path.name)
    mix = f"prompts.mix={{point_person: {int(drawn)}, box: 1}}"
    settings = [f"image_size={size}", f"batch={BATCH}", f"stream.objects_per_image={APIECE}", mix, STILL]
    batches = Batches(Source([shards]), load_config("tiny_cpu", ["stream.val_share=0", *settings]))
    numbers = itertools.count()

    def ours() -> int:
        for _ in range(count // BATCH):
            batches[next(numbers)].masks()
        return count // BATCH * BATCH

    return [
        Contender(OURS, "synthfm", ours),
        Contender("torch, PNG and JSON", "torch", through(lambda: shuffled(Pictures(pictures, drawn)))),
        Contender("WebDataset", "webdataset", through(lambda: from_archive(archive, drawn))),
        Contender("h5py in a Dataset", "h5py", through(lambda: shuffled(Plain(shards, drawn)))),
    ]


def through(make: Callable[[], Iterator[Item]]) -> Callable[[], int]:
    return lambda: sum(len(batch["image"]) for batch in make())


def shuffled(dataset: Dataset[Item]) -> Iterator[Item]:
    return iter(DataLoader(dataset, BATCH, shuffle=True, drop_last=True))


def write_pictures(shards: Path, folder: Path) -> Path:
    """Each sample as two PNG files and one of JSON."""
    folder.mkdir()
    for path in shard_paths([shards]):
        with Shard(path) as shard:
            for sample in (shard[row] for row in range(len(shard))):
                name, table = f"{sample.index:06d}", sample.objects
                Image.fromarray(sample.image).save(folder / f"{name}.image.png")
                Image.fromarray(sample.label).save(folder / f"{name}.label.png")
                objects = [
                    {
                        "label": int(label),
                        "parent": int(parent),
                        "box": box.tolist(),
                        "point": points[0].tolist(),
                    }
                    for label, parent, box, points, is_set in zip(
                        table.label, table.parent, table.box, table.points, table.is_set, strict=True
                    )
                    if not is_set
                ]
                (folder / f"{name}.objects.json").write_text(json.dumps(objects))
    return folder


def as_item(image: NDArray, label: NDArray, objects: list[dict], drawn: bool) -> Item:
    """Some objects of a sample: their masks with all that lies in them, clicks and boxes."""
    chosen = [objects[k] for k in np.resize(DRAW.permutation(len(objects)), APIECE)]
    masks = [np.isin(label, list(family(one["label"], objects))) for one in chosen]
    item = {
        "image": torch.from_numpy(image[None]),
        "masks": torch.from_numpy(np.stack(masks)).float(),
        "boxes": torch.tensor([one["box"] for one in chosen], dtype=torch.float32),
        "points": torch.tensor([one["point"] for one in chosen], dtype=torch.float32),
    }
    if drawn:
        clicks = [[person_point(mask, DRAW), random_point(mask, DRAW)] for mask in masks]
        loose = [loose_box(np.array(one["box"]), DRAW, label.shape) for one in chosen]
        item |= {"clicks": torch.from_numpy(np.array(clicks)), "loose": torch.from_numpy(np.array(loose))}
    return item


def family(label: int, objects: list[dict]) -> set[int]:
    found = {label}
    while more := {one["label"] for one in objects if one["parent"] in found} - found:
        found |= more
    return found


class Pictures(Dataset[Item]):
    def __init__(self, folder: Path, drawn: bool) -> None:
        self.drawn = drawn
        self.stems = sorted(str(path).removesuffix(".image.png") for path in folder.glob("*.image.png"))

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, number: int) -> Item:
        stem = self.stems[number]
        image, label = (np.array(Image.open(f"{stem}.{part}.png")) for part in ("image", "label"))
        return as_item(image, label, json.loads(Path(f"{stem}.objects.json").read_text()), self.drawn)


class Plain(Dataset[Item]):
    """Our own shards, opened as one does with h5py."""

    def __init__(self, folder: Path, drawn: bool) -> None:
        self.drawn = drawn
        self.files = [h5py.File(path) for path in shard_paths([folder])]
        self.rows = [(file, row) for file in self.files for row in range(len(file["image"]))]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Item:
        file, row = self.rows[number]
        start, stop = file["object/start"][row : row + 2]
        columns = ("label", "parent", "box", "points", "members")
        names = {name: file[f"object/{name}"][start:stop] for name in columns}
        objects = [
            {"label": int(label), "parent": int(parent), "box": box.tolist(), "point": points[0].tolist()}
            for label, parent, box, points, members in zip(*names.values(), strict=True)
            if not members.any()
        ]
        return as_item(file["image"][row], file["label"][row], objects, self.drawn)


def from_archive(path: Path, drawn: bool) -> Iterator[Item]:
    import webdataset

    def decoded(parts: dict[str, bytes]) -> Item:
        image, label = (np.array(Image.open(io.BytesIO(parts[f"{name}.png"]))) for name in ("image", "label"))
        return as_item(image, label, json.loads(parts["objects.json"]), drawn)

    samples = (
        webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False).shuffle(100).map(decoded)
    )
    return iter(DataLoader(samples, BATCH, drop_last=True))
