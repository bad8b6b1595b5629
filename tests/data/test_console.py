"""What the person at the keyboard sees where a program cannot go on."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import click
import h5py
import pytest
from click.testing import CliRunner

from synthfm.data.console import WAIT_PASSIVELY, Failed, Group, InputError, Interrupted, separated


@pytest.fixture
def show():
    """Opens a file with h5py, as a command of ours that forgot to look at it first."""

    @click.group(cls=Group)
    def program():
        pass

    @program.command()
    @click.argument("path")
    def opened(path):
        h5py.File(path)

    return lambda path: CliRunner().invoke(program, ["opened", str(path)])


@pytest.mark.parametrize(("error", "code"), [(InputError, 2), (Failed, 1), (Interrupted, 130)])
def test_the_exit_code_says_how_it_ended(error, code):
    @click.command()
    def fail():
        raise error("two\nlines")

    result = CliRunner().invoke(Group(commands={"fail": fail}), ["fail"])
    assert (result.exit_code, result.output) == (code, "Error: two; lines\n")


def test_an_error_of_the_operating_system_is_a_line(show, tmp_path):
    result = show(tmp_path / "nothing.h5")
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1
    assert "No such file or directory" in result.output


def test_an_error_of_the_hdf5_library_alone_stays_a_defect(show, tmp_path):
    (tmp_path / "text.h5").write_text("hello " * 100)
    result = show(tmp_path / "text.h5")
    assert isinstance(result.exception, OSError)
    assert "signature" in str(result.exception)


def test_a_package_that_is_missing_is_named_with_what_brings_it():
    @click.group(cls=Group, extra="eval")
    def program():
        pass

    @program.command()
    def opened():
        import no_such_package_of_ours  # noqa: F401

    result = CliRunner().invoke(program, ["opened"])
    assert result.exit_code == 2
    assert result.output == (
        "Error: the package no_such_package_of_ours is not installed; "
        "pip install '.[eval]' in the clone, or 'FILE.whl[eval]' of the wheel, brings it\n"
    )


@pytest.mark.parametrize("program", ["generator", "trainer", "evaluation"])
def test_on_windows_a_program_says_that_it_is_not_supported(program, tmp_path):
    script = (
        f"import sys; sys.modules['fcntl'] = None; from synthfm.{program}.cli import main; main(sys.argv[1:])"
    )
    options = {
        "generator": ["--num", "1"],
        "trainer": ["--shards", "a"],
        "evaluation": ["--dataset", "hc18", "--data-root", str(tmp_path)],
    }[program]
    done = subprocess.run(
        [sys.executable, "-c", script, "run", *options, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].endswith("Windows is not supported (docs/start.md)"), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("own", [None, "ACTIVE"])
def test_threads_wait_passively_unless_the_user_says_how(monkeypatch, own):
    for name in WAIT_PASSIVELY:
        monkeypatch.delenv(name, raising=False)
    if own:
        monkeypatch.setenv("OMP_WAIT_POLICY", own)

    @click.command()
    def shown():
        command = "import os; print([os.environ.get(n) for n in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')])"
        click.echo(subprocess.run([sys.executable, "-c", command], capture_output=True, text=True).stdout)

    result = CliRunner().invoke(Group(commands={"shown": shown}), ["shown"])
    assert result.output.strip() == ("['ACTIVE', None]" if own else "['PASSIVE', '0']")


@pytest.mark.parametrize(
    ("module", "extra"), [("synthfm.trainer.cli", "train"), ("synthfm.evaluation.cli", "eval")]
)
def test_without_its_packages_a_program_says_which_install_option_it_needs(module, extra, tmp_path):
    """As after ``pip install .``, which brings the generator's alone."""
    blocked = "lightning_fabric" if extra == "train" else "pandas"
    script = f"import sys; sys.modules[{blocked!r}] = None; from {module} import main; main(sys.argv[1:])"
    options = {"train": ["--shards", "a"], "eval": ["--dataset", "hc18", "--data-root", str(tmp_path)]}[extra]
    done = subprocess.run(
        [sys.executable, "-c", script, "run", *options, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert f"pip install '.[{extra}]' in the clone" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("package", ["data", "generator", "trainer", "evaluation"])
def test_a_folder_of_the_same_name_where_a_program_is_started_is_not_the_package(package, tmp_path):
    (tmp_path / package).mkdir()
    program = f"import synthfm.{package} as it; print(it.__file__)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip().endswith(f"{package}/__init__.py"), done.stderr


SLOW = """
import sys, time, click
from synthfm.data import console
console.EVERY = 0.5

@click.group(cls=console.Group)
def program(): pass

@program.command()
def work():
    with console.Progress(total=4, unit=" cases", desc="set") as bar:
        bar.update()
        bar.set_postfix_str("loss 1")
        console.Progress.write("between", file=sys.stderr)
        time.sleep(1.2)  # one case takes longer than it is silent
        bar.update(3)

@program.command()
def quick():
    for _ in console.Progress(iterable=range(3)): pass

@program.command()
def computes():
    import hashlib
    with console.waiting_for("the step"):
        print("begun", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 40_000_000)  # as long a call of C as there is

@program.command()
@click.argument("name", default="")
def waits(name):
    print("begun", flush=True)
    time.sleep(60)
program()
"""


def started(command):
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background job ignores Ctrl-C, what nohup starts SIGHUP, and so do these tests then
        preexec_fn=heeded,
    )


def heeded():
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def test_without_a_terminal_progress_is_lines_also_while_one_unit_takes_long():
    _, errors = started("work").communicate(timeout=60)
    lines = errors.splitlines()
    assert lines[0] == "between"
    assert "\r" not in errors
    assert len(lines) > 2
    assert lines[1].startswith("set: ")
    assert "1/4" in lines[1]
    assert "cases/s, loss 1]" in lines[1]
    assert "<" in lines[1]  # what is left
    assert "4/4" in lines[-1]


def test_work_that_is_done_at_once_has_no_line():
    assert started("quick").communicate(timeout=60) == ("", "")


def test_in_a_terminal_progress_is_a_bar():
    main, side = os.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    with subprocess.Popen([sys.executable, "-c", SLOW, "quick"], stderr=side) as process:
        os.close(side)
        assert process.wait(60) == 0
    text = os.read(main, 10_000).decode()
    assert "3/3" in text
    assert text.startswith("\r")


def test_ctrl_c_is_acknowledged_while_a_library_computes():
    process = started("computes")
    try:
        assert process.stdout.readline() == "begun\n"
        time.sleep(1)  # what has not begun is interrupted at once
        process.send_signal(signal.SIGINT)
        # Python itself notes a Ctrl-C when the library is done, in half a minute.
        assert process.stderr.readline() == "Ctrl-C: waiting for the step\n"
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_with_a_line_that_says_how_to_go_on(number):
    process = started("waits")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    *_, last = errors.splitlines()
    name = {signal.SIGINT: "Ctrl-C"}.get(number, number.name)
    assert last == f"Error: stopped by {name}; what is there is whole; to go on: -c waits"
    assert "Traceback" not in errors
    assert "Aborted" not in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_library_that_computes_on_is_not_waited_for_for_ever(number):
    process = started("computes")
    assert process.stdout.readline() == "begun\n"
    time.sleep(1)  # what has not begun is interrupted at once
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)  # the computation takes half a minute
    assert process.returncode == 128 + number
    name = {signal.SIGINT: "Ctrl-C"}.get(number, number.name)
    assert errors.splitlines() == [
        f"{name}: waiting for the step",
        f"{name}: not waited any longer; to go on: -c computes",
    ]


@pytest.mark.parametrize(
    ("module", "commands"),
    [
        ("synthfm.generator.cli", ["--help", "run --help", "presets"]),
        ("synthfm.trainer.cli", ["--help", "run --help", "embed --help", "presets"]),
        ("synthfm.evaluation.cli", ["--help", "run --help", "datasets", "datasets hc18 --data-root ."]),
        ("synthfm.evaluation.cli", ["methods", "presets"]),
    ],
)
def test_what_only_lists_starts_without_the_heavy_packages(module, commands, tmp_path):
    script = (
        f"import sys; from click.testing import CliRunner; from {module} import main\n"
        f"for command in {commands}: print(CliRunner().invoke(main, command.split()).output[:40])\n"
        "heavy = 'torch monai SimpleITK pandas matplotlib cv2 scipy.ndimage skimage.graph'.split()\n"
        "sys.exit(' '.join(name for name in heavy if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_a_path_with_a_comma_is_one_value(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one, two").mkdir()
    for name in ("one, two/ds.yaml", "a,b.pth", "c.yaml", "d.yaml"):
        (tmp_path / name).touch()

    @click.command()
    @click.option("--value", "values", multiple=True, callback=separated)
    def given(values):
        click.echo("|".join(values))

    for value, parts in {
        "one, two/ds.yaml": "one, two/ds.yaml",
        "hc18,one, two/ds.yaml,busi": "hc18|one, two/ds.yaml|busi",
        "x=a,b.pth": "x=a,b.pth",
        "x=zoom:a,b.pth,ellipse": "x=zoom:a,b.pth|ellipse",
        "c.yaml,d.yaml": "c.yaml|d.yaml",
        "ellipse,x=zoom:c.yaml": "ellipse|x=zoom:c.yaml",
        "ellipse,zoom:c.yaml": "ellipse|zoom:c.yaml",
        "one,,two": "one|two",
    }.items():
        assert CliRunner().invoke(given, ["--value", value]).output == f"{parts}\n"


@pytest.mark.parametrize("name", ["generate", "train", "eval"])
def test_ctrl_c_while_a_program_is_loaded_leaves_no_traceback(name, tmp_path):
    """On a busy machine that takes seconds; here click takes a minute."""
    (tmp_path / "click.py").write_text("import time; print('begun', flush=True); time.sleep(60)")
    process = subprocess.Popen(
        [Path(sys.executable).with_name(f"synthfm-{name}"), "--version"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert errors == ""
