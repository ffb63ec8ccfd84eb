"""pagetie.py: as much of include/pagetie.h as the two programs here call, through ctypes.

PAGETIE_LIBRARY names the shared library; by default it is the one in target/release.
"""

import ctypes
import os

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
TARGET = os.path.join(ROOT, os.environ.get("CARGO_TARGET_DIR", "target"))
library = ctypes.CDLL(os.environ.get("PAGETIE_LIBRARY", os.path.join(TARGET, "release", "libpagetie.so")))

READ_ONLY, READ_WRITE, COPY_ON_WRITE = 0, 1, 2  # pagetie_access
PROT_NONE, PROT_READ, PROT_READ_WRITE = 0, 1, 2  # pagetie_prot


class RawError(ctypes.Structure):
    """pagetie_error: field by field."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("status", ctypes.c_int),
        ("os_error", ctypes.c_int32),
        ("value", ctypes.c_size_t),
        ("other", ctypes.c_size_t),
        ("message", ctypes.c_char * 192),
        ("value_end", ctypes.c_size_t),
        ("other_end", ctypes.c_size_t),
        ("index", ctypes.c_size_t),
    ]


class Error(Exception):
    """What a call came to: the name of its status, and one line for a person."""


# ctypes takes every argument for an int unless it is told: that would cut pointers in half.
handle, size, enum, out = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p)
for name, arguments in {
    "pagetie_region_new": [size, handle, out],
    "pagetie_region_read": [handle, size, handle, size],
    "pagetie_region_write": [handle, size, handle, size],
    "pagetie_space_borrow": [handle, size, out],
    "pagetie_tie_new": [handle, size, handle, size, size, enum, handle, out],
    "pagetie_retie": [handle, handle, size],
    "pagetie_untie": [handle],
    "pagetie_untie_all": [handle],
    "pagetie_protect": [handle, size, size, enum],
    "pagetie_discard": [handle, size, size],
}.items():
    getattr(library, name).argtypes = [*arguments, ctypes.POINTER(RawError)]
for name in ["pagetie_region_free", "pagetie_space_free", "pagetie_space_leak", "pagetie_tie_free"]:
    getattr(library, name).argtypes = [handle]
    getattr(library, name).restype = None
library.pagetie_page_size.restype = size
library.pagetie_status_name.restype = ctypes.c_char_p


def call(name, *arguments):
    """Calls a function that returns a status, and raises what it reports."""
    error = RawError(size=ctypes.sizeof(RawError))
    status = getattr(library, "pagetie_" + name)(*arguments, ctypes.byref(error))
    if status != 0:
        raise Error(f"{library.pagetie_status_name(status).decode()}: {error.message.decode()}")


def make(name, *arguments):
    """The same for a function that makes a handle."""
    made = ctypes.c_void_p()
    call(name, *arguments, ctypes.byref(made))
    return made


def free(name, which):
    """Calls one that releases a handle, and returns nothing."""
    getattr(library, "pagetie_" + name)(which)


page = library.pagetie_page_size()
