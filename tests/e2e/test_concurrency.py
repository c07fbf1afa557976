"""From any thread, several calls at once, inside an event loop, and after a fork."""

import asyncio
import threading

from harness import small_map


def test_calls_run_from_any_thread_and_several_at_once(service):
    answers = {}

    def one(number):
        answers[number] = small_map(lambda x: (number, x), range(5), func_cpu=0.25)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert answers == {number: [(number, x) for x in range(5)] for number in range(6)}


def test_prints_of_calls_at_once_all_arrive(service, capsys):
    def say(x):
        print(f"line {x}")

    threads = [
        threading.Thread(
            target=small_map, args=(say, [f"{n}-{i}" for i in range(20)]), kwargs={"func_cpu": 0.5}
        )
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(f"line {n}-{i}" for n in range(3) for i in range(20))


def test_a_call_works_inside_a_running_event_loop(service):
    async def main():
        direct = small_map(lambda x: x + 1, [1])
        beside = await asyncio.gather(
            *(asyncio.to_thread(small_map, lambda x, n=n: x * n, [n], func_cpu=0.5) for n in (2, 3))
        )
        return direct, beside

    assert asyncio.run(main()) == ([2], [[4], [9]])


def test_a_call_works_after_a_fork_in_parent_and_child(script):
    source = """
import os, muster

def ask(x):
    options = dict(func_cpu=0.5, func_ram=0.25, spinner=False)
    return muster.remote_parallel_map(lambda x: x + 1, [x], **options)

assert ask(1) == [2]
child = os.fork()
if child == 0:
    assert ask(2) == [3]
    os._exit(7)
assert ask(3) == [4]
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print("both")
"""
    assert script(source).succeed() == b"both\n"


def test_a_call_works_in_the_children_of_multiprocessing(script):
    source = """
import multiprocessing, muster

def ask(x):
    return muster.remote_parallel_map(abs, [x], func_cpu=0.5, func_ram=0.25, spinner=False)

if __name__ == "__main__":
    assert ask(-1) == [1]
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(ask, [-2, -3]) == [[2], [3]]
    print("fine")
"""
    assert script(source).succeed(40) == b"fine\n"


def test_a_call_can_be_made_from_inside_a_generator_of_inputs(service):
    def inputs():
        yield from small_map(lambda x: x * 2, [1, 2], func_cpu=0.5)

    assert small_map(lambda x: x + 1, inputs(), func_cpu=0.5) == [3, 5]
