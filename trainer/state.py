"""The training state: what a run needs to go on exactly where it stopped.

Everything drawn in training follows from the seed and the step, so the state is weights, optimiser, moving
average and the step; there is no random state and no position of the stream to keep.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segment_anything.modeling import Sam
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from data.console import InputError
from data.folder import MANIFEST, read_manifest
from trainer import models

STATE = "state.pt"
MODEL = "model.pth"
FORMAT = "synthfm-training-state"


@dataclass
class Position:
    """How far a run has come: steps done, best mean Dice, validations since, samples skipped."""

    step: int = 0
    best: float = -1.0
    stale: int = 0
    skipped: int = 0


def describe(inputs: Any) -> dict[str, Any]:
    """The inputs with a hash of each, by which a run knows them again."""
    described: dict[str, Any] = {}
    for name in ("shards", "val"):
        folders = getattr(inputs, name)
        for folder in folders:
            read_manifest(folder)
        described[name] = [[str(folder), _hash(Path(folder) / MANIFEST)] for folder in folders]
    for name in ("checkpoint", "init_from"):
        path = getattr(inputs, name)
        path = models.SHIPPED if path == "tiny" else path
        described[name] = None if path is None else [str(path), _hash(Path(path))]
    described["embeddings"] = inputs.embeddings
    return described


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def write(
    out: Path,
    run: dict[str, Any],
    sam: Sam,
    optimizer: Optimizer,
    average: AveragedModel | None,
    position: Position,
) -> None:
    """Write the state atomically; an older one stays whole until the new one is."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "run": json.dumps(run),
        "position": asdict(position),
        "model": sam.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    if average is not None:
        content |= {"ema": average.module.state_dict(), "averaged": average.n_averaged}
    models.write_atomically(content, out / STATE)


def resume(
    out: Path, run: dict[str, Any], sam: Sam, optimizer: Optimizer, average: AveragedModel | None
) -> Position:
    """Load the state in `out` if there is one; the position from which to go on.

    Raises
    ------
    InputError
        If the state belongs to a run of other settings or inputs; it names the first that differs.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / STATE
    if not path.is_file():
        return Position()
    content = models.read_file(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path}: not a training state; choose another --out")
    differences = list(_differences(json.loads(content["run"]), run))
    if differences:
        raise InputError(
            f"{out} holds a run with other settings ({'; '.join(differences[:3])}); choose another --out, "
            "or --fresh to start over in it"
        )
    sam.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    if average is not None:
        average.module.load_state_dict(content["ema"])
        average.n_averaged.copy_(content["averaged"])
    return Position(**content["position"])


def _differences(old: Any, new: Any, key: str = "") -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        if list(map(str, old)) != list(map(str, new)):
            yield f"{key.removeprefix('config.')}: {old} there, {new} now"
    elif old != new:
        yield f"{key.removeprefix('config.')}: {old!r} there, {new!r} now"


def discard(out: Path) -> None:
    """Remove what an earlier run has left in `out`, and nothing else."""
    for name in (STATE, MODEL, "log.csv", "val.csv", "config.json"):
        (out / name).unlink(missing_ok=True)
    for path in (out / "tensorboard").glob("events.out.tfevents.*"):
        path.unlink()
