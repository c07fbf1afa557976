"""Shared data: put once, read by many inputs without a copy, wherever a reference may be."""

import hashlib
import pickle

import muster
import pytest
from harness import small_map, until, wheels
from harness.cutting import Cutting
from harness.packaged import from_folder

MIB = 1 << 20


def large(seed):
    """Three MiB that pickle keeps apart, as the arrays of numpy and Arrow do."""
    return pickle.PickleBuffer(hashlib.shake_128(bytes([seed])).digest(3 * MIB))


def digest(ref):
    return hashlib.sha256(ref.get()).hexdigest()


@pytest.mark.smoke
def test_a_reference_in_a_closure_gives_the_data_without_a_copy(service):
    ref = muster.put({"table": large(1), "name": "t"})

    def read(x):
        first, second = ref.get(), ref.get()
        table = first["table"]
        with open("/proc/self/maps") as maps:
            mapped = ref.id in maps.read()
        return x, first is second, table.readonly, len(table), mapped, first["name"]

    sent = service.api.metric('muster_blob_bytes_total{way="out"}')
    outputs = small_map(read, range(4)) + small_map(read, range(4, 6))
    assert outputs == [(x, True, True, 3 * MIB, True, "t") for x in range(6)]
    # To the host, once.
    assert service.api.metric('muster_blob_bytes_total{way="out"}') == sent + ref.size
    assert bytes(ref.get()["table"]) == bytes(large(1).raw())


def test_references_in_inputs_are_found_those_of_a_slow_generator_too(service):
    refs = [muster.put(large(seed)) for seed in range(3)]
    expected = [digest(ref) for ref in refs]

    def read(task):
        return hashlib.sha256(task["ref"].get()).hexdigest()

    assert small_map(read, [{"ref": ref} for ref in refs]) == expected

    def late():
        yield {"ref": refs[0]}
        small_map(lambda x: x, [1])  # time passes: the call begins without the rest
        yield {"ref": refs[1]}
        yield {"ref": muster.put(large(9))}

    found = small_map(read, late())
    assert found[:2] == expected[:2]
    assert found[2] == hashlib.sha256(large(9).raw()).hexdigest()


def test_what_is_there_already_is_not_sent_again_and_can_be_deleted(service):
    ref = muster.put(large(5))
    before = service.api.metric('muster_blob_bytes_total{way="in"}')
    assert muster.put(large(5)) == ref
    assert service.api.metric('muster_blob_bytes_total{way="in"}') == before
    ref.delete()
    with pytest.raises(muster.DataError) as caught:
        ref.get()
    assert caught.value.code == "unknown_blob"
    with pytest.raises(muster.DataError):
        small_map(lambda x: len(ref.get()), [1])


def test_data_can_be_deleted_once_the_end_of_its_last_call_is_seen(service):
    for seed in range(20, 25):
        ref = muster.put(large(seed))
        assert small_map(lambda found: len(found.get()), [ref]) == [len(large(seed).raw())]
        ref.delete()
        with pytest.raises(muster.DataError):
            ref.get()


def test_more_than_may_be_is_refused_before_it_is_sent(own_service):
    own_service("--blob-limit", "2MiB")
    with pytest.raises(muster.DataError, match="blob-limit") as caught:
        muster.put(large(1))
    assert caught.value.code == "blob_too_large"


def test_data_that_is_larger_than_a_hosts_cache_fails_the_call_and_says_so(own_service):
    own_service().add_agent("--cpus", "0-1", "--ram", "4GiB", "--cache-limit", "2MiB")
    ref = muster.put(large(1))
    with pytest.raises(muster.CallFailed, match="cache-limit"):
        small_map(lambda x: len(ref.get()), [1])


def test_an_upload_goes_on_where_its_connection_broke(service):
    data = pickle.PickleBuffer(hashlib.shake_128(b"resumed").digest(32 * MIB))
    before = service.api.metric('muster_blob_bytes_total{way="in"}')
    with Cutting(service.url, 9 * MIB, 11 * MIB) as broken:
        ref = muster.put(data, url=broken.url)
        assert broken.taken >= 3
    sent = service.api.metric('muster_blob_bytes_total{way="in"}') - before
    # What breaks off within the part that is being taken comes again, and no more.
    assert ref.size <= sent <= ref.size + 2 * 4 * MIB
    assert small_map(digest, [ref]) == [hashlib.sha256(data).hexdigest()]


def test_what_nobody_uses_expires_and_can_be_put_again(own_service):
    service = own_service("--keep-blobs", "2s")
    service.add_agent("--cpus", "0-1", "--ram", "2GiB", "--warm", "0")
    ref = muster.put(large(1))
    assert small_map(digest, [ref]) == [hashlib.sha256(large(1)).hexdigest()]
    until("it is gone", lambda: service.api.metric("muster_blobs") == 0, 60)
    with pytest.raises(muster.DataError, match=r"Put it \(again\)") as caught:
        ref.get()
    assert caught.value.code == "unknown_blob"
    with pytest.raises(muster.DataError, match=r"Put it \(again\)"):
        small_map(digest, [ref])
    assert muster.put(large(1)) == ref
    assert bytes(ref.get()) == bytes(large(1))


@pytest.fixture
def with_packages(own_service, tmp_path):
    """A service of one agent that installs what is installed here."""
    local = tmp_path / "wheels"
    local.mkdir(mode=0o755)
    for module in ("numpy", "pyarrow"):
        wheels.repack(module, local)
    own_service().add_agent("--cpus", "0-1", "--ram", "4GiB", *from_folder(local))


@pytest.mark.deadline(120)
def test_arrays_and_tables_come_out_of_the_mapped_file_itself(with_packages):
    import numpy
    import pyarrow

    array = numpy.arange(500_000, dtype="int64").reshape(1000, 500)
    table = pyarrow.table({"n": pyarrow.array(range(200_000)), "x": pyarrow.array([0.5] * 200_000)})
    ref = muster.put({"array": array, "table": table})

    def look(column):
        def mapped(address):
            with open("/proc/self/maps") as maps:
                ours = [line.split()[0].split("-") for line in maps if ref.id in line]
            return any(int(low, 16) <= address < int(high, 16) for low, high in ours)

        array, table = ref.get()["array"], ref.get()["table"]
        chunks = [chunk for name in table.column_names for chunk in table[name].chunks]
        buffers = [one for chunk in chunks for one in chunk.buffers() if one is not None]
        return (
            (array.flags.owndata, array.flags.writeable, mapped(array.ctypes.data)),
            (len(buffers), {mapped(one.address) for one in buffers}),
            (int(array[column].sum()), table["n"][column].as_py()),
        )

    # What the reference stands for is all that tells that these packages are needed.
    outputs = small_map(look, (3, 7))
    for column, (seen, buffers, values) in zip((3, 7), outputs, strict=True):
        assert seen == (False, False, True)
        assert buffers == (2, {True})
        assert values == (int(array[column].sum()), column)
