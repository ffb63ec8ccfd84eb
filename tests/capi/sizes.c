/* Structs of other versions: shorter and longer than ours, with tails of zeros and of something else. Each
 * lies at the end of a page with a page after it that cannot be touched: a byte too many is a signal. */
#include "check.h"

static unsigned char *end_of_memory;

/* A struct of `size` bytes that says so itself: `known` bytes of `from`, then `tail`. */
static void *sized(const void *from, size_t known, size_t size, unsigned char tail) {
  unsigned char *place = end_of_memory - (size < sizeof(size_t) ? sizeof(size_t) : size);
  memset(place, tail, (size_t)(end_of_memory - place));
  memcpy(place, from, known < size ? known : size);
  memcpy(place, &size, sizeof size);
  return place;
}

/* The options structs in turn, as makers of something that is taken down at once. */
static pagetie_status make_region(const void *options, pagetie_error *e) {
  pagetie_region *region = NULL;
  const pagetie_status status = pagetie_region_new(page, options, &region, e);
  CHECK((status == PAGETIE_OK) == (region != NULL));
  pagetie_region_free(region);
  return status;
}

static unsigned char *memory;

static pagetie_status make_space(const void *options, pagetie_error *e) {
  pagetie_space *space = NULL;
  const pagetie_status status = pagetie_space_borrow_with(memory, page, options, &space, e);
  CHECK((status == PAGETIE_OK) == (space != NULL));
  pagetie_space_free(space);
  return status;
}

static const pagetie_region *region;
static const pagetie_space *space;

static pagetie_status make_tie(const void *options, pagetie_error *e) {
  pagetie_tie *tie = NULL;
  const pagetie_status status =
      pagetie_tie_new(space, 0, region, 0, page, PAGETIE_READ_ONLY_TIE, options, &tie, e);
  CHECK((status == PAGETIE_OK) == (tie != NULL));
  pagetie_tie_free(tie);
  return status;
}

static pagetie_status make_ties(const void *options, pagetie_error *e) {
  pagetie_tie *tie = NULL;
  const pagetie_tie_item item = {region, 0, 0, page, PAGETIE_READ_ONLY_TIE, 0};
  const pagetie_status status = pagetie_tie_all(space, &item, 1, options, &tie, e);
  CHECK((status == PAGETIE_OK) == (tie != NULL));
  pagetie_tie_free(tie);
  return status;
}

static void options(const char *name, pagetie_status (*make)(const void *, pagetie_error *),
                    const void *defaults, size_t full) {
  fprintf(stderr, "options of %s\n", name);
  for (size_t size = 0; size <= full + 24; size++) {
    const pagetie_status expected = size < sizeof(size_t) ? PAGETIE_INVALID : PAGETIE_OK;
    EXPECT(expected, make(sized(defaults, full, size, 0), e));
    /* A byte of a field that this version does not know. */
    if (size > full) {
      EXPECT(PAGETIE_INVALID, make(sized(defaults, full, size, 1), e));
      unsigned char *last = sized(defaults, full, size, 0);
      last[size - 1] = 0x80;
      EXPECT(PAGETIE_INVALID, make(last, e));
    }
  }
  /* A size that nobody set. */
  const size_t sizes[] = {SIZE_MAX, SIZE_MAX / 2, 0x7fffa5a5a5a5a5a5, (size_t)1 << 32, (size_t)1 << 20};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    void *place = sized(defaults, full, full, 0);
    memcpy(place, &sizes[i], sizeof sizes[i]);
    EXPECT(PAGETIE_INVALID, make(place, e));
  }
}

/* Whether this region has the name in the list of mappings. */
static int is_named(const pagetie_region *of, const char *name) {
  char line[512], start[32];
  snprintf(start, sizeof start, "%lx-", (unsigned long)(uintptr_t)pagetie_region_data(of));
  FILE *maps = fopen("/proc/self/maps", "r");
  CHECK(maps != NULL);
  int found = 0;
  while (fgets(line, sizeof line, maps) != NULL) {
    if (strncmp(line, start, strlen(start)) == 0) found = strstr(line, name) != NULL;
  }
  fclose(maps);
  return found;
}

/* Fields that a shorter struct does not have in full take their defaults: no half of a pointer is read. */
static void fields(void) {
  pagetie_region_options whole = PAGETIE_REGION_OPTIONS_INIT;
  whole.name = "named by sizes.c";
  whole.max_len = 2 * page;
  for (size_t size = sizeof(size_t); size <= sizeof whole; size++) {
    pagetie_region *made = NULL;
    OK(pagetie_region_new(page, sized(&whole, sizeof whole, size, 0), &made, e));
    const int sees_name = size >= offsetof(pagetie_region_options, huge_pages);
    CHECK(is_named(made, sees_name ? whole.name : "pagetie"));
    const int sees_max_len = size >= offsetof(pagetie_region_options, prefault);
    EXPECT(sees_max_len ? PAGETIE_OK : PAGETIE_OUT_OF_RANGE, pagetie_region_grow(made, 2 * page, e));
    pagetie_region_free(made);
  }
  /* A value out of its range is refused from where it is seen in full. */
  pagetie_tie_options wrong = PAGETIE_TIE_OPTIONS_INIT;
  wrong.prefault = -1;
  for (size_t size = sizeof(size_t); size <= sizeof wrong; size++) {
    const int seen = size >= offsetof(pagetie_tie_options, concurrent);
    EXPECT(seen ? PAGETIE_INVALID : PAGETIE_OK, make_tie(sized(&wrong, sizeof wrong, size, 0), e));
  }
}

static void errors(void) {
  pagetie_error full = PAGETIE_ERROR_INIT;
  CHECK(pagetie_protect(space, 1, page, PAGETIE_PROT_READ, &full) == PAGETIE_MISALIGNED);
  const size_t message = offsetof(pagetie_error, message);
  for (size_t size = 0; size <= sizeof full + 64; size++) {
    pagetie_error untouched;
    memset(&untouched, WATCHED, sizeof untouched);
    unsigned char *place = sized(&untouched, sizeof untouched, size, WATCHED);
    CHECK(pagetie_space_ties(space, NULL, 0, 0, &(size_t){0}, (pagetie_error *)(void *)place) ==
          PAGETIE_OK);
    if (size > sizeof(size_t)) {
      CHECK(all_watched(place + sizeof(size_t), size - sizeof(size_t)));
    }
    CHECK(pagetie_protect(space, 1, page, PAGETIE_PROT_READ, (pagetie_error *)(void *)place) ==
          PAGETIE_MISALIGNED);
    size_t kept;
    memcpy(&kept, place, sizeof kept);
    CHECK(kept == size);
    if (size < sizeof(size_t)) continue;
    /* What is there is what the whole struct has, but for a message that is cut. */
    const size_t known = size < sizeof full ? size : sizeof full;
    const size_t before = known < message ? known : message;
    CHECK(memcmp(place + sizeof(size_t), (char *)&full + sizeof(size_t), before - sizeof(size_t)) == 0);
    if (size > message) {
      const size_t end = known < message + sizeof full.message ? known : message + sizeof full.message;
      const char *text = (const char *)place + message;
      const char *nul = memchr(text, 0, end - message);
      CHECK(nul != NULL);
      CHECK(strncmp(text, full.message, (size_t)(nul - text)) == 0);
      const size_t room = end - message - 1;
      CHECK(strlen(text) == (room < strlen(full.message) ? room : strlen(full.message)));
      if (known > end) CHECK(memcmp(place + end, (char *)&full + end, known - end) == 0);
    }
    /* Bytes of a field unknown here are left alone. */
    if (size > sizeof full) CHECK(all_watched(place + sizeof full, size - sizeof full));
  }
}

int main(void) {
  begin();
  end_of_memory = engine_memory(2) + page;
  CHECK(mprotect(end_of_memory, page, PROT_NONE) == 0);
  memory = engine_memory(1);
  pagetie_region *pages = new_region(1);
  pagetie_space *addresses = new_space(1);
  region = pages;
  space = addresses;

  const pagetie_region_options of_region = PAGETIE_REGION_OPTIONS_INIT;
  const pagetie_space_options of_space = PAGETIE_SPACE_OPTIONS_INIT;
  pagetie_tie_options of_tie = PAGETIE_TIE_OPTIONS_INIT;
  options("pagetie_region_new", make_region, &of_region, sizeof of_region);
  options("pagetie_space_borrow_with", make_space, &of_space, sizeof of_space);
  if (under("valgrind")) {
    left_out("options of ties", "a struct that is cut asks for ties that keep what they cover");
  } else {
    options("pagetie_tie_new", make_tie, &of_tie, sizeof of_tie);
    options("pagetie_tie_all", make_ties, &of_tie, sizeof of_tie);
    fields();
  }
  errors();

  pagetie_space_free(addresses);
  pagetie_region_free(pages);
  return 0;
}
