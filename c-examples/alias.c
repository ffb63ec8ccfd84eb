/* alias.c: one page, two addresses.
 *
 * Memory comes in pages of a few thousand bytes. The processor looks up, at every access, which page
 * of real memory is behind an address, and nothing stops two addresses from having the same one.
 *
 * pagetie calls the pages a region and the addresses a space. A tie lays pages of a region under
 * addresses of a space: from then on a byte has two addresses, and no copy is made. */

#include <pagetie.h>
#include <stdio.h>
#include <stdlib.h>

/* Every call of the library returns a status, and tells more in an error struct if it is given one. */
static void must(pagetie_status status, const pagetie_error *error) {
  if (status != PAGETIE_OK) {
    fprintf(stderr, "%s: %s\n", pagetie_status_name(status), error->message);
    exit(EXIT_FAILURE);
  }
}

/* The compiler takes two addresses for two bytes: it may keep the one in a register while the other is
 * written. `volatile` tells it to go to memory each time. strcpy() and printf("%s") would not. */
static void store(volatile char *to, const char *text) {
  do {
    *to++ = *text;
  } while (*text++ != '\0');
}

static void show(const char *where, const volatile char *from) {
  printf("%s: ", where);
  while (*from != '\0') {
    putchar(*from++);
  }
  putchar('\n');
}

int main(void) {
  pagetie_error error = PAGETIE_ERROR_INIT;
  size_t page = pagetie_page_size();

  /* One page of zeros. It has an address in this program already, its host view. */
  pagetie_region *region = NULL;
  must(pagetie_region_new(page, NULL, &region, &error), &error);
  volatile char *host = pagetie_region_data(region);

  /* Addresses for four pages, without memory: to touch them now would crash. */
  pagetie_space *space = NULL;
  must(pagetie_space_reserve(4 * page, &space, &error), &error);

  /* The page appears at the third of them. Offsets and lengths are whole pages, always. */
  pagetie_tie *tie = NULL;
  must(pagetie_tie_new(space, 2 * page, region, 0, page, PAGETIE_READ_WRITE_TIE, NULL, &tie, &error),
       &error);
  volatile char *guest = pagetie_tie_addr(tie);

  printf("two addresses: %s\n", host != guest ? "yes" : "no");
  store(host, "written at the host's address");
  show("at the guest's", guest);
  store(guest, "written at the guest's address");
  show("at the host's", host);

  /* The second address is gone after this; the page and its bytes are not. A pagetie_untie that
   * succeeds frees the handle too. */
  must(pagetie_untie(tie, &error), &error);
  show("after untie", host);

  pagetie_space_free(space);
  pagetie_region_free(region);
  return 0;
}
