"""Run inside a fresh image: is it fit to run workers? Prints nothing when all is well.

python3 - 3.11 < check.py
"""

import ctypes
import datetime
import importlib
import json.decoder
import multiprocessing
import os
import shutil
import ssl
import subprocess
import sys
import warnings
import zoneinfo

# Not part of a worker's Python: windows and editors, installers, other systems' modules.
ABSENT = {"tkinter", "_tkinter", "turtle", "turtledemo", "idlelib", "ensurepip", "test"}
OTHER_SYSTEMS = {"msilib", "_msi", "msvcrt", "nt", "ntpath", "nturl2path", "winreg", "winsound"}
OTHER_SYSTEMS |= {"_winapi", "_wmi", "_overlapped", "_scproxy", "_ios_support", "_android_support"}
# These do something when they are imported.
ACT = {"antigravity", "this", "__main__"}

TEXT_PROGRAMS = ["cat", "sort", "head", "tail", "wc", "tr", "cut", "seq", "awk", "sed", "grep"]
PROGRAMS = ["sh", "bash", "env", "find", "xargs", "tar", "date", "sleep", "sha256sum", "python3"]


def need(condition: bool, otherwise: str) -> None:
    if not condition:
        sys.exit(f"check: {otherwise}")


def check_library() -> None:
    warnings.simplefilter("ignore")
    broken = {}
    for name in sorted(sys.stdlib_module_names - ABSENT - OTHER_SYSTEMS - ACT):
        try:
            importlib.import_module(name)
        except ImportError as error:
            broken[name] = error
    need(not broken, f"modules of the standard library that cannot be imported: {broken}")
    # Without it every start of Python would compile what it imports.
    need(os.path.exists(json.decoder.__cached__), "the standard library has no byte code")


def check_wheels() -> None:
    for library in ("libstdc++.so.6", "libgcc_s.so.1", "libz.so.1"):
        try:
            ctypes.CDLL(library)
        except OSError as error:
            need(False, f"wheels with compiled parts do not work: {error}")


def check_programs() -> None:
    missing = [program for program in PROGRAMS + TEXT_PROGRAMS if shutil.which(program) is None]
    need(not missing, f"programs that are missing: {missing}")
    script = "seq 3 | awk '{ s += $1 } END { print s }'"
    found = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    need(found.stdout == "6\n", f"sh and awk do not work: {found}")


def check_surroundings() -> None:
    need(sys.getfilesystemencoding() == "utf-8", "file names are not UTF-8")
    need(sys.stdout.encoding.lower() == "utf-8", "stdout is not UTF-8")
    certificates = ssl.get_default_verify_paths().capath
    need(bool(certificates and len(os.listdir(certificates)) > 50), "no root certificates")
    ssl.create_default_context(cafile="/etc/ssl/certs/ca-certificates.crt")
    need(
        zoneinfo.ZoneInfo("Europe/Paris").utcoffset(datetime.datetime.now()) is not None, "no zones"
    )
    with multiprocessing.get_context("fork").Pool(1) as pool:
        need(pool.map(abs, [-1]) == [1], "multiprocessing does not work")


def main() -> None:
    wanted = sys.argv[1]
    found = f"{sys.version_info.major}.{sys.version_info.minor}"
    need(found == wanted, f"Python is {found}, not {wanted}")
    check_library()
    check_wheels()
    check_programs()
    check_surroundings()


main()
