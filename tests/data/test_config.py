"""Configs: presets build on one another, overrides reach any key, and a wrong key is named."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest

from synthfm import evaluation, generator, trainer
from synthfm.data.config import Config, differences, list_presets, load_preset, read_yaml, validate
from synthfm.data.console import InputError


class Inner(Config):
    blur: float = 1.0
    share: float = pydantic.Field(0.5, ge=0, le=1)


class Outer(Config):
    size: int = 64
    inner: Inner = Inner()


@pytest.fixture
def presets(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text("size: 32\ninner: {blur: 2}\n")
    (tmp_path / "child.yaml").write_text("extends: base\ninner: {share: 0.1}\n")
    (tmp_path / "ring.yaml").write_text("extends: ring\n")
    (tmp_path / "bad.yaml").write_text("size: [1\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "empty.yaml").write_text("")
    return tmp_path


def test_a_preset_extends_another_and_gives_only_what_differs(presets):
    config = load_preset(Outer, presets, "child")
    assert (config.size, config.inner.blur, config.inner.share) == (32, 2.0, 0.1)
    assert load_preset(Outer, presets, "empty") == Outer()


def test_overrides_win_over_the_preset_and_keys_over_both(presets):
    config = load_preset(Outer, presets, "child", ["inner.blur=7", "size=8"], size=16)
    assert (config.size, config.inner.blur, config.inner.share) == (16, 7.0, 0.1)
    assert load_preset(Outer, presets, "child", size=None).size == 32


def test_a_preset_may_be_a_users_own_file(presets, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("extends: base\nsize: 5\n")
    config = load_preset(Outer, presets, str(own))
    assert (config.size, config.inner.blur) == (5, 2.0)


@pytest.mark.parametrize(
    ("name", "overrides", "parts"),
    [
        ("nix", [], ["unknown preset 'nix'", "base", "child"]),
        ("nix.yaml", [], ["unknown preset"]),
        ("ring", [], ["ring extends itself"]),
        ("bad", [], ["bad.yaml", "not valid YAML"]),
        ("list", [], ["list.yaml", "keys and values"]),
        ("base", ["sise=3"], ["unknown key 'sise'", "did you mean 'size'", "inner"]),
        (
            "base",
            ["inner.blurr=3"],
            ["unknown key 'inner.blurr'", "did you mean 'blur'", "allowed: blur, share"],
        ),
        ("base", ["inner.share=3"], ["'inner.share'", "less than or equal to 1", "got 3"]),
        ("base", ["size=abc"], ["'size'", "got 'abc'"]),
        ("base", ["size"], ["--set 'size'", "key.subkey=value"]),
        ("base", ["a..b=1"], ["key.subkey=value"]),
        ("base", ["size=[1"], ["not valid YAML"]),
        ("base", ["inner=3"], ["'inner'", "got 3"]),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(presets, name, overrides, parts):
    with pytest.raises(InputError) as caught:
        load_preset(Outer, presets, name, overrides)
    for part in parts:
        assert part in str(caught.value)


def test_a_config_cannot_be_changed():
    with pytest.raises(pydantic.ValidationError):
        Outer().size = 3


def test_presets_are_listed_by_the_first_sentence_of_their_first_comment(tmp_path):
    (tmp_path / "a.yaml").write_text("# Large images\n# of the head. Not\n# this.\nsize: 512\n# nor this\n")
    (tmp_path / "b.yaml").write_text("# Small.\nsize: 64\n")
    assert [line.split(maxsplit=1) for line in list_presets(tmp_path)] == [
        ["a", "Large images of the head"],
        ["b", "Small"],
    ]


def test_every_shipped_preset_says_what_it_is():
    paths = [
        *Path(generator.__file__).parent.glob("presets/**/*.yaml"),
        *Path(trainer.__file__).parent.glob("presets/**/*.yaml"),
        *Path(evaluation.__file__).parent.glob("presets/**/*.yaml"),
    ]
    assert paths
    assert all(path.read_text(encoding="utf-8").startswith("# ") for path in paths)


def test_differences_between_settings_are_named():
    old = {"config": {"size": 1, "plans": {"a": (1, 2), "b": 3}}, "num": 4, "gone": True}
    new = {"config": {"size": 1, "plans": {"a": [1, 2], "b": 5}}, "num": 6}
    named = ("plans.b: 3 there, 5 now", "gone: True there, not set now", "num: 4 there, 6 now")
    assert differences(old, new) == "; ".join(named)
    assert differences(old, new, most=1) == "plans.b: 3 there, 5 now; ..."
    assert differences(old, old) == ""


def test_a_merged_key_does_not_stand_twice(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {size: 1, num: 2}\nb: {<<: *a, size: 3}\n")
    assert read_yaml(path)["b"] == {"size": 3, "num": 2}
    path.write_text("a:\n  - {size: 1, num: 2, size: 3}\n")
    with pytest.raises(InputError, match=r"a\.yaml: not valid YAML: line 2: key 'size' stands twice"):
        read_yaml(path)


@pytest.mark.parametrize("text", ["2020-13-45", "!!timestamp x", "[" * 3000])
def test_what_yaml_itself_stumbles_over_is_one_line(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(f"date: {text}\n")
    (tmp_path / "base.yaml").write_text("")
    with pytest.raises(InputError, match=r"odd\.yaml: not valid YAML"):
        read_yaml(path)
    with pytest.raises(InputError, match="the value is not valid YAML"):
        load_preset(Outer, tmp_path, str(tmp_path / "base.yaml"), [f"date={text}"])


def test_a_preset_extends_a_file_beside_it(tmp_path, monkeypatch):
    class Two(Config):
        a: int
        b: int

    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "base.yaml").write_text("a: 1\nb: 2\n")
    (tmp_path / "own" / "child.yaml").write_text("extends: base.yaml\nb: 3\n")
    monkeypatch.chdir(tmp_path)
    for name in ("own/child.yaml", str(tmp_path / "own" / "child.yaml")):
        assert load_preset(Two, tmp_path / "shipped", name) == Two(a=1, b=3)
    (tmp_path / "own" / "base.yaml").write_text(f"extends: {tmp_path / 'own' / 'child.yaml'}\n")
    with pytest.raises(InputError, match="extends itself"):
        load_preset(Two, tmp_path, str(tmp_path / "own" / "child.yaml"))
    (tmp_path / "own" / "base.yaml").write_text("extends: ../own/base.yaml\n")
    with pytest.raises(InputError, match="extends itself"):
        load_preset(Two, tmp_path, "own/base.yaml")


def test_a_wrong_value_is_not_shown_at_any_length():
    class One(Config):
        a: int

    with pytest.raises(InputError, match="key 'a'") as caught:
        validate(One, {"a": ["x" * 50] * 100_000}, "here")
    assert len(str(caught.value)) < 500
