"""Images as SimpleITK reads them, as volumes: MetaImage and NRRD, and what DICOM's files hold."""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthfm.evaluation.formats.packed import check_packed
from synthfm.evaluation.formats.reach import HEADERS, check_data_files
from synthfm.evaluation.formats.volume import Unreadable, Volume, simpleitk

if TYPE_CHECKING:
    import SimpleITK as sitk


log = logging.getLogger(__name__)
_IO = {"metaimage": "MetaImageIO", "nrrd": "NrrdImageIO"}
_IN_MM = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers"), 1e-3),
    **{"nm": 1e-6, "cm": 10.0, "m": 1000.0},
}
"""mm of a unit of length, as headers call it."""


def read_itk(path: Path, frame: int | None = None, root: Path | None = None) -> Volume:
    """Read MetaImage or NRRD; `frame` picks from a fourth axis or from vector pixels.

    Raises
    ------
    Unreadable
        If it is damaged, its voxels lie out of reach, or its header gives a spacing that is no length.
    """
    with reading(path, root) as reader:
        header = _header(path)
        unit = _unit(path, header) if _states_spacing(path, header) else None
        check_packed(path)
        volume = from_itk(reader.Execute(), frame)
    if unit is None or volume.spacing is None:
        return replace(volume, spacing=None)
    if unit == 1.0:
        return volume
    z, y, x = (length * unit for length in volume.spacing)
    origin = None if volume.origin is None else volume.origin * unit
    return replace(volume, spacing=(1.0 if origin is None else z, y, x), origin=origin)


def size_of(path: Path, root: Path | None = None) -> tuple[tuple[int, ...], int]:
    """Voxels along each axis of MetaImage or NRRD, and numbers a voxel, from the header."""
    with reading(path, root) as reader:
        reader.ReadImageInformation()
        return tuple(reader.GetSize()), int(reader.GetNumberOfComponents())


@contextmanager
def reading(path: Path, root: Path | None = None) -> Iterator[Any]:
    """ITK's reader of a file, whatever the case of its suffix; what it warns of is told with the file."""
    sitk = simpleitk()
    check_data_files(path, root)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    kind = HEADERS.get(path.suffix.lower())
    if kind is not None:
        reader.SetImageIO(_IO[kind])
    try:
        with _told_of(path):
            yield reader
    except RuntimeError as error:
        reason = itk_reason(error)
        if path.suffix.lower() == ".mha" and "No such file" in reason:  # MetaIO, of voxels that end early
            reason = "cut short"
        raise Unreadable(f"cannot be read: {reason}") from error


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Have what ITK warns of while this thread reads a file logged with the file's name, each once."""
    _listener()
    _said.texts = []
    try:
        yield
    finally:
        for text in dict.fromkeys(_without_address(item) for item in _said.texts):
            log.warning("%s: %s", path, text)


_said = threading.local()


@functools.cache  # ITK has one for all threads, and it stays
def _listener() -> Any:
    sitk: Any = simpleitk()

    class Listener(sitk.LoggerBase):
        def DisplayWarningText(self, text: str) -> None:
            texts = getattr(_said, "texts", None)
            if texts is not None:
                texts.append(text)

        DisplayText = DisplayErrorText = DisplayGenericOutputText = DisplayDebugText = DisplayWarningText

    listener = Listener()
    listener.SetAsGlobalITKLogger()
    return listener


def _without_address(text: str) -> str:
    """A warning without the place in ITK's source and the address of the object that it is of."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^\w+ \(0x[0-9a-f]+\): ", "", " ".join(lines[1:] or lines))


def _header(path: Path) -> bytes:
    """The lines of a header, of which the last, or the empty one, ends it."""
    with open(path, "rb") as handle:
        text = handle.read(1 << 16)
    if HEADERS[path.suffix.lower()] == "metaimage":
        return text.split(b"ElementDataFile")[0]
    return re.split(rb"\r?\n\r?\n", text)[0]


def _unit(path: Path, header: bytes) -> float | None:
    """mm of the unit that a header's lengths are in, which ITK does not read; None where it is no length."""
    if HEADERS[path.suffix.lower()] == "metaimage":
        found = re.search(rb"^\s*DistanceUnits\s*[=:]\s*(\S+)", header, re.M)
        names = [] if found is None else [found[1]]
    else:
        found = re.search(rb"^(?:space )?units:(?!=)(.*)", header, re.M | re.I)
        names = [] if found is None else re.findall(rb'"([^"]*)"', found[1])
    named = {name.decode("utf-8", "replace").strip().lower() for name in names} - {"", "?", "???", "none"}
    known = {_IN_MM[name] for name in named if name in _IN_MM}
    if len(known) > 1:
        raise Unreadable(f"its header gives lengths in {' and '.join(sorted(named))}; expected one unit")
    return next(iter(known)) if known else None if named else 1.0


def _states_spacing(path: Path, header: bytes) -> bool:
    """Whether a header says how large a voxel is: ITK makes 1 mm of silence, a flip of what is negative."""
    if HEADERS[path.suffix.lower()] == "metaimage":
        found = re.search(rb"^\s*Element(?:Spacing|Size)\s*[=:](.*)", header, re.M)
        unknown: tuple[str, ...] = ()
    else:  # an axis of unknown spacing is nan
        found = re.search(rb"^spacings:(?!=)(.*)", header, re.M | re.I)
        unknown = ("nan",)
        if found is None:
            return re.search(rb"^space directions:(?!=).*\d", header, re.M | re.I) is not None
    words = [] if found is None else found[1].decode("ascii", "replace").split()
    known = [word for word in words if word.lower() not in unknown]
    if not all(_is_length(word) for word in known):
        raise Unreadable(f"its header gives a spacing of {' x '.join(words)}; expected lengths above 0")
    return bool(words) and len(known) == len(words)


def _is_length(word: str) -> bool:
    try:
        return 0 < float(word) < np.inf
    except ValueError:
        return False


def itk_reason(error: Exception) -> str:
    """The telling line of an ITK exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else "unknown error").removeprefix("ITK ERROR: ")


def from_itk(image: sitk.Image, frame: int | None = None) -> Volume:
    """A SimpleITK image as a :class:`Volume`; `frame` picks from a fourth axis or from vector pixels."""
    sitk = simpleitk()
    if image.GetDimension() > 4:
        raise Unreadable(f"{image.GetDimension()}-D; expected at most 4-D")
    if image.GetNumberOfComponentsPerPixel() > 1:
        if frame is None:
            raise Unreadable(
                f"{image.GetNumberOfComponentsPerPixel()} values a voxel; say which with image.frame"
            )
        number = checked_frame(frame, image.GetNumberOfComponentsPerPixel())
        image = sitk.VectorIndexSelectionCast(image, number)
    if image.GetDimension() == 4:
        frames = image.GetSize()[3]
        if frame is None and frames > 1:
            raise Unreadable(f"4-D with {frames} frames; say which with image.frame")
        image = image[:, :, :, checked_frame(frame or 0, frames)]
    array = sitk.GetArrayFromImage(image)
    if image.GetDimension() == 2:
        y, x = image.GetSpacing()[::-1]
        return Volume(array[None], (1.0, y, x), flat=True)
    return Volume(
        array,
        image.GetSpacing()[::-1],
        np.array(image.GetDirection()).reshape(3, 3),
        np.array(image.GetOrigin()),
        flat=array.shape[0] == 1,
    )


def checked_frame(frame: int, frames: int) -> int:
    if not 0 <= frame < frames:
        raise Unreadable(f"frame {frame} does not exist; the file has {frames} (counted from 0)")
    return frame
