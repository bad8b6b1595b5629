"""Docstrings as the site shows them: Sphinx's roles as plain code, doctests as blocks of code."""

from __future__ import annotations

import re
from typing import Any

import griffe


class PlainDocstrings(griffe.Extension):
    """What Markdown would not know."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            text = re.sub(r":(?:func|class|data|mod|meth|attr):`~?([^`]+)`", r"`\1`", obj.docstring.value)
            obj.docstring.value = re.sub(
                r"(?:^>>> .*(?:\n(?!\n|\Z).*)*)",
                lambda found: f"```python\n{found[0]}\n```",
                text,
                flags=re.M,
            )
