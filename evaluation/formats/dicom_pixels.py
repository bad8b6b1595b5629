"""A DICOM file's pixels as values: decoded, rescaled, bright where they are shown so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm.evaluation.formats.colours import grey
from synthfm.evaluation.formats.dicom_elements import PIXELS, read_elements
from synthfm.evaluation.formats.itk import from_itk, reading
from synthfm.evaluation.formats.volume import Unreadable, simpleitk

Rescale = tuple[float, float]
"""Slope and intercept."""


def read_pixels(path: Path, rescales: Sequence[Rescale], mask: bool) -> NDArray:
    """The values of a file, (frames, Y, X).

    A Modality LUT, or else slope and intercept, each frame's own, are applied; whole numbers stay so, others
    become float32. MONOCHROME1 (large is dark) is turned by complementing the stored values. Colours, of a
    JPEG those that its stream says, become grey, in a mask as those of a picture do; of a palette a mask has
    the numbers. Padding, which fills an image up to a rectangle and is no value, becomes 0, or the smallest
    value where there are negative ones.

    Raises
    ------
    Unreadable
        If they cannot be decoded, or are fewer than the header says.
    """
    import pydicom

    try:
        file = read_elements(path, pixels=True)
        if not any(name in file for name in PIXELS):
            raise Unreadable("holds no pixels: truncated, or no image")
        _state_syntax(file)
        syntax = file.file_meta.TransferSyntaxUID
        if syntax.is_compressed and not pydicom.pixels.get_decoder(syntax).is_available:
            return _by_itk(path, file, rescales, mask)
        stored = pydicom.pixels.pixel_array(file)
    except Unreadable:
        raise
    except Exception as error:  # pydicom and its decoders raise many kinds
        reason = " ".join(str(error).split())
        raise Unreadable(f"its pixels cannot be read: {reason[:300]}") from error
    samples = int(file.get("SamplesPerPixel") or 1)
    stored = stored.reshape(-1, *stored.shape[-3 if samples == 3 else -2 :])
    if 1 < len(rescales) != len(stored):
        raise Unreadable(f"holds {len(stored)} frames, its header describes {len(rescales)}")
    if samples == 3:
        return grey(stored, mask, "shown")
    if file.PhotometricInterpretation == "PALETTE COLOR":
        if mask:
            return stored
        shown = pydicom.pixels.apply_color_lut(stored, file)
        return grey((shown >> 8).astype(np.uint8) if shown.dtype == np.uint16 else shown, False)
    stored = _used_bits(stored, file)
    padding = None if mask else _padding(stored, file)
    values = _values(stored, file, rescales)
    return values if padding is None else _without(values, padding)


def _state_syntax(file: Any) -> None:
    """Say how a file without a preamble is encoded, as far as its elements tell."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "TransferSyntaxUID" not in file.file_meta:
        implicit, little = file.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        file.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _used_bits(stored: NDArray, file: Any) -> NDArray:
    """Stored values without what lies in the bits beside them, such as an overlay."""
    bits, used = 8 * stored.dtype.itemsize, int(file.get("BitsStored") or 8 * stored.dtype.itemsize)
    high = int(file.get("HighBit", used - 1))
    if stored.dtype.kind == "f" or not 0 < used <= high + 1 <= bits or used == bits:
        return stored
    return stored << (bits - 1 - high) >> (bits - used)  # the sign goes along


def _padding(stored: NDArray, file: Any) -> NDArray[np.bool_] | None:
    """Where an image is padded; None if it is nowhere."""
    low = file.get("PixelPaddingValue")
    if not isinstance(low, (int, float)) or stored.dtype.kind == "f":
        return None
    high = file.get("PixelPaddingRangeLimit")
    ends = np.array([low, high if isinstance(high, (int, float)) else low]).astype(np.int64)
    low, high = np.sort(ends.astype(stored.dtype))  # an unsigned number may stand for a signed one
    padded = (stored >= low) & (stored <= high)
    return padded if padded.any() and not padded.all() else None


def _without(values: NDArray, padding: NDArray[np.bool_]) -> NDArray:
    least = values[~padding].min()
    values[padding] = min(least, values.dtype.type(0))
    return values


def _values(stored: NDArray, file: Any, rescales: Sequence[Rescale]) -> NDArray:
    import pydicom

    turned = file.PhotometricInterpretation == "MONOCHROME1"
    if file.get("ModalityLUTSequence"):
        values = pydicom.pixels.apply_modality_lut(stored, file)
        if stored.dtype.itemsize == 1 and values.max() < 256:  # a table of 16 bits for grey levels of 8
            values = values.astype(np.uint8)
        return values.max() - (values - values.min()) if turned else values
    if turned:
        stored = ~stored if file.PixelRepresentation else 2 ** int(file.BitsStored) - 1 - stored
    return rescaled(stored, rescales, int(file.get("BitsStored") or 16))


def rescaled(stored: NDArray, rescales: Sequence[Rescale], bits: int) -> NDArray:
    """Slope and intercept of each frame applied to stored values (frames, Y, X) of so many bits."""
    if len(set(rescales)) > 1:
        slopes, intercepts = np.array(rescales, np.float32).T[..., None, None]
        return slopes * stored + intercepts
    slope, intercept = rescales[0]
    if (slope, intercept) == (1.0, 0.0):
        return stored.copy()
    if stored.dtype.kind == "f" or not (slope.is_integer() and intercept.is_integer()):
        return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    most = abs(slope) * 2.0 ** (bits - (stored.dtype.kind == "i")) + abs(intercept)
    kind = np.int16 if most < 2**15 else np.int32 if most < 2**31 else np.int64
    return stored.astype(kind) * kind(slope) + kind(intercept)


def _by_itk(path: Path, file: Any, rescales: Sequence[Rescale], mask: bool) -> NDArray:
    """What pydicom has no decoder for (JPEG-LS, JPEG lossless), as ITK reads it: rescaled and turned."""
    if file.get("ModalityLUTSequence"):
        raise Unreadable(
            f"has a Modality LUT in pixels packed as {file.file_meta.TransferSyntaxUID.name}, which is not "
            "supported; unpack it (dcmdjpeg, gdcmconv --raw)"
        )
    with reading(path) as reader:
        image = reader.Execute()
    if image.GetNumberOfComponentsPerPixel() > 1:
        return replace(from_itk(image, 0), array=grey(simpleitk().GetArrayFromImage(image), mask)).array
    values = from_itk(image).array
    if len(set(rescales)) > 1:
        raise Unreadable(
            f"slope or intercept changes from frame to frame, in pixels packed as "
            f"{file.file_meta.TransferSyntaxUID.name}, which is not supported; unpack it"
        )
    if values.dtype.kind == "f":
        values = values.astype(np.float32)
    low = file.get("PixelPaddingValue")
    if not mask and isinstance(low, (int, float)) and file.PhotometricInterpretation == "MONOCHROME2":
        slope, intercept = rescales[0]
        padding = np.isclose(values, low * slope + intercept)
        if padding.any() and not padding.all():
            values = _without(values.copy(), padding)
    return values
