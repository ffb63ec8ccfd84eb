/* errors.c: what went wrong, shown to a person.
 *
 * A call that fails returns a status, which a program can act on, and fills in a pagetie_error: a line
 * of text for a log, and the numbers in it. It has changed nothing: no output is written, no mapping is
 * touched, so the program may try something else. Here most calls fail, on purpose. */

#include <inttypes.h>
#include <pagetie.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a log needs: who, the name of the status, the line. Then advice, from the numbers. */
static void explain(const char *what, pagetie_status status, const pagetie_error *error) {
  if (status == PAGETIE_OK) {
    printf("%s\n  went well, and should not have\n", what);
    exit(EXIT_FAILURE);
  }
  printf("%s\n  %s: %s\n", what, pagetie_status_name(status), error->message);
  switch (status) {
  case PAGETIE_MISALIGNED: /* value is the number, other the page size */
    printf("  advice: start at 0x%zx instead\n", error->value / error->other * error->other);
    break;
  case PAGETIE_OVERLAP: /* [value, value_end) meets [other, other_end) */
    printf("  advice: room begins again at 0x%zx\n", error->other_end);
    break;
  case PAGETIE_LIMIT:
    printf("  advice: raise vm.max_map_count above %zu\n", error->other);
    break;
  case PAGETIE_OS:
    printf("  advice: the system says \"%s\"\n", strerror(error->os_error));
    break;
  default: /* the text says it all; statuses may be added, so there is a default */
    break;
  }
  if (error->index != SIZE_MAX) {
    printf("  advice: look at item %zu of the list\n", error->index);
  }
}

static void must(pagetie_status status, const pagetie_error *error) {
  if (status != PAGETIE_OK) {
    fprintf(stderr, "%s: %s\n", pagetie_status_name(status), error->message);
    exit(EXIT_FAILURE);
  }
}

int main(void) {
  pagetie_error error = PAGETIE_ERROR_INIT;
  size_t page = pagetie_page_size();
  pagetie_region *region = NULL;
  must(pagetie_region_new(4 * page, NULL, &region, &error), &error);
  pagetie_space *space = NULL;
  must(pagetie_space_reserve(8 * page, &space, &error), &error);
  pagetie_tie *tie = NULL;
  must(pagetie_tie_new(space, 0, region, 0, 2 * page, PAGETIE_READ_ONLY_TIE, NULL, &tie, &error),
       &error);
  pagetie_tie *other = NULL; /* stays NULL below: outputs are written on success only */

  explain("a tie that does not start on a page",
          pagetie_tie_new(space, 5 * page + 100, region, 0, page, PAGETIE_READ_ONLY_TIE, NULL, &other,
                          &error), &error);
  explain("a tie that is longer than the region",
          pagetie_tie_new(space, 2 * page, region, 0, 5 * page, PAGETIE_READ_ONLY_TIE, NULL, &other,
                          &error), &error);
  explain("a tie over another one",
          pagetie_tie_new(space, page, region, 0, page, PAGETIE_READ_ONLY_TIE, NULL, &other, &error),
          &error);
  explain("stores allowed where the tie is read only",
          pagetie_protect(space, 0, page, PAGETIE_PROT_READ_WRITE, &error), &error);

  const pagetie_tie_item items[] = {
      {region, 4 * page, 0, page, PAGETIE_READ_ONLY_TIE, 0},
      {region, 4 * page, page, page, PAGETIE_READ_ONLY_TIE, 0},
  };
  pagetie_tie *both[2] = {NULL, NULL};
  explain("a list of ties, two of them in one place",
          pagetie_tie_all(space, items, 2, NULL, both, &error), &error);

  /* `region` and `space` keep their values here, since these calls fail. */
  explain("a file that is not there",
          pagetie_region_open("/no/such/file", NULL, &region, &error), &error);
  int local = 0;
  explain("a stack borrowed for ties",
          pagetie_space_borrow(&local, sizeof local, &space, &error), &error);
  explain("no region at all",
          pagetie_tie_new(space, 4 * page, NULL, 0, page, PAGETIE_READ_ONLY_TIE, NULL, &other, &error),
          &error);
  pagetie_tie_options options = PAGETIE_TIE_OPTIONS_INIT;
  options.prefault = 7;
  explain("an option that has no meaning",
          pagetie_tie_new(space, 4 * page, region, 0, page, PAGETIE_READ_ONLY_TIE, &options, &other,
                          &error), &error);

  /* The status alone is enough for many programs: the error may be NULL, always. */
  if (pagetie_region_grow(region, page, NULL) == PAGETIE_OUT_OF_RANGE) {
    printf("a region does not get shorter\n");
  }

  printf("after all that: tie 1 is %s, tie 2 is %s, and the region has %zu pages\n",
         pagetie_tie_is_live(tie) ? "live" : "ended", other == NULL ? "not there" : "there",
         pagetie_region_len(region) / page);
  must(pagetie_untie(tie, &error), &error);
  pagetie_space_free(space);
  pagetie_region_free(region);
  return 0;
}
