"""example.py: a page of the host's data inside a numpy array, in both directions.

The array lies in pages from the kernel, so it starts on one. (One of malloc's starts 16 bytes behind a
page, and only other places of it can be tied.) numpy is native code: a store to a read-only tie kills it,
so arrays over one are best made read-only too.
"""

import ctypes
import mmap

import numpy
import pagetie

page = pagetie.page
memory = mmap.mmap(-1, 4 * 65536, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
array = numpy.frombuffer(memory, dtype=numpy.uint8)
start = array.ctypes.data

region = pagetie.make("region_new", page, None)
data = bytes([1, 2, 3])
pagetie.call("region_write", region, 0, data, len(data))

# A promise: the memory stays until the space is gone.
space = pagetie.make("space_borrow", start, array.nbytes)
tie = pagetie.make("tie_new", space, 65536, region, 0, page, pagetie.READ_WRITE, None)
print("tied: the array's sum of the host's bytes is", array[65536 : 65536 + page].sum())
array[65536 + 3] = 4
byte = ctypes.c_uint8()
pagetie.call("region_read", region, 3, ctypes.byref(byte), 1)
print("the array was stored to, and the host reads", byte.value)
pagetie.call("untie", tie)
array[65536] = 9
pagetie.call("region_read", region, 0, ctypes.byref(byte), 1)
print("untied: it was stored to elsewhere, and the host reads", byte.value)

pagetie.call("untie_all", space)  # nothing of ours is left
pagetie.free("space_free", space)
pagetie.free("region_free", region)
del array
memory.close()
