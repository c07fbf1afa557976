"""What may be said with `packages=`, and what children have: held to the files of wheels, beside what an image has."""

import hashlib
import io
import shutil
import sys
import tarfile
import uuid
from pathlib import Path

import cloudpickle
import muster
import packaging
import pytest
from harness import Script, small_map, wheels
from harness.docker import docker
from harness.packaged import environments

ALL = """
import sys
import muster

def versions(_):
    from importlib.metadata import version
    import e2e_greeter
    return e2e_greeter.greet("all"), version("e2e_words")

print(muster.remote_parallel_map(versions, [1], func_ram=0.25, packages="all", spinner=False))
"""


def greet(x):
    import e2e_greeter

    return e2e_greeter.greet(x)


def test_all_is_what_is_installed_here_and_muster_needs_little_itself(host, client, tmp_path):
    """In a client that has nothing else: what its own `pip install muster` would have brought."""
    for module in (muster, cloudpickle, packaging):
        folder = Path(module.__file__).parent
        shutil.copytree(folder, client / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**host.environment, "PYTHONPATH": str(client), "PYTHONDONTWRITEBYTECODE": "1"}
    before = environments(host)
    with Script.python(tmp_path, ALL, options=("-S",), env=environment) as script:
        assert script.succeed(60).decode() == "[('hello all 1.0', '1.5')]\n"
    (built,) = environments(host) - before or before
    found = {path.name for path in (host.packages / built).glob("*.dist-info")}
    assert found == {"e2e_greeter-1.0.dist-info", "e2e_words-1.5.dist-info"}


@pytest.fixture
def image_with_words(index, tmp_path):
    """The name of an image: the default one, with e2e-words 1.5 installed."""
    site = wheels.install(index / "e2e_words-1.5-py3-none-any.whl", tmp_path / "image")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(site, ".")
    name = f"muster-e2e/{uuid.uuid4().hex[:8]}:1"
    base = f"muster/python:{sys.version_info[0]}.{sys.version_info[1]}"
    found = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    folder = docker("run", "--rm", "--network", "none", base, "python3", "-c", found).strip()
    container = docker("create", base, "true").strip()
    try:
        docker("cp", "-", f"{container}:{folder}", data=packed.getvalue())
        docker("commit", container, name)
    finally:
        docker("rm", container)
    yield name
    docker("rmi", "--force", name)


def test_what_the_image_has_at_the_same_version_is_not_installed(host, client, image_with_words):
    def where(_):
        import e2e_greeter
        import e2e_words

        return e2e_greeter.__file__, e2e_words.__file__

    before = environments(host)
    ((greeter, words),) = small_map(where, [1], image=image_with_words)
    assert greeter.startswith("/.muster/mnt/packages/")
    assert not words.startswith("/.muster")
    (built,) = environments(host) - before
    found = {path.name for path in (host.packages / built).glob("*.dist-info")}
    assert found == {"e2e_greeter-1.0.dist-info"}
    # Nor what comes along because something that was asked for requires it.
    known = environments(host)
    along = {"image": image_with_words, "packages": ["e2e-greeter==2.0"]}
    assert small_map(greet, ["you"], **along) == ["hello you 2.0"]
    (resolved,) = environments(host) - known
    site = host.packages / resolved
    assert {path.name for path in site.glob("*.dist-info")} == {"e2e_greeter-2.0.dist-info"}
    assert not (site / "e2e_words.py").exists()
    # And where it has all of them, or no marker is true, nothing is built.
    words_alone = {"image": image_with_words, "packages": ["e2e-words"]}
    assert small_map(lambda _: __import__("e2e_words").WORD, [1], **words_alone) == ["hello"]
    assert environments(host) == before | {built, resolved}


def digest(wheel):
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_a_list_with_hashes_installs_these_files_and_no_others(host, index, tmp_path):
    greeter, words = (
        digest(index / f"e2e_{name}-py3-none-any.whl") for name in ("greeter-1.0", "words-1.5")
    )
    listed = tmp_path / "requirements.txt"
    before = environments(host)

    def call(of_words):
        listed.write_text(
            f"e2e-greeter==1.0 \\\n    --hash=sha256:{greeter} \\\n    --hash=sha256:{'0' * 64}\n"
            f"e2e-words==1.5 --hash=sha256:{of_words}\n"
        )
        return small_map(greet, ["you"], packages=listed)

    with pytest.raises(muster.PackageError, match="e2e-words==1.5 cannot be verified") as error:
        call("1" * 64)
    assert error.value.code == "package_unverified"
    assert words in str(error.value), "what it is instead"
    assert environments(host) == before
    assert list((host.packages / "building").iterdir()) == []
    assert call(words) == ["hello you 1.0"]
    # It was built for these hashes; others are another environment, which cannot be had.
    with pytest.raises(muster.PackageError):
        call("1" * 64)
    listed.write_text(f"e2e-greeter==1.0 --hash=sha256:{greeter}\n")
    with pytest.raises(muster.PackageError, match="e2e-words") as error:
        small_map(greet, ["you"], packages=listed)
    assert error.value.code == "package_unverified"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is of 3.11")
def test_a_lock_file_is_installed_with_its_hashes(host, index, tmp_path):
    lock = tmp_path / "pylock.toml"

    def call(digests):
        packages = [
            f'[[packages]]\nname = "e2e-{name}"\nversion = "{version}"\n[[packages.wheels]]\n'
            f'name = "e2e_{name}-{version}-py3-none-any.whl"\nhashes = {{sha256 = "{found}"}}\n'
            for (name, version), found in digests.items()
        ]
        lock.write_text('lock-version = "1.0"\n' + "".join(packages))
        return small_map(greet, ["you"], packages=lock)

    digests = {
        (name, version): digest(index / f"e2e_{name}-{version}-py3-none-any.whl")
        for name, version in (("greeter", "2.0"), ("words", "1.5"))
    }
    assert call(digests) == ["hello you 2.0"]
    with pytest.raises(muster.PackageError) as error:
        call({**digests, ("words", "1.5"): "0" * 64})
    assert error.value.code == "package_unverified"


def test_what_no_marker_asks_for_is_not_installed(host):
    packages = ["e2e-windows ; sys_platform == 'win32'"]
    assert small_map(len, ["abc"], packages=packages) == [3]


LOCAL = """
import local_greeter
import muster

print(muster.remote_parallel_map(local_greeter.greet, ["you"], func_ram=0.25, spinner=False))
"""


def test_local_modules_bring_what_they_import_when_they_run(host, client, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "local_greeter.py").write_text(
        "def greet(x):\n    from deeper import word\n    return f'{word()} {x}'\n"
    )
    (project / "deeper.py").write_text(
        "def word():\n    import e2e_words\n    return e2e_words.WORD\n"
    )
    environment = {**host.environment, "PYTHONPATH": str(client)}
    with Script.python(project, LOCAL, env=environment) as script:
        assert script.succeed(60).decode() == "['hello you']\n"


def test_packages_are_mounted_where_they_lie_and_can_only_be_read(host, client):
    def look(_):
        import os

        import e2e_words

        folder = os.path.dirname(e2e_words.__file__)
        with open("/proc/self/mountinfo") as mounts:
            (mount,) = (line.split() for line in mounts if line.split()[4] == folder)
        return os.path.basename(mount[3]), bool(os.statvfs(folder).f_flag & os.ST_RDONLY)

    ((folder, read_only),) = small_map(look, [1])
    assert read_only
    assert folder in environments(host)


def test_children_have_the_packages_of_their_parent_unless_they_name_their_own(host, client):
    def parent(x):
        import e2e_greeter

        def child(y):
            return e2e_greeter.greet(y)

        def version(_):
            from importlib.metadata import version

            return version("e2e_greeter")

        def bare(_):
            try:
                return __import__("e2e_greeter").__name__
            except ModuleNotFoundError as error:
                return error.name

        few = {"func_ram": 0.25}
        own = {"packages": ["e2e-greeter==2.0"], **few}
        return (
            muster.remote_parallel_map(child, [x, "all"], **few),
            muster.remote_parallel_map(version, [0], **own),
            muster.remote_parallel_map(bare, [0], packages=None, **few),
        )

    built = "environment built"
    assert small_map(greet, ["you"]) == ["hello you 1.0"]
    before = host.agents[0].log.read_text().count(built)
    ((with_parents, with_own, without),) = small_map(parent, ["you"])
    assert with_parents == ["hello you 1.0", "hello all 1.0"]
    assert (with_own, without) == (["2.0"], ["e2e_greeter"])
    # For the child that names its own alone, and not even that where it was built before.
    assert host.agents[0].log.read_text().count(built) <= before + 1


def test_children_run_in_the_image_of_their_parent_unless_they_name_another(host, image_with_words):
    own = f"muster/python:{sys.version_info[0]}.{sys.version_info[1]}"

    def parent(image):
        def child(_):
            try:
                return __import__("e2e_words").WORD
            except ModuleNotFoundError as error:
                return error.name

        more = {"image": image} if image else {}
        return muster.remote_parallel_map(child, [0], func_ram=0.25, **more)

    found = small_map(parent, [None, own], image=image_with_words)
    assert found == [["hello"], ["e2e_words"]]
