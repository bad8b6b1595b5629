"""The training state: what a run needs to go on exactly where it stopped.

Everything drawn in training follows from the seed and the step, so the state is weights, optimiser, moving
average, the scale of half-precision gradients and the step; there is no random state and no position of the
stream to keep.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_fabric.plugins import Precision
from segment_anything.modeling import Sam
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from synthfm.data.config import differences
from synthfm.data.console import InputError
from synthfm.data.files import sha256
from synthfm.data.folder import MANIFEST, read_manifest
from synthfm.data.guard import opening, read_json
from synthfm.trainer.model import checkpoints

STATE = "state.pt"
MODEL = "model.pth"
CONFIG = "config.json"
FORMAT = "synthfm-training-state-2"


@dataclass
class Position:
    """How far a run has come: steps done, best mean Dice, validations since, samples skipped."""

    step: int = 0
    best: float = -1.0
    stale: int = 0
    skipped: int = 0


@dataclass
class Parts:
    """What training changes, but for the position."""

    sam: Sam
    optimizer: Optimizer
    average: AveragedModel | None
    precision: Precision
    """Fabric's; it holds the gradient scaler of fp16."""

    def state_dict(self) -> dict[str, Any]:
        """All of it as tensors and plain values."""
        content = {
            "model": self.sam.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision.state_dict(),
        }
        if self.average is not None:
            content |= {"ema": self.average.module.state_dict(), "averaged": self.average.n_averaged}
        return content

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.sam.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.precision.load_state_dict(content["precision"])
        if self.average is not None:
            self.average.module.load_state_dict(content["ema"])
            self.average.n_averaged.copy_(content["averaged"])


def describe(inputs: Any) -> dict[str, Any]:
    """The inputs with a hash of each, by which a run knows them again."""
    described: dict[str, Any] = {}
    for name in ("shards", "val"):
        folders = getattr(inputs, name)
        for folder in folders:
            read_manifest(folder)
        described[name] = [[str(folder), _digits(Path(folder) / MANIFEST)] for folder in folders]
    for name in ("checkpoint", "init_from"):
        given = getattr(inputs, name)
        path = None if given is None else checkpoints.locate(given)
        described[name] = path and [str(path), _digits(path)]
    described["embeddings"] = inputs.embeddings
    return described


def _digits(path: Path) -> str:
    return sha256(path)[:16]


def write(out: Path, run: dict[str, Any], parts: Parts, position: Position) -> None:
    """Write the state atomically; an older one stays whole until the new one is."""
    head = {"format": FORMAT, "run": json.dumps(run), "position": asdict(position)}
    checkpoints.save(head | parts.state_dict(), out / STATE)


def resume(out: Path, run: dict[str, Any], parts: Parts) -> Position:
    """Load the state in `out` if there is one; the position from which to go on.

    A run may be given more steps than it had: it goes on from where it is, by the schedule of the new number.

    Raises
    ------
    InputError
        If the state belongs to a run of other settings or inputs; it names the first that differs.
    """
    path = out / STATE
    if not path.is_file():
        if (out / MODEL).exists() and not _begun(out / CONFIG, run):
            raise InputError(
                f"{out}: holds {MODEL} but no {STATE} to go on from; choose another --out, or --fresh to "
                "start over in it"
            )
        return Position()
    foreign = "not a training state of this version; choose another --out, or --fresh"
    content = checkpoints.read_file(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path}: {foreign}")
    with opening(path, foreign):
        before = json.loads(content["run"])
        longer = before | {"config": before["config"] | {"steps": run["config"]["steps"]}}
        more = run["config"]["steps"] > before["config"]["steps"]
        if not _is_same(longer if more else before, run):
            there, now = ({name: of[name] for name in ("config", "inputs")} for of in (before, run))
            raise InputError(
                f"{out} holds a run with other settings ({differences(there, now)}); choose another --out, "
                "or --fresh to start over in it"
            )
        position = Position(**content["position"])
        if not all(type(value) in (int, float) for value in asdict(position).values()) or position.step < 0:
            raise ValueError(f"position {content['position']}")
        for name in ("model", "ema"):
            checkpoints.check_finite(content.get(name, {}), str(path))
        parts.load_state_dict(content)
    return position


def _identity(run: dict[str, Any]) -> dict[str, Any]:
    """What a run is known by: its config and what its inputs hold, wherever they lie."""
    inputs = run["inputs"]
    hashes: dict[str, Any] = {name: [digits for _, digits in inputs[name]] for name in ("shards", "val")}
    hashes |= {name: inputs[name] and inputs[name][1] for name in ("checkpoint", "init_from")}
    cached = inputs["embeddings"] is not None  # each file of it is checked against the encoder and its shard
    return {"config": json.loads(json.dumps(run["config"])), "inputs": hashes | {"embeddings": cached}}


def _is_same(before: dict[str, Any], run: dict[str, Any]) -> bool:
    """Whether two runs are one: of the same identity, where ``auto`` is any precision.

    But for fp16, whose scale of the gradients belongs to the state.
    """
    first, second = _identity(before), _identity(run)
    precisions = {one["config"].get("precision") for one in (first, second)}
    if "auto" in precisions and "16" not in precisions:
        first["config"]["precision"] = second["config"]["precision"]
    return first == second


def _begun(path: Path, run: dict[str, Any]) -> bool:
    """Whether this very run has been here, and was killed before it had saved a state."""
    before = read_config(path)
    return before is not None and _is_same(before, run)


def read_config(path: Path) -> dict[str, Any] | None:
    """What a run's ``config.json`` holds; None where there is none, or it is no run's."""
    try:
        content = read_json(path, "a run's config")
    except (OSError, InputError):
        return None
    ours = isinstance(content, dict) and {"config", "inputs", "versions"} <= content.keys()
    return content if ours else None


def discard(out: Path) -> None:
    """Remove what an earlier run has left in `out`, and nothing else.

    Raises
    ------
    InputError
        If `out` holds files of these names, but nothing shows that they are a run's.
    """
    found = [name for name in (STATE, MODEL, "log.csv", "val.csv", CONFIG) if (out / name).exists()]
    if found and STATE not in found and read_config(out / CONFIG) is None:
        raise InputError(f"{out}: holds {', '.join(found)}, but no run to start over; choose another --out")
    for name in found:
        (out / name).unlink()
    for path in (out / "tensorboard").glob("events.out.tfevents.*"):
        path.unlink(missing_ok=True)
