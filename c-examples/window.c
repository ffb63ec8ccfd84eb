/* window.c: 256 MiB of data, seen through 1 MiB of addresses.
 *
 * A guest with little room, such as a WebAssembly module of a few pages, works through data of any size:
 * its window stays at one address, and the host moves the data under it, one piece after the other.
 * pagetie_retie is one step: a reader sees the old pages or the new ones, never nothing. */

#include <inttypes.h>
#include <pagetie.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB ((size_t)1 << 20)

static void must(pagetie_status status, const pagetie_error *error) {
  if (status != PAGETIE_OK) {
    fprintf(stderr, "%s: %s\n", pagetie_status_name(status), error->message);
    exit(EXIT_FAILURE);
  }
}

/* The guest: it knows one address, and adds up what it finds there. */
static uint64_t first_and_last(const volatile uint64_t *window) {
  return window[0] + window[MIB / sizeof(uint64_t) - 1];
}

int main(void) {
  pagetie_error error = PAGETIE_ERROR_INIT;
  const size_t pieces = 256;

  /* A region takes memory for the pages that are touched, so this one takes little. */
  pagetie_region *region = NULL;
  must(pagetie_region_new(pieces * MIB, NULL, &region, &error), &error);
  volatile uint64_t *data = pagetie_region_data(region);
  for (size_t i = 0; i < pieces; i++) { /* two marks in each piece */
    data[i * MIB / sizeof(uint64_t)] = i;
    data[(i + 1) * MIB / sizeof(uint64_t) - 1] = 1000 * i;
  }

  pagetie_space *space = NULL;
  must(pagetie_space_reserve(MIB, &space, &error), &error);

  /* Read only: not even a guest that goes wrong changes the data. */
  pagetie_tie *tie = NULL;
  must(pagetie_tie_new(space, 0, region, 0, MIB, PAGETIE_READ_ONLY_TIE, NULL, &tie, &error), &error);
  const volatile uint64_t *window = pagetie_tie_addr(tie);

  uint64_t sum = 0;
  for (size_t i = 0; i < pieces; i++) {
    must(pagetie_retie(tie, region, i * MIB, &error), &error);
    sum += first_and_last(window);
  }
  printf("%zu pieces of 1 MiB passed through one window\n", pieces);
  printf("sum of the marks: %" PRIu64 "\n", sum);

  /* Any order will do, and the window is where it was. */
  must(pagetie_retie(tie, region, 7 * MIB, &error), &error);
  printf("back to piece %" PRIu64 ", which starts at byte %zu of the region\n", window[0],
         pagetie_tie_offset(tie));
  printf("the window moved: %s\n", window == pagetie_tie_addr(tie) ? "no" : "yes");

  must(pagetie_untie(tie, &error), &error);
  pagetie_space_free(space);
  pagetie_region_free(region);
  return 0;
}
