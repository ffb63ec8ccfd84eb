/* The second file of a program that includes the header in both: see version.c. */
#include "pagetie.h"

pagetie_status of_the_other_file(pagetie_error *error);

pagetie_status of_the_other_file(pagetie_error *error) {
  pagetie_region_options region = PAGETIE_REGION_OPTIONS_INIT;
  pagetie_space_options space = PAGETIE_SPACE_OPTIONS_INIT;
  pagetie_tie_options tie = PAGETIE_TIE_OPTIONS_INIT;
  pagetie_error fresh = PAGETIE_ERROR_INIT;
  *error = fresh;
  if (region.size + space.size + tie.size == 0) return PAGETIE_OK;
  return pagetie_region_new(pagetie_page_size(), &region, NULL, error);
}
