/* keep.c: what was covered comes back.
 *
 * Memory that somebody else owns, such as the memory of a WebAssembly engine, is borrowed: ties are laid
 * over it. What a tie covers is not overwritten. It is moved aside, page for page, and moved back when
 * the tie ends: with its bytes, and allowing what it allowed before. */

#define _GNU_SOURCE /* for MAP_ANONYMOUS */
#include <pagetie.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void must(pagetie_status status, const pagetie_error *error) {
  if (status != PAGETIE_OK) {
    fprintf(stderr, "%s: %s\n", pagetie_status_name(status), error->message);
    exit(EXIT_FAILURE);
  }
}

/* What an address shows changes without a store, so it is read anew each time: volatile. */
static void show(const char *when, const volatile char *from) {
  printf("%s: ", when);
  while (*from != '\0') {
    putchar(*from++);
  }
  putchar('\n');
}

int main(void) {
  pagetie_error error = PAGETIE_ERROR_INIT;
  size_t page = pagetie_page_size();

  /* The engine: it asks the kernel for four pages of fresh memory of its own, and uses the second.
   * mmap is malloc in whole pages. */
  size_t len = 4 * page;
  char *memory =
      mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    perror("mmap");
    return EXIT_FAILURE;
  }
  char *note = memory + page;
  strcpy(note, "the engine's own bytes");
  show("before", note);

  /* The host: data to show. */
  pagetie_region *region = NULL;
  must(pagetie_region_new(page, NULL, &region, &error), &error);
  const char text[] = "the host's bytes";
  must(pagetie_region_write(region, 0, text, sizeof text, &error), &error);

  /* To borrow is to promise: the engine allows this, and until the space is gone its memory stays where
   * it is and nobody else maps anything there. The header has the promise in full. */
  pagetie_space *space = NULL;
  must(pagetie_space_borrow(memory, len, &space, &error), &error);

  pagetie_tie *tie = NULL;
  must(pagetie_tie_new(space, page, region, 0, page, PAGETIE_READ_ONLY_TIE, NULL, &tie, &error),
       &error);
  show("tied", note);
  must(pagetie_untie(tie, &error), &error);
  show("untied", note);

  /* A copy-on-write tie shows the host's bytes too, but what is written there stays there. */
  must(pagetie_tie_new(space, page, region, 0, page, PAGETIE_COPY_ON_WRITE_TIE, NULL, &tie, &error),
       &error);
  *(volatile char *)note = 'T';
  show("tied copy-on-write, and written", note);
  show("the region", pagetie_region_data(region));
  must(pagetie_untie(tie, &error), &error);
  show("untied again", note);

  /* Not wanted back? Then it need not be kept, and zeros are left there. */
  pagetie_tie_options options = PAGETIE_TIE_OPTIONS_INIT;
  options.covered = 1;
  must(pagetie_tie_new(space, page, region, 0, page, PAGETIE_READ_ONLY_TIE, &options, &tie, &error),
       &error);
  must(pagetie_untie(tie, &error), &error);
  show("untied after a tie that discards", note);

  /* Before memory goes back to its owner: OK from this call means that no alias is left in it. */
  must(pagetie_untie_all(space, &error), &error);
  pagetie_space_free(space);
  pagetie_region_free(region);
  if (munmap(memory, len) != 0) {
    perror("munmap");
    return EXIT_FAILURE;
  }
  return 0;
}
