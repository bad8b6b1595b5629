"""The shard: what is written is what is read, the same bytes each time, and damage is named."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from synthfm.data.chunks import deflated, fletcher32
from synthfm.data.console import InputError
from synthfm.data.folder import check_sample
from synthfm.data.guard import VARIABLE
from synthfm.data.prompts import tight_box
from synthfm.data.shards import (
    OBJECT_COLUMNS,
    VERSION,
    Objects,
    Shard,
    ShardWriter,
    StoredStroke,
    column_of,
    joined,
    membership,
    object_masks,
    pack_labels,
)
from tests.support.shards import POINTS, assert_same_sample, assert_same_strokes, random_samples, write_shard

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(seeds, st.integers(1, 5))
def test_what_is_written_is_read_back(tmp_path, seed, count):
    samples = random_samples(seed, count)
    with Shard(write_shard(tmp_path / "a.h5", samples, config='{"size": 20}')) as shard:
        assert (len(shard), shard.shape, shard.points) == (count, (20, 24), POINTS)
        assert (shard.config, shard.package_version, shard.root_seed) == ('{"size": 20}', "1.2", 7)
        for written, read in zip(samples, shard, strict=True):
            assert_same_sample(written, read)


@quick
@given(seeds)
def test_the_same_samples_give_the_same_bytes(tmp_path, seed):
    a = write_shard(tmp_path / "a.h5", random_samples(seed, 3))
    b = write_shard(tmp_path / "b.h5", random_samples(seed, 3))
    assert a.read_bytes() == b.read_bytes()


def test_the_bytes_do_not_depend_on_when_handles_are_freed(tmp_path, monkeypatch):
    """A profiler, a debugger or another thread may hold on to a frame and what is in it."""
    samples = random_samples(8, 6)
    plain = write_shard(tmp_path / "a.h5", samples).read_bytes()
    handles = []
    for method in ("__getitem__", "create_dataset"):
        original = getattr(h5py.Group, method)

        def holding(self, *arguments, original=original, **options):
            handles.append(original(self, *arguments, **options))
            return handles[-1]

        monkeypatch.setattr(h5py.Group, method, holding)
    assert write_shard(tmp_path / "b.h5", samples).read_bytes() == plain
    assert handles


def test_a_shard_without_any_object_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    samples = [
        s for s in (random_samples(int(rng.integers(1 << 30)), 1)[0] for _ in range(60)) if not len(s.objects)
    ]
    assert samples
    with Shard(write_shard(tmp_path / "a.h5", samples[:1])) as shard:
        assert_same_sample(samples[0], shard[0])


def test_plain_hdf5_reads_it_without_plugins(tmp_path):
    sample = random_samples(1, 1)[0]
    with h5py.File(write_shard(tmp_path / "a.h5", [sample])) as file:
        assert np.array_equal(file["image"][0], sample.image)
        datasets = []
        file.visititems(lambda _, item: datasets.append(item) if isinstance(item, h5py.Dataset) else None)
        assert all(item.fletcher32 for item in datasets)
        assert {item.compression for item in datasets} <= {"gzip", None}
        assert file["image"].chunks == (1, 20, 24)


def test_an_exception_while_writing_leaves_no_file(tmp_path):
    def fail():
        with ShardWriter(
            tmp_path / "a.h5", count=2, shape=(20, 24), points=POINTS, config="", package_version="",
            root_seed=0, first_index=0,
        ) as writer:  # fmt: skip
            writer.append(random_samples(0, 1)[0])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_fewer_samples_than_announced_are_refused(tmp_path):
    def too_few():
        with ShardWriter(
            tmp_path / "a.h5", count=2, shape=(20, 24), points=POINTS, config="", package_version="",
            root_seed=0, first_index=0,
        ) as writer:  # fmt: skip
            writer.append(random_samples(0, 1)[0])

    with pytest.raises(ValueError, match="1 samples written, 2 announced"):
        too_few()
    assert list(tmp_path.iterdir()) == []


@settings(quick, max_examples=60)
@given(st.data())
def test_a_shard_cut_short_is_refused_by_name(tmp_path, data):
    path = write_shard(tmp_path / "cut.h5", random_samples(3, 2))
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(InputError, match=r"cut\.h5: (truncated|not an HDF5 file)"):
        Shard(path)


@settings(quick, max_examples=150)
@given(st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(tmp_path, data):
    samples = random_samples(4, 2)
    path = write_shard(tmp_path / "bad.h5", samples)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        with Shard(path) as shard:
            assert (shard.config, shard.package_version) == ("{}", "1.2")
            for written, read in zip(samples, shard, strict=True):
                assert_same_sample(written, read)
    except InputError:
        return


def test_no_text_lies_in_the_heap_that_has_no_checksum(tmp_path):
    path = write_shard(tmp_path / "a.h5", random_samples(4, 2))
    assert b"GCOL" not in path.read_bytes()  # a wrong size in such a heap holds the HDF5 library for ever


def test_a_shard_with_texts_of_variable_length_opens(tmp_path):
    samples = random_samples(4, 2)
    path = write_shard(tmp_path / "old.h5", samples)
    with h5py.File(path, "r+") as file:
        for name in ("format", "config", "package_version"):
            file.attrs[name] = file.attrs[name].decode()
    assert b"GCOL" in path.read_bytes()
    with Shard(path) as shard:
        assert shard.config == "{}"
        assert_same_sample(samples[1], shard[1])


def test_a_damaged_image_is_found_by_its_checksum(tmp_path):
    path = write_shard(tmp_path / "bad.h5", random_samples(5, 2))
    with h5py.File(path) as file:
        chunk = file["image"].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(content)
    with Shard(path) as shard:
        shard[0]
        with pytest.raises(InputError, match=r"bad\.h5: corrupted: '/image' fails its checksum"):
            shard[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.attrs.update(version=VERSION + 1), "newer than"),
        (lambda file: file.attrs.update(format="other"), "not a synthfm-shard"),
        (lambda file: file.attrs.__delitem__("version"), "'version' is missing"),
        (lambda file: file.attrs.__delitem__("root_seed"), "'root_seed' is missing"),
        (lambda file: file.__delitem__("label"), "'label' is missing"),
        (lambda file: file.__delitem__("object/box"), "'object/box' is missing"),
        (lambda file: file.__delitem__("object"), "is missing"),
        (lambda file: file.attrs.update(count=5), "expected"),
        (lambda file: file["object/start"].__setitem__(0, 1), "does not rise"),
        (lambda file: _replace(file, "object/area", np.zeros(1, "float64")), "'object/area' is float64"),
        (lambda file: _replace(file, "object/points", np.zeros(0, "int16")), "'object/points'"),
        (lambda file: _replace(file, "image", np.zeros((2, 5, 5), "uint8")), "differ in size"),
        (lambda file: file.__delitem__("stroke/pixels"), "'stroke/pixels' is missing"),
        (lambda file: file["object/stroke_start"].__setitem__(0, 1), "'object/stroke_start' does not rise"),
        (lambda file: file["object/stroke_start"].__setitem__(-1, 99), "'stroke/inside' is uint8"),
        (lambda file: file["stroke/start"].__setitem__(1, 9999), "'stroke/start' does not rise"),
        (lambda file: file["stroke/start"].__setitem__(-1, 9999), "'stroke/pixels' is int16"),
        (lambda file: file["stroke/inside"].__setitem__(0, 2), "'stroke/inside' holds other than 0 and 1"),
    ],
)
def test_what_is_wrong_with_a_foreign_or_changed_file_is_said(tmp_path, change, message):
    path = write_shard(tmp_path / "a.h5", random_samples(3, 2))
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(InputError, match=r"a\.h5") as caught:
        Shard(path)
    assert message in str(caught.value)


def _replace(file: h5py.File, name: str, values: np.ndarray) -> None:
    if name == "object/points":
        values = np.zeros(len(file[name]), "int16")
    del file[name]
    shape = tuple(max(1, side) for side in values.shape)
    file.create_dataset(name, data=values, chunks=shape, maxshape=(None, *values.shape[1:]), fletcher32=True)


def test_a_missing_and_a_text_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such shard"):
        Shard(tmp_path / "nothing.h5")
    (tmp_path / "text.h5").write_text("hello " * 100)
    with pytest.raises(InputError, match=r"text\.h5: not an HDF5 file"):
        Shard(tmp_path / "text.h5")


def test_an_object_owns_its_descendants():
    table = membership(np.array([3, 5, 9]), np.array([0, 3, 5]))
    assert [np.flatnonzero(row).tolist() for row in table] == [[3, 5, 9], [5, 9], [9]]


@pytest.mark.parametrize(("labels", "parents"), [([1, 2], [2, 1]), ([1], [4]), ([1], [1])])
def test_parents_that_lead_nowhere_are_refused(labels, parents):
    with pytest.raises(ValueError, match=r"ancestor|not in the table"):
        membership(np.array(labels), np.array(parents))


@given(
    values=arrays(
        np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.sampled_from([0, 0, 7, 255])
    ),
)
@settings(deadline=None)
def test_hdf5_reads_our_chunks_and_accepts_their_checksum(values):
    with h5py.File("memory.h5", "w", driver="core", backing_store=False) as file:
        pixels = file.create_dataset(
            "pixels", values.shape, "uint8", chunks=values.shape, compression="gzip", fletcher32=True
        )
        pixels.id.write_direct_chunk((0, 0), deflated(values))
        assert (pixels[:] == values).all()
        packed = bytearray(deflated(values))
        packed[-1] ^= 1
        pixels.id.write_direct_chunk((0, 0), bytes(packed))
        with pytest.raises(OSError, match=r"fletcher32|checksum|filter"):
            pixels[:]


@given(words=st.lists(st.integers(0, 65535), min_size=1, max_size=40), odd=st.binary(max_size=1))
@example(words=[0], odd=b"")
@example(words=[65535], odd=b"\xff")
@settings(deadline=None)
def test_the_checksum_is_the_one_that_hdf5_computes(words, odd):
    second = -sum(words) - sum(np.cumsum(words).tolist())
    full = [*words, second % 65535, -(sum(words) + second) % 65535]  # both sums are multiples of 65535
    with h5py.File("memory.h5", "w", driver="core", backing_store=False) as file:
        for k, content in enumerate(
            (np.array(words, ">u2").tobytes() + odd, np.array(full, ">u2").tobytes())
        ):
            size = (len(content),)
            stored = file.create_dataset(str(k), size, "uint8", chunks=size, fletcher32=True)
            stored[:] = np.frombuffer(content, np.uint8)
            file.flush()
            _, chunk = stored.id.read_direct_chunk((0,))
            assert chunk == content + fletcher32(content).to_bytes(4, "little")


def sample_with_set(label=9, members=(1, 2)):
    """A sample of two objects, and a set of labels."""
    sample = next(s for s in random_samples(3, 60) if len(s.objects) == 2 and not s.objects.parent.any())
    own = sample.objects.label
    members = [int(own[k - 1]) if k < 3 else k for k in members]
    rows = {name: getattr(sample.objects, name) for name in OBJECT_COLUMNS}
    two = {name: np.concatenate([values, values[:1]]) for name, values in rows.items()}
    mask = np.isin(sample.label, members)
    two["label"][2], two["members"][2], two["area"][2] = label or own[0], pack_labels(members), mask.sum()
    two["point_labels"][2][two["point_labels"][2] == 0] = -1  # they may lie on the other one
    two["box"][2] = tight_box(mask) if mask.any() else 0
    return replace(sample, objects=Objects(**two))


def test_a_set_is_written_and_read_and_its_mask_is_its_members(tmp_path):
    sample = sample_with_set()
    assert check_sample(sample) is None
    with Shard(write_shard(tmp_path / "a.h5", [sample])) as shard:
        assert_same_sample(sample, shard[0])
        objects = shard[0].objects
        assert objects.is_set.tolist() == [False, False, True]
        masks = object_masks(sample.label, objects)
    assert np.array_equal(masks[2], masks[0] | masks[1])


def test_what_is_wrong_with_a_set_is_said():
    assert "made up of label 77" in check_sample(sample_with_set(members=(1, 77)))
    assert "made up of label 9" in check_sample(sample_with_set(members=(1, 9)))
    sample = sample_with_set()
    sample.label[0, 0] = 9
    assert "label 9 of the label map is not in the object table" in check_sample(sample)


def test_shards_before_sets_are_read(tmp_path):
    samples = [replace(s, objects=replace(s.objects, strokes=None)) for s in random_samples(5, 3)]
    path = write_shard(tmp_path / "a.h5", samples)
    with h5py.File(path, "r+") as file:
        del file["object/members"]
        file.attrs["version"] = 3
    with Shard(path) as shard:
        for written, read in zip(samples, shard, strict=True):
            assert_same_sample(written, read)
            assert not read.objects.is_set.any()
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 4
    with pytest.raises(InputError, match=r"a\.h5: dataset 'object/members' is missing"):
        Shard(path)


def test_shards_before_strokes_are_read_as_without(tmp_path):
    samples = random_samples(3, 3)
    path = write_shard(tmp_path / "a.h5", samples)
    with h5py.File(path, "r+") as file:
        assert len(file["stroke/pixels"])
        del file["object/stroke_start"], file["stroke"]
        file.attrs["version"] = 4
    with Shard(path) as shard:
        for written, read in zip(samples, shard, strict=True):
            assert_same_sample(replace(written, objects=replace(written.objects, strokes=None)), read)
            assert [len(own) for own in read.objects.strokes] == [0] * len(read.objects)


def test_damaged_strokes_are_found_by_their_checksum_when_their_sample_is_read(tmp_path):
    path = write_shard(tmp_path / "bad.h5", random_samples(3, 2))
    with h5py.File(path) as file:
        chunk = file["stroke/pixels"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(content)
    with (
        Shard(path) as shard,
        pytest.raises(InputError, match=r"bad\.h5: corrupted: '/stroke/pixels' fails its checksum"),
    ):
        list(shard)


def test_strokes_are_a_column_as_any_other(tmp_path):
    """Also where each object has as many as the others, of as many pixels."""
    first, second = [s for s in random_samples(6, 30) if len(s.objects) == 2][:2]
    one = StoredStroke(True, np.array([[1, 2]], np.int16))
    table = joined(first.objects, replace(second.objects, strokes=column_of([(one,), (one,)])))
    assert len(table) == 4
    assert len(table.members) == 4
    assert table.strokes.shape == (4,)
    assert_same_strokes(first.objects, replace(first.objects, strokes=table.strokes[:2]))
    assert [len(own) for own in table.strokes[[3, 2]]] == [1, 1]
    assert table.strokes[3][0].pixels.tolist() == [[1, 2]]


def _without(file, name):
    """A dataset's values, and its place free."""
    values = file[name][()]
    del file[name]
    return values


def _linked(file, name, link):
    _without(file, name)
    file[name] = link


def _elsewhere(file, name, folder):
    """The content of a dataset in another file: external storage."""
    values = _without(file, name)
    (folder / "raw.bin").write_bytes(values.tobytes())
    file.create_dataset(
        name, values.shape, values.dtype, external=[(str(folder / "raw.bin"), 0, values.nbytes)]
    )


def _virtual(file, name, folder):
    values = _without(file, name)
    with h5py.File(folder / "other.h5", "w") as other:
        other["there"] = values
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[...] = h5py.VirtualSource(str(folder / "other.h5"), "there", values.shape)
    file.create_virtual_dataset(name, layout)


def _again(file, name, **options):
    """The same values, kept otherwise."""
    values = _without(file, name)
    options = {"chunks": (1, *values.shape[1:]), "fletcher32": True} | options
    file.create_dataset(name, data=values, **options)


def _with_a_hole(file, name):
    values = _without(file, name)
    hole = file.create_dataset(
        name, values.shape, values.dtype, chunks=(1, *values.shape[1:]), fletcher32=True
    )
    hole[0] = values[0]


def _unchecked(file, name):
    """A chunk that was written past the filters, and says so: HDF5 reads it without a checksum."""
    dataset = file[name]
    dataset.id.write_direct_chunk((0,) * dataset.ndim, dataset[0].tobytes(), filter_mask=0xFFFFFFFF)


LETTING_IN = {
    "a soft link": (lambda file, name, folder: _linked(file, name, h5py.SoftLink("/label")), "is a link"),
    "an external link": (
        lambda file, name, folder: _linked(file, name, h5py.ExternalLink(str(folder / "b.h5"), name)),
        "is a link",
    ),
    "external storage": (_elsewhere, "has its content in other files"),
    "a virtual dataset": (_virtual, "has its content in other files"),
    "no checksums": (lambda file, name, folder: _again(file, name, fletcher32=False), "has no checksums"),
    "no chunks": (
        lambda file, name, folder: _again(file, name, fletcher32=False, chunks=None),
        "has no checksums",
    ),
    "a missing chunk": (lambda file, name, folder: _with_a_hole(file, name), "lacks 1 of 2 chunks"),
    "a chunk without its checksum": (
        lambda file, name, folder: _unchecked(file, name),
        "has chunks without their checksum",
    ),
}


@pytest.mark.parametrize("how", LETTING_IN)
@pytest.mark.parametrize("name", ["image", "sample/index"])
def test_a_shard_holds_all_that_it_shows_and_under_a_checksum(how, name, tmp_path):
    samples = random_samples(5, 2)
    write_shard(tmp_path / "b.h5", samples)
    path = write_shard(tmp_path / "a.h5", samples)
    change, message = LETTING_IN[how]
    with h5py.File(path, "r+") as file:
        if name == "sample/index" and "chunk" in how and how != "no chunks":
            _again(file, name)  # a chunk a row
        change(file, name, *([tmp_path] if change.__code__.co_argcount == 3 else []))
    with pytest.raises(InputError, match=rf"a\.h5: '{name}' {message}"):
        Shard(path)


def test_a_group_that_is_a_link_is_refused_as_well(tmp_path):
    path = write_shard(tmp_path / "a.h5", random_samples(5, 2))
    with h5py.File(path, "r+") as file:
        file.move("sample", "moved")
        file["sample"] = h5py.SoftLink("/moved")
    with pytest.raises(InputError, match="'sample/index' is a link"):
        Shard(path)


def test_a_shard_that_unpacks_to_more_than_is_let_in_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write_shard(tmp_path / "a.h5", random_samples(5, 2))
    monkeypatch.setenv(VARIABLE, "1e-7")
    with pytest.raises(InputError, match=r"a\.h5: unpacks to 480 bytes from .* SYNTHFM_MAX_GB"):
        Shard(path)
