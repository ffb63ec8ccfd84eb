/* The allocator of a wasm3 that was built with -Drealloc=wasm3_realloc -Dfree=wasm3_free: memories of guests
 * go into spaces of pagetie's. There they start on a page and grow in place. */
#include "memory.h"

#include <stdint.h>
#include <stdlib.h>

enum {
  HEADER = 24,      /* wasm3's, before each memory */
  MOST = 16 * 65536 /* how far a memory may grow; addresses only, until it does */
};

/* The end of a space's first page; the memory follows. wasm3 is given `header`, which is no address of
 * malloc's: those are multiples of 16. */
struct front {
  pagetie_space *space;
  size_t len; /* of the memory */
  char header[HEADER];
};

static int is_memory(void *block) { return (uintptr_t)block % 16 == 8; }

static struct front *front_of(void *block) {
  return (struct front *)((char *)block - offsetof(struct front, header));
}

void *wasm3_realloc(void *block, size_t size) {
  size_t page = pagetie_page_size(), len = size - HEADER;
  struct front *front = is_memory(block) ? front_of(block) : NULL;
  if (front == NULL) {
    /* Of all that wasm3 allocates, only a new memory is a header and pages of WebAssembly. */
    if (block != NULL || size < 65536 || len % 65536 != 0) {
      return realloc(block, size);
    }
    pagetie_space *made = NULL;
    if (pagetie_space_reserve(page + MOST, &made, NULL) != PAGETIE_OK ||
        pagetie_protect(made, 0, page, PAGETIE_PROT_READ_WRITE, NULL) != PAGETIE_OK) {
      return NULL;
    }
    front = (struct front *)((char *)pagetie_space_base(made) + page) - 1;
    front->space = made;
  }
  /* Only what is new becomes accessible: the ties and protections of the rest are left alone. */
  if (len > MOST || pagetie_protect(front->space, page + front->len, len - front->len,
                                    PAGETIE_PROT_READ_WRITE, NULL) != PAGETIE_OK) {
    return NULL;
  }
  front->len = len;
  return front->header;
}

void wasm3_free(void *block) {
  if (is_memory(block)) {
    pagetie_space_free(front_of(block)->space); /* ends its ties, and unmaps it */
  } else {
    free(block);
  }
}

const pagetie_space *wasm3_space(const uint8_t *memory) {
  return front_of((char *)memory - HEADER)->space;
}
