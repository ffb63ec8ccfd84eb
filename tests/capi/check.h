/* What the C tests share: checks that end the program with a line of what failed, an error struct that
 * is watched, and memory that stands for an engine's. */
#ifndef CHECK_H
#define CHECK_H

#include "pagetie.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static inline void failed(const char *file, int line, const char *what) {
  fprintf(stderr, "%s:%d: %s\n", file, line, what);
  exit(1);
}

#define CHECK(condition) ((condition) ? (void)0 : failed(__FILE__, __LINE__, #condition))

/* What a test could not do, and why: for the person who reads the run. */
static inline void left_out(const char *what, const char *why) {
  fprintf(stderr, "left out: %s: %s\n", what, why);
}

/* Under valgrind and sanitizers: what they cannot run is left out. See ci/sanitize. */
static inline int under(const char *tool) {
  const char *name = getenv("PAGETIE_UNDER");
  return name != NULL && strcmp(name, tool) == 0;
}

#define WATCHED 0xa5

static inline int all_watched(const void *start, size_t len) {
  for (size_t i = 0; i < len; i++) {
    if (((const unsigned char *)start)[i] != WATCHED) return 0;
  }
  return 1;
}

/* An error of which nothing is set but its size. */
static inline pagetie_error watched_error(void) {
  pagetie_error error;
  memset(&error, WATCHED, sizeof error);
  error.size = sizeof error;
  return error;
}

static inline void check_status(const char *file, int line, const char *call, pagetie_status expected,
                                pagetie_status status, const pagetie_error *error) {
  if (status != expected) {
    fprintf(stderr, "%s:%d: %s: %s instead of %s: %.*s\n", file, line, call,
            pagetie_status_name(status), pagetie_status_name(expected),
            status == PAGETIE_OK ? 0 : (int)sizeof error->message, error->message);
    exit(1);
  }
  const char *wrong = NULL;
  if (error->size != sizeof *error) {
    wrong = "error.size was changed";
  } else if (status == PAGETIE_OK) {
    if (!all_watched(&error->status, sizeof *error - sizeof error->size)) {
      wrong = "a call that succeeds writes to error";
    }
  } else if (error->status != status) {
    wrong = "error.status is not what the call returned";
  } else if (memchr(error->message, 0, sizeof error->message) == NULL || !error->message[0]) {
    wrong = "error.message is no text";
  }
  if (wrong != NULL) {
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, call, wrong);
    exit(1);
  }
}

/* Makes a call in which `e` is an error, and checks its status and what it says. `e` can be looked at in
 * what follows after a semicolon in EXPECT_THEN. */
#define EXPECT(expected, call) EXPECT_THEN(expected, call, (void)0)
#define EXPECT_THEN(expected, call, then)                                                          \
  do {                                                                                             \
    pagetie_error error_ = watched_error();                                                        \
    pagetie_error *e = &error_;                                                                    \
    check_status(__FILE__, __LINE__, #call, expected, call, e);                                    \
    then;                                                                                          \
  } while (0)
#define OK(call) EXPECT(PAGETIE_OK, call)

/* A pointer that no call may have written. */
#define UNTOUCHED(type) ((type *)(uintptr_t)0xa5a5a5a5a5a5a5a5u)

static size_t page; /* set by begin() */

static inline void begin(void) { page = pagetie_page_size(); }

/* Private memory as an engine maps it, a hole before and after. */
static inline unsigned char *engine_memory(size_t pages) {
  const size_t len = (pages + 2) * page;
  void *start = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(start != MAP_FAILED);
  unsigned char *all = (unsigned char *)start;
  CHECK(munmap(all, page) == 0 && munmap(all + (pages + 1) * page, page) == 0);
  CHECK(mprotect(all + page, pages * page, PROT_READ | PROT_WRITE) == 0);
  return all + page;
}

static inline pagetie_region *new_region(size_t pages) {
  pagetie_region *region = NULL;
  OK(pagetie_region_new(pages * page, NULL, &region, e));
  CHECK(region != NULL);
  return region;
}

static inline pagetie_space *new_space(size_t pages) {
  pagetie_space *space = NULL;
  OK(pagetie_space_reserve(pages * page, &space, e));
  CHECK(space != NULL);
  return space;
}

static inline pagetie_space *borrow(void *start, size_t len) {
  pagetie_space *space = NULL;
  OK(pagetie_space_borrow(start, len, &space, e));
  CHECK(space != NULL);
  return space;
}

/* What ties are made with: the defaults, but under valgrind, which does not know MREMAP_DONTUNMAP and so
 * cannot run ties that keep what they cover. */
static inline const pagetie_tie_options *tie_options(void) {
  static pagetie_tie_options discard = PAGETIE_TIE_OPTIONS_INIT;
  discard.covered = 1;
  return under("valgrind") ? &discard : NULL;
}

static inline pagetie_tie *new_tie(const pagetie_space *space, size_t at_page,
                                   const pagetie_region *region, size_t offset_page, size_t pages,
                                   pagetie_access access) {
  pagetie_tie *tie = NULL;
  OK(pagetie_tie_new(space, at_page * page, region, offset_page * page, pages * page, access,
                     tie_options(), &tie, e));
  CHECK(tie != NULL);
  return tie;
}

/* The byte at an address that something else may show too. */
static inline unsigned char peek(const void *addr) { return *(const volatile unsigned char *)addr; }
static inline void poke(void *addr, unsigned char byte) { *(volatile unsigned char *)addr = byte; }

#endif /* CHECK_H */
