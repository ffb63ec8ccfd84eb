/* Prints the version of the header and that of the library; one of two files that include the header. */
#include "pagetie.h"
#include "pagetie.h"
#include <stdio.h>

pagetie_status of_the_other_file(pagetie_error *error);

int main(void) {
  const uint32_t version = pagetie_version();
  printf("%d.%d.%d\n", PAGETIE_VERSION_MAJOR, PAGETIE_VERSION_MINOR, PAGETIE_VERSION_PATCH);
  printf("%u.%u.%u\n", version >> 16, version >> 8 & 0xff, version & 0xff);
  pagetie_error error = PAGETIE_ERROR_INIT;
  return of_the_other_file(&error) == PAGETIE_NULL && error.status == PAGETIE_NULL ? 0 : 1;
}
