"""What the page's routes share: what is open, how a request's body is read, how masks and images are sent."""

from __future__ import annotations

import io
import secrets
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import flask
import numpy as np
import pydantic
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import find_contours

from synthfm.data.config import Config
from synthfm.data.console import InputError
from synthfm.data.distance import bounds
from synthfm.evaluation.interactive.listening import Turns
from synthfm.evaluation.interactive.page.asking import Asker
from synthfm.evaluation.interactive.page.editing import Editors
from synthfm.evaluation.interactive.page.pictures import Library
from synthfm.evaluation.interactive.page.uploads import Uploads

MOST_CLICKS = 200
"""Of one prompt."""


@dataclass
class Desk:
    """What the routes share; a request for what is still being made waits for it.

    Attributes
    ----------
    library, asker
        What is shown, and who is asked.
    uploads
        Files on their way into the library.
    token
        Differs from one start of the server to the next, as what is called ``file/0`` does.
    asking
        Methods are used by one request at a time, for one round of a prompt.
    editors
        The scans that people work on; each has a lock of its own.
    """

    library: Future[Library]
    asker: Future[Asker]
    uploads: Uploads
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    asking: Turns = field(default_factory=Turns)
    editors: Editors = field(default_factory=Editors)


def desk() -> Desk:
    """That of the application which is asked."""
    found: Desk = flask.current_app.extensions["desk"]
    return found


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if not value[0] < value[1]:
        raise ValueError("the value of black must be below that of white")
    return value


Number = Annotated[float, pydantic.Field(allow_inf_nan=False, ge=-1e30, le=1e30)]
"""A place or a value; differences and lengths of such are no infinity, in 32 bits either."""
Levels = Annotated[tuple[Number, Number], pydantic.AfterValidator(_rising)]
"""The values that are black and white."""
Body = TypeVar("Body", bound=Config)


def body(kind: type[Body]) -> Body:
    """The request's JSON.

    Raises
    ------
    InputError
        If it is of another kind: the first key and what is wrong with it.
    """
    try:
        return kind.model_validate(flask.request.get_json(), strict=False)
    except RecursionError as error:
        raise InputError("JSON that is nested too deep") from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def outline(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Closed outlines of a mask, bool (H, W): each x, y, x, y, ... in pixels from the image's corner."""
    if not mask.any():
        return []
    x0, y0, x1, y1 = bounds(mask).tolist()
    lines = find_contours(np.pad(mask[y0:y1, x0:x1], 1).astype(np.uint8), 0.5)
    return [np.round(line[:, ::-1] + (x0 - 0.5, y0 - 0.5), 1).ravel().tolist() for line in lines]


def png(image: NDArray[np.uint8]) -> bytes:
    """A grey image, (H, W), as a file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
