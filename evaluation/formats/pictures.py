"""Pictures: PNG, JPEG, BMP and GIF by Pillow, TIFF by tifffile, all turned as viewers show them."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthfm.data.console import printable
from synthfm.evaluation.formats.colours import Colours
from synthfm.evaluation.formats.reach import check_reach
from synthfm.evaluation.formats.volume import LONGEST, Unreadable

TIFF_SUFFIXES = (".tif", ".tiff")


class Pixels(NamedTuple):
    """A picture's array.

    Attributes
    ----------
    array
        Any real dtype; colours, if any, on the axis ``c``.
    axes
        A letter an axis, of ``t c z y x``.
    lossy
        Whether values near each other may stand for one (JPEG).
    """

    array: NDArray
    axes: str
    lossy: bool


def open_picture(path: Path, mask: bool, colours: Colours, root: Path | None = None) -> Pixels:
    """Read a picture as it is shown, of a mask as `colours` says.

    Raises
    ------
    Unreadable
        If it is damaged or cut short, its sides are too long, or it has pages in files out of reach.
    """
    stored = mask and colours == "stored"
    try:
        if path.name.lower().endswith(TIFF_SUFFIXES):
            return _read_tiff(path, mask, stored, root)
        return _read_pixels(path, mask, stored)
    except Unreadable:
        raise
    except Exception as error:  # Pillow, tifffile and its codecs raise what they like
        raise Unreadable(f"cannot be read as a picture: {' '.join(str(error).split())[:160]}") from error


def _check_sides(height: int, width: int) -> None:
    if max(height, width) > LONGEST:
        raise Unreadable(f"size {height} x {width}: sides of more than {LONGEST} pixels are not supported")


def _read_pixels(path: Path, mask: bool, stored: bool) -> Pixels:
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # the sides are looked at here
    try:
        with Image.open(path) as picture:
            _check_sides(picture.height, picture.width)
            animated = picture.format in ("GIF", "PNG")  # others have previews, and depth
            frames = []
            for k in range(getattr(picture, "n_frames", 1) if animated else 1):
                picture.seek(k)
                frames.append(np.asarray(_decoded(ImageOps.exif_transpose(picture), mask, stored)))
            lossy = picture.format in ("JPEG", "MPO", "WEBP")
            if picture.format == "GIF" and not _ends_as_gif(path):
                raise ValueError(f"cut short after frame {len(frames)}")
    except UnidentifiedImageError as error:
        raise ValueError(f"damaged, or no {path.suffix.lower()} file") from error
    if len(frames) == 1:
        return Pixels(frames[0], "yxc"[: frames[0].ndim], lossy)
    return Pixels(np.stack(frames), "zyxc"[: frames[0].ndim + 1], lossy)


def _ends_as_gif(path: Path) -> bool:
    """Whether a GIF's last byte is the mark of its end; Pillow takes the end of the file for it."""
    with open(path, "rb") as handle:
        handle.seek(-min(path.stat().st_size, 1 << 10), 2)
        return handle.read().rstrip(b"\0").endswith(b";")


def _decoded(picture: Any, mask: bool, stored: bool) -> Any:
    """A frame with its colours as grey, red, green and blue, alpha; of a mask whose numbers count, these."""
    if stored and picture.mode in ("P", "PA"):
        return picture.getchannel(0)
    if mask and not stored and picture.has_transparency_data:
        return picture.convert("LA" if picture.mode in ("L", "LA", "1") else "RGBA")
    if picture.mode in ("1", "L", "LA", "RGB", "RGBA", "F") or picture.mode.startswith("I"):
        return picture
    return picture.convert("RGB")


def _read_tiff(path: Path, mask: bool, stored: bool, root: Path | None) -> Pixels:
    """A TIFF's first series and its axes, as the file itself names them; pages are slices."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        _check_whole(file)
        _check_others(path, file, root)
        # Without thumbnails, and without the pages that say where others are transparent.
        whole = [item for item in file.series if not (item.keyframe.is_reduced or item.keyframe.is_mask)]
        series = (whole or file.series)[0]
        alike = [
            item for item in whole or file.series if (item.shape, item.axes) == (series.shape, series.axes)
        ]
        page = series.keyframe
        _check_sides(page.imagelength, page.imagewidth)
        kind, kinds = page.photometric, tifffile.PHOTOMETRIC
        lossy = "JPEG" in page.compression.name
        if (
            not stored
            and kind not in (kinds.MINISBLACK, kinds.MINISWHITE, kinds.RGB, kinds.PALETTE)
            and not (kind == kinds.YCBCR and lossy)
        ):  # inks, and other spaces of colours
            if len(file.pages) > 1:
                raise ValueError(f"several pages of colours as {kind.name}")
            return _read_pixels(path, mask, stored)._replace(lossy=lossy)
        names = {"S": "c", "C": "t", "T": "t", "Y": "y", "X": "x"}
        array, axes = series.asarray(), "".join(names.get(axis, "z") for axis in series.axes)
        if len(alike) > 1 and "z" not in axes:  # pages that were written one by one
            array, axes = np.stack([item.asarray() for item in alike]), f"z{axes}"
        if kind == kinds.PALETTE and not stored and array.dtype.kind in "bu":
            # Some write colours of 8 bits, and libtiff takes them so.
            shift = 8 if page.colormap.max() > 255 else 0
            indices = array.astype(np.uint8) if array.dtype == bool else array
            array = np.moveaxis(page.colormap[:, indices] >> shift, 0, -1).astype(np.uint8)
            axes += "c"
        elif kind == kinds.MINISWHITE and array.dtype.kind in "bu":
            bilevel = page.bitspersample == 1
            # tifffile writes an array of bool so, and True, which is shown black, is somebody's object
            as_written = mask and bilevel and page.software.startswith("tifffile")
            if not as_written and (bilevel or not stored):
                array = ~array if bilevel else (2**page.bitspersample - 1 - array).astype(array.dtype)
        return Pixels(_turned(array, axes, page.tags.valueof(274, 1)), axes, lossy)


def _turned(array: NDArray, axes: str, orientation: int) -> NDArray:
    """An array the way up that a TIFF's tag of its orientation says, 1 to 8."""
    rows, columns = axes.index("y"), axes.index("x")
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, rows, columns)
    if orientation in (3, 4, 7, 8):
        array = np.flip(array, rows)
    if orientation in (2, 3, 6, 7):
        array = np.flip(array, columns)
    return array


def _check_whole(file: Any) -> None:
    """Raise ValueError where the file ends before its pages do: tifffile takes what is left for all."""
    handle, kind = file.filehandle, file.tiff
    offset, pages, seen = file.pages.first.offset, 0, set()
    while offset:
        if offset in seen or not offset + kind.tagnosize <= handle.size:
            raise ValueError(f"cut short after {pages} pages")
        seen.add(offset)
        handle.seek(offset)
        (tags,) = struct.unpack(kind.tagnoformat, handle.read(kind.tagnosize))
        handle.seek(offset + kind.tagnosize + tags * kind.tagsize)
        following = handle.read(kind.offsetsize)
        if len(following) < kind.offsetsize:
            raise ValueError(f"cut short in page {pages + 1}")
        (offset,) = struct.unpack(kind.offsetformat, following)
        pages += 1
    for number, page in enumerate(file.pages, start=1):
        ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if max(ends, default=0) > handle.size:
            raise ValueError(f"cut short in page {number} of {pages}")


def _check_others(path: Path, file: Any, root: Path | None) -> None:
    """The other files in which pages lie are in reach; tifffile makes zeros of one that is not there."""
    named = _named(file)
    check_reach(path, named, root)  # before tifffile opens them
    for name, is_other in sorted(named.items()):
        if is_other and not (path.parent / name).is_file():
            raise Unreadable(f"has pages in {printable(name)!r}, which is not there")
    pages = (page for series in file.series for page in series.pages if page is not None)
    check_reach(path, {page.parent.filehandle.path for page in pages}, root)  # those of Micro-Manager, too


def _named(file: Any) -> dict[str, bool]:
    """The files in which an OME-TIFF says that pages lie, and whether that is another than itself."""
    if not file.is_ome:
        return {}
    root = ElementTree.fromstring(file.ome_metadata)
    own, found = root.get("UUID"), dict[str, bool]()
    for item in root.iter():
        name = item.get("FileName") or ""
        if item.tag.endswith("UUID") and name != file.filename:
            found[name] = found.get(name, False) or own is None or item.text != own
    return found
