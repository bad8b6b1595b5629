"""What the page needs before it can answer, made in the background: its address is there at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from synthfm.data.console import InputError
from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases.prompting import Setting
from synthfm.evaluation.interactive.page.asking import Asked, Asker
from synthfm.evaluation.interactive.page.pictures import Dataset, Library, Place, samples
from synthfm.evaluation.methods.method import Options
from synthfm.evaluation.methods.registry import SECOND_LOOK, parse

METHODS = ("second-look:tiny", "checkpoint:tiny", "ellipse", "grabcut", "random_walker", "region_growing")
"""Who is asked where no one is named."""


@dataclass(frozen=True)
class Wanted:
    """What a person has named on the command line.

    Attributes
    ----------
    specs
        Methods, as :func:`synthfm.evaluation.methods.registry.build` takes them.
    datasets, root, limit
        Names as :func:`synthfm.evaluation.cases.descriptor.load_descriptor` takes them, the folder under
        which they lie, and how many cases of each are offered. The samples that come with the program are
        always there.
    files
        Images to open at once.
    device
        As for :func:`synthfm.evaluation.session.pick_device`.
    """

    specs: Sequence[str]
    datasets: Sequence[str] = ()
    root: Path = Path()
    limit: int = 40
    files: Sequence[Path] = ()
    device: str = "auto"

    def check(self) -> None:
        """Raise :class:`InputError` for what can be seen to be wrong at once."""
        for spec in self.specs:
            parse(spec)
        for path in self.files:
            if not path.exists():
                raise InputError(f"{path}: no such file")

    def library(self) -> Library:
        """What is shown."""
        from synthfm.evaluation.session import load_datasets

        found = load_datasets(self.datasets, self.root) if self.datasets else []
        library = Library([*(Dataset(item, self.root, self.limit) for item in found), samples()])
        for path in self.files:
            library.open(path)
        return library

    def asker(self) -> Asker:
        """Who is asked: first, and so the one that answers, a method with a second look, if there is one."""
        from synthfm.evaluation.session import build_methods, pick_device

        specs = sorted(self.specs, key=lambda spec: parse(spec).kind not in SECOND_LOOK)
        methods = build_methods(specs, Options(pick_device(self.device)))
        return Asker(methods, {parse(spec).name: title(spec) for spec in specs})


def title(spec: str) -> str:
    """What people call a method.

    >>> [title(spec) for spec in ("second-look:tiny", "checkpoint:tiny", "mine=checkpoint:a.pth", "grabcut")]
    ['second look', 'first look', 'mine', 'GrabCut']
    >>> title("second-look:runs/a/model.pth"), title("region_growing")
    ('model, second look', 'region growing')
    """
    name, kind, argument = parse(spec)
    second, own = kind in SECOND_LOOK, name.removesuffix(f"-{kind}")
    if argument == own == "tiny":
        return "second look" if second else "first look"
    if second:
        return f"{own}, second look"
    if kind == name:
        return {"grabcut": "GrabCut", "chan_vese": "Chan-Vese"}.get(kind, kind.replace("_", " "))
    return name


def warm_up(library: Library, asker: Asker) -> None:
    """Ask once, in the middle of the image that the page opens with: the next answer comes fast."""
    name = library.first()
    if name is None:
        return
    if name in library.files and library.files[name].slices > 1:
        slices = library.scan(name).shown
        key, image = (name, Place()), slices[len(slices) // 2]
    else:
        picture = library.show(name, Place())
        key, image = (name, picture.place), picture.image
    height, width = image.shape[:2]
    asked = Asked(Prompt([(width // 2, height // 2)], [1]))
    method = next(iter(asker.methods))
    if asker.methods[method].accepts(Setting.of(asked.prompt)):
        asker.ask(method, key, image, asked)


def load(wanted: Wanted, library: Future[Library], asker: Future[Asker]) -> None:
    """Make what is shown, then who is asked; what fails is raised where a result is asked for."""
    try:
        library.set_result(wanted.library())
        found = wanted.asker()
        warm_up(library.result(), found)
        asker.set_result(found)
    except BaseException as error:
        for future in (library, asker):
            if not future.done():
                future.set_exception(error)
