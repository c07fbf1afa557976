"""Run inside a fresh image: is it fit to run workers? Prints nothing when all is well.

python3 - 3.11 < check.py
"""

import importlib
import os
import shutil
import subprocess
import sys
import warnings

# Not part of a worker's Python: windows and editors, installers, other systems; and two that act when imported.
ABSENT = {"tkinter", "_tkinter", "turtle", "turtledemo", "idlelib", "ensurepip", "test"}
OTHER_SYSTEMS = {
    "msilib",
    "msvcrt",
    "nt",
    "ntpath",
    "winreg",
    "winsound",
    "_winapi",
    "_wmi",
    "_msi",
    "nturl2path",
}
OTHER_SYSTEMS |= {"_overlapped", "_scproxy", "_ios_support", "_android_support", "_winreg"}
ACTS = {"antigravity", "this", "__main__"}
PROGRAMS = "sh bash env cat sort head tail wc tr cut seq awk sed grep find xargs tar date sleep sha256sum python3".split()


def main() -> None:
    wanted = sys.argv[1]
    found = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert found == wanted, f"Python is {found}, not {wanted}"

    warnings.simplefilter("ignore")
    broken = {}
    for name in sorted(sys.stdlib_module_names - ABSENT - OTHER_SYSTEMS - ACTS):
        try:
            importlib.import_module(name)
        except ImportError as error:
            broken[name] = error
    assert not broken, f"modules of the standard library that cannot be imported: {broken}"

    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    assert not missing, f"programs that are missing: {missing}"
    text = subprocess.run(
        ["sh", "-c", "seq 3 | awk '{ s += $1 } END { print s }'"], capture_output=True, text=True
    )
    assert text.stdout == "6\n", f"sh and awk do not work: {text}"

    import json.decoder
    import multiprocessing
    import ssl
    import zoneinfo

    paths = ssl.get_default_verify_paths()
    assert paths.capath and len(os.listdir(paths.capath)) > 50, f"no root certificates: {paths}"
    ssl.create_default_context(cafile="/etc/ssl/certs/ca-certificates.crt")
    assert zoneinfo.ZoneInfo("Europe/Paris").key, "no time zones"
    assert os.path.exists(json.decoder.__cached__), (
        "the standard library has no byte code: every start would be slow"
    )
    assert sys.getfilesystemencoding() == "utf-8" and sys.stdout.encoding.lower() == "utf-8", (
        "not UTF-8"
    )
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        assert pool.map(abs, [-1]) == [1], "multiprocessing does not work"


main()
