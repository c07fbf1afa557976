"""Limits are hard: cores, memory, processes, files, scratch, workers."""

import os
import time

import muster
import pytest
from harness import held, small_map


def test_four_spinning_threads_under_one_core_use_one_core(service):
    """Hashing releases the interpreter's lock, so four threads would use four cores."""

    def spin(_):
        import hashlib
        import resource
        import threading

        data = bytes(1 << 20)
        start = time.monotonic()

        def hash_for_a_while():
            while time.monotonic() < start + 3:
                hashlib.sha256(data)

        threads = [threading.Thread(target=hash_for_a_while) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime, time.monotonic() - start

    ((busy, wall),) = small_map(spin, [0], func_cpu=1)
    assert busy <= 1.1 * wall + 0.3, f"{busy:.2f} s of processor time in {wall:.2f} s"


def test_half_a_core_is_half_a_core(service):
    def spin(_):
        start, used = time.monotonic(), time.process_time()
        while time.monotonic() < start + 2:
            pass
        return time.process_time() - used, time.monotonic() - start

    ((busy, wall),) = small_map(spin, [0], func_cpu=0.5)
    assert busy <= 0.6 * wall + 0.1, f"{busy:.2f} s of processor time in {wall:.2f} s"


@pytest.mark.smoke
@pytest.mark.parametrize("cores", [1, 2])
def test_the_affinity_shows_func_cpu(service, cores):
    (seen,) = small_map(lambda _: len(os.sched_getaffinity(0)), [0], func_cpu=cores)
    assert seen == cores


def test_two_workers_of_one_core_have_different_cores(service):
    with held(lambda _: tuple(os.sched_getaffinity(0)), [0, 1]) as cores:
        assert sorted(cores) == [(0,), (1,)]


def test_memory_up_to_func_ram_can_be_used(service):
    def fill(_):
        blob = bytearray(b"x") * (300 << 20)
        return len(blob)

    assert small_map(fill, [0], func_ram=0.5) == [300 << 20]


def test_a_fork_bomb_stays_inside(service):
    def bomb(_):
        children = 0
        try:
            while children < 20_000:
                if os.fork() == 0:
                    time.sleep(600)
                    os._exit(0)
                children += 1
        except OSError as error:
            return children, error.errno

    import errno

    outputs = small_map(bomb, [0], func_ram=2, return_exceptions=True)
    if isinstance(outputs[0], Exception):
        assert isinstance(outputs[0], muster.OutOfMemory), outputs
    else:
        children, number = outputs[0]
        assert number == errno.EAGAIN
        assert children <= 1024
    service.wait_idle()
    assert small_map(lambda x: x, [1]) == [1]


def test_a_flood_of_open_files_stays_inside(service):
    def flood(_):
        files = []
        try:
            while len(files) < 1_000_000:
                files.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            return len(files), error.errno

    import errno

    ((count, number),) = small_map(flood, [0])
    assert number == errno.EMFILE
    assert count <= 65536


def test_full_scratch_stays_inside(service):
    def fill(_):
        written = 0
        with open("/tmp/big", "wb", buffering=0) as file:
            try:
                while written < 8 << 30:
                    written += file.write(bytes(1 << 20))
            except OSError as error:
                return written, error.errno

    import errno

    (answer,) = small_map(fill, [0], func_ram=0.5, return_exceptions=True)
    if isinstance(answer, Exception):
        assert isinstance(answer, muster.OutOfMemory), repr(answer)
    else:
        written, number = answer
        assert number == errno.ENOSPC
        assert written <= 1 << 30


def test_scratch_is_there_is_empty_and_can_be_written(service):
    def use(_):
        import tempfile

        before = os.listdir("/tmp")
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"x" * (10 << 20))
        with open("here", "w") as file:
            file.write("the working folder can be written too")
        return before, os.path.getsize("here")

    for _ in range(2):
        ((before, size),) = small_map(use, [0])
        assert before == [] or "here" not in before
        assert size > 0


def test_max_parallelism_is_never_exceeded(service):
    def interval(_):
        start = time.monotonic()
        time.sleep(0.15)
        return start, time.monotonic()

    assert most_at_once(small_map(interval, range(12), func_cpu=0.25, max_parallelism=2)) <= 2
    assert most_at_once(small_map(interval, range(6), func_cpu=0.25, max_parallelism=1)) == 1


def most_at_once(intervals):
    """How many of the intervals (start, end) overlap at the most."""
    steps = sorted([(start, 1) for start, _ in intervals] + [(end, -1) for _, end in intervals])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most
