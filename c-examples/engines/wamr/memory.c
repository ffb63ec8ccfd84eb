/* The allocators of a WAMR whose guests have their memories in spaces of pagetie's. There they start on a
 * page and grow in place. All else is malloc's. */
#include "memory.h"

#include <stdlib.h>

/* How far a memory may grow. Only addresses are taken before it does. */
enum { MOST = 16 * 65536 };

_Thread_local struct wamr_memory *wamr_current;

static int is_memory(void *block) {
  return block != NULL && wamr_current != NULL && block == pagetie_space_base(wamr_current->space);
}

/* Only what is new becomes accessible: the ties and protections of the rest are left alone. */
static void *resize(struct wamr_memory *memory, size_t len) {
  if (len > MOST || pagetie_protect(memory->space, memory->len, len - memory->len, PAGETIE_PROT_READ_WRITE,
                                    NULL) != PAGETIE_OK) {
    return NULL;
  }
  memory->len = len;
  return pagetie_space_base(memory->space);
}

void *wamr_malloc(unsigned size) {
  /* Of all that WAMR allocates for an instance, only its memory is whole pages of WebAssembly. */
  if (wamr_current == NULL || wamr_current->space != NULL || size < 65536 || size % 65536 != 0) {
    return malloc(size);
  }
  pagetie_status status = pagetie_space_reserve(MOST, &wamr_current->space, NULL);
  return status == PAGETIE_OK ? resize(wamr_current, size) : NULL;
}

void *wamr_realloc(void *block, unsigned size) {
  return is_memory(block) ? resize(wamr_current, size) : realloc(block, size);
}

void wamr_free(void *block) {
  if (!is_memory(block)) {
    free(block);
  }
}
