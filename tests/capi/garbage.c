/* Numbers that mean nothing: enum values out of their range, flags and reserved fields, ranges whose ends
 * are past the end of numbers. Every one is a status, and changes nothing. */
#include "check.h"

static pagetie_region *region;
static pagetie_space *space;
static pagetie_tie *tie;

static const int32_t wrong[] = {-1, 3, 17, 255, 256, INT32_MAX, INT32_MIN};
#define EACH_WRONG(i) for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)

static void enums(void) {
  pagetie_tie *none = UNTOUCHED(pagetie_tie);
  pagetie_tie *nones[2] = {none, none};
  EACH_WRONG(i) {
    const pagetie_access access = (pagetie_access)wrong[i];
    const size_t value = (size_t)(ptrdiff_t)wrong[i];
    EXPECT_THEN(PAGETIE_INVALID,
                pagetie_tie_new(space, 0, region, 0, page, access, NULL, &none, e),
                CHECK(e->value == value && e->index == SIZE_MAX));
    EXPECT_THEN(PAGETIE_INVALID, pagetie_protect(space, 0, page, (pagetie_prot)wrong[i], e),
                CHECK(e->value == value));
    pagetie_tie_item items[2] = {{region, 2 * page, 0, page, PAGETIE_READ_ONLY_TIE, 0},
                                 {region, 3 * page, 0, page, access, 0}};
    EXPECT_THEN(PAGETIE_INVALID, pagetie_tie_all(space, items, 2, NULL, nones, e),
                CHECK(e->value == value && e->index == 1));
    items[1].access = PAGETIE_READ_ONLY_TIE;
    items[0].reserved = wrong[i];
    EXPECT_THEN(PAGETIE_INVALID, pagetie_tie_all(space, items, 2, NULL, nones, e),
                CHECK(e->value == value && e->index == 0));
    CHECK(strcmp(pagetie_status_name((pagetie_status)wrong[i]), "PAGETIE_UNKNOWN") == 0 ||
          wrong[i] == 3);
  }
  CHECK(none == UNTOUCHED(pagetie_tie) && nones[0] == none && nones[1] == none);
}

static void flags(void) {
  pagetie_region *no_region = UNTOUCHED(pagetie_region);
  pagetie_space *no_space = UNTOUCHED(pagetie_space);
  pagetie_tie *no_tie = UNTOUCHED(pagetie_tie);
  unsigned char *memory = engine_memory(1);
  pagetie_loan *no_loan = UNTOUCHED(pagetie_loan);
  EACH_WRONG(i) {
    EXPECT_THEN(PAGETIE_INVALID, pagetie_space_lend(space, page, memory, page, wrong[i], &no_loan, e),
                CHECK(e->value == (size_t)(ptrdiff_t)wrong[i]));
    CHECK(no_loan == UNTOUCHED(pagetie_loan));
#define REGION_WITH(field)                                                                         \
  do {                                                                                             \
    pagetie_region_options options = PAGETIE_REGION_OPTIONS_INIT;                                  \
    options.field = wrong[i];                                                                      \
    EXPECT(PAGETIE_INVALID, pagetie_region_new(page, &options, &no_region, e));                    \
    EXPECT(PAGETIE_INVALID, pagetie_region_from_fd(0, &options, &no_region, e));                   \
    EXPECT(PAGETIE_INVALID, pagetie_region_open("/proc/self/exe", &options, &no_region, e));       \
  } while (0)
    REGION_WITH(huge_pages);
    REGION_WITH(hide_from_fork);
    REGION_WITH(prefault);
    REGION_WITH(allow_discard);
    REGION_WITH(read_only);
    REGION_WITH(reserved);
#define SPACE_WITH(field)                                                                          \
  do {                                                                                             \
    pagetie_space_options options = PAGETIE_SPACE_OPTIONS_INIT;                                    \
    options.field = wrong[i];                                                                      \
    EXPECT(PAGETIE_INVALID, pagetie_space_borrow_with(memory, page, &options, &no_space, e));      \
  } while (0)
    SPACE_WITH(allow_heap);
    SPACE_WITH(reserved);
#define TIE_WITH(field)                                                                            \
  do {                                                                                             \
    pagetie_tie_options options = PAGETIE_TIE_OPTIONS_INIT;                                        \
    options.field = wrong[i];                                                                      \
    EXPECT(PAGETIE_INVALID, pagetie_tie_new(space, 0, region, 0, page, PAGETIE_READ_ONLY_TIE,      \
                                            &options, &no_tie, e));                                \
    EXPECT(PAGETIE_INVALID, pagetie_tie_all(space, NULL, 0, &options, NULL, e));                   \
  } while (0)
    TIE_WITH(covered);
    TIE_WITH(prefault);
    TIE_WITH(concurrent);
    TIE_WITH(reserved);
  }
  EXPECT(PAGETIE_INVALID, pagetie_region_from_fd(-1, NULL, &no_region, e));
  EXPECT(PAGETIE_INVALID, pagetie_region_from_fd(INT32_MIN, NULL, &no_region, e));
  /* A name without an end that fits. */
  char name[512];
  memset(name, 'n', sizeof name);
  name[sizeof name - 1] = 0;
  pagetie_region_options options = PAGETIE_REGION_OPTIONS_INIT;
  options.name = name;
  EXPECT(PAGETIE_OS, pagetie_region_new(page, &options, &no_region, e));
  CHECK(no_region == UNTOUCHED(pagetie_region) && no_space == UNTOUCHED(pagetie_space));
  CHECK(no_tie == UNTOUCHED(pagetie_tie));
}

/* Sizes of huge pages that are none, and one that this machine may have. */
static void huge_page_sizes(void) {
  const size_t sizes[] = {0, 1, 3, SIZE_MAX, SIZE_MAX - page + 1, SIZE_MAX / 2 + 1, (size_t)1 << 21};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    pagetie_region_options options = PAGETIE_REGION_OPTIONS_INIT;
    options.huge_pages = 2;
    options.huge_page_size = sizes[i];
    pagetie_region *huge = NULL;
    const pagetie_status status = pagetie_region_new((size_t)1 << 21, &options, &huge, NULL);
    if (status == PAGETIE_PANIC || (status == PAGETIE_OK) != (huge != NULL)) {
      fprintf(stderr, "huge_page_size %#zx: %s\n", sizes[i], pagetie_status_name(status));
      exit(1);
    }
    pagetie_region_free(huge);
  }
}

/* Refused as a range, not aligned or not: never done, never a signal. */
#define REFUSED(call)                                                                              \
  do {                                                                                             \
    pagetie_error error_ = watched_error();                                                        \
    pagetie_error *e = &error_;                                                                    \
    const pagetie_status status_ = call;                                                           \
    check_status(__FILE__, __LINE__, #call,                                                        \
                 status_ == PAGETIE_MISALIGNED ? PAGETIE_MISALIGNED : PAGETIE_OUT_OF_RANGE, status_, \
                 e);                                                                               \
  } while (0)

static void ranges(void) {
  pagetie_region *no_region = UNTOUCHED(pagetie_region);
  pagetie_space *no_space = UNTOUCHED(pagetie_space);
  pagetie_tie *none = UNTOUCHED(pagetie_tie);
  unsigned char byte = 'b';
  size_t count = 77;
  unsigned char *memory = engine_memory(2);
  pagetie_space *borrowed = borrow(memory, 2 * page);

  const size_t last = SIZE_MAX - page + 1; /* the last page of all addresses */
  const size_t half = (SIZE_MAX / 2 + 1);
  const size_t starts[] = {0, page, 4 * page, half - page, half, last - page, last, 1, half - 1, SIZE_MAX};
  const size_t lens[] = {9 * page, half - page, half, last - page, last, half + 1, SIZE_MAX - 1, SIZE_MAX};
  for (size_t s = 0; s < sizeof starts / sizeof *starts; s++) {
    for (size_t l = 0; l < sizeof lens / sizeof *lens; l++) {
      const size_t start = starts[s], len = lens[l];
      REFUSED(pagetie_region_read(region, start, &byte, len, e));
      REFUSED(pagetie_region_write(region, start, &byte, len, e));
      REFUSED(pagetie_region_prefetch(region, start, len, e));
      REFUSED(pagetie_region_discard(region, start, len, e));
      REFUSED(pagetie_inspect(space, start, len, NULL, 0, sizeof(pagetie_mapping), &count, e));
      REFUSED(pagetie_protect(space, start, len, PAGETIE_PROT_READ, e));
      REFUSED(pagetie_discard(space, start, len, e));
      for (pagetie_access access = 0; access <= PAGETIE_COPY_ON_WRITE_TIE; access++) {
        REFUSED(pagetie_tie_new(space, start, region, 0, len, access, NULL, &none, e));
        REFUSED(pagetie_tie_new(space, 0, region, start, len, access, NULL, &none, e));
        REFUSED(pagetie_tie_new(borrowed, start, region, start, len, access, NULL, &none, e));
        const pagetie_tie_item item = {region, start, start, len, access, 0};
        REFUSED(pagetie_tie_all(space, &item, 1, NULL, &none, e));
      }
    }
    if (starts[s] < 4 * page) continue;
    REFUSED(pagetie_tie_new(space, starts[s] == 4 * page ? last : starts[s], region, 0, page,
                            PAGETIE_READ_ONLY_TIE, NULL, &none, e));
    REFUSED(pagetie_tie_new(space, 0, region, starts[s], page, PAGETIE_READ_ONLY_TIE, NULL, &none, e));
    REFUSED(pagetie_retie(tie, region, starts[s], e));
    REFUSED(pagetie_region_read(region, starts[s], &byte, 1, e));
  }
  for (size_t l = 0; l < sizeof lens / sizeof *lens; l++) {
    REFUSED(pagetie_region_grow(region, lens[l], e));
    if (lens[l] < half) continue;
    REFUSED(pagetie_region_new(lens[l], NULL, &no_region, e));
    REFUSED(pagetie_space_reserve(lens[l], &no_space, e));
    /* Up to the end of all addresses there is nothing mapped, and past it there is no range. */
    const int overflows = lens[l] > SIZE_MAX - (uintptr_t)memory;
    const pagetie_status why = overflows ? PAGETIE_OUT_OF_RANGE : PAGETIE_NOT_MAPPED;
    EXPECT(why, pagetie_space_borrow(memory, lens[l], &no_space, e));
    EXPECT(why, pagetie_space_borrow_with(memory + 1, lens[l], NULL, &no_space, e));
    EXPECT(why, pagetie_space_grown_to(borrowed, memory, lens[l], e));
  }
  /* What a number can say, and no address space has. (valgrind's mmap answers EINVAL to that.) */
  const pagetie_status too_much = under("valgrind") ? PAGETIE_OS : PAGETIE_NO_MEMORY;
  EXPECT(too_much, pagetie_region_new(half - 4 * page, NULL, &no_region, e));
  EXPECT(too_much, pagetie_space_reserve(half - 4 * page, &no_space, e));
  /* Addresses at the very end. */
  REFUSED(pagetie_space_borrow((void *)(uintptr_t)SIZE_MAX, page, &no_space, e));
  EXPECT(PAGETIE_NOT_MAPPED, pagetie_space_borrow((void *)(uintptr_t)(last - page), page, &no_space, e));
  EXPECT(PAGETIE_CHANGED, pagetie_space_grown_to(borrowed, memory + page, 2 * page, e));

  /* Room to grow that nobody has. */
  const size_t rooms[] = {SIZE_MAX, SIZE_MAX - page + 1, SIZE_MAX / 2, SIZE_MAX / 2 + 1, SIZE_MAX / 4};
  for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
    pagetie_region_options options = PAGETIE_REGION_OPTIONS_INIT;
    options.max_len = rooms[i];
    pagetie_error error = PAGETIE_ERROR_INIT;
    const pagetie_status status = pagetie_region_new(page, &options, &no_region, &error);
    CHECK(status == too_much || status == PAGETIE_NO_MEMORY || status == PAGETIE_OUT_OF_RANGE ||
          status == PAGETIE_MISALIGNED);
  }

  EXPECT(PAGETIE_INVALID, pagetie_tie_all(space, &(pagetie_tie_item){0}, SIZE_MAX, NULL, &none, e));
  CHECK(no_region == UNTOUCHED(pagetie_region) && no_space == UNTOUCHED(pagetie_space));
  CHECK(none == UNTOUCHED(pagetie_tie) && byte == 'b' && count == 77);
  CHECK(pagetie_tie_is_live(tie) == 1 && pagetie_tie_offset(tie) == 0);
  pagetie_space_free(borrowed);
}

int main(void) {
  begin();
  region = new_region(4);
  space = new_space(8);
  tie = new_tie(space, 7, region, 0, 1, PAGETIE_READ_WRITE_TIE);
  enums();
  flags();
  ranges();
  huge_page_sizes();
  OK(pagetie_untie(tie, e));
  pagetie_space_free(space);
  pagetie_region_free(region);
  return 0;
}
