/* suite.c: what a tie into an engine's memory must do, as cases. Linked with one engine's program:
 *
 *   suite-<engine> list      the names of the cases, one a line
 *   suite-<engine> version   the engine's
 *   suite-<engine> CASE      runs it and prints what came of it, in one line
 *
 * Some cases end with a signal where the engine does not turn a fault into a trap: one process a case.
 * Every check is made on both sides: by calls into the guest, and by the host through the region. What
 * must hold in every engine is checked here; what differs is the outcome, and the runner knows which one
 * is expected of which engine. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"
#include "guest.h"

enum {
  FIRST_SEGMENT = 65536,   /* where guest.wat has its data */
  SECOND_SEGMENT = 196608,
  MEMORY = 4 * 65536,      /* what it begins with */
};
static const char FIRST_BYTES[] = "the guest's own bytes";
static const char SECOND_BYTES[] = "and some more of them";

/* -------------------------------------------------------------------- how a case ends before its end */

static void finish(const char *kind, const char *format, va_list arguments) {
  flockfile(stdout); /* one line, whichever thread comes first */
  printf("%s: ", kind);
  vprintf(format, arguments);
  putchar('\n');
  fflush(stdout);
  _exit(0);
}

__attribute__((format(printf, 1, 2), noreturn)) static void wrong(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  finish("wrong", format, arguments);
  abort();
}

#define EXPECT(condition, ...) ((condition) ? (void)0 : wrong(__VA_ARGS__))

static void must(pagetie_status status, const pagetie_error *error) {
  if (status != PAGETIE_OK) {
    printf("error: %s: %s\n", pagetie_status_name(status), error->message);
    fflush(stdout);
    _exit(0);
  }
}

/* Calls a function of pagetie whose last argument is the error. */
#define MUST(function, ...)                      \
  do {                                           \
    pagetie_error error = PAGETIE_ERROR_INIT;    \
    must(function(__VA_ARGS__, &error), &error); \
  } while (0)

/* ------------------------------------------------------------------------------------- the guest */

static guest *open_guest(void) {
  guest *opened = the_engine.open(guest_wasm, sizeof guest_wasm);
  EXPECT(opened != NULL, "the guest does not open");
  return opened;
}

static outcome call(guest *guest, const char *name, const int32_t *args, size_t count, int32_t *result) {
  outcome outcome = the_engine.call(guest, name, args, count, result);
  EXPECT(outcome != FAILED, "the call of %s failed", name);
  return outcome;
}

static outcome try_load(guest *guest, size_t at, uint8_t *byte) {
  int32_t result = 0;
  outcome outcome = call(guest, "load", (int32_t[]){(int32_t)at}, 1, &result);
  *byte = (uint8_t)result;
  return outcome;
}

static outcome try_store(guest *guest, size_t at, uint8_t byte) {
  int32_t result = 0;
  return call(guest, "store", (int32_t[]){(int32_t)at, byte}, 2, &result);
}

static outcome try_fill(guest *guest, size_t at, uint8_t byte, size_t len) {
  int32_t result = 0;
  return call(guest, "fill", (int32_t[]){(int32_t)at, byte, (int32_t)len}, 3, &result);
}

static uint8_t load(guest *guest, size_t at) {
  uint8_t byte = 0;
  EXPECT(try_load(guest, at, &byte) == RETURNED, "a load at %zu trapped", at);
  return byte;
}

static void store(guest *guest, size_t at, uint8_t byte) {
  EXPECT(try_store(guest, at, byte) == RETURNED, "a store at %zu trapped", at);
}

static void fill(guest *guest, size_t at, uint8_t byte, size_t len) {
  EXPECT(try_fill(guest, at, byte, len) == RETURNED, "a fill at %zu trapped", at);
}

static uint32_t sum(guest *guest, size_t at, size_t len) {
  int32_t result = 0;
  outcome outcome = call(guest, "sum", (int32_t[]){(int32_t)at, (int32_t)len}, 2, &result);
  EXPECT(outcome == RETURNED, "a sum from %zu on trapped", at);
  return (uint32_t)result;
}

static int32_t grow(guest *guest) {
  int32_t had = -1;
  EXPECT(call(guest, "grow", (int32_t[]){1}, 1, &had) == RETURNED, "memory.grow trapped");
  EXPECT(had == MEMORY / 65536, "memory.grow answered %d", (int)had);
  return had;
}

/* -------------------------------------------------------------------- a guest, its space, a region */

typedef struct setup {
  guest *guest;
  uint8_t *start; /* of the guest's memory */
  size_t len;
  const pagetie_space *space;
  pagetie_space *borrowed; /* the same, where it is ours to free */
  pagetie_region *region;  /* of `region_len` bytes, none of them 0 */
  size_t region_len;
  size_t page;
  size_t chunk; /* whole pages, of which three fit behind `first` */
  size_t whole; /* 64 KiB, or a page where that is more */
  size_t first; /* the guest's address of the page that its first data segment begins in */
} setup;

static size_t larger(size_t one, size_t other) { return one > other ? one : other; }

static uint8_t pattern(size_t i, unsigned seed) { return (uint8_t)(1 + (i * 7 + i / 251 + seed * 83) % 255); }

static pagetie_region *new_region(size_t len, unsigned seed) {
  pagetie_region *region = NULL;
  MUST(pagetie_region_new, len, NULL, &region);
  uint8_t *bytes = malloc(len);
  for (size_t i = 0; i < len; i++) {
    bytes[i] = pattern(i, seed);
  }
  MUST(pagetie_region_write, region, 0, bytes, len);
  free(bytes);
  return region;
}

static void borrow(setup *s) {
  pagetie_space_options options = PAGETIE_SPACE_OPTIONS_INIT;
  options.allow_heap = the_engine.allow_heap;
  MUST(pagetie_space_borrow_with, s->start, s->len, &options, &s->borrowed);
  s->space = s->borrowed;
}

/* Where the memory does not start on a page, its pages start at other addresses of the guest's. */
static void aim(setup *s) {
  uintptr_t first = ((uintptr_t)s->start + FIRST_SEGMENT) / s->page * s->page;
  s->first = first - (uintptr_t)s->start;
}

/* Opens a guest and makes, or borrows, its space. */
static void open_setup(setup *s) {
  s->page = pagetie_page_size();
  s->chunk = larger(s->page, 16384);
  s->whole = larger(s->page, 65536);
  s->guest = open_guest();
  void *start = NULL;
  the_engine.memory(s->guest, &start, &s->len);
  EXPECT(start != NULL && s->len == MEMORY, "the memory is %zu bytes at %p", s->len, start);
  s->start = start;
  s->borrowed = NULL;
  s->space = the_engine.space != NULL ? the_engine.space(s->guest) : NULL;
  if (s->space == NULL) {
    borrow(s);
  }
  aim(s);
}

static setup begin(void) {
  setup s;
  open_setup(&s);
  s.region_len = larger(s.whole, 4 * s.chunk);
  s.region = new_region(s.region_len, 0);
  return s;
}

/* Where in the space an address of the guest's lies: the space may begin before the memory. */
static size_t place(const setup *s, size_t at) {
  return at + (size_t)(s->start - (uint8_t *)pagetie_space_base(s->space));
}

/* Handles of ties that ended are left to the end of the process, which is near. */
static void end_space(setup *s) {
  MUST(pagetie_untie_all, s->space);
  pagetie_space_free(s->borrowed); /* NULL: it is the guest's, and close frees it */
  s->space = s->borrowed = NULL;
}

/* What every case does when it has seen what it wanted. */
static void end(setup *s) {
  end_space(s);
  the_engine.close(s->guest);
  pagetie_region_free(s->region);
}

static pagetie_tie *tie(const setup *s, size_t at, const pagetie_region *region, size_t offset, size_t len,
                        pagetie_access access) {
  pagetie_tie *tied = NULL;
  MUST(pagetie_tie_new, s->space, place(s, at), region, offset, len, access, NULL, &tied);
  return tied;
}

static void protect(const setup *s, size_t at, size_t len, pagetie_prot prot) {
  MUST(pagetie_protect, s->space, place(s, at), len, prot);
}

static void untie(pagetie_tie *tied) { MUST(pagetie_untie, tied); }

/* What the kernel says that [at, at + len) allows. */
static pagetie_prot prot(const setup *s, size_t at, size_t len) {
  pagetie_mapping mappings[16];
  size_t count = 0;
  MUST(pagetie_inspect, s->space, place(s, at), len, mappings, 16, sizeof *mappings, &count);
  EXPECT(count > 0 && count <= 16, "%zu mappings at %zu", count, at);
  for (size_t i = 1; i < count; i++) {
    EXPECT(mappings[i].prot == mappings[0].prot, "the pages at %zu allow different things", at);
  }
  return mappings[0].prot;
}

/* ------------------------------------------------------------------------------- bytes on both sides */

static uint8_t region_byte(const pagetie_region *region, size_t offset) {
  uint8_t byte = 0;
  MUST(pagetie_region_read, region, offset, &byte, 1);
  return byte;
}

static void write_byte(const pagetie_region *region, size_t offset, uint8_t byte) {
  MUST(pagetie_region_write, region, offset, &byte, 1);
}

/* The region holds what new_region wrote. */
static void expect_unharmed(const pagetie_region *region, unsigned seed) {
  size_t len = pagetie_region_len(region);
  uint8_t *bytes = malloc(len);
  MUST(pagetie_region_read, region, 0, bytes, len);
  for (size_t i = 0; i < len; i++) {
    EXPECT(bytes[i] == pattern(i, seed), "the region was harmed: its byte %zu is %u and was %u", i,
           bytes[i], pattern(i, seed));
  }
  free(bytes);
}

/* The guest finds [offset, offset + len) of the region at `at`: the sum, and some bytes one by one. */
static void expect_shows(guest *guest, size_t at, const pagetie_region *region, size_t offset, size_t len) {
  uint8_t *bytes = malloc(len);
  MUST(pagetie_region_read, region, offset, bytes, len);
  uint32_t expected = 0;
  for (size_t i = 0; i < len; i++) {
    expected += bytes[i];
  }
  uint32_t seen = sum(guest, at, len);
  EXPECT(seen == expected, "the guest sums %u at %zu where the region has %u", seen, at, expected);
  for (size_t i = 0; i < len; i += len / 8 - 1) {
    uint8_t byte = load(guest, at + i);
    EXPECT(byte == bytes[i], "the guest loads %u at %zu where the region has %u", byte, at + i, bytes[i]);
  }
  free(bytes);
}

/* What the guest's memory holds at the start: nothing but the data segments. */
static uint8_t pristine(size_t at) {
  if (at >= FIRST_SEGMENT && at < FIRST_SEGMENT + sizeof FIRST_BYTES - 1) {
    return (uint8_t)FIRST_BYTES[at - FIRST_SEGMENT];
  }
  if (at >= SECOND_SEGMENT && at < SECOND_SEGMENT + sizeof SECOND_BYTES - 1) {
    return (uint8_t)SECOND_BYTES[at - SECOND_SEGMENT];
  }
  return 0;
}

/* How many bytes of the guest's are others than at its start: by what the host sees; the guest must
 * agree about the sum. The first one is put into *where. */
static size_t strange_bytes(guest *guest, size_t *where) {
  void *start = NULL;
  size_t len = 0;
  the_engine.memory(guest, &start, &len);
  const volatile uint8_t *memory = start;
  EXPECT(len == MEMORY, "a new guest's memory is %zu bytes", len);
  size_t strange = 0;
  uint32_t expected = 0;
  for (size_t i = 0; i < len; i++) {
    uint8_t byte = memory[i];
    expected += byte;
    if (byte != pristine(i) && strange++ == 0) {
      *where = i;
    }
  }
  uint32_t seen = sum(guest, 0, len);
  EXPECT(seen == expected, "a new guest sums %u where the host sums %u", seen, expected);
  return strange;
}

/* ------------------------------------------------------------------------------------------ the cases */

static const char *tie_read_only(void) {
  setup s = begin();
  pagetie_tie *tied = tie(&s, s.first, s.region, 0, s.whole, PAGETIE_READ_ONLY_TIE);
  expect_shows(s.guest, s.first, s.region, 0, s.whole);
  write_byte(s.region, s.page + 5, 0);
  EXPECT(load(s.guest, s.first + s.page + 5) == 0, "the guest does not see the host's write");
  expect_shows(s.guest, s.first, s.region, 0, s.whole);
  untie(tied);
  end(&s);
  return "ok";
}

static const char *tie_read_write(void) {
  setup s = begin();
  pagetie_tie *tied = tie(&s, s.first, s.region, s.chunk, s.chunk, PAGETIE_READ_WRITE_TIE);
  expect_shows(s.guest, s.first, s.region, s.chunk, s.chunk);
  store(s.guest, s.first + 3, 0);
  uint8_t seen = region_byte(s.region, s.chunk + 3);
  EXPECT(seen == 0, "the host sees %u where the guest stored 0", seen);
  write_byte(s.region, s.chunk + 4, 0);
  EXPECT(load(s.guest, s.first + 4) == 0, "the guest does not see the host's write");
  untie(tied);
  end(&s);
  return "ok";
}

static const char *tie_copy_on_write(void) {
  setup s = begin();
  pagetie_tie *tied = tie(&s, s.first, s.region, 0, s.chunk, PAGETIE_COPY_ON_WRITE_TIE);
  expect_shows(s.guest, s.first, s.region, 0, s.chunk);
  store(s.guest, s.first + 3, 0);
  EXPECT(load(s.guest, s.first + 3) == 0, "the guest does not see its own store");
  expect_unharmed(s.region, 0);
  untie(tied);
  end(&s);
  return "ok";
}

static const char *same_pages_twice(void) {
  setup s = begin();
  pagetie_tie *one = tie(&s, s.first, s.region, 0, s.page, PAGETIE_READ_WRITE_TIE);
  pagetie_tie *other = tie(&s, s.first + 2 * s.page, s.region, 0, s.page, PAGETIE_READ_WRITE_TIE);
  for (uint8_t byte = 1; byte < 100; byte++) {
    store(s.guest, s.first + byte, byte);
    uint8_t seen = load(s.guest, s.first + 2 * s.page + byte);
    EXPECT(seen == byte, "%u was stored at the one place, %u is loaded at the other", byte, seen);
  }
  untie(one);
  store(s.guest, s.first + 2 * s.page, 0);
  EXPECT(region_byte(s.region, 0) == 0, "the second tie is dead after the first was untied");
  untie(other);
  end(&s);
  return "ok";
}

static const char *several_regions(void) {
  setup s = begin();
  uint32_t expected = 0;
  pagetie_region *regions[3];
  for (unsigned i = 0; i < 3; i++) {
    regions[i] = new_region(s.chunk, i + 1);
    tie(&s, s.first + i * s.chunk, regions[i], 0, s.chunk, PAGETIE_READ_ONLY_TIE);
    for (size_t at = 0; at < s.chunk; at++) {
      expected += pattern(at, i + 1);
    }
  }
  uint32_t seen = sum(s.guest, s.first, 3 * s.chunk);
  EXPECT(seen == expected, "the sum over the seams is %u, not %u", seen, expected);
  for (unsigned i = 0; i < 3; i++) {
    expect_shows(s.guest, s.first + i * s.chunk, regions[i], 0, s.chunk);
  }
  end(&s);
  for (unsigned i = 0; i < 3; i++) {
    expect_unharmed(regions[i], i + 1);
    pagetie_region_free(regions[i]);
  }
  return "ok";
}

/* After a trap the guest must still be good for calls, and the region as it was. */
static const char *trapped(setup *s) {
  expect_unharmed(s->region, 0);
  expect_shows(s->guest, s->first, s->region, 0, s->chunk);
  end(s);
  return "trap";
}

static const char *store_read_only(void) {
  setup s = begin();
  tie(&s, s.first, s.region, 0, s.whole, PAGETIE_READ_ONLY_TIE);
  EXPECT(try_store(s.guest, s.first + 5, 0) == TRAPPED, "the store returned");
  return trapped(&s);
}

static const char *load_none(void) {
  setup s = begin();
  tie(&s, s.first, s.region, 0, s.whole, PAGETIE_READ_ONLY_TIE);
  uint8_t byte = 0;
  protect(&s, s.first, s.page, PAGETIE_PROT_NONE);
  EXPECT(try_load(s.guest, s.first + 5, &byte) == TRAPPED, "the load returned %u", byte);
  protect(&s, s.first, s.page, PAGETIE_PROT_READ);
  return trapped(&s);
}

static const char *store_read(void) {
  setup s = begin();
  tie(&s, s.first, s.region, 0, s.whole, PAGETIE_READ_WRITE_TIE);
  protect(&s, s.first, s.page, PAGETIE_PROT_READ);
  EXPECT(try_store(s.guest, s.first + 5, 0) == TRAPPED, "the store returned");
  expect_unharmed(s.region, 0);
  protect(&s, s.first, s.page, PAGETIE_PROT_READ_WRITE);
  store(s.guest, s.first + 5, 0);
  EXPECT(region_byte(s.region, 5) == 0, "the host does not see the store that is allowed again");
  write_byte(s.region, 5, pattern(5, 0));
  return trapped(&s);
}

static const char *fill_copy_on_write(void) {
  setup s = begin();
  pagetie_tie *tied = tie(&s, s.first, s.region, 0, s.whole, PAGETIE_COPY_ON_WRITE_TIE);
  fill(s.guest, s.first, 0xee, s.chunk);
  uint32_t seen = sum(s.guest, s.first, s.chunk);
  EXPECT(seen == 0xee * s.chunk, "the guest sums %u after filling %zu bytes", seen, s.chunk);
  expect_shows(s.guest, s.first + s.chunk, s.region, s.chunk, s.whole - s.chunk);
  expect_unharmed(s.region, 0);
  untie(tied);
  end(&s);
  return "ok";
}

static const char *fill_read_only(void) {
  setup s = begin();
  tie(&s, s.first, s.region, 0, s.whole, PAGETIE_READ_ONLY_TIE);
  EXPECT(try_fill(s.guest, s.first, 0xee, s.chunk) == TRAPPED, "the fill returned");
  return trapped(&s);
}

static const char *discard(void) {
  setup s = begin();
  pagetie_tie *tied = tie(&s, s.first, s.region, 0, s.chunk, PAGETIE_READ_WRITE_TIE);
  MUST(pagetie_discard, s.space, place(&s, s.first), s.page);
  uint32_t seen = sum(s.guest, s.first, s.page);
  EXPECT(seen == 0, "the guest sums %u over a page of zeros", seen);
  for (size_t i = 0; i < s.page; i++) {
    EXPECT(region_byte(s.region, i) == 0, "byte %zu of the region is still there", i);
  }
  EXPECT(region_byte(s.region, s.page) == pattern(s.page, 0), "the next page of the region went too");
  expect_shows(s.guest, s.first, s.region, 0, s.chunk);
  untie(tied);

  tied = tie(&s, s.first, s.region, s.chunk, s.chunk, PAGETIE_COPY_ON_WRITE_TIE);
  fill(s.guest, s.first, 0xee, s.chunk);
  MUST(pagetie_discard, s.space, place(&s, s.first), s.chunk);
  expect_shows(s.guest, s.first, s.region, s.chunk, s.chunk);
  EXPECT(region_byte(s.region, s.chunk) == pattern(s.chunk, 0), "the region's bytes went");
  untie(tied);
  end(&s);
  return "ok";
}

static const char *retie(void) {
  setup s = begin();
  pagetie_region *other = new_region(2 * s.chunk, 1);
  pagetie_tie *tied = tie(&s, s.first, s.region, 0, s.chunk, PAGETIE_READ_WRITE_TIE);
  expect_shows(s.guest, s.first, s.region, 0, s.chunk);
  MUST(pagetie_retie, tied, s.region, 2 * s.chunk);
  expect_shows(s.guest, s.first, s.region, 2 * s.chunk, s.chunk);
  MUST(pagetie_retie, tied, other, s.chunk);
  expect_shows(s.guest, s.first, other, s.chunk, s.chunk);
  store(s.guest, s.first, 0);
  EXPECT(region_byte(other, s.chunk) == 0, "the host does not see a store after retie");
  expect_unharmed(s.region, 0);
  untie(tied);
  end(&s);
  pagetie_region_free(other);
  return "ok";
}

/* Grows the memory by 64 KiB and looks where it is then. False: it is elsewhere. */
static bool grow_in_place(setup *s) {
  grow(s->guest);
  uint8_t *before = s->start;
  void *start = NULL;
  the_engine.memory(s->guest, &start, &s->len);
  s->start = start;
  EXPECT(s->len == MEMORY + 65536, "the grown memory is %zu bytes", s->len);
  return s->start == before;
}

/* The embedder's duty after a grow in place. A reserved space has the length already. */
static void take_note(setup *s) {
  if (s->borrowed != NULL) {
    MUST(pagetie_space_grown_to, s->borrowed, s->start, s->len);
  }
  EXPECT(place(s, 0) + s->len <= pagetie_space_len(s->space), "the space is too short");
}

/* The old addresses are nobody's to touch now. Pagetie must say so, and a new space must do. */
static const char *moved(setup *s, pagetie_tie *tied) {
  EXPECT(s->borrowed != NULL, "the engine left the addresses that it was given");
  pagetie_error error = PAGETIE_ERROR_INIT;
  pagetie_status status = pagetie_space_grown_to(s->borrowed, s->start, s->len, &error);
  EXPECT(status == PAGETIE_CHANGED, "grown_to answers %s", pagetie_status_name(status));
  pagetie_space_leak(s->borrowed);
  pagetie_tie_free(tied);

  fill(s->guest, 0, 0xee, s->len);
  expect_unharmed(s->region, 0);
  borrow(s);
  aim(s);
  tied = tie(s, s->first, s->region, 0, s->whole, PAGETIE_READ_WRITE_TIE);
  expect_shows(s->guest, s->first, s->region, 0, s->whole);
  untie(tied);
  EXPECT(load(s->guest, s->first) == 0xee, "untie does not bring the grown memory's bytes back");
  end(s);
  return "moved";
}

static const char *grow_tied(void) {
  setup s = begin();
  pagetie_tie *tied = tie(&s, s.first, s.region, 0, s.whole, PAGETIE_READ_WRITE_TIE);
  store(s.guest, 7, 0x77);
  if (!grow_in_place(&s)) {
    return moved(&s, tied);
  }
  take_note(&s);
  EXPECT(pagetie_tie_is_live(tied) == 1, "the tie ended");
  expect_shows(s.guest, s.first, s.region, 0, s.whole);
  store(s.guest, s.first + 3, 0);
  EXPECT(region_byte(s.region, 3) == 0, "the host does not see the guest's store");
  write_byte(s.region, 4, 0);
  EXPECT(load(s.guest, s.first + 4) == 0, "the guest does not see the host's write");
  EXPECT(load(s.guest, 7) == 0x77, "the guest's own byte is another");
  fill(s.guest, MEMORY, 0xee, 65536);
  EXPECT(load(s.guest, MEMORY + 65535) == 0xee, "the new page does not keep what is stored");

  protect(&s, s.first, s.whole, PAGETIE_PROT_READ);
  EXPECT(prot(&s, s.first, s.whole) == PAGETIE_PROT_READ, "protect does not protect after a grow");
  protect(&s, s.first, s.whole, PAGETIE_PROT_READ_WRITE);
  untie(tied);
  /* The new addresses are as good for a tie as the old ones. */
  size_t last = s.first + (MEMORY - FIRST_SEGMENT);
  tied = tie(&s, last, s.region, s.chunk, s.page, PAGETIE_READ_ONLY_TIE);
  expect_shows(s.guest, last, s.region, s.chunk, s.page);
  untie(tied);
  end(&s);
  return "in place";
}

static const char *grow_read_only(void) {
  setup s = begin();
  pagetie_tie *tied = tie(&s, s.first, s.region, 0, s.whole, PAGETIE_READ_ONLY_TIE);
  if (!grow_in_place(&s)) {
    return moved(&s, tied);
  }
  pagetie_prot after = prot(&s, s.first, s.whole);
  fprintf(stderr, "after the grow the tie allows %d\n", (int)after);
  if (try_store(s.guest, s.first + 5, 0) == TRAPPED) {
    take_note(&s);
    return trapped(&s);
  }
  EXPECT(after == PAGETIE_PROT_READ_WRITE, "the store returned, and the pages are read-only");
  expect_unharmed(s.region, 0);
  take_note(&s);
  EXPECT(prot(&s, s.first, s.whole) == PAGETIE_PROT_READ, "grown_to does not protect again");
  untie(tied);
  end(&s);
  return "re-protected: store stayed private";
}

static const char *grow_protected(void) {
  setup s = begin();
  protect(&s, s.first, s.page, PAGETIE_PROT_NONE);
  if (!grow_in_place(&s)) {
    return moved(&s, NULL);
  }
  pagetie_prot after = prot(&s, s.first, s.page);
  EXPECT(after != PAGETIE_PROT_READ, "the page may be read, but not written");
  take_note(&s);
  EXPECT(prot(&s, s.first, s.page) == PAGETIE_PROT_NONE, "grown_to does not protect again");
  protect(&s, s.first, s.page, PAGETIE_PROT_READ_WRITE);
  EXPECT(load(s.guest, FIRST_SEGMENT) == FIRST_BYTES[0], "the page's bytes are others");
  end(&s);
  return after == PAGETIE_PROT_NONE ? "still protected" : "re-protected";
}

static const char *untie_restores(void) {
  setup s = begin();
  uint8_t *before = malloc(MEMORY);
  fill(s.guest, s.first + 100, 0x11, s.page - 200);
  for (size_t i = 0; i < s.whole; i += 997) {
    store(s.guest, s.first + i, (uint8_t)i);
  }
  store(s.guest, FIRST_SEGMENT, 't');
  for (size_t i = 0; i < MEMORY; i++) {
    before[i] = ((volatile uint8_t *)s.start)[i];
  }

  pagetie_tie *tied = tie(&s, s.first, s.region, 0, s.whole, PAGETIE_READ_WRITE_TIE);
  expect_shows(s.guest, s.first, s.region, 0, s.whole);
  fill(s.guest, s.first, 0xee, s.whole);
  untie(tied);

  uint32_t expected = 0;
  for (size_t i = 0; i < MEMORY; i++) {
    uint8_t byte = ((volatile uint8_t *)s.start)[i];
    EXPECT(byte == before[i], "byte %zu came back as %u and was %u", i, byte, before[i]);
    expected += byte;
  }
  uint32_t seen = sum(s.guest, 0, MEMORY);
  EXPECT(seen == expected, "the guest sums %u where the host sums %u", seen, expected);
  for (size_t i = 1; i < sizeof FIRST_BYTES - 1; i++) {
    uint8_t byte = load(s.guest, FIRST_SEGMENT + i);
    EXPECT(byte == before[FIRST_SEGMENT + i], "the data segment's byte %zu is %u", i, byte);
  }
  store(s.guest, s.first, 0x12);
  EXPECT(load(s.guest, s.first) == 0x12, "the guest cannot store where a tie was");
  EXPECT(region_byte(s.region, 0) == 0xee, "a store behind the untie reached the region");
  end(&s);
  free(before);
  return "ok";
}

static const char *closed_while_tied(void) {
  the_engine.close(open_guest()); /* so that the engine has a memory to use again, if it does that */
  setup s = begin();
  pagetie_tie *tied = tie(&s, s.first, s.region, 0, s.whole, PAGETIE_READ_WRITE_TIE);
  the_engine.close(s.guest);
  pagetie_space_leak(s.borrowed);
  pagetie_tie_free(tied);
  expect_unharmed(s.region, 0);

  size_t first = s.first;
  open_setup(&s);
  size_t where = 0;
  size_t strange = strange_bytes(s.guest, &where);
  if (strange > 0 && where >= first && s.start[where] == pattern(where - first, 0)) {
    return "the next tenant sees it";
  }
  EXPECT(strange == 0, "%zu bytes of a new guest are not its own, from %zu on", strange, where);
  fill(s.guest, 0, 0xee, MEMORY);
  if (region_byte(s.region, s.whole - 1) == 0xee) {
    return "the next tenant writes it";
  }
  expect_unharmed(s.region, 0);
  tie(&s, s.first, s.region, 0, s.whole, PAGETIE_READ_ONLY_TIE);
  expect_shows(s.guest, s.first, s.region, 0, s.whole);
  end(&s);
  return "ok";
}

static const char *next_tenant(void) {
  setup s = begin();
  size_t where = 0;
  for (int round = 0; round < 5; round++) {
    tie(&s, s.first, s.region, 0, s.whole, PAGETIE_READ_WRITE_TIE);
    store(s.guest, s.first + 3, (uint8_t)(100 + round));
    EXPECT(region_byte(s.region, 3) == 100 + round, "the host does not see the guest's store");
    end_space(&s);
    the_engine.close(s.guest);
    open_setup(&s);
    size_t strange = strange_bytes(s.guest, &where);
    EXPECT(strange == 0, "%zu bytes of a new guest are not its own, from %zu on", strange, where);
    fill(s.guest, 0, 0xee, MEMORY);
    EXPECT(region_byte(s.region, 4) == pattern(4, 0), "a new guest writes into the region");
  }
  end(&s);
  return "ok";
}

static pthread_barrier_t both;

static void rounds(const pagetie_region *region) {
  setup s;
  open_setup(&s);
  pthread_barrier_wait(&both);
  for (int round = 0; round < 200; round++) {
    pagetie_tie *tied = tie(&s, s.first, region, 0, s.chunk, PAGETIE_READ_ONLY_TIE);
    expect_shows(s.guest, s.first, region, 0, s.chunk);
    MUST(pagetie_retie, tied, region, s.chunk);
    expect_shows(s.guest, s.first, region, s.chunk, s.chunk);
    untie(tied);
    EXPECT(load(s.guest, FIRST_SEGMENT) == FIRST_BYTES[0], "the guest's byte is gone in round %d", round);
  }
  end_space(&s);
  the_engine.close(s.guest);
}

static void *second_thread(void *region) {
  if (the_engine.thread_begin != NULL) {
    the_engine.thread_begin();
  }
  rounds(region);
  if (the_engine.thread_end != NULL) {
    the_engine.thread_end();
  }
  return NULL;
}

static const char *two_threads(void) {
  pagetie_region *region = new_region(2 * larger(pagetie_page_size(), 16384), 0);
  pthread_t thread;
  EXPECT(pthread_barrier_init(&both, NULL, 2) == 0, "there is no barrier");
  EXPECT(pthread_create(&thread, NULL, second_thread, region) == 0, "there is no thread");
  rounds(region);
  pthread_join(thread, NULL);
  expect_unharmed(region, 0);
  pagetie_region_free(region);
  return "ok";
}

static size_t count_mappings(void) {
  FILE *maps = fopen("/proc/self/maps", "r");
  EXPECT(maps != NULL, "there is no /proc/self/maps");
  size_t lines = 0;
  for (int c = getc(maps); c != EOF; c = getc(maps)) {
    lines += c == '\n';
  }
  fclose(maps);
  return lines;
}

/* Memory that is this process' own, or shared as regions are. */
static size_t resident_kib(void) {
  FILE *status = fopen("/proc/self/status", "r");
  EXPECT(status != NULL, "there is no /proc/self/status");
  char line[256];
  size_t kib = 0, all = 0;
  while (fgets(line, sizeof line, status) != NULL) {
    if (sscanf(line, "RssAnon: %zu", &kib) == 1 || sscanf(line, "RssShmem: %zu", &kib) == 1) {
      all += kib;
    }
  }
  fclose(status);
  EXPECT(all > 0, "/proc/self/status does not say what is resident");
  return all;
}

static const char *thousand_instances(void) {
  pagetie_region *region = new_region(larger(pagetie_page_size(), 65536), 0);
  size_t mappings = 0, kib = 0;
  for (int i = 0; i < 1000; i++) {
    setup s;
    open_setup(&s);
    fill(s.guest, s.first, 0xee, s.whole); /* so that what is left behind weighs something */
    pagetie_tie *tied = tie(&s, s.first, region, 0, s.whole, PAGETIE_READ_WRITE_TIE);
    expect_shows(s.guest, s.first, region, 0, s.whole);
    end_space(&s);
    pagetie_tie_free(tied);
    the_engine.close(s.guest);
    if (i == 49) {
      mappings = count_mappings();
      kib = resident_kib();
    }
  }
  size_t mappings_now = count_mappings(), kib_now = resident_kib();
  fprintf(stderr, "mappings: %zu, then %zu; resident: %zu KiB, then %zu KiB\n", mappings, mappings_now, kib,
          kib_now);
  /* One a guest would be 950 more. JavaScriptCore's allocator alone comes and goes by up to 30. */
  EXPECT(mappings_now <= mappings + 100, "%zu mappings became %zu", mappings, mappings_now);
  EXPECT(kib_now <= kib + 8192, "%zu KiB became %zu KiB", kib, kib_now);
  expect_unharmed(region, 0);
  pagetie_region_free(region);
  return "ok";
}

static const struct {
  const char *name;
  const char *(*run)(void);
} CASES[] = {
    {"tie-read-only", tie_read_only},
    {"tie-read-write", tie_read_write},
    {"tie-copy-on-write", tie_copy_on_write},
    {"same-pages-twice", same_pages_twice},
    {"several-regions", several_regions},
    {"store-read-only", store_read_only},
    {"load-none", load_none},
    {"store-read", store_read},
    {"fill-copy-on-write", fill_copy_on_write},
    {"fill-read-only", fill_read_only},
    {"discard", discard},
    {"retie", retie},
    {"grow", grow_tied},
    {"grow-read-only", grow_read_only},
    {"grow-protected", grow_protected},
    {"untie-restores", untie_restores},
    {"closed-while-tied", closed_while_tied},
    {"next-tenant", next_tenant},
    {"two-threads", two_threads},
    {"thousand-instances", thousand_instances},
};

int main(int argc, char **argv) {
  const char *name = argc == 2 ? argv[1] : "";
  if (strcmp(name, "version") == 0) {
    puts(the_engine.version());
    return 0;
  }
  for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
    if (strcmp(name, "list") == 0) {
      puts(CASES[i].name);
    } else if (strcmp(name, CASES[i].name) == 0) {
      puts(CASES[i].run());
      return 0;
    }
  }
  if (strcmp(name, "list") == 0) {
    return 0;
  }
  fprintf(stderr, "%s: list, version, or a case; there is no case \"%s\"\n", argv[0], name);
  return 2;
}
