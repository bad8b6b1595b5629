"""The picture of vessels on the page of results: ``python docs/img/make_vessels_picture.py retina.jpg``.

`retina.jpg` is the photograph that ``skimage.data.retina()`` fetches (M. Häggström, CC0). It is asked with a
box of the whole image, without and with the network for thin objects.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image

from synthfm.trainer.model import models
from synthfm.trainer.model.predict import Prompt, SecondLook, Segmenter

SIDE = 705
SHOWN = 352


@click.command()
@click.argument("photograph", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(photograph: Path) -> None:
    """Ask and draw."""
    grey = np.array(Image.open(photograph).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    sam, _ = models.load("tiny")
    tiles = [np.repeat(grey[..., None], 3, 2)]
    for settings in (SecondLook(thin=None), SecondLook()):
        segmenter = Segmenter(sam, settings)
        (found,) = segmenter.predict(segmenter.encode(grey), [Prompt(box=[0, 0, SIDE, SIDE])])
        tile = tiles[0].copy()
        tile[found.mask] = [230, 40, 40]
        tiles.append(tile)
    small = [Image.fromarray(tile).resize((SHOWN, SHOWN), Image.Resampling.LANCZOS) for tile in tiles]
    sheet = Image.fromarray(np.concatenate([np.array(tile) for tile in small], 1)).quantize(96)
    sheet.save(Path(__file__).parent / "tiny_vessels.png", optimize=True)


if __name__ == "__main__":
    main()
