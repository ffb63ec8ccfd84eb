/* Four threads at once on one region and one space, const handles all: ties of their own pages, questions,
 * copies, refusals. */
#include "check.h"
#include <pthread.h>

enum { THREADS = 4, ROUNDS = 200 };

static pagetie_region *region; /* a page for each thread, and one that all read */
static pagetie_space *space;   /* two pages for each thread */
static pthread_barrier_t start;

static void *work(void *number) {
  const size_t mine = (size_t)(uintptr_t)number;
  const size_t at = 2 * mine * page;
  unsigned char *addr = (unsigned char *)pagetie_space_base(space) + at;
  const int rounds = under("valgrind") ? ROUNDS / 10 : ROUNDS;
  pthread_barrier_wait(&start);
  for (int round = 0; round < rounds; round++) {
    const unsigned char byte = (unsigned char)(round * THREADS + (int)mine);
    OK(pagetie_region_write(region, mine * page, &byte, 1, e));
    pagetie_tie *tie = new_tie(space, 2 * mine, region, mine, 1, PAGETIE_READ_WRITE_TIE);
    CHECK(peek(addr) == byte);
    poke(addr + 1, byte);
    unsigned char back[2];
    OK(pagetie_region_read(region, mine * page, back, 2, e));
    CHECK(back[0] == byte && back[1] == byte);

    pagetie_tie *no_tie = UNTOUCHED(pagetie_tie);
    EXPECT_THEN(PAGETIE_OVERLAP,
                pagetie_tie_new(space, at, region, mine * page, page, PAGETIE_READ_ONLY_TIE, NULL,
                                &no_tie, e),
                CHECK(e->other == at && e->other_end == at + page));
    OK(pagetie_retie(tie, region, THREADS * page, e));
    CHECK(peek(addr) == 'a');

    pagetie_tie_info infos[THREADS];
    size_t count = 0;
    OK(pagetie_space_ties(space, infos, THREADS, sizeof *infos, &count, e));
    CHECK(count >= 1 && count <= THREADS);
    pagetie_mapping mapping;
    OK(pagetie_inspect(space, at, page, &mapping, 1, sizeof mapping, &count, e));
    CHECK(count == 1 && mapping.shared == 1);

    OK(pagetie_protect(space, at, page, PAGETIE_PROT_READ, e));
    CHECK(peek(addr) == 'a');
    if (round % 2) {
      OK(pagetie_untie(tie, e));
    } else {
      pagetie_tie_free(tie);
    }
  }
  return NULL;
}

int main(void) {
  begin();
  region = new_region(THREADS + 1);
  space = new_space(2 * THREADS);
  OK(pagetie_region_write(region, THREADS * page, "a", 1, e));
  CHECK(pthread_barrier_init(&start, NULL, THREADS) == 0);
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++) {
    CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
  }
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  size_t count = 77;
  OK(pagetie_space_ties(space, NULL, 0, 0, &count, e));
  CHECK(count == 0);
  OK(pagetie_untie_all(space, e));
  pagetie_space_free(space);
  pagetie_region_free(region);
  return 0;
}
