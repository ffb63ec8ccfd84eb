/* The memory of one guest, at the start of a space of pagetie's. */
#include <pagetie.h>

struct wamr_memory {
  pagetie_space *space; /* made when WAMR asks for the memory, freed by whoever frees the guest */
  size_t len;
};

/* That of the guest which this thread instantiates, calls or closes: an allocator gets no other hint. */
extern _Thread_local struct wamr_memory *wamr_current;

/* For RuntimeInitArgs. */
void *wamr_malloc(unsigned size);
void *wamr_realloc(void *block, unsigned size);
void wamr_free(void *block);
