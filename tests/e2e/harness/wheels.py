"""Wheels, small ones and those of what is installed, for a host's package folder: no test needs an index."""

import base64
import hashlib
import re
import shutil
import sys
import zipfile
from importlib import metadata
from pathlib import Path

from muster import _packages


def uv():
    """The installer, as `make setup` puts it beside Python."""
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    assert found, "uv is not installed; `make setup` installs it"
    return found


def wheel(folder, name, version, modules, requires=(), tag="py3-none-any"):
    """Writes one wheel into `folder`: `modules` maps paths to source."""
    info = f"{name}-{version}.dist-info"
    metadata = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    files = {
        **modules,
        f"{info}/METADATA": "\n".join(["Metadata-Version: 2.1", *metadata, ""]),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: e2e\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = [f"{path},{_hash(text.encode())},{len(text.encode())}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    path = Path(folder) / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name_inside, text in files.items():
            archive.writestr(name_inside, text)
    return path


def install(wheel_file, folder):
    """Installs a wheel into a folder, as an index's wheel is installed into site-packages."""
    site = Path(folder) / "site-packages"
    with zipfile.ZipFile(wheel_file) as archive:
        archive.extractall(site)
    return site


def repack(module, folder):
    """Writes the wheels that this module and all it requires were installed from."""
    # What installers add, and what they write anew.
    added = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")
    for pin in _packages.needed([module]).pins:
        found = metadata.distribution(pin.split("==")[0])
        tags = re.findall(r"^Tag: (.*)$", found.read_text("WHEEL"), re.MULTILINE)
        parts = zip(*(tag.split("-") for tag in tags), strict=True)
        tag = "-".join(".".join(sorted(set(part))) for part in parts)
        name = re.sub(r"[-_.]+", "_", found.metadata["Name"])
        path = Path(folder) / f"{name}-{found.version}-{tag}.whl"
        if path.exists():
            continue
        record = []
        with zipfile.ZipFile(path, "w") as archive:
            for file in found.files:
                if file.parts[0] == ".." or file.suffix == ".pyc" or file.name in added:
                    continue
                content = file.locate().read_bytes()
                archive.writestr(str(file), content)
                record.append(f"{file},{_hash(content)},{len(content)}")
            listed = next(str(file) for file in found.files if file.name == "RECORD")
            archive.writestr(listed, "\n".join([*record, f"{listed},,", ""]))


def _hash(content):
    digest = hashlib.sha256(content).digest()
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
