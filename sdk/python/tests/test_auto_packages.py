"""Packages follow the client: what is found, what is said about it, and what it costs."""

from __future__ import annotations

import json
import pathlib
import pickle
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import muster
from muster import _data, _payload
from muster._requirements import requested
from muster._upload import Inputs


class Site:
    """A site-packages folder on this process's path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self, name: str, version: str, modules: dict[str, str], *requires: str, origin: str = ""
    ) -> None:
        info = self.folder / f"{name}-{version}.dist-info"
        info.mkdir()
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
        (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]))
        (info / "RECORD").write_text("".join(f"{path},,\n" for path in modules))
        if origin:
            (info / "direct_url.json").write_text(json.dumps({"url": origin, "dir_info": {}}))
        for path, text in modules.items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    # What is known of installed modules, and what travels, is this process's.
    monkeypatch.setattr(_payload, "_modules", type(_payload._modules)())
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        del sys.modules[name]


def pins(function: object, *inputs: object) -> tuple[str, ...]:
    modules = Inputs(list(inputs)).modules
    return _payload.dump_with_packages(function, False, modules).pins  # type: ignore[arg-type]


def test_a_function_of_the_standard_library_needs_nothing():
    import json as renamed

    assert pins(lambda x: renamed.dumps(x)) == ()
    assert pins(len) == ()
    assert pins(lambda x: muster.current()) == ()


def test_what_a_function_imports_is_pinned_with_all_that_it_requires(site):
    site.add("Apple.Pie", "1.2", {"apple/__init__.py": ""}, "sugar>1", "nuts ; extra == 'nuts'")
    site.add("sugar", "3.4", {"sugar.py": ""}, "salt", "ice ; python_version < '3'")
    site.add("salt", "5", {"salt.py": ""}, "apple-pie")
    site.add("nuts", "6", {"nuts.py": ""})

    def f(x):
        from apple import pie

        return pie

    assert pins(f) == ("Apple.Pie==1.2", "salt==5", "sugar==3.4")


def test_extras_that_are_required_bring_their_packages(site):
    site.add("main", "1", {"main_module.py": ""}, "other[fast]")
    site.add("other", "2", {"other.py": ""}, "quick ; extra == 'fast'", "slow ; extra == 'small'")
    site.add("quick", "3", {"quick.py": ""})
    site.add("slow", "4", {"slow.py": ""})

    def f(x):
        import main_module

        return main_module

    assert pins(f) == ("main==1", "other==2", "quick==3")


def test_globals_callables_and_types_of_inputs_count(site):
    site.add("a", "1", {"a_module.py": "def f(x): return x\nclass A: pass\n"})
    import a_module

    assert pins(lambda x: a_module.f(x)) == ("a==1",)
    assert pins(a_module.f) == ("a==1",)
    assert pins(a_module.A) == ("a==1",)
    instance = a_module.A()
    assert pins(lambda x: instance) == ("a==1",)
    assert pins(lambda x: x, instance) == ("a==1",)
    assert pins(lambda x: x, {"key": instance}) == ("a==1",)
    assert pins(lambda x: x, 1) == ()


def test_what_shared_data_is_made_of_counts_in_a_closure_and_in_inputs(site):
    site.add("a", "1", {"a_module.py": "class A: pass\n"})
    import a_module

    (_, modules) = _data._pack([{"deep": a_module.A()}, 1, pathlib.PurePath("x")])
    assert modules == ("a_module",)
    ref = muster.Ref("0" * 64, 1, modules)
    assert pins(lambda x: ref.get()) == ("a==1",)
    assert pins(lambda x: x, (1, ref)) == ("a==1",)
    assert pickle.loads(pickle.dumps(ref)).modules == modules


def test_local_modules_bring_what_they_import_and_those_not_reached_bring_nothing(
    site, tmp_path, monkeypatch
):
    site.add("a", "1", {"a_module.py": ""})
    site.add("b", "2", {"b_module.py": ""})
    project = tmp_path / "project"
    project.mkdir()
    (project / "used.py").write_text("import deeper\ndef f(x): return x\n")
    (project / "deeper.py").write_text("def g():\n    import a_module\n")
    (project / "unused.py").write_text("import b_module\n")
    monkeypatch.syspath_prepend(str(project))
    import unused
    import used

    assert unused
    assert pins(used.f) == ("a==1",)


def test_of_a_namespace_only_the_part_that_is_imported_counts(site):
    site.add("space-a", "1", {"space/a/__init__.py": ""})
    site.add("space-b", "2", {"space/b/__init__.py": ""})

    def f(x):
        import space.b

        return space

    assert pins(f) == ("space-b==2",)


def test_what_came_from_a_folder_travels_as_source_with_what_it_needs(site, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    files = {"mine/__init__.py": "from . import part\n", "mine/part.py": "import needed_module\n"}
    site.add("mine", "0.1", files, "needed", origin=f"file://{source}")
    site.add("needed", "7", {"needed_module.py": ""})
    site.add("moved", "1", {"moved.py": ""}, origin="file:///built/elsewhere")

    def f(x):
        import mine
        import moved

        return mine, moved

    dumped = _payload.dump_with_packages(f, False, ())
    assert dumped.pins == ("moved==1", "needed==7")
    size = int.from_bytes(dumped.body[:4], "little")
    paths = {module["path"] for module in json.loads(dumped.body[4 : 4 + size])["modules"]}
    assert {"mine/__init__.py", "mine/part.py"} <= paths
    assert "moved.py" not in paths


def test_a_package_that_was_updated_meanwhile_is_pinned_anew(site):
    site.add("a", "1", {"a_module.py": ""})

    def f(x):
        import a_module

        return a_module

    assert pins(f) == ("a==1",)
    (site.folder / "a-1.dist-info" / "METADATA").write_text("Name: a\nVersion: 2\n")
    (site.folder / "a-1.dist-info").rename(site.folder / "a-2.dist-info")
    assert pins(f) == ("a==2",)


def test_the_gateway_is_told_of_packages_only_where_there_are_some(gateway, site):
    site.add("a", "1", {"a_module.py": ""})

    def f(x):
        import a_module as imported

        return imported

    muster.remote_parallel_map(lambda x: x, [0], spinner=False)
    for more in ({}, {"packages": None}, {"packages": ["a", "b>=2"]}):
        muster.remote_parallel_map(f, [0], spinner=False, return_exceptions=True, **more)
    told = [call.spec.get("packages") for call in gateway.calls.values()]
    exact = {"requirements": ["a==1"], "exact": True}
    assert told == [None, exact, None, {"requirements": ["a==1", "b>=2"]}]


def test_everything_is_what_an_index_has(site, tmp_path):
    site.add("a", "1", {"a_module.py": ""})
    site.add("mine", "1", {"mine.py": ""}, origin=f"file://{tmp_path}")
    asked = requested("all")
    assert asked is not None
    names = {pin.split("==")[0] for pin in asked["requirements"]}
    assert "a" in names
    assert not names & {"mine", "muster", "cloudpickle", "pip"}
    assert asked["exact"] is True


# What users write


def test_requirements_come_from_files(site, tmp_path):
    site.add("a", "1", {"a_module.py": ""})
    (tmp_path / "more.txt").write_text("c~=3.0 ; python_version > '3'\n")
    (tmp_path / "same.txt").write_text("d\n")
    path = tmp_path / "requirements.txt"
    path.write_text(
        "# ours\n\na   # as here\nb[x,y] \\\n    ==2\n"
        "-r more.txt\n-rsame.txt\n--requirement=same.txt\n-e .\n-e git+https://x/mine\n./folder\n../folder\n"
    )
    wanted = ["a==1", "b[x,y]==2", 'c~=3.0; python_version > "3"', "d", "d"]
    assert requested(path) == {"requirements": wanted}
    assert requested(str(path)) == {"requirements": wanted}
    path.write_text("\n")
    assert requested(path) is None


def test_hashes_go_along_in_one_order(tmp_path):
    path = tmp_path / "requirements.txt"
    one, other = f"sha256:{'01' * 32}", f"sha512:{'ab' * 64}"
    path.write_text(
        f"b[x]==2 \\\n    --hash={other} \\\n    --hash={one}   # via c\n"
        f'c==3 ; os_name == "posix" --hash {one}\n-e .\n'
    )
    wanted = [
        f"b[x]==2 --hash={one} --hash={other}",
        f'c==3; os_name == "posix" --hash={one}',
    ]
    assert requested(path) == {"requirements": wanted}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is of 3.11")
def test_a_lock_is_taken_as_it_is(tmp_path):
    path = tmp_path / "pylock.toml"
    path.write_text(
        'lock-version = "1.0"\n[[packages]]\nname = "b"\nversion = "2"\nmarker = "os_name == \'posix\'"\n'
        '[[packages]]\nname = "mine"\nversion = "1"\n[packages.directory]\npath = "."\n'
    )
    assert requested(path) == {"requirements": ['b==2; os_name == "posix"'], "exact": True}
    wheels = '[[packages.wheels]]\nname = "b-2-py3-none-any.whl"\nhashes = {sha256 = "00", blake2b = "1"}\n'
    text = path.read_text().replace(
        '[[packages]]\nname = "mine', f'{wheels}[[packages]]\nname = "mine'
    )
    path.write_text(text)
    hashed = ['b==2; os_name == "posix" --hash=sha256:00']
    assert requested(path) == {"requirements": hashed, "exact": True}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a==\n", "line 1: 'a==' is not a requirement"),
        ("\n--index-url https://x\n", "line 2: --index-url is for installers"),
        (
            f"a==1 \\\n  --hash=sha256:{'0' * 64}\n\n--no-binary :all:\n",
            "line 4: --no-binary is for installers",
        ),
        ("a==1 \\\n  nonsense\\", "line 1: .* is not a requirement"),
        ("-c bounds.txt\n", "line 1: constraints are not followed; write these versions into"),
        ("--constraint=bounds.txt\n", "line 1: constraints are not followed"),
        ("-i https://x\n", "line 1: -i is for installers"),
        ("a @ https://x/a.whl\n", "line 1: .* is an address"),
        ("git+https://x/a.git\n", "line 1: .* is an address"),
        ("https://x/a.whl ; os_name == 'posix'\n", "line 1: .* is an address"),
        ("a==1 --hash=sha256:00\n", "line 1: 'sha256:00' is no hash that can be checked"),
        (f"a==1 --hash=md5:{'0' * 32}\n", "line 1: .* is no hash that can be checked"),
        (f"a==1 --hash=sha256:{'0' * 64}\nb==2\n", "line 2: 'b==2' has no hash, and others have"),
        (f"a>=1 --hash=sha256:{'0' * 64}\n", "line 1: 'a>=1' has hashes, so it must name one"),
        (f"a==1.* --hash=sha256:{'0' * 64}\n", "line 1: .* it must name one version"),
        ("-r gone.txt\n", "gone.txt cannot be read: No such file"),
        ("-r requirements.txt\n", "names itself"),
    ],
)
def test_a_file_that_cannot_be_followed_is_refused_with_its_line(tmp_path, text, words):
    path = tmp_path / "requirements.txt"
    path.write_text(text)
    with pytest.raises(muster.UsageError, match=words):
        requested(path)


def test_other_nonsense_is_refused_before_anything_is_sent(tmp_path):
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe")
    for packages, kind, words in [
        ("numpy", ValueError, "'numpy' is no file; say 'auto', 'all', None, a list"),
        ("gone.txt", ValueError, "gone.txt cannot be read"),
        (binary, ValueError, "not text in UTF-8"),
        (7, TypeError, "must not be int"),
        ({"numpy": "1"}, TypeError, "must not be dict"),
        ([7], TypeError, "must be a str, not int"),
        (["a b"], ValueError, "'a b' is not a requirement"),
        ("x/uv.lock", ValueError, "cannot be read|export it"),
    ]:
        with pytest.raises(kind, match=words) as caught:
            requested(packages)
        assert isinstance(caught.value, muster.UsageError)
