"""Pictures: which pixels of a mask are the object, which way up it lies, whatever it is stored as."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from synthfm.evaluation.formats.foreground import threshold_of
from synthfm.evaluation.formats.readers import count_frames, read_volume
from synthfm.evaluation.formats.volume import Unreadable

MASK = np.zeros((24, 32), bool)
MASK[3:9, 12:30] = True
MASK[5:14, 20:26] = True
SHOWN = MASK * np.uint8(255)


def found(path: Path) -> np.ndarray:
    values = read_volume(path, mask=True).array[0]
    return values > threshold_of(values).value


def white_first(mask: np.ndarray) -> Image.Image:
    """Black and white by a palette whose entry 0 is white."""
    picture = Image.fromarray(np.where(mask, 0, 1).astype(np.uint8), mode="P")
    picture.putpalette([255, 255, 255, 0, 0, 0])
    return picture


def over_nothing(colour: tuple[int, int, int], hidden: tuple[int, int, int]) -> Image.Image:
    """An object in one colour on a transparent background, under which another is stored."""
    pixels = np.zeros((*MASK.shape, 4), np.uint8)
    pixels[...] = (*hidden, 0)
    pixels[MASK] = (*colour, 255)
    return Image.fromarray(pixels)


def grey_over_nothing() -> Image.Image:
    return Image.fromarray(np.dstack([np.full(MASK.shape, 255, np.uint8), SHOWN]))


def with_clear_entry() -> Image.Image:
    picture = white_first(~MASK)  # 0, the background, is white, and transparent
    picture.info["transparency"] = 0
    picture.putpalette([255, 255, 255, 200, 0, 0])
    return picture


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("first.png", white_first(MASK)),
        ("first.gif", white_first(MASK)),
        ("first.bmp", white_first(MASK)),
        ("quantized.png", Image.fromarray(SHOWN).convert("RGB").quantize(2)),
        ("adaptive.png", Image.fromarray(SHOWN).convert("P", palette=Image.Palette.ADAPTIVE, colors=2)),
        ("white.png", over_nothing((255, 255, 255), (255, 255, 255))),
        ("red.png", over_nothing((200, 0, 0), (255, 255, 255))),
        ("black.png", over_nothing((0, 0, 0), (255, 255, 255))),
        ("grey.png", grey_over_nothing()),
        ("entry.png", with_clear_entry()),
        ("bit.png", Image.fromarray(MASK)),
        ("one.png", Image.fromarray(MASK.astype(np.uint8))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_object_of_a_mask_is_what_is_shown_brighter_than_black(
    tmp_path: Path, name: str, picture: Image.Image
) -> None:
    picture.save(tmp_path / name)
    np.testing.assert_array_equal(found(tmp_path / name), MASK)


def test_alpha_that_is_the_same_everywhere_says_nothing(tmp_path: Path) -> None:
    for alpha in (0, 90, 255):
        pixels = np.dstack([SHOWN] * 3 + [np.full(MASK.shape, alpha, np.uint8)])
        Image.fromarray(pixels).save(tmp_path / "a.png")
        np.testing.assert_array_equal(found(tmp_path / "a.png"), MASK)


def test_transparent_pixels_have_no_colour_and_numbers_no_alpha(tmp_path: Path) -> None:
    over_nothing((200, 0, 0), (255, 255, 255)).save(tmp_path / "c.png")
    numbers = read_volume(tmp_path / "c.png", mask=True, colours="number").array[0]
    np.testing.assert_array_equal(numbers, np.where(MASK, 0xC80000, 0))
    Image.fromarray(np.dstack([MASK * np.uint8(3), SHOWN])).save(tmp_path / "n.png")
    labels = read_volume(tmp_path / "n.png", mask=True, colours="stored").array[0]
    np.testing.assert_array_equal(labels, MASK * 3)


def test_colours_without_black_do_not_say_which_is_the_object(tmp_path: Path) -> None:
    Image.fromarray(np.where(MASK[..., None], (255, 0, 0), (0, 0, 255)).astype(np.uint8)).save(
        tmp_path / "c.png"
    )
    with pytest.raises(Unreadable, match=r"#0000ff, #ff0000 and no black; say which is the object"):
        read_volume(tmp_path / "c.png", mask=True)


def jpeg(values: np.ndarray) -> Image.Image:
    packed = io.BytesIO()
    Image.fromarray(values).save(packed, "JPEG", quality=60)
    return Image.open(packed)


@pytest.mark.parametrize(
    ("values", "threshold", "words"),
    [
        (SHOWN, 0, None),
        (MASK * np.uint8(1), 0, None),
        (np.where(MASK, 250, 3).astype(np.uint8), 3, "holds the values 3 and 250, none of them 0"),
        (np.where(MASK, 0, -1).astype(np.int16), 0, None),
        (np.arange(256, dtype=np.uint8), 127, "more than two values, 0 to 255: what is above 127"),
        (np.arange(5, dtype=np.uint8), 0, "what is above 0"),
        (np.arange(300, dtype=np.uint16), 0, "what is above 0"),
        (np.arange(65000, dtype=np.uint16), 32767, "what is above 32767"),
        (np.linspace(0, 1, 50), 0.5, "what is above 0.5"),
        (np.linspace(-8, 8, 50), 0, "what is above 0"),
        (np.zeros(4, np.uint8), 0, None),
        (np.full(4, 7, np.uint8), 0, None),
    ],
)
def test_the_values_of_a_mask_say_where_the_object_begins(
    values: np.ndarray, threshold: float, words: str | None
) -> None:
    assert threshold_of(values).value == threshold
    assert (words is None) == (threshold_of(values).doubt is None)
    assert (words or "") in (threshold_of(values).doubt or "")


def test_a_jpeg_is_one_by_what_it_holds(tmp_path: Path) -> None:
    jpeg(SHOWN).save(tmp_path / "resaved.png")
    with open(tmp_path / "named.png", "wb") as file:
        jpeg(SHOWN).save(file, "JPEG", quality=60)
    tifffile.imwrite(tmp_path / "packed.tif", SHOWN, compression="jpeg", compressionargs={"level": 60})
    for name, lossy in (("resaved.png", False), ("named.png", True), ("packed.tif", True)):
        assert read_volume(tmp_path / name, mask=True).lossy == lossy
        assert np.count_nonzero(found(tmp_path / name) ^ MASK) <= 3
        assert (read_volume(tmp_path / name, mask=True).array > 0).sum() > MASK.sum() + 10  # not so above 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", "_lzw.tif"])
def test_a_picture_lies_as_it_is_shown(tmp_path: Path, orientation: int, suffix: str) -> None:
    values = np.repeat(np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20, 16, 0), 16, 1)
    path = tmp_path / f"p{suffix}"
    if path.suffix == ".tif":
        compression = "lzw" if "lzw" in suffix else None
        tifffile.imwrite(path, values, compression=compression, extratags=[(274, 3, 1, orientation, True)])
    else:
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(values).save(path, exif=exif, quality=95)
    back = {1: lambda a: a, 2: np.fliplr, 3: lambda a: a[::-1, ::-1], 4: np.flipud, 5: np.transpose,
            6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].T, 8: np.rot90}  # fmt: skip
    shown = read_volume(path).array[0].astype(int)
    assert shown.shape == back[orientation](values).shape
    assert np.abs(shown - back[orientation](values)).mean() < 2


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "packbits", "lzma"])
def test_a_tiff_says_the_same_whatever_packs_it(tmp_path: Path, compression: str | None) -> None:
    options: dict[str, Any] = {"compression": compression, "software": "a scanner"}
    tifffile.imwrite(tmp_path / "w.tif", 255 - SHOWN, photometric="miniswhite", **options)
    np.testing.assert_array_equal(found(tmp_path / "w.tif"), MASK)
    deep = np.random.default_rng(0).integers(0, 65535, (9, 12, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "d.tif", deep, photometric="rgb", **options)
    assert read_volume(tmp_path / "d.tif").array.dtype == np.uint16
    with tifffile.TiffWriter(tmp_path / "t.tif") as file:  # the reduced picture comes first
        file.write(SHOWN[::2, ::2], subfiletype=1, **options)
        file.write(SHOWN, **options)
    np.testing.assert_array_equal(read_volume(tmp_path / "t.tif").array[0], SHOWN)
    times = np.stack([SHOWN, 255 - SHOWN])
    tifffile.imwrite(tmp_path / "s.ome.tif", times, metadata={"axes": "TYX"}, compression=compression)
    assert count_frames(tmp_path / "s.ome.tif") == 2
    np.testing.assert_array_equal(read_volume(tmp_path / "s.ome.tif", frame=1).array[0], times[1])


@pytest.mark.parametrize("how", ["pages", "one block", "ImageJ", "packed"])
def test_a_stack_that_is_cut_short_is_not_a_shorter_one(tmp_path: Path, how: str) -> None:
    values = np.random.default_rng(0).integers(0, 255, (6, 40, 50)).astype(np.uint8)
    path = tmp_path / "s.tif"
    if how == "pages":
        with tifffile.TiffWriter(path) as file:
            for page in values:
                file.write(page, contiguous=False)
    elif how == "packed":
        Image.fromarray(values[0]).save(
            path,
            save_all=True,
            append_images=[Image.fromarray(page) for page in values[1:]],
            compression="tiff_lzw",
        )
    else:
        metadata = {"axes": "ZYX"}
        tifffile.imwrite(path, values, imagej=how == "ImageJ", photometric="minisblack", metadata=metadata)
    assert read_volume(path).array.shape == values.shape
    content = path.read_bytes()
    for part in (0.5, 0.8, 0.95):
        path.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(Unreadable):
            read_volume(path)


def test_pages_of_other_files_are_in_reach_and_there(tmp_path: Path) -> None:
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">'
        '<Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="32" SizeY="24" SizeZ="2" SizeC="1" '
        'SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        '<TiffData FirstZ="0" IFD="0" PlaneCount="1"><UUID FileName="a.ome.tif">urn:uuid:1</UUID></TiffData>'
        '<TiffData FirstZ="1" IFD="0" PlaneCount="1"><UUID FileName="{}">urn:uuid:2</UUID></TiffData>'
        "</Pixels></Image></OME>"
    )
    (tmp_path / "in").mkdir()
    for name, other in (("in/a.ome.tif", "b.ome.tif"), ("in/c.ome.tif", "../b.ome.tif")):
        tifffile.imwrite(tmp_path / name, SHOWN, description=text.format(other).encode(), metadata=None)
    tifffile.imwrite(tmp_path / "b.ome.tif", 255 - SHOWN, metadata=None)
    with pytest.raises(Unreadable, match="outside of its folder"):
        read_volume(tmp_path / "in" / "c.ome.tif")
    with pytest.raises(Unreadable, match=r"b\.ome\.tif', which is not there"):
        read_volume(tmp_path / "in" / "a.ome.tif")
    # Of a file that gives itself no number, what has none is another's once a page has named it.
    text = text.replace(' UUID="urn:uuid:1"', "").replace("urn:uuid:2", "").format("../b.ome.tif")
    tifffile.imwrite(tmp_path / "in" / "a.ome.tif", SHOWN, description=text.encode(), metadata=None)
    with pytest.raises(Unreadable, match="outside of its folder"):
        read_volume(tmp_path / "in" / "a.ome.tif")


def test_an_index_of_micro_manager_names_files_in_reach(tmp_path: Path) -> None:
    """NDTiff: the file ``NDTiff.index`` beside a TIFF says in which files the pages lie."""
    (tmp_path / "in").mkdir()
    height, width = SHOWN.shape
    head = struct.pack("<2sHIIIII2s2x", b"II", 42, 42 + SHOWN.size, 483729, 2, 2355492, 2, b"{}")
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 32), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, SHOWN.size)]
    tags += [(51123, 2, 10, 32 + SHOWN.size)]
    pages = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    path = tmp_path / "in" / "a.tif"
    path.write_bytes(head.ljust(32, b"\0") + SHOWN.tobytes() + b'{"a": "b"}' + pages)
    tifffile.imwrite(tmp_path / "b.tif", 255 - SHOWN, metadata=None)

    def name(other: str) -> None:
        axes, where = b'{"z": 0}', other.encode()
        parts = [struct.pack("<I", len(part)) + part for part in (axes, where)]
        numbers = struct.pack("<IiiiiIii", 32, width, height, 0, 0, 0, 0, 0)
        (tmp_path / "in" / "NDTiff.index").write_bytes(b"".join(parts) + numbers)

    name("a.tif")
    np.testing.assert_array_equal(read_volume(path).array[0], SHOWN)
    name("../b.tif")
    with pytest.raises(Unreadable, match="outside of its folder"):
        read_volume(path)


def test_a_large_picture_is_no_bomb(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((13400, 13400), bool)).save(tmp_path / "large.png")
    assert read_volume(tmp_path / "large.png", mask=True).array.shape == (1, 13400, 13400)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiffs_palette_may_be_of_8_bits(tmp_path: Path, bits: int) -> None:
    colours = np.zeros((3, 256), np.uint16)
    colours[:, 1] = 2**bits - 1
    tifffile.imwrite(tmp_path / "m.tif", MASK.astype(np.uint8), photometric="palette", colormap=colours)
    np.testing.assert_array_equal(found(tmp_path / "m.tif"), MASK)


@pytest.mark.parametrize("white", [0, 1])
def test_a_tiff_of_one_bit_with_a_palette_is_as_it_is_shown(tmp_path: Path, white: int) -> None:
    """As ImageMagick writes one of two colours; tifffile cannot."""
    rows = np.packbits(MASK if white else ~MASK, axis=1).tobytes()
    height, width = MASK.shape
    values = {256: width, 257: height, 258: 1, 259: 1, 262: 3, 273: 8, 277: 1, 278: height, 279: len(rows)}
    tags = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in values.items()]
    tags.append(struct.pack("<HHII", 320, 3, 6, 8 + len(rows)))
    palette = struct.pack("<6H", *([0, 65535] if white else [65535, 0]) * 3)
    start = struct.pack("<4sI", b"II*\0", 8 + len(rows) + len(palette))
    directory = struct.pack("<H", len(tags)) + b"".join(tags) + bytes(4)
    (tmp_path / "m.tif").write_bytes(start + rows + palette + directory)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "m.tif").convert("L")) > 0, MASK)
    np.testing.assert_array_equal(found(tmp_path / "m.tif"), MASK)
    np.testing.assert_array_equal(read_volume(tmp_path / "m.tif").array[0], SHOWN)


def test_a_tiffs_page_of_transparency_is_no_second_slice(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, MASK.shape).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "i.tif") as file:
        file.write(drawn, photometric="minisblack")
        file.write(MASK, photometric="mask", subfiletype=4)
    np.testing.assert_array_equal(read_volume(tmp_path / "i.tif").array, drawn[None])


def test_a_gif_that_is_cut_short_is_not_one_of_fewer_frames(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (3, 5, 7)).astype(np.uint8)
    frames = [Image.fromarray(frame) for frame in drawn]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    content = (tmp_path / "a.gif").read_bytes()
    np.testing.assert_array_equal(read_volume(tmp_path / "a.gif").array, drawn)
    for length in range(1, len(content)):
        (tmp_path / "a.gif").write_bytes(content[:length])
        with pytest.raises(Unreadable):
            read_volume(tmp_path / "a.gif")
