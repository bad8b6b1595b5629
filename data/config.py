"""Typed configs read from YAML presets, with errors that name the key and what it allows."""

from __future__ import annotations

import itertools
import json
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from synthfm.data.console import InputError, did_you_mean
from synthfm.data.guard import YAML_BYTES, parse_yaml, read_text


class Config(pydantic.BaseModel):
    """Base of every config: frozen, and an unknown key or a number that is not finite is an error."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _no_number(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        """Pydantic would take YAML's ``yes`` for 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError("expected a number")
        return value


MOST_EXTENDED = 20
"""Presets that extend each other."""

Number = TypeVar("Number", bound=float)


def _rising(span: tuple[Number, Number]) -> tuple[Number, Number]:
    if span[0] > span[1]:
        raise ValueError(f"a range rises from low to high, not from {span[0]} to {span[1]}")
    return span


Rising = typing.Annotated[tuple[Number, Number], pydantic.AfterValidator(_rising)]
"""The ends of a range, the lower one first."""
Share = typing.Annotated[float, pydantic.Field(ge=0, le=1)]
Weight = typing.Annotated[float, pydantic.Field(ge=0)]


class Weights(Config):
    """Weights of alternatives, of which one is drawn: none negative, one above 0."""

    @pydantic.model_validator(mode="after")
    def _one_above_zero(self) -> Weights:
        if not 0 < sum(self.model_dump().values()) < float("inf"):
            raise ValueError("one of the weights must be above 0, and their sum a finite number")
        return self

    def items(self) -> tuple[list[str], list[float]]:
        """Names and probabilities."""
        values = dict(self)
        total = sum(values.values())
        return list(values), [value / total for value in values.values()]


ConfigT = TypeVar("ConfigT", bound=pydantic.BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that must hold a mapping.

    Raises
    ------
    InputError
        If the file is missing, is not YAML or is not a mapping.
    """
    text = read_text(path, "a YAML file", YAML_BYTES)
    try:
        content = parse_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys and values, found a {type(content).__name__}")
    return content


def preset_names(folder: Path) -> list[str]:
    """Names of the presets (``NAME.yaml``) in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_preset(
    config: type[ConfigT], folder: Path, name: str, overrides: Iterable[str] = (), **keys: Any
) -> ConfigT:
    """Build a config from a preset and overrides.

    Parameters
    ----------
    config
        The pydantic model.
    folder
        Where the shipped presets lie.
    name
        A shipped preset's name, or the path of a YAML file. A preset may say ``extends: OTHER`` (a name, or
        a file relative to its own) and then gives only what differs.
    overrides
        ``key.subkey=value`` strings, the value in YAML, as given to ``--set``.
    keys
        Top-level keys that replace the preset's; None leaves the preset's value.

    Raises
    ------
    InputError
        Naming the preset or key that is wrong and what is allowed.
    """
    values = preset_values(folder, name)
    for item in overrides:
        values = merge(values, _parse_override(item))
    values = merge(values, {key: value for key, value in keys.items() if value is not None})
    return validate(config, values, source=f"preset {name}")


def preset_values(folder: Path, name: str, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What a preset and those that it extends say, not validated; as :func:`load_preset`."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if path.resolve() in [before.resolve() for before in seen]:
        raise InputError(f"preset {name} extends itself: {' -> '.join(map(str, (*seen, path)))}")
    if len(seen) == MOST_EXTENDED:
        raise InputError(f"preset {seen[0]}: extends more than {MOST_EXTENDED} presets, one after the other")
    if not path.is_file():
        names = preset_names(folder)
        raise InputError(
            f"unknown preset {name!r}; {did_you_mean(name, names)}choose one of {', '.join(names)}, or give "
            "the path of a .yaml file"
        )
    values = read_yaml(path)
    base = values.pop("extends", None)
    if base is None:
        return values
    base = str(base)
    if base.endswith((".yaml", ".yml")):
        base = str(path.parent / base)
    return merge(preset_values(folder, base, (*seen, path)), values)


def _parse_override(item: str) -> dict[str, Any]:
    key, equals, text = item.partition("=")
    if not equals or not all(key.split(".")):
        raise InputError(f"--set {item!r}: write key.subkey=value")
    try:
        value = parse_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"--set {item!r}: the value is not valid YAML") from error
    nested: Any = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return nested


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `base` in which `change` replaces values, mapping by mapping.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    """
    merged = dict(base)
    for key, value in change.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def validate(config: type[ConfigT], values: Mapping[str, Any], source: str) -> ConfigT:
    """Validate `values` against `config`; the first problem becomes an :class:`InputError`."""
    try:
        return config.model_validate(dict(values))
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            fields = _fields_at(config, problem["loc"][:-1])
            hint = did_you_mean(str(problem["loc"][-1]), fields)
            raise InputError(f"{source}: unknown key {key!r}; {hint}allowed: {', '.join(fields)}") from error
        message = problem["msg"].removeprefix("Value error, ")
        if not key and problem["type"] == "value_error":  # of several keys, which the message names
            raise InputError(f"{source}: {message}") from error
        got = "" if problem["type"] == "missing" else f" (got {problem['input']!r:.200})"
        raise InputError(f"{source}: key {key or '(the whole file)'!r}: {message}{got}") from error


def _fields_at(config: type[pydantic.BaseModel], location: tuple[int | str, ...]) -> list[str]:
    model: Any = config
    for part in location:
        if isinstance(part, int):  # an item of a list of models
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        model = _model_in(field.annotation)
    return list(getattr(model, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The model in an annotation such as ``tuple[Model, ...]`` or ``Model | None``."""
    for inner in typing.get_args(annotation):
        found = _model_in(inner)
        if hasattr(found, "model_fields"):
            return found
    return annotation


def list_presets(folder: Path) -> list[str]:
    """A line on each preset of a folder: its name, and the first sentence of the file's first comment."""
    lines = []
    for name in preset_names(folder):
        text = (folder / f"{name}.yaml").read_text(encoding="utf-8")
        comment = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
        sentence, _, _ = " ".join(line.strip("# ") for line in comment).partition(". ")
        lines.append(f"{name:<22}{sentence.rstrip('.')}")
    return lines


def differences(old: Mapping[str, Any], new: Mapping[str, Any], most: int = 4) -> str:
    """What differs between two nested settings, as ``key.sub: OLD there, NEW now; ...``; empty if nothing.

    They are compared as JSON shows them (a tuple is a list, a path its text). At most so many keys are named.
    """
    before, after = (_flat(json.loads(json.dumps(values, default=str))) for values in (old, new))
    pairs = {
        key: (before.get(key, "not set"), after.get(key, "not set")) for key in sorted({*before, *after})
    }
    found = [
        f"{key.removeprefix('config.')}: {there!s:.80} there, {now!s:.80} now"
        for key, (there, now) in pairs.items()
        if there != now
    ]
    return "; ".join(found[:most]) + ("; ..." if len(found) > most else "")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
