"""Modalities: each is one file, and every file of this folder is loaded."""

import importlib
import pkgutil

from synthfm.generator.modalities.base import MODALITIES

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["MODALITIES"]
