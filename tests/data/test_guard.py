"""What files may not do: take more than they are, last for ever, end in a traceback."""

from __future__ import annotations

import errno
import json
import re
import threading

import pytest
import yaml

from synthfm.data import guard
from synthfm.data.config import load_preset, read_yaml
from synthfm.data.console import Failed, InputError, shortened
from synthfm.data.guard import TooLarge, admit, in_time, opening, parse_yaml, read_json
from tests.data.test_config import Outer

MB = 10**6


@pytest.mark.parametrize("packed", [1, 4 * MB, 40 * MB, 4000 * MB])
def test_what_a_file_may_unpack_to_grows_with_it_up_to_a_limit(packed):
    bound = guard.most(packed)
    assert bound == min(16_000 * MB, max(1000 * MB, 250 * packed))
    admit(bound, packed)
    with pytest.raises(TooLarge, match=r"unpacks to .* GB from .* is let in; SYNTHFM_MAX_GB=\S+ raises that"):
        admit(bound + 1, packed)


def test_the_setting_that_the_message_names_lets_the_file_in(monkeypatch):
    with pytest.raises(TooLarge) as caught:
        admit(5.5e9, 4 * MB)
    monkeypatch.setenv(guard.VARIABLE, re.search(r"SYNTHFM_MAX_GB=(\S+)", str(caught.value))[1])
    admit(5.5e9, 4 * MB)
    monkeypatch.setenv(guard.VARIABLE, "0.001")
    with pytest.raises(TooLarge):
        admit(2 * MB, 10 * MB)
    for wrong in ("many", "-1", "nan", "inf"):
        monkeypatch.setenv(guard.VARIABLE, wrong)
        with pytest.raises(InputError, match="expected a number of gigabytes above 0"):
            admit(1, 1)


def test_what_lies_in_a_file_as_it_is_is_no_larger_than_the_file():
    admit(100, 100, stored=True)
    with pytest.raises(TooLarge, match="cut short: it announces 101 bytes, but has 100 bytes"):
        admit(101, 100, stored=True)


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (ZeroDivisionError("by\nzero"), InputError, r"^f\.x: no such thing \(by zero\)$"),
        (RecursionError("deep"), InputError, r"^f\.x: no such thing \(deep\)$"),
        (MemoryError(), TooLarge, r"^f\.x: needs more memory than there is$"),
        (TooLarge("unpacks"), TooLarge, r"^f\.x: unpacks$"),
        (Failed("as it was"), Failed, r"^as it was$"),
        (OSError(errno.EMFILE, "said otherwise"), OSError, r"Too many open files: 'f\.x'$"),
        (OSError(errno.EINVAL, "odd"), InputError, r"^f\.x: no such thing"),
        (OSError("a library's own"), InputError, r"^f\.x: no such thing \(a library's own\)$"),
    ],
)
def test_whatever_a_library_raises_is_one_line_that_names_the_file(raised, expected, message):
    with pytest.raises(expected, match=message), opening("f.x", "no such thing"):
        raise raised


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"", b'{"a": ' + b"9" * 5000]
)
def test_json_that_cannot_be_read_is_one_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json: not a list of things") as caught:
        read_json(path, "a list of things")
    assert "\n" not in str(caught.value)


def test_json_without_end_is_refused_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "JSON_BYTES", 100)
    path = tmp_path / "a.json"
    path.write_text(json.dumps("a" * 98))
    assert read_json(path, "a text") == "a" * 98
    path.write_text(json.dumps("a" * 99))
    with pytest.raises(TooLarge, match=r"a\.json: more than 100 bytes, not a text"):
        read_json(path, "a text")


LAUGHS = "\n".join(
    ["a0: &a0 [lol, lol]", *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12))]
)
HOSTILE = {
    "billion laughs": (LAUGHS, "more than 100000 values, its aliases followed"),
    "a long text, often": (
        "a: &a " + "x" * 90_000 + "\nb: [" + "*a, " * 2000 + "*a]",
        "more than 100000 values",
    ),
    "an alias of itself": ("a: &a [*a]", "an alias of what it stands in"),
    "a long number": ("a: " + "1" * 5000, "line 1: a number of 5000 characters"),
    "a long sexagesimal number": ("a: " + "1:" * 5000 + "1", "line 1: a number of 10001 characters"),
    "too long": ("a: " + "x" * 5_000_000, "more than 100000 characters"),
    "brackets": ("[" * 90_000, "nested too deeply"),
    "braces": ("{" * 90_000, "nested too deeply"),
    "lists": ("- " * 45_000, "nested too deeply"),
    "a key twice": ("{a: 1, a: 2}", "line 1: key 'a' stands twice"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_yaml_that_costs_more_than_it_is_is_refused(name, tmp_path):
    text, message = HOSTILE[name]
    with pytest.raises((ValueError, yaml.YAMLError), match=message):
        parse_yaml(text)
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"a\.yaml: (not valid YAML: |more than 100000)"):
        read_yaml(path)
    (tmp_path / "base.yaml").write_text("")
    with pytest.raises(InputError, match="the value is not valid YAML"):
        load_preset(Outer, tmp_path, str(tmp_path / "base.yaml"), [f"size={text}"])


def test_a_few_aliases_are_read():
    assert parse_yaml("a: &a [1, 2]\nb: [*a, *a]\nc: {<<: {d: 1}, e: 2}") == {
        "a": [1, 2],
        "b": [[1, 2], [1, 2]],
        "c": {"d": 1, "e": 2},
    }


def test_presets_that_extend_each_other_without_end_are_refused(tmp_path):
    for number in range(1200):
        (tmp_path / f"p{number}.yaml").write_text(f"extends: p{number + 1}\n")
    with pytest.raises(InputError, match="extends more than 20 presets, one after the other"):
        load_preset(Outer, tmp_path, "p0")


def test_a_regular_expression_without_end_is_ended():
    late = re.compile("(a|a)+b")
    with (
        pytest.raises(InputError, match=r"^the pattern takes more than 0\.2 seconds$"),
        in_time(0.2, "the pattern"),
    ):
        late.fullmatch("a" * 60)
    with in_time(0.2, "nothing"):
        pass
    found = []  # another thread has no timer, and is let be
    thread = threading.Thread(target=lambda: found.append(_within()))
    thread.start()
    thread.join()
    assert found == ["done"]


def _within():
    with in_time(0.1, "a thread"):
        return "done"


def test_a_message_is_no_half_a_megabyte():
    assert shortened("short") == "short"
    assert len(shortened("a" * 500_000 + "end")) == 1000
    assert shortened("a" * 500_000 + "end").endswith("end")
