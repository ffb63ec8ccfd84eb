"""numpy.py: a numpy array whose memory shows a region, through ctypes and the shared library.

The array is ordinary: it has one address and numpy knows nothing of ties. What changes is which pages
are behind that address. PAGETIE_LIBRARY names the library; by default it is the one in target/release.
"""

import ctypes
import mmap
import os
import sys

if __name__ != "__main__":
    raise ImportError("this is an example of pagetie that is named like numpy: move it elsewhere")

# Python looks for modules beside the script first, and would take this file for numpy itself.
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path = [entry for entry in sys.path if os.path.abspath(entry or ".") != HERE]
try:
    import numpy
except ImportError:
    print(f"skipped: numpy is not installed for {sys.executable}")
    sys.exit(0)


class Error(ctypes.Structure):
    """pagetie_error: field by field as in include/pagetie.h."""

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


TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "..", "target"))
LIBRARY = os.environ.get("PAGETIE_LIBRARY", os.path.join(TARGET, "release", "libpagetie.so"))
pagetie = ctypes.CDLL(LIBRARY)

# ctypes takes every argument for an int unless it is told: that would cut pointers in half.
handle, size, out = ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)
for name, arguments in {
    "pagetie_region_new": [size, handle, out],
    "pagetie_region_write": [handle, size, handle, size],
    "pagetie_space_borrow": [handle, size, out],
    "pagetie_tie_new": [handle, size, handle, size, size, ctypes.c_int, handle, out],
    "pagetie_retie": [handle, handle, size],
    "pagetie_untie": [handle],
    "pagetie_untie_all": [handle],
}.items():
    getattr(pagetie, name).argtypes = [*arguments, ctypes.POINTER(Error)]
for name in ["pagetie_region_free", "pagetie_space_free"]:
    getattr(pagetie, name).argtypes = [handle]
    getattr(pagetie, name).restype = None
pagetie.pagetie_page_size.restype = size
READ_ONLY_TIE = 0


def call(name, *arguments):
    """Calls a function that returns a status, and raises what it reports."""
    error = Error(size=ctypes.sizeof(Error))
    if getattr(pagetie, name)(*arguments, ctypes.byref(error)) != 0:
        raise RuntimeError(error.message.decode())


def make(name, *arguments):
    """The same for a function that makes a handle."""
    made = ctypes.c_void_p()
    call(name, *arguments, ctypes.byref(made))
    return made


page = pagetie.pagetie_page_size()
pages = 64

# An array that begins on a page: pages from the kernel, seen by numpy as numbers.
memory = mmap.mmap(-1, pages * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
array = numpy.frombuffer(memory, dtype=numpy.uint64)
array[:] = 7

# Twice as many pages of data: 0, 1, 2, ... in the first half, 1000s in the second.
data = numpy.concatenate([numpy.arange(array.size, dtype=array.dtype), numpy.full_like(array, 1000)])
region = make("pagetie_region_new", data.nbytes, None)
call("pagetie_region_write", region, 0, data.ctypes.data, data.nbytes)

space = make("pagetie_space_borrow", array.ctypes.data, array.nbytes)
print("its own numbers:", array[:4], "all 7:", bool((array == 7).all()))
array.flags.writeable = False  # a store to a read-only tie is a SIGSEGV; so numpy raises an exception
tie = make("pagetie_tie_new", space, 0, region, 0, array.nbytes, READ_ONLY_TIE, None)
print("tied:", array[:4], "as the data:", bool((array == data[: array.size]).all()))
call("pagetie_retie", tie, region, array.nbytes)
print("tied to the second half:", array[:4], "mean:", array.mean())
call("pagetie_untie", tie)
array.flags.writeable = True
print("its own again:", array[:4], "all 7:", bool((array == 7).all()))

# Before the memory goes: nothing of ours is left in it.
call("pagetie_untie_all", space)
pagetie.pagetie_space_free(space)
pagetie.pagetie_region_free(region)
