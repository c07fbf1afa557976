"""Local modules travel with a function; installed ones do not."""

from __future__ import annotations

import importlib
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from muster import PicklingError, _locate, _modules, _payload
from muster._code import imported_names
from user_scripts import script


def write(root: Path, files: Dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def listing(archive: _modules.Archive) -> List[str]:
    return sorted(entry["path"] for entry in json.loads(archive.listing))


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder on sys.path, and a `Modules` that sees only what is imported from it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    modules = _modules.Modules()
    modules._seen |= before
    yield modules
    for name in set(sys.modules) - before:
        del sys.modules[name]


def take(modules: _modules.Modules, code: str = "0") -> _modules.Archive:
    modules.look()
    return modules.archive([compile(code, "<test>", "exec")])


def test_modules_beside_a_script_travel_whole_packages_with_their_data(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "helper.py": "import sub.deep\ndef triple(x): return sub.deep.three() * x\n",
            "lazy.py": "VALUE = 7\n",
            "sub/__init__.py": "",
            "sub/deep.py": "def three(): return 3\n",
            "sub/data.txt": "some data",
            "pkg/__init__.py": "from .inner import Thing\n",
            "pkg/inner.py": "from . import other\nclass Thing:\n    n = other.N\n",
            "pkg/other.py": "N = 4\n",
            "space/part/one.py": "ONE = 1\n",
        },
    )
    output = script(
        tmp_path,
        """
        import pathlib, os
        import helper, pkg, sub
        def f(x):
            import lazy
            from space.part import one
            text = (pathlib.Path(sub.__file__).parent / "data.txt").read_text()
            here = os.path.dirname(helper.__file__)
            return helper.triple(x), pkg.Thing(), lazy.VALUE, one.ONE, text, here
        (out,) = remote(f, [2])
        assert out[0] == 6 and type(out[1]) is pkg.Thing and out[1].n == 4, out
        assert out[2:5] == (7, 1, "some data"), out
        assert out[5] != os.getcwd() and "muster-modules" in out[5]
        print("fine")
        """,
    )
    assert output == "fine\n"


def test_functions_and_classes_of_local_modules_go_by_reference(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "src/app/__init__.py": "",
            "src/app/work.py": (
                "import threading\nlock = threading.Lock()\n"
                "class Job:\n    def __init__(self, n): self.n = n\n"
                "class Failed(Exception):\n"
                "    def __init__(self, job, why): super().__init__(why); self.job = job\n"
                "def run(job):\n"
                "    with lock:\n"
                "        if job.n > 1: raise Failed(job, 'too many')\n"
                "        return Job(job.n + 1)\n"
            ),
        },
    )
    output = script(
        tmp_path,
        """
        import os, traceback
        sys.path.insert(0, os.path.abspath("src"))
        from app import work
        done, error = remote(work.run, [work.Job(1), work.Job(2)])
        assert type(done) is work.Job and done.n == 2
        assert type(error) is work.Failed and error.job.n == 2
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        file = os.path.abspath("src/app/work.py")
        assert f'File "{file}", line 9, in run' in text, text
        assert "if job.n > 1: raise Failed(job, 'too many')" in text, text
        print("fine")
        """,
    )
    assert output == "fine\n"


def test_installed_and_standard_modules_stay(local: _modules.Modules, tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "site-packages/installed_one.py": "",
            "own_one.py": "import json, installed_one, cloudpickle, muster\n",
        },
    )
    sys.path.insert(0, str(tmp_path / "site-packages"))
    try:
        importlib.import_module("own_one")
        assert listing(take(local)) == ["own_one.py"]
    finally:
        sys.path.remove(str(tmp_path / "site-packages"))


def test_imports_in_code_and_in_files_are_followed_without_running_them(
    local: _modules.Modules, tmp_path: Path
) -> None:
    write(
        tmp_path,
        {
            "first_m.py": "def f():\n    import second_m\n",
            "second_m.py": "import third_p.x\nraise RuntimeError('must not run')\n",
            "third_p/__init__.py": "raise RuntimeError('must not run')\n",
            "third_p/x.py": "",
            "third_p/y/z.py": "",
            "unrelated_m.py": "",
        },
    )
    found = listing(take(local, "def f(x):\n    from first_m import f\n"))
    assert found == [
        "first_m.py", "second_m.py", "third_p/__init__.py", "third_p/x.py", "third_p/y/z.py",
    ]  # fmt: skip


def test_caches_hidden_folders_environments_and_large_data_stay(
    local: _modules.Modules, tmp_path: Path
) -> None:
    write(
        tmp_path,
        {
            "bulky/__init__.py": "",
            "bulky/small.json": "{}",
            "bulky/.git/config": "",
            "bulky/.hidden.py": "",
            "bulky/__pycache__/x.pyc": "",
            "bulky/node_modules/a.py": "",
            "bulky/venv/pyvenv.cfg": "",
            "bulky/venv/lib/a.py": "",
            "bulky/large.bin": "x" * (_locate.MAX_DATA_FILE + 1),
        },
    )
    importlib.import_module("bulky")
    assert listing(take(local)) == ["bulky/__init__.py", "bulky/small.json"]


def test_a_changed_file_and_a_new_file_are_seen_and_nothing_else_is_read_again(
    local: _modules.Modules, tmp_path: Path
) -> None:
    write(tmp_path, {"edited/__init__.py": "A = 1\n", "edited/a.py": ""})
    importlib.import_module("edited")
    first = take(local)
    assert take(local) is first
    write(tmp_path, {"edited/__init__.py": "A = 22\n"})
    second = take(local)
    assert second.files["edited/__init__.py"] == b"A = 22\n"
    write(tmp_path, {"edited/b.py": "B = 1\n"})
    os.utime(tmp_path / "edited", (1, 1))
    assert "edited/b.py" in take(local).files
    (tmp_path / "edited" / "a.py").unlink()
    os.utime(tmp_path / "edited", (2, 2))
    assert "edited/a.py" not in take(local).files


def test_a_module_loaded_under_another_name_travels_under_its_name(
    local: _modules.Modules, tmp_path: Path
) -> None:
    write(tmp_path, {"plugins/file_a.py": "X = 1\n"})
    spec = importlib.util.spec_from_file_location("named_b", tmp_path / "plugins" / "file_a.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["named_b"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (entry,) = json.loads(take(local).listing)
    assert entry["path"] == "named_b.py"
    assert entry["file"] == str(tmp_path / "plugins" / "file_a.py")


def test_too_much_is_refused_and_says_what_to_do(
    local: _modules.Modules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"heavy/__init__.py": "x = '" + "y" * 3000 + "'\n"})
    importlib.import_module("heavy")
    monkeypatch.setattr(_modules, "MAX_BYTES", 2000)
    with pytest.raises(
        PicklingError, match=r"too large to send: 1 files.*install them in the image"
    ):
        take(local)


def test_the_body_of_function_is_laid_out_as_the_protocol_says(tmp_path: Path) -> None:
    body = _payload.dump_function(lambda x: x)
    (size,) = struct.unpack_from("<I", body)
    header = json.loads(body[4 : 4 + size])
    lengths = [entry["len"] for entry in [*header["modules"], *header["sources"]]]
    assert 4 + size + sum(lengths) + header["function_len"] == len(body)
    assert body.endswith(b".")


def test_the_names_that_code_imports_are_read_off_its_bytecode() -> None:
    padding = "\n".join(f"v{n} = a{n}.b{n}" for n in range(300))
    text = f"{padding}\ndef f():\n    import one.two\n    from three import four, five\n"
    names = imported_names(compile(text, "<test>", "exec"))
    assert names == ("one.two", "three", "three.four", "three.five")
    far = imported_names(
        compile(f"{padding}\nimport far_away\nfrom far import off\n", "<t>", "exec")
    )
    assert far == ("far_away", "far", "far.off")


def test_functions_of_a_test_module_go_by_value_so_that_no_image_needs_pytest() -> None:
    body = _payload.dump_function(test_caches_hidden_folders_environments_and_large_data_stay)
    header = json.loads(body[4 : 4 + struct.unpack_from("<I", body)[0]])
    assert not [entry for entry in header["modules"] if "test_modules" in entry["path"]]
