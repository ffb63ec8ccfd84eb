/* Handles freed in every order, by every way to free them. What is left works until it is freed itself, and
 * memory that was lent comes back as it was. */
#include "check.h"
#include <unistd.h>

enum { REGION, SPACE, FIRST, SECOND, HANDLES };

static unsigned char *memory;

/* Frees a region, a borrowed space and two ties in this order. `how`: each tie by pagetie_tie_free or by
 * pagetie_untie. */
static void free_in(const int order[HANDLES], unsigned how) {
  memset(memory, 'm', 4 * page);
  pagetie_region *region = new_region(2);
  OK(pagetie_region_write(region, 0, "r", 1, e));
  OK(pagetie_region_write(region, page, "s", 1, e));
  pagetie_space *space = borrow(memory, 4 * page);
  pagetie_tie *ties[2] = {new_tie(space, 0, region, 0, 1, PAGETIE_READ_WRITE_TIE),
                          new_tie(space, 2, region, 0, 2, PAGETIE_COPY_ON_WRITE_TIE)};
  int space_is_there = 1;
  for (int i = 0; i < HANDLES; i++) {
    switch (order[i]) {
    case REGION:
      pagetie_region_free(region);
      break;
    case SPACE:
      pagetie_space_free(space);
      space_is_there = 0;
      break;
    default: {
      const int which = order[i] - FIRST;
      if (how >> which & 1) {
        OK(pagetie_untie(ties[which], e));
      } else {
        pagetie_tie_free(ties[which]);
      }
      ties[which] = NULL;
    }
    }
    for (int which = 0; which < 2; which++) {
      const size_t at = which == 0 ? 0 : 2 * page;
      const int tied = space_is_there && ties[which] != NULL;
      const unsigned char was = under("valgrind") ? 0 : 'm'; /* ties that keep nothing leave zeros */
      CHECK(peek(memory + at) == (tied ? 'r' : was));
      if (which == 1) CHECK(peek(memory + at + page) == (tied ? 's' : was));
      if (ties[which] == NULL) continue;
      CHECK(pagetie_tie_is_live(ties[which]) == space_is_there);
      CHECK(pagetie_tie_at(ties[which]) == at);
    }
    if (under("valgrind") == 0) CHECK(peek(memory + page) == 'm');
  }
}

static void every_order(void) {
  int order[HANDLES];
  for (int code = 0; code < 256; code++) {
    int met = 0;
    for (int i = 0; i < HANDLES; i++) {
      order[i] = code >> 2 * i & 3;
      met |= 1 << order[i];
    }
    if (met != 15) continue;
    for (unsigned how = 0; how < 4; how++) free_in(order, how);
  }
}

/* Ties of a space that is gone: ended, and every call on them still answers. */
static void after_the_space(void) {
  pagetie_region *region = new_region(1);
  pagetie_space *space = new_space(2);
  pagetie_tie *ties[3];
  for (int i = 0; i < 2; i++) {
    ties[i] = new_tie(space, (size_t)i, region, 0, 1, PAGETIE_READ_ONLY_TIE);
  }
  pagetie_space_free(space);
  for (int i = 0; i < 2; i++) {
    CHECK(pagetie_tie_is_live(ties[i]) == 0);
    EXPECT(PAGETIE_ENDED, pagetie_retie(ties[i], region, 0, e));
  }
  OK(pagetie_untie(ties[0], e));
  pagetie_tie_leak(ties[1]);
  pagetie_region_free(region);
}

/* A region lives as long as its ties: another handle of its memory sees what is written through them. */
static void after_the_region(void) {
  pagetie_region *region = new_region(1);
  const int fd = dup(pagetie_region_fd(region));
  pagetie_space *space = new_space(1);
  pagetie_tie *tie = new_tie(space, 0, region, 0, 1, PAGETIE_READ_WRITE_TIE);
  pagetie_region_free(region);
  poke(pagetie_tie_addr(tie), 'w');
  pagetie_region *again = NULL;
  OK(pagetie_region_from_fd(fd, NULL, &again, e));
  CHECK(close(fd) == 0);
  CHECK(peek(pagetie_region_data(again)) == 'w');
  OK(pagetie_retie(tie, again, 0, e));
  pagetie_region_free(again);
  CHECK(peek(pagetie_tie_addr(tie)) == 'w');
  pagetie_tie_free(tie);
  pagetie_space_free(space);
}

/* Memory that is gone: its space is leaked, and touches none of it. */
static void after_the_memory(void) {
  unsigned char *gone = engine_memory(3);
  pagetie_region *region = new_region(1);
  pagetie_space *space = borrow(gone, 3 * page);
  pagetie_tie *tie = new_tie(space, 1, region, 0, 1, PAGETIE_READ_WRITE_TIE);
  CHECK(munmap(gone, 3 * page) == 0);
  pagetie_space_leak(space);
  CHECK(pagetie_tie_is_live(tie) == 0);
  OK(pagetie_untie(tie, e));

  /* An alias that stays for good: it outlives handle, region and space. */
  unsigned char *kept = engine_memory(1);
  space = borrow(kept, page);
  tie = new_tie(space, 0, region, 0, 1, PAGETIE_READ_WRITE_TIE);
  pagetie_tie_leak(tie);
  size_t count = 77;
  OK(pagetie_space_ties(space, NULL, 0, 0, &count, e));
  CHECK(count == 0);
  OK(pagetie_region_write(region, 0, "l", 1, e));
  pagetie_space_free(space);
  pagetie_region_free(region);
  CHECK(peek(kept) == 'l');
}

int main(void) {
  begin();
  memory = engine_memory(4);
  every_order();
  after_the_space();
  after_the_region();
  after_the_memory();
  pagetie_region_free(NULL);
  pagetie_space_free(NULL);
  pagetie_space_leak(NULL);
  pagetie_tie_free(NULL);
  pagetie_tie_leak(NULL);
  return 0;
}
