"""Checkpoint files: plain state dicts, read without trust and written whole or not at all.

Files are opened with ``weights_only=True`` always: one that carries code is refused. What training programs
put around a state dict (optimiser, moving averages, prefixes) is taken off.
"""

from __future__ import annotations

import os
import pickle
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synthfm import data
from synthfm.data.console import InputError
from synthfm.data.files import replacing

SHIPPED = Path(data.__file__).parent / "weights" / "tiny.pth"
"""The embedded default checkpoint."""

StateDict = dict[str, Tensor]

_PART = re.compile(r"(|.*?\.)(?:image_encoder|prompt_encoder|mask_decoder)\.")
"""A key of a SAM model, after the prefix that a training program has put before it."""


def locate(checkpoint: str | Path) -> Path:
    """The file of a checkpoint: a path, or the word ``tiny``, where no file has that name.

    Raises
    ------
    InputError
        If there is none.
    """
    path = Path(checkpoint)
    if str(checkpoint) == "tiny" and not path.is_file():
        path = SHIPPED
        if not path.is_file():
            raise InputError(
                "this copy has no weights of 'tiny' in data/weights: train them with 'make tiny', or give "
                "the path of a checkpoint"
            )
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint" if checkpoint else "a checkpoint's path is empty")
    return path


def read_weights(checkpoint: str | Path) -> StateDict:
    """The state dict in a file, without wrappers and prefixes that training programs put around it.

    Raises
    ------
    InputError
        If the file is missing or is not a plain state dict.
    """
    path = locate(checkpoint)
    content = read_file(path)
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path}: holds a {type(content).__name__}, expected a state dict of SAM")
    weights = _unwrapped(content)
    if not weights:
        raise InputError(f"{path}: holds no tensors, expected a state dict of SAM")
    return weights


def _unwrapped(content: Mapping[Any, Any]) -> StateDict:
    """The weights in a training state: its own tensors, or those one level deeper; moving averages first."""
    averages_first = sorted(content, key=lambda key: "ema" not in str(key))
    inner = [content[key] for key in averages_first if isinstance(content[key], Mapping)]
    found = [
        _without_prefix({str(key): value for key, value in layer.items() if isinstance(value, Tensor)})
        for layer in [content, *inner]
    ]
    return max(found, key=lambda weights: (any(map(_PART.match, weights)), len(weights)))


def _without_prefix(weights: StateDict) -> StateDict:
    """What lies under the prefix of SAM's keys, without it; what lies beside is not the model's."""
    prefixes = Counter(match[1] for match in map(_PART.match, weights) if match)
    if not prefixes:
        return weights
    ((prefix, _),) = prefixes.most_common(1)
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


_SCALAR = np.float64(0).__reduce__()[0]
_SCALARS: list[Any] = [
    np.dtype,
    *{type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"},
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
"""What NumPy's numbers are made of, which training states hold as scores and counts: no code of anybody's."""


def read_file(path: Path) -> Any:
    """What a file holds, as ``torch.save`` or safetensors wrote it.

    Raises
    ------
    InputError
        If it is cut short, of another kind, or carries code.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path}: not a safetensors file, or cut short ({error})") from error
    try:
        with torch.serialization.safe_globals(_SCALARS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        found = f" (it holds a {named[1]})" if named else ""
        raise InputError(
            f"{path}: not a plain state dict of tensors{found}; a file that carries code is not opened: "
            "save the state dict alone"
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError) as error:
        raise InputError(f"{path}: not a PyTorch checkpoint, or cut short") from error


def save(content: Mapping[str, Any], path: Path) -> None:
    """Save tensors (or a training state) to `path`; the suffix ``.safetensors`` means that format.

    What was there before stays whole if the disk fills.
    """
    with replacing(path) as partial:
        (_save_safetensors if path.suffix == ".safetensors" else _save)(content, partial)


def _save(content: Mapping[str, Any], path: Path) -> None:
    try:
        with open(path, "wb") as handle:
            torch.save(dict(content), handle)
    except RuntimeError as error:
        # torch closes its archive after a full disk, and hides the reason with that
        if isinstance(error.__context__, OSError):
            raise OSError(error.__context__.errno, error.__context__.strerror, str(path)) from error
        raise


def _save_safetensors(content: Mapping[str, Any], path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(content), path)
    except SafetensorError as error:  # a full disk is told in its text alone: "... (os error 28)"
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
