"""Checkpoint files: plain state dicts, read without trust and written whole or not at all.

Files are opened with ``weights_only=True`` always: one that carries code is refused. What training programs
put around a state dict (optimiser, moving averages, prefixes) is taken off.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synthfm import data
from synthfm.data.console import InputError
from synthfm.data.files import check_digest, forget_digest, replacing
from synthfm.data.guard import admit, opening

SHIPPED = Path(data.__file__).parent / "weights" / "tiny.pth"
"""The embedded default checkpoint."""

StateDict = dict[str, Tensor]

_PART = re.compile(r"(|.*?\.)(?:image_encoder|prompt_encoder|mask_decoder|thin)\.")
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
        If the file is missing or is not a plain state dict, or its weights are no finite numbers.
    """
    path = locate(checkpoint)
    content = read_file(path)
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path}: holds a {type(content).__name__}, expected a state dict of SAM")
    with opening(path, "not a state dict of SAM"):
        weights = _unwrapped(content)
        if not weights:
            raise InputError(f"{path}: holds no tensors, expected a state dict of SAM")
        _check_kinds(weights, path)
        admit(sum(value.numel() * value.element_size() for value in weights.values()), path.stat().st_size)
        check_finite(weights, str(path))
    return weights


def _check_kinds(weights: StateDict, path: Path) -> None:
    for key, value in weights.items():
        if value.layout is not torch.strided or value.is_quantized or value.is_complex() or value.is_meta:
            kind = str(value.layout if value.layout is not torch.strided else value.dtype)
            raise InputError(
                f"{path}: {key} is {kind.removeprefix('torch.')}, expected plain floating-point numbers"
            )
        if not value.is_floating_point() and key.endswith((".weight", ".bias")):
            raise InputError(
                f"{path}: {key} holds whole numbers ({str(value.dtype).removeprefix('torch.')}); expected "
                "weights in floating point, which no program has quantised"
            )


def check_finite(weights: Mapping[str, Tensor], name: str) -> None:
    """Raise :class:`InputError` where a weight is NaN or infinite; the message begins with `name`."""
    for key, value in weights.items():
        if (
            value.is_floating_point()
            and not torch.isfinite(value if value.element_size() > 1 else value.float()).all()
        ):
            raise InputError(
                f"{name}: {key} holds NaN or infinity, as a training that has diverged leaves it; take an "
                "earlier checkpoint"
            )


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
        If it is cut short, damaged, of another kind, or carries code.
    """
    check_digest(path)
    if path.suffix == ".safetensors":
        with opening(path, "not a safetensors file, or cut short"):
            return _read_safetensors(path)
    with opening(path, "not a PyTorch checkpoint, or cut short"):
        _check_archive(path)
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


def _check_archive(path: Path) -> None:
    """Check the sums of a PyTorch file's members, which PyTorch does not; old files are no archives."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise InputError(f"{path}: a compressed archive; expected a file of torch.save")
        admit(sum(member.file_size for member in members), path.stat().st_size, stored=True)
        damaged = archive.testzip()
    if damaged is not None:
        raise InputError(f"{path}: damaged: the checksum of {damaged} in it is wrong")


def _read_safetensors(path: Path) -> StateDict:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        content = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no mapping
        wanted = (file.metadata() or {}).get("sha256")
    if wanted is not None and wanted != _digest(content):
        raise InputError(f"{path}: damaged: the SHA-256 of its tensors is not the one in it")
    return content


def _digest(content: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors, their names, types and shapes, in hexadecimal."""
    digest = hashlib.sha256()
    for key, value in sorted(content.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save(content: Mapping[str, Any], path: Path) -> None:
    """Save tensors (or a training state) to `path`; the suffix ``.safetensors`` means that format.

    What was there before stays whole if the disk fills.
    """
    forget_digest(path)
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
        save_file(dict(content), path, {"format": "pt", "sha256": _digest(content)})
    except SafetensorError as error:  # a full disk is told in its text alone: "... (os error 28)"
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
