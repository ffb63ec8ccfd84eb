"""suite.py: the cases of ../suite.c on numpy. There is no guest code: what loads and stores, fills and adds
up is numpy, over an array in pages from the kernel. `suite.py list`, `suite.py version`, `suite.py CASE`.
"""

import gc
import mmap
import sys
import threading

import numpy
import pagetie
from pagetie import COPY_ON_WRITE, READ_ONLY, READ_WRITE, call, free, make, page

MEMORY = 4 * 65536
SEGMENTS = {65536: b"the guest's own bytes", 196608: b"and some more of them"}
FIRST = 65536
CHUNK = max(page, 16384)
WHOLE = max(page, 65536)


CASES = {}


def case(function):
    CASES[function.__name__.replace("_", "-")] = function
    return function


class Wrong(Exception):
    pass


def expect(condition, text):
    if not condition:
        raise Wrong(text)


def pattern(length, seed=0):
    i = numpy.arange(length)
    return (1 + (i * 7 + i // 251 + seed * 83) % 255).astype(numpy.uint8)


class Region:
    def __init__(self, length=max(WHOLE, 4 * CHUNK), seed=0):
        self.pattern = pattern(length, seed)
        self.handle = make("region_new", length, None)
        call("region_write", self.handle, 0, self.pattern.ctypes.data, length)

    def bytes(self, offset, length):
        into = numpy.empty(length, numpy.uint8)
        call("region_read", self.handle, offset, into.ctypes.data, length)
        return into

    def write(self, offset, byte):
        call("region_write", self.handle, offset, bytes([byte]), 1)

    def expect_unharmed(self):
        strange = numpy.nonzero(self.bytes(0, self.pattern.size) != self.pattern)[0]
        expect(strange.size == 0, f"the region was harmed in {strange.size} bytes, first {strange[:1]}")


class Guest:
    def __init__(self):
        self.memory = mmap.mmap(-1, MEMORY, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.array = numpy.frombuffer(self.memory, numpy.uint8)
        for at, data in SEGMENTS.items():
            self.array[at : at + len(data)] = numpy.frombuffer(data, numpy.uint8)
        self.space = make("space_borrow", self.array.ctypes.data, MEMORY)

    def tie(self, region, offset, length, access, at=FIRST):
        return make("tie_new", self.space, at, region.handle, offset, length, access, None)

    def protect(self, prot):
        call("protect", self.space, FIRST, page, prot)

    def expect_shows(self, region, offset, length, at=FIRST):
        seen, expected = self.array[at : at + length], region.bytes(offset, length)
        expect(seen.sum() == expected.sum(), f"the sum is {seen.sum()} and the region's {expected.sum()}")
        expect((seen == expected).all(), f"other bytes at {at} than the region's")

    def strange(self):
        """The addresses that do not hold what they held at the start."""
        expected = numpy.zeros(MEMORY, numpy.uint8)
        for at, data in SEGMENTS.items():
            expected[at : at + len(data)] = numpy.frombuffer(data, numpy.uint8)
        return numpy.nonzero(self.array != expected)[0]

    def unmap(self):
        self.array = None
        self.memory.close()

    def close(self):
        call("untie_all", self.space)
        free("space_free", self.space)
        self.unmap()


@case
def tie_read_only():
    guest, region = Guest(), Region()
    guest.tie(region, 0, WHOLE, READ_ONLY)
    guest.expect_shows(region, 0, WHOLE)
    region.write(page + 5, 0)
    expect(guest.array[FIRST + page + 5] == 0, "the array does not show the host's write")
    guest.close()
    return "ok"


@case
def tie_read_write():
    guest, region = Guest(), Region()
    guest.tie(region, CHUNK, CHUNK, READ_WRITE)
    guest.expect_shows(region, CHUNK, CHUNK)
    guest.array[FIRST + 3] = 0
    expect(region.bytes(CHUNK + 3, 1)[0] == 0, "the host does not see the store")
    region.write(CHUNK + 4, 0)
    expect(guest.array[FIRST + 4] == 0, "the array does not show the host's write")
    guest.close()
    return "ok"


@case
def tie_copy_on_write():
    guest, region = Guest(), Region()
    guest.tie(region, 0, CHUNK, COPY_ON_WRITE)
    guest.expect_shows(region, 0, CHUNK)
    guest.array[FIRST + 3] = 0
    expect(guest.array[FIRST + 3] == 0, "the array does not show its own store")
    region.expect_unharmed()
    guest.close()
    return "ok"


@case
def same_pages_twice():
    guest, region = Guest(), Region()
    guest.tie(region, 0, page, READ_WRITE)
    guest.tie(region, 0, page, READ_WRITE, at=FIRST + 2 * page)
    for byte in range(1, 100):
        guest.array[FIRST + byte] = byte
        seen = guest.array[FIRST + 2 * page + byte]
        expect(seen == byte, f"{byte} was stored at the one place, {seen} is loaded at the other")
    guest.close()
    return "ok"


@case
def several_regions():
    guest, regions = Guest(), [Region(CHUNK, seed) for seed in (1, 2, 3)]
    for i, region in enumerate(regions):
        guest.tie(region, 0, CHUNK, READ_ONLY, at=FIRST + i * CHUNK)
    seen = guest.array[FIRST : FIRST + 3 * CHUNK].sum()
    expected = sum(int(region.pattern.sum()) for region in regions)
    expect(seen == expected, f"the sum over the seams is {seen}, not {expected}")
    guest.close()
    return "ok"


@case
def store_read_only():
    guest, region = Guest(), Region()
    guest.tie(region, 0, WHOLE, READ_ONLY)
    guest.array[FIRST + 5] = 0
    raise Wrong("the store returned")


@case
def load_none():
    guest, region = Guest(), Region()
    guest.tie(region, 0, WHOLE, READ_ONLY)
    guest.protect(pagetie.PROT_NONE)
    raise Wrong(f"the load returned {guest.array[FIRST + 5]}")


@case
def store_read():
    guest, region = Guest(), Region()
    guest.tie(region, 0, WHOLE, READ_WRITE)
    guest.protect(pagetie.PROT_READ)
    guest.array[FIRST + 5] = 0
    raise Wrong("the store returned")


@case
def fill_copy_on_write():
    guest, region = Guest(), Region()
    guest.tie(region, 0, WHOLE, COPY_ON_WRITE)
    guest.array[FIRST : FIRST + page].fill(0xEE)
    expect((guest.array[FIRST : FIRST + page] == 0xEE).all(), "the fill is not there")
    region.expect_unharmed()
    guest.close()
    return "ok"


@case
def fill_read_only():
    guest, region = Guest(), Region()
    guest.tie(region, 0, WHOLE, READ_ONLY)
    guest.array[FIRST : FIRST + page].fill(0xEE)
    raise Wrong("the fill returned")


@case
def discard():
    guest, region = Guest(), Region()
    tie = guest.tie(region, 0, CHUNK, READ_WRITE)
    call("discard", guest.space, FIRST, page)
    expect(not guest.array[FIRST : FIRST + page].any(), "the array's bytes are still there")
    expect(not region.bytes(0, page).any(), "the region's bytes are still there")
    expect((region.bytes(page, CHUNK) == region.pattern[page : page + CHUNK]).all(), "other bytes went too")
    guest.expect_shows(region, 0, CHUNK)
    call("untie", tie)
    guest.tie(region, CHUNK, CHUNK, COPY_ON_WRITE)
    guest.array[FIRST : FIRST + CHUNK].fill(0xEE)
    call("discard", guest.space, FIRST, CHUNK)
    guest.expect_shows(region, CHUNK, CHUNK)
    guest.close()
    return "ok"


@case
def retie():
    guest, region, other = Guest(), Region(), Region(2 * CHUNK, 1)
    tie = guest.tie(region, 0, CHUNK, READ_WRITE)
    call("retie", tie, region.handle, 2 * CHUNK)
    guest.expect_shows(region, 2 * CHUNK, CHUNK)
    call("retie", tie, other.handle, CHUNK)
    guest.expect_shows(other, CHUNK, CHUNK)
    guest.array[FIRST] = 0
    expect(other.bytes(CHUNK, 1)[0] == 0, "the host does not see a store after retie")
    region.expect_unharmed()
    guest.close()
    return "ok"


@case
def grow():
    return "not offered: an array does not grow"


CASES |= {"grow-read-only": grow, "grow-protected": grow}


@case
def untie_restores():
    guest, region = Guest(), Region()
    guest.array[FIRST + 100 : FIRST + page] = 0x11
    before = guest.array.copy()
    tie = guest.tie(region, 0, WHOLE, READ_WRITE)
    guest.array[FIRST : FIRST + WHOLE].fill(0xEE)
    call("untie", tie)
    strange = numpy.nonzero(guest.array != before)[0]
    expect(strange.size == 0, f"{strange.size} bytes came back as others, first {strange[:1]}")
    guest.array[FIRST] = 0x12
    expect(guest.array[FIRST] == 0x12, "the array cannot be stored to where a tie was")
    expect(region.bytes(0, 1)[0] == 0xEE, "a store behind the untie reached the region")
    guest.close()
    return "ok"


@case
def closed_while_tied():
    Guest().close()
    guest, region = Guest(), Region()
    tie = guest.tie(region, 0, WHOLE, READ_WRITE)
    guest.unmap()
    free("space_leak", guest.space)
    free("tie_free", tie)
    guest = Guest()
    expect(guest.strange().size == 0, f"{guest.strange().size} bytes of a new array are not its own")
    guest.array.fill(0xEE)
    region.expect_unharmed()
    guest.close()
    return "ok"


@case
def next_tenant():
    region = Region()
    for _ in range(5):
        guest = Guest()
        expect(guest.strange().size == 0, f"{guest.strange().size} bytes of a new array are not its own")
        guest.tie(region, 0, WHOLE, READ_WRITE)
        guest.array[FIRST + 3] = 0
        guest.close()
    return "ok"


@case
def two_threads():
    region, wrong, both = Region(2 * CHUNK), [], threading.Barrier(2)

    def rounds():
        try:
            guest = Guest()
            both.wait()
            for _ in range(200):
                tie = guest.tie(region, 0, CHUNK, READ_ONLY)
                guest.expect_shows(region, 0, CHUNK)
                call("retie", tie, region.handle, CHUNK)
                guest.expect_shows(region, CHUNK, CHUNK)
                call("untie", tie)
                expect(guest.array[FIRST] == SEGMENTS[FIRST][0], "the array's own byte is gone")
            guest.close()
        except Exception as exception:  # told by the first thread
            wrong.append(exception)
            both.abort()

    threads = [threading.Thread(target=rounds) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for exception in wrong:
        raise exception
    return "ok"


@case
def thousand_instances():
    def use():
        with open("/proc/self/maps") as maps, open("/proc/self/status") as status:
            lines = len(maps.readlines())
            kib = [int(line.split()[1]) for line in status if line.startswith(("RssAnon", "RssShmem"))]
            return lines, sum(kib)

    region = Region(WHOLE)
    for i in range(1000):
        guest = Guest()
        guest.array[FIRST : FIRST + WHOLE].fill(0xEE)
        tie = guest.tie(region, 0, WHOLE, READ_WRITE)
        guest.expect_shows(region, 0, WHOLE)
        guest.close()
        free("tie_free", tie)
        if i == 49:
            gc.collect()
            mappings, kib = use()
    mappings_now, kib_now = use()
    print(f"mappings: {mappings}, then {mappings_now}; KiB: {kib}, then {kib_now}", file=sys.stderr)
    expect(mappings_now <= mappings + 20, f"{mappings} mappings became {mappings_now}")
    expect(kib_now <= kib + 8192, f"{kib} KiB became {kib_now} KiB")
    return "ok"


def main(name):
    if name == "list":
        print("\n".join(CASES))
    elif name == "version":
        print("numpy", numpy.__version__)
    elif name in CASES:
        try:
            print(CASES[name]())
        except Wrong as wrong:
            print("wrong:", wrong)
        except pagetie.Error as error:
            print("error:", error)
    else:
        sys.exit(f'list, version, or a case; there is no case "{name}"')


main(sys.argv[1] if len(sys.argv) == 2 else "")
