/* Lists in and out: ties by the list, all or none, and arrays that are too short, or whose items are of
 * another version. */
#include "check.h"

enum { TIES = 3 };

static pagetie_region *region;
static pagetie_space *space;

/* An array of `capacity` items of `item_size` bytes, watched, with as much after it. */
static unsigned char array[4096];

static void *watched_array(void) {
  memset(array, WATCHED, sizeof array);
  return array;
}

typedef pagetie_status query(void *into, size_t capacity, size_t item_size, size_t *count,
                             pagetie_error *error);

static pagetie_status ties(void *into, size_t capacity, size_t item_size, size_t *count,
                           pagetie_error *error) {
  return pagetie_space_ties(space, into, capacity, item_size, count, error);
}

static pagetie_status mappings(void *into, size_t capacity, size_t item_size, size_t *count,
                               pagetie_error *error) {
  return pagetie_inspect(space, 0, pagetie_space_len(space), into, capacity, item_size, count, error);
}

static void arrays(query *ask, size_t full_size, size_t expected) {
  unsigned char whole[1024];
  size_t count = 77;
  CHECK(expected * full_size <= sizeof whole);
  OK(ask(whole, expected, full_size, &count, e));
  CHECK(count == expected);

  /* The count alone, whatever the size of an item. */
  const size_t sizes[] = {0, 1, full_size, SIZE_MAX};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    count = 77;
    OK(ask(NULL, 0, sizes[i], &count, e));
    CHECK(count == expected);
    count = 77;
    OK(ask(watched_array(), 0, sizes[i], &count, e));
    CHECK(count == expected && all_watched(array, sizeof array));
  }
  /* Shorter and longer arrays, of shorter and longer items: of each as much as both sides know. */
  for (size_t capacity = 1; capacity <= expected + 2; capacity++) {
    for (size_t size = 1; size <= full_size + 16; size++) {
      count = 77;
      OK(ask(watched_array(), capacity, size, &count, e));
      CHECK(count == expected);
      const size_t written = capacity < expected ? capacity : expected;
      const size_t known = size < full_size ? size : full_size;
      for (size_t i = 0; i < written; i++) {
        CHECK(memcmp(array + i * size, whole + i * full_size, known) == 0);
        CHECK(all_watched(array + i * size + known, size - known));
      }
      CHECK(all_watched(array + written * size, sizeof array - written * size));
    }
  }
  /* Sizes that are none. */
  count = 77;
  EXPECT(PAGETIE_INVALID, ask(watched_array(), 1, 0, &count, e));
  EXPECT(PAGETIE_INVALID, ask(watched_array(), 2, SIZE_MAX, &count, e));
  EXPECT(PAGETIE_INVALID, ask(watched_array(), SIZE_MAX, 2, &count, e));
  EXPECT(PAGETIE_NULL, ask(NULL, 1, full_size, &count, e));
  CHECK(count == 77 && all_watched(array, sizeof array));
}

static void what_lists_say(void) {
  pagetie_tie_info infos[TIES];
  size_t count = 0;
  OK(pagetie_space_ties(space, infos, TIES, sizeof *infos, &count, e));
  for (size_t i = 0; i < TIES; i++) {
    CHECK(infos[i].at == 2 * i * page && infos[i].len == page && infos[i].offset == i * page);
    CHECK(infos[i].access == (pagetie_access)i && infos[i].held == 1);
  }
  pagetie_mapping maps[8];
  OK(pagetie_inspect(space, 2 * page + 5, 1, maps, 8, sizeof *maps, &count, e));
  CHECK(count == 1 && maps[0].addr == (size_t)pagetie_space_base(space) + 2 * page);
  CHECK(maps[0].len == page && maps[0].offset == page && maps[0].inode != 0);
  CHECK(maps[0].prot == PAGETIE_PROT_READ_WRITE && maps[0].shared == 1);
}

/* What one item of a list is refused for is told by its number, and none is tied. */
static void all_or_none(void) {
  pagetie_tie *outs[3] = {UNTOUCHED(pagetie_tie), UNTOUCHED(pagetie_tie), UNTOUCHED(pagetie_tie)};
  const pagetie_tie_item good[3] = {{region, 6 * page, 0, page, PAGETIE_READ_ONLY_TIE, 0},
                                    {region, 7 * page, page, page, PAGETIE_READ_ONLY_TIE, 0},
                                    {region, 5 * page, 0, page, PAGETIE_READ_WRITE_TIE, 0}};
  pagetie_tie_item items[3];
#define WITH(expected, number, change)                                                             \
  do {                                                                                             \
    memcpy(items, good, sizeof items);                                                             \
    change;                                                                                        \
    EXPECT_THEN(expected, pagetie_tie_all(space, items, 3, tie_options(), outs, e),                \
                CHECK(e->index == (number)));                                                      \
    size_t count = 0;                                                                              \
    OK(pagetie_space_ties(space, NULL, 0, 0, &count, e));                                          \
    CHECK(count == TIES);                                                                          \
    for (int i = 0; i < 3; i++) CHECK(outs[i] == UNTOUCHED(pagetie_tie));                          \
  } while (0)
  WITH(PAGETIE_NULL, 0, items[0].region = NULL);
  WITH(PAGETIE_INVALID, 2, items[2].access = (pagetie_access)8);
  WITH(PAGETIE_INVALID, 1, items[1].reserved = 1);
  WITH(PAGETIE_MISALIGNED, 1, items[1].at += 1);
  WITH(PAGETIE_EMPTY, 2, items[2].len = 0);
  WITH(PAGETIE_OUT_OF_RANGE, 0, items[0].offset = 64 * page);
  WITH(PAGETIE_OVERLAP, 1, items[1].at = 0);
  WITH(PAGETIE_OVERLAP, 2, items[2].at = items[0].at);

  OK(pagetie_tie_all(space, good, 3, tie_options(), outs, e));
  for (int i = 0; i < 3; i++) {
    CHECK(pagetie_tie_at(outs[i]) == good[i].at && pagetie_tie_is_live(outs[i]) == 1);
    OK(pagetie_untie(outs[i], e));
  }
}

int main(void) {
  begin();
  region = new_region(4);
  space = new_space(8);
  pagetie_tie *made[TIES];
  const pagetie_access accesses[TIES] = {PAGETIE_READ_ONLY_TIE, PAGETIE_READ_WRITE_TIE,
                                         PAGETIE_COPY_ON_WRITE_TIE};
  for (size_t i = 0; i < TIES; i++) made[i] = new_tie(space, 2 * i, region, i, 1, accesses[i]);

  arrays(ties, sizeof(pagetie_tie_info), TIES);
  size_t count = 0;
  OK(mappings(NULL, 0, sizeof(pagetie_mapping), &count, e));
  CHECK(count >= 6);
  arrays(mappings, sizeof(pagetie_mapping), count);
  what_lists_say();
  all_or_none();

  for (size_t i = 0; i < TIES; i++) pagetie_tie_free(made[i]);
  pagetie_space_free(space);
  pagetie_region_free(region);
  return 0;
}
