"""`background=True`: a handle as soon as all is uploaded; the call needs its client no longer."""

import time

import muster
import pytest
from harness import Script, small_map, until


@pytest.mark.smoke
def test_a_handle_comes_back_at_once_and_leads_to_everything(service):
    def run(x):
        print("ran", x)
        return x * x

    call = small_map(run, range(5), background=True)
    assert isinstance(call, muster.Call)
    call.wait()
    assert call.status().state == "succeeded"
    assert list(call.results()) == [0, 1, 4, 9, 16]
    assert call.results() == [0, 1, 4, 9, 16], "reading takes nothing away"
    assert sorted(call.results(as_completed=True)) == [(x, x * x) for x in range(5)]


def test_it_returns_while_the_function_still_runs(service):
    call = small_map(lambda _: time.sleep(600), [1], background=True)
    assert call.status().state in ("queued", "running")
    until("it runs", lambda: call.status().state == "running")
    call.cancel()
    until("it is cancelled", lambda: call.status().state == "cancelled", 10)


def test_a_generators_inputs_are_all_uploaded_when_it_returns(service):
    made = []

    def inputs():
        for x in range(3000):
            made.append(x)
            yield x

    call = small_map(lambda x: x, inputs(), background=True)
    assert len(made) == 3000
    call.wait()
    assert sorted(call.results()) == list(range(3000))


def test_it_goes_on_when_its_client_has_exited_and_any_process_can_attach(
    script, tmp_path, service
):
    source = """
import time, muster

class Box:
    def __init__(self, x):
        self.x = x

def run(x):
    time.sleep(0.5)
    print("in the background", x)
    return Box(x + 1)

print(muster.remote_parallel_map(run, [1, 2], func_ram=0.25, background=True).id)
"""
    call_id = script(source).succeed().decode().strip()
    attached = f"""
import muster
call = muster.Call({call_id!r})
call.wait()
assert call.status().state == "succeeded", call.status()
print([box.x for box in call.results()])
"""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    with Script.python(folder, attached, env=service.environment) as other:
        assert other.succeed().splitlines()[-1] == b"[2, 3]"


def test_logs_give_what_was_printed(service, capsys):
    def run(x):
        print("said", x)

    call = small_map(run, [1, 2], background=True)
    call.wait()
    assert sorted(call.logs().splitlines()) == ["said 1", "said 2"]
    assert call.logs(index=1) == "said 2\n"
    assert call.logs(stream="stderr") == ""
    assert capsys.readouterr().out == "", "a background call prints nothing here by itself"


def test_results_raise_what_the_function_raised(service):
    def run(x):
        if x == 1:
            raise ValueError("in the background")
        return x

    call = small_map(run, [0, 1], background=True, max_parallelism=1)
    with pytest.raises(ValueError, match="in the background") as caught:
        list(call.results())
    assert caught.value.index == 1


def test_results_wait_for_outputs_that_are_not_there_yet(service):
    def run(x):
        time.sleep(0.3)
        return x

    assert sorted(small_map(run, range(4), background=True).results()) == [0, 1, 2, 3]


def test_cancel_ends_it_and_its_containers(service):
    def run(x):
        if x:
            time.sleep(600)
        return x

    call = small_map(run, range(3), background=True)
    until("one has finished", lambda: service.api.call(call.id)["done"] >= 1)
    call.cancel()
    until("it is cancelled", lambda: call.status().state == "cancelled", 10)
    until("its containers are gone", lambda: service.agents[0].busy() == 0, 10)
    call.cancel()
    with pytest.raises(muster.Cancelled) as caught:
        list(call.results())
    assert caught.value.call_id == call.id


def test_an_unknown_call_is_refused_by_name(service):
    with pytest.raises(muster.CallNotFound, match="nosuchcall"):
        muster.Call("nosuchcall").status()


def test_what_has_expired_says_so_and_how_the_call_ended_stays_known(own_service):
    service = own_service("--keep-background", "0s")
    service.add_agent("--cpus", "0-1", "--ram", "1GiB", "--warm", "0")
    call = small_map(lambda x: x, range(3), background=True)
    until("it has expired", lambda: call.status().expired, 40)
    status = call.status()
    assert (status.state, status.done, status.total) == ("succeeded", 3, 3)
    assert call.wait() == status
    for read in (call.results, call.logs, call.receipts):
        with pytest.raises(muster.CallExpired, match="submit the call again"):
            read()
    assert [(known.id, known.expired) for known in muster.calls()] == [(call.id, True)]
    call.cancel()
