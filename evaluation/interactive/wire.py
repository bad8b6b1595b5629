"""What a request of nnInteractive's client says: JSON, or a packed array with JSON in a header beside it.

Keys that are not named here say how a network of nnInteractive's is to be asked, and are not looked at.
"""

from __future__ import annotations

import struct
from typing import Annotated, TypeVar

import flask
import numpy as np
import pydantic
from nnInteractive.inference.remote import _protocol as protocol
from nnInteractive.inference.remote.serialization import unpack_array
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.data.guard import admit

MOST_JSON = 1 << 20
"""Bytes."""

Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]
Pair = tuple[Finite, Finite]
Span = tuple[int, int]
Asked = TypeVar("Asked", bound=pydantic.BaseModel)


class Prompted(pydantic.BaseModel):
    include_interaction: bool
    run_prediction: bool = True


class Point(Prompted):
    coordinates: tuple[Finite, Finite, Finite]


class Box(Prompted):
    bbox_coords: tuple[Pair, Pair, Pair]


class Drawn(Prompted):
    interaction_bbox: tuple[Span, Span, Span] | None = None


class Begun(pydantic.BaseModel):
    run_prediction: bool = False


class Buffer(pydantic.BaseModel):
    shape: tuple[int, int, int]


class Properties(pydantic.BaseModel):
    spacing: tuple[Finite, Finite, Finite] | None = None


class Image(pydantic.BaseModel):
    image_properties: Properties = Properties()


def read_json(kind: type[Asked]) -> Asked:
    """The request's JSON."""
    text = _read(MOST_JSON + 1)  # whatever the request says of its length
    if len(text) > MOST_JSON:
        raise InputError(f"more than {MOST_JSON >> 20} MiB of JSON")
    return _checked(kind, text)


def read_header(kind: type[Asked]) -> Asked:
    """What goes with an array."""
    return _checked(kind, flask.request.headers.get(protocol.META_HEADER, "{}").encode())


def _checked(kind: type[Asked], text: bytes) -> Asked:
    try:
        return kind.model_validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise InputError(": ".join([".".join(map(str, first["loc"])) or "JSON", first["msg"]])) from error


def _read(most: int) -> bytes:
    """The next bytes of the request's body, at most so many."""
    parts, left = [], most
    while left > 0 and (part := flask.request.stream.read(min(left, 1 << 22))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


_LONGEST_HEAD = 1 << 12
"""Bytes; an array's head has no more."""
_HEAD = struct.Struct("<4sBBBB")
_KINDS = {np.dtype(kind).name for kind in "?bBhHiIqQefd"}


def read_array(axes: int, most: int) -> NDArray:
    """The request's array of numbers.

    The client's own function makes room for whatever an array claims to be, Python objects included, so that
    what it claims is looked at before.
    """
    body = _read(_LONGEST_HEAD)
    try:
        *_, found, letters = _HEAD.unpack_from(body)
        kind = body[_HEAD.size : _HEAD.size + letters].decode("ascii")
        shape = struct.unpack_from(f"<{found}q", body, _HEAD.size + letters)
    except (struct.error, ValueError) as error:
        raise InputError("not an array as nnInteractive's client packs it") from error
    voxels = 1
    for side in shape:
        voxels *= side
    if found != axes or kind not in _KINDS or min(shape) < 1:
        raise InputError(f"array {kind} {shape}: expected numbers along {axes} axes")
    if voxels > most:
        raise InputError(f"array {shape}: {voxels} voxels, expected at most {most}")
    size = voxels * np.dtype(kind).itemsize
    size += size // 16 + (1 << 20)  # what cannot be packed grows a little
    if (flask.request.content_length or 0) > size:
        raise InputError(f"array {shape} of {kind} in {flask.request.content_length} bytes: that is too many")
    body += _read(size + 1 - len(body))
    if len(body) > size:
        raise InputError(f"array {shape} of {kind} in more than {size} bytes: that is too many")
    admit(voxels * np.dtype(kind).itemsize, len(body))
    try:
        return unpack_array(body)
    except (struct.error, ValueError, RuntimeError) as error:
        raise InputError(f"not an array as nnInteractive's client packs it: {error}") from error
