/* Every status, provoked once, but PAGETIE_PANIC: that takes a bug, and src/ffi tests it with one. */
#include "check.h"
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned seen;

/* Here rather than in main, so that leak checkers of a forked child find them. */
static pagetie_region *region;
static pagetie_space *space;
static pagetie_tie *first;

/* As EXPECT, and notes that this status was seen. */
#define PROVOKE(expected, call, then)                                                              \
  do {                                                                                             \
    EXPECT_THEN(expected, call, then);                                                             \
    seen |= 1u << (expected);                                                                      \
  } while (0)

static size_t max_map_count(void) {
  FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
  size_t limit = 0;
  if (file != NULL) {
    if (fscanf(file, "%zu", &limit) != 1) limit = 0;
    fclose(file);
  }
  return limit;
}

/* A tie where no mapping is left. */
static void at_the_limit(void) {
  const size_t limit = max_map_count();
  if (limit == 0 || limit > 1u << 20 || getenv("PAGETIE_UNDER") != NULL) {
    left_out("PAGETIE_LIMIT", "vm.max_map_count is too large here, or a tool is in the way");
    seen |= 1u << PAGETIE_LIMIT;
    return;
  }
  pagetie_tie *tie = UNTOUCHED(pagetie_tie);
  /* Pages of alternating protection are a mapping each. */
  unsigned char *many =
      mmap(NULL, 2 * limit * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(many != MAP_FAILED);
  size_t i = 0;
  while (mprotect(many + 2 * i * page, page, PROT_READ) == 0) i++;
  CHECK(errno == ENOMEM);
  pagetie_tie *ties[2] = {NULL, NULL};
  pagetie_status status = PAGETIE_OK;
  pagetie_error error = PAGETIE_ERROR_INIT;
  /* Memory that was set aside may still carry the first. */
  for (int n = 0; n < 2 && status == PAGETIE_OK; n++) {
    status = pagetie_tie_new(space, (size_t)n * 2 * page, region, 0, page, PAGETIE_READ_WRITE_TIE, NULL,
                             &tie, &error);
    if (status == PAGETIE_OK) ties[n] = tie;
  }
  CHECK(munmap(many, 2 * limit * page) == 0);
  CHECK(status == PAGETIE_LIMIT && error.status == PAGETIE_LIMIT);
  CHECK(error.other == limit && error.value > limit / 2);
  seen |= 1u << PAGETIE_LIMIT;
  /* With mappings to spare it works. */
  pagetie_tie_free(ties[0]);
  pagetie_tie_free(ties[1]);
  pagetie_tie_free(new_tie(space, 0, region, 0, 1, PAGETIE_READ_WRITE_TIE));
}

/* The calls of a child on what its parent made. */
static int in_a_child(void) {
  pagetie_tie *other = UNTOUCHED(pagetie_tie);
  size_t count = 77;
  CHECK(pagetie_tie_is_live(first) == 0);
  EXPECT(PAGETIE_ENDED, pagetie_tie_new(space, 0, region, 0, page, PAGETIE_READ_ONLY_TIE, tie_options(),
                                        &other, e));
  EXPECT(PAGETIE_ENDED, pagetie_protect(space, 0, page, PAGETIE_PROT_READ, e));
  EXPECT(PAGETIE_ENDED, pagetie_discard(space, 0, page, e));
  EXPECT(PAGETIE_ENDED, pagetie_inspect(space, 0, page, NULL, 0, sizeof(pagetie_mapping), &count, e));
  EXPECT(PAGETIE_ENDED, pagetie_retie(first, region, 0, e));
  EXPECT(PAGETIE_ENDED, pagetie_untie(first, e));
  EXPECT(PAGETIE_ENDED, pagetie_untie_all(space, e));
  CHECK(count == 77 && other == UNTOUCHED(pagetie_tie));
  unsigned char byte = 0;
  OK(pagetie_region_read(region, 0, &byte, 1, e));
  CHECK(byte == 'p');
  pagetie_tie_free(first);
  return 0;
}

int main(void) {
  begin();
  region = new_region(4);
  pagetie_region *none = UNTOUCHED(pagetie_region);
  space = new_space(8);
  pagetie_space *nowhere = UNTOUCHED(pagetie_space);
  pagetie_tie *tie = UNTOUCHED(pagetie_tie);

  PROVOKE(PAGETIE_OK, pagetie_region_write(region, 0, "p", 1, e), (void)0);
  PROVOKE(PAGETIE_NULL, pagetie_region_new(page, NULL, NULL, e), CHECK(e->index == SIZE_MAX));
  PROVOKE(PAGETIE_MISALIGNED,
          pagetie_tie_new(space, 0, region, page / 2, page, PAGETIE_READ_ONLY_TIE, NULL, &tie, e),
          CHECK(e->value == page / 2 && e->other == page));
  PROVOKE(PAGETIE_OUT_OF_RANGE,
          pagetie_tie_new(space, 0, region, 3 * page, 2 * page, PAGETIE_READ_ONLY_TIE, NULL, &tie, e),
          CHECK(e->value == 3 * page && e->value_end == 5 * page && e->other_end == 4 * page));

  first = new_tie(space, 1, region, 0, 2, PAGETIE_READ_ONLY_TIE);
  PROVOKE(PAGETIE_OVERLAP,
          pagetie_tie_new(space, 0, region, 0, 2 * page, PAGETIE_READ_WRITE_TIE, NULL, &tie, e),
          CHECK(e->value == 0 && e->value_end == 2 * page && e->other == page &&
                e->other_end == 3 * page));
  PROVOKE(PAGETIE_READ_ONLY, pagetie_protect(space, page, page, PAGETIE_PROT_READ_WRITE, e), (void)0);
  PROVOKE(PAGETIE_EMPTY, pagetie_protect(space, page, 0, PAGETIE_PROT_READ, e), (void)0);
  PROVOKE(PAGETIE_INVALID, pagetie_protect(space, page, page, (pagetie_prot)3, e), CHECK(e->value == 3));
  PROVOKE(PAGETIE_UNSUPPORTED, pagetie_space_grown_to(space, pagetie_space_base(space), 8 * page, e),
          (void)0);
  PROVOKE(PAGETIE_OS, pagetie_region_open("/there/is/nothing", NULL, &none, e),
          CHECK(e->os_error == ENOENT));
  PROVOKE(PAGETIE_OS, pagetie_region_from_fd(1 << 20, NULL, &none, e), CHECK(e->os_error == EBADF));

  unsigned char *memory = engine_memory(4);
  const uintptr_t hole = (uintptr_t)memory + 4 * page;
  PROVOKE(PAGETIE_NOT_MAPPED, pagetie_space_borrow(memory, 5 * page, &nowhere, e),
          CHECK(e->other == hole && e->other_end == hole + page));
  int on_the_stack = 0;
  PROVOKE(PAGETIE_REFUSED_MEMORY, pagetie_space_borrow(&on_the_stack, 1, &nowhere, e), (void)0);

  /* Somebody else maps over a tie. */
  pagetie_space *borrowed = borrow(memory, 4 * page);
  pagetie_tie *lost = new_tie(borrowed, 1, region, 0, 1, PAGETIE_READ_WRITE_TIE);
  CHECK(mmap(memory + page, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
        MAP_FAILED);
  PROVOKE(PAGETIE_CHANGED, pagetie_untie(lost, e), (void)0);
  CHECK(pagetie_tie_is_live(lost) == 0);
  pagetie_tie_free(lost);
  pagetie_space_free(borrowed);

  fflush(NULL);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) _exit(in_a_child());
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(pagetie_tie_is_live(first) == 1 && peek(pagetie_tie_addr(first)) == 'p');

  OK(pagetie_untie_all(space, e));
  PROVOKE(PAGETIE_ENDED, pagetie_retie(first, region, 0, e), (void)0);
  OK(pagetie_untie(first, e));

  /* More addresses than any machine has. */
  if (under("valgrind")) {
    left_out("PAGETIE_NO_MEMORY", "its mmap answers EINVAL to what cannot be had");
    seen |= 1u << PAGETIE_NO_MEMORY;
  } else {
    PROVOKE(PAGETIE_NO_MEMORY, pagetie_space_reserve((size_t)1 << 58, &nowhere, e),
            CHECK(e->os_error == ENOMEM));
  }
  at_the_limit();

  CHECK(none == UNTOUCHED(pagetie_region) && nowhere == UNTOUCHED(pagetie_space));
  CHECK(tie == UNTOUCHED(pagetie_tie));
  CHECK(seen == ((1u << (PAGETIE_ENDED + 1)) - 1 - (1u << PAGETIE_PANIC)));
  pagetie_space_free(space);
  pagetie_region_free(region);

  /* Names, also of numbers that are none. */
  CHECK(strcmp(pagetie_status_name(PAGETIE_OK), "PAGETIE_OK") == 0);
  CHECK(strcmp(pagetie_status_name(PAGETIE_ENDED), "PAGETIE_ENDED") == 0);
  CHECK(strcmp(pagetie_status_name((pagetie_status)17), "PAGETIE_UNKNOWN") == 0);
  CHECK(strcmp(pagetie_status_name((pagetie_status)-1), "PAGETIE_UNKNOWN") == 0);
  return 0;
}
