"""Small wheels, and a host's package folder made of them, so that no test needs an index."""

import base64
import hashlib
import shutil
import sys
import zipfile
from pathlib import Path


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
    record = [f"{path},{_hash(text)},{len(text.encode())}" for path, text in files.items()]
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


def _hash(text):
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
