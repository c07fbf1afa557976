"""Small file systems of a test's own: to fill, and to cut the power of."""

import contextlib
import shutil
import subprocess


def _run(*arguments):
    subprocess.run([str(argument) for argument in arguments], check=True, capture_output=True)


@contextlib.contextmanager
def mounted(folder, *arguments):
    """Mounts at `folder`, which is made, and unmounts at the end."""
    folder.mkdir(parents=True)
    _run("mount", *arguments, folder)
    try:
        yield folder
    finally:
        _run("umount", folder)


def small(folder, mib):
    """A file system of so many MiB at `folder`."""
    return mounted(folder, "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs")


def make_image(image, mib):
    """A file that holds an empty ext4."""
    with image.open("wb") as file:
        file.truncate(mib << 20)
    _run("mkfs.ext4", "-q", "-F", image)


def on_image(folder, image):
    """The file system of an image at `folder`. By itself it writes nothing for ten minutes: what is in
    the image was synced."""
    return mounted(folder, "-o", "loop,commit=600", image)


def cut_power(image, copy):
    """What the image holds now: a disk that lost all that was not synced."""
    shutil.copyfile(image, copy)


@contextlib.contextmanager
def filled(folder):
    """Leaves no free byte in the file system of `folder`, until the end."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    try:
        yield
    finally:
        filler.unlink()
