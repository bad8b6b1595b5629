"""Makes the images that the page opens with: ``python docs/img/make_app_samples.py`` (half a minute).

Synthetic ones in which a person sees organs, chosen by eye, each with the masks of its largest structures.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthfm.data.folder import shard_paths
from synthfm.data.shards import Shard, object_masks
from synthfm.evaluation.interactive.page.pictures import SAMPLES
from synthfm.generator.config import load_config
from synthfm.generator.folder.factory import generate

NUMBER, SEED, SIZE = 20, 11, 384
CHOSEN = {"CT": ("ct", (19, 16, 1, 7)), "MR": ("mr", (7, 8, 13, 16)), "Ultrasound": ("us", (6, 12, 11, 1))}
"""Name to preset and numbers of its samples."""
STRUCTURES = 5
LARGEST = 0.3
"""Share of the image above which an object is the body, or a lung of it, and no structure to click on."""


def main() -> None:
    """Write ``NAME K.png`` and ``NAME K/STRUCTURE.png`` to the page's folder of samples."""
    for name, (preset, numbers) in CHOSEN.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / preset
            config = load_config(preset, size=SIZE)
            generate(folder, config, num=NUMBER, root_seed=SEED, jobs=1)
            (path,) = shard_paths([str(folder)])
            with Shard(path) as shard:
                for k, number in enumerate(numbers, 1):
                    sample = shard[number]
                    Image.fromarray(sample.image).save(SAMPLES / f"{name} {k}.png", optimize=True)
                    masks = object_masks(sample.label, sample.objects)
                    _write_masks(masks, SAMPLES / f"{name} {k}")


def _write_masks(masks: NDArray[np.bool_], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    wanted = sorted((mask for mask in masks if mask.mean() < LARGEST), key=lambda mask: -mask.sum())
    for k, mask in enumerate(wanted[:STRUCTURES], 1):
        Image.fromarray(mask).save(folder / f"{k}.png", optimize=True)


if __name__ == "__main__":
    main()
