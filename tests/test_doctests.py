"""The examples in docstrings give what they say."""

import doctest
import importlib
import pkgutil

import pytest

PACKAGES = ("data", "generator", "trainer", "evaluation")


def modules():
    for package in PACKAGES:
        found = importlib.import_module(f"synthfm.{package}")
        yield from (module.name for module in pkgutil.walk_packages(found.__path__, f"{found.__name__}."))


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_give_what_they_say(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
