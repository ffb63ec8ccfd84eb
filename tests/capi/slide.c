/* Ties that leave their place: parked and resumed, sliding as a window; and many ranges discarded at
 * once. Each with what it is not meant for. */
#include "check.h"
#include <pthread.h>

static pagetie_region *region;

static void number_pages(size_t pages) {
  unsigned char *bytes = pagetie_region_data(region);
  for (size_t i = 0; i < pages; i++) poke(bytes + i * page, (unsigned char)(i + 1));
}

static void park_and_resume(void) {
  unsigned char *memory = engine_memory(8);
  memory[page] = 'c';
  pagetie_space *space = borrow(memory, 8 * page), *other = new_space(8);
  pagetie_tie *tie = new_tie(space, 1, region, 2, 2, PAGETIE_READ_WRITE_TIE);
  const unsigned char covered = under("valgrind") ? 0 : 'c';
  CHECK(peek(memory + page) == 3);
  EXPECT(PAGETIE_NULL, pagetie_tie_park(NULL, e));
  EXPECT(PAGETIE_NULL, pagetie_tie_resume(NULL, space, 0, e));
  EXPECT(PAGETIE_NULL, pagetie_tie_resume(tie, NULL, 0, e));
  EXPECT(PAGETIE_UNSUPPORTED, pagetie_tie_resume(tie, other, 0, e));
  CHECK(pagetie_tie_is_live(tie) == 1);
  if (under("valgrind")) {
    left_out("parking", "valgrind does not know MREMAP_DONTUNMAP");
    OK(pagetie_untie(tie, e));
  } else {
    OK(pagetie_tie_park(tie, e));
    CHECK(peek(memory + page) == covered);
    CHECK(pagetie_tie_is_live(tie) == 0 && pagetie_tie_addr(tie) == NULL && pagetie_tie_at(tie) == 0);
    CHECK(pagetie_tie_len(tie) == 2 * page && pagetie_tie_offset(tie) == 2 * page);
    CHECK(pagetie_tie_is_congruent(tie) == 0);
    EXPECT(PAGETIE_UNSUPPORTED, pagetie_tie_park(tie, e));
    EXPECT(PAGETIE_UNSUPPORTED, pagetie_retie(tie, region, 0, e));
    EXPECT(PAGETIE_MISALIGNED, pagetie_tie_resume(tie, other, 1, e));
    EXPECT(PAGETIE_OUT_OF_RANGE, pagetie_tie_resume(tie, other, 7 * page, e));
    /* It outlives its space. */
    pagetie_space_free(space);
    OK(pagetie_tie_resume(tie, other, 5 * page, e));
    CHECK(pagetie_tie_is_live(tie) == 1 && pagetie_tie_at(tie) == 5 * page);
    CHECK(peek(pagetie_tie_addr(tie)) == 3);
    /* A parked tie can be let go of in every way. */
    OK(pagetie_tie_park(tie, e));
    OK(pagetie_untie(tie, e));
    tie = new_tie(other, 0, region, 0, 2, PAGETIE_READ_ONLY_TIE);
    OK(pagetie_tie_park(tie, e));
    pagetie_tie_free(tie);
    tie = new_tie(other, 0, region, 0, 2, PAGETIE_COPY_ON_WRITE_TIE);
    OK(pagetie_tie_park(tie, e));
    pagetie_tie_leak(tie);
    tie = new_tie(other, 0, region, 0, 2, PAGETIE_READ_ONLY_TIE);
    OK(pagetie_untie_all(other, e));
    EXPECT(PAGETIE_ENDED, pagetie_tie_park(tie, e));
    pagetie_tie_free(tie);
    space = NULL;
  }
  pagetie_space_free(space);
  pagetie_space_free(other);
}

struct ahead {
  const pagetie_window *window;
  size_t offset, len;
};

static void *prepare(void *argument) {
  const struct ahead *ahead = argument;
  OK(pagetie_window_prepare(ahead->window, ahead->offset, ahead->len, e));
  return NULL;
}

static void windows(void) {
  pagetie_space *space = new_space(8);
  unsigned char *base = pagetie_space_base(space);
  pagetie_window *window = UNTOUCHED(pagetie_window);
  size_t at = 77;
  const pagetie_access access = PAGETIE_READ_ONLY_TIE;
  EXPECT(PAGETIE_NULL, pagetie_window_new(NULL, 0, page, region, access, NULL, &window, e));
  EXPECT(PAGETIE_NULL, pagetie_window_new(space, 0, page, NULL, access, NULL, &window, e));
  EXPECT(PAGETIE_NULL, pagetie_window_new(space, 0, page, region, access, NULL, NULL, e));
  EXPECT(PAGETIE_INVALID, pagetie_window_new(space, 0, page, region, (pagetie_access)3, NULL, &window, e));
  EXPECT(PAGETIE_EMPTY, pagetie_window_new(space, 0, 0, region, access, NULL, &window, e));
  EXPECT(PAGETIE_MISALIGNED, pagetie_window_new(space, 1, page, region, access, NULL, &window, e));
  EXPECT(PAGETIE_OUT_OF_RANGE, pagetie_window_new(space, 7 * page, 2 * page, region, access, NULL, &window, e));
  CHECK(window == UNTOUCHED(pagetie_window));
  OK(pagetie_window_new(space, 2 * page, 4 * page, region, access, tie_options(), &window, e));
  EXPECT(PAGETIE_NULL, pagetie_window_show(NULL, 0, 1, &at, e));
  EXPECT(PAGETIE_NULL, pagetie_window_prepare(NULL, 0, 1, e));
  EXPECT(PAGETIE_NULL, pagetie_window_untie(NULL, e));
  EXPECT(PAGETIE_EMPTY, pagetie_window_show(window, 5, 0, &at, e));
  EXPECT(PAGETIE_OUT_OF_RANGE, pagetie_window_show(window, 16 * page - 1, 2, &at, e));
  EXPECT(PAGETIE_OUT_OF_RANGE, pagetie_window_show(window, 1, 4 * page, &at, e));
  EXPECT(PAGETIE_OUT_OF_RANGE, pagetie_window_prepare(window, SIZE_MAX, 2, e));
  CHECK(at == 77);
  CHECK(pagetie_window_at(window) == 2 * page && pagetie_window_len(window) == 4 * page);
  CHECK(pagetie_window_offset(window) == 0);

  /* Any bytes; the answer may be left away. */
  OK(pagetie_window_show(window, 9 * page + 12, 100, &at, e));
  CHECK(at >= 2 * page && at % page == 12 && peek(base + at - 12) == 10);
  OK(pagetie_window_show(window, 0, 1, NULL, e));
  CHECK(pagetie_window_offset(window) == 0 && peek(base + 2 * page) == 1);

  /* One thread prepares while another shows. */
  for (size_t i = 0; i + 8 <= 16; i += 4) {
    struct ahead ahead = {window, (i + 4) * page, 4 * page};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, prepare, &ahead) == 0);
    OK(pagetie_window_show(window, i * page, 4 * page, &at, e));
    CHECK(peek(base + at) == i + 1);
    CHECK(pthread_join(thread, NULL) == 0);
    OK(pagetie_window_show(window, (i + 4) * page, 4 * page, &at, e));
    CHECK(at == 2 * page && peek(base + at + 3 * page) == i + 8);
  }
  OK(pagetie_untie_all(space, e));
  EXPECT(PAGETIE_ENDED, pagetie_window_show(window, 0, 1, &at, e));
  OK(pagetie_window_untie(window, e));
  OK(pagetie_window_new(space, 0, page, region, PAGETIE_READ_WRITE_TIE, tie_options(), &window, e));
  pagetie_space_free(space);
  pagetie_window_free(window);
  pagetie_window_free(NULL);
  CHECK(pagetie_window_at(NULL) == 0 && pagetie_window_len(NULL) == 0);
  CHECK(pagetie_window_offset(NULL) == 0 && pagetie_tie_is_congruent(NULL) == 0);
}

static void discard_many(void) {
  unsigned char *memory = engine_memory(8);
  memset(memory, 'm', 8 * page);
  pagetie_space *space = borrow(memory, 8 * page);
  pagetie_range ranges[3] = {{6 * page, page}, {0, 2 * page}, {page, 2 * page}};
  EXPECT(PAGETIE_NULL, pagetie_discard_many(NULL, ranges, 3, e));
  EXPECT(PAGETIE_NULL, pagetie_discard_many(space, NULL, 3, e));
  EXPECT(PAGETIE_INVALID, pagetie_discard_many(space, ranges, SIZE_MAX, e));
  OK(pagetie_discard_many(space, NULL, 0, e));
  ranges[2].len = 8 * page;
  EXPECT_THEN(PAGETIE_OUT_OF_RANGE, pagetie_discard_many(space, ranges, 3, e), CHECK(e->index == 2));
  CHECK(memory[0] == 'm' && memory[6 * page] == 'm');
  ranges[2].len = 2 * page;
  OK(pagetie_discard_many(space, ranges, 3, e));
  for (size_t i = 0; i < 8; i++) CHECK(memory[i * page] == (i < 3 || i == 6 ? 0 : 'm'));
  pagetie_space_free(space);
}

int main(void) {
  begin();
  region = new_region(16);
  number_pages(16);
  park_and_resume();
  windows();
  discard_many();
  pagetie_region_free(region);
  return 0;
}
