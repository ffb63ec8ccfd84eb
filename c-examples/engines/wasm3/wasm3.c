/* wasm3: an interpreter that takes its guest's memory with realloc. It is built with -Drealloc and -Dfree
 * (see ../Makefile), so that those calls come here, and the memory is put into a space of pagetie's: it
 * starts on a page, grows in place, and ties need no promise.
 *
 * With -DWASM3_MALLOC the memory stays malloc's, as in a wasm3 that somebody else built. It starts
 * 40 bytes behind a page, and moves when it grows: then the space must be leaked and the memory
 * borrowed anew. */
#include <pagetie.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../engine.h"
#include "../guest.h"
#include "wasm3.h"

/* How far a memory may grow: guest.wat's 16 pages. Only addresses are taken before that is used. */
enum { MOST = 16 * 65536, HEADER = sizeof(void *) * 2 + sizeof(size_t) };

struct guest {
  IM3Environment environment;
  IM3Runtime runtime;
  pagetie_space *space; /* NULL with WASM3_MALLOC */
  size_t len;           /* of the block in it: wasm3's header and the memory */
};

#ifdef WASM3_MALLOC
enum { FROM_MALLOC = 1 };
void *wasm3_realloc(void *block, size_t size) { return realloc(block, size); }
void wasm3_free(void *block) { free(block); }
#else
enum { FROM_MALLOC = 0 };
/* The guest that this thread is in a call for. */
static _Thread_local guest *current;

/* wasm3 puts a header before the memory, so the block begins that much before the space's second page. */
static char *block_of(guest *guest) {
  return guest->space == NULL ? NULL : (char *)pagetie_space_base(guest->space) + pagetie_page_size() - HEADER;
}

void *wasm3_realloc(void *block, size_t size) {
  /* Of all that wasm3 allocates, only memories are a header and whole pages of WebAssembly. */
  int is_memory = current != NULL && block == block_of(current) && size % 65536 == HEADER && size > 65536;
  if (!is_memory) {
    return realloc(block, size);
  }
  size_t page = pagetie_page_size();
  if (size - HEADER > MOST) {
    return NULL;
  }
  if (current->space == NULL) {
    if (pagetie_space_reserve(page + MOST, &current->space, NULL) != PAGETIE_OK ||
        pagetie_protect(current->space, 0, page, PAGETIE_PROT_READ_WRITE, NULL) != PAGETIE_OK) {
      return NULL;
    }
    current->len = HEADER;
  }
  /* Only what is new becomes accessible: ties and protections of the rest are left alone. */
  if (size > current->len &&
      pagetie_protect(current->space, page + current->len - HEADER, size - current->len,
                      PAGETIE_PROT_READ_WRITE, NULL) != PAGETIE_OK) {
    return NULL;
  }
  current->len = size;
  return block_of(current);
}

void wasm3_free(void *block) {
  if (current == NULL || block == NULL || block != block_of(current)) {
    free(block);
  } /* else close frees the space */
}
#endif

#ifdef WASM3_MALLOC
#define ENTER(guest) ((void)(guest))
#else
#define ENTER(guest) (current = (guest))
#endif

static const char *version(void) { return "wasm3 " M3_VERSION; }

static void close_guest(guest *guest) {
  ENTER(guest);
  m3_FreeRuntime(guest->runtime);
  m3_FreeEnvironment(guest->environment);
  ENTER(NULL);
  pagetie_space_free(guest->space); /* ends its ties, and unmaps it */
  free(guest);
}

static guest *open_guest(const uint8_t *wasm, size_t len) {
  guest *made = calloc(1, sizeof *made);
  ENTER(made);
  made->environment = m3_NewEnvironment();
  made->runtime = m3_NewRuntime(made->environment, 64 * 1024, NULL);
  IM3Module module = NULL;
  M3Result failed = m3_ParseModule(made->environment, &module, wasm, (uint32_t)len);
  if (failed == m3Err_none && (failed = m3_LoadModule(made->runtime, module)) != m3Err_none) {
    m3_FreeModule(module); /* a runtime that took it frees it */
  }
  if (failed != m3Err_none) {
    fprintf(stderr, "wasm3: %s\n", failed);
    close_guest(made);
    return NULL;
  }
  ENTER(NULL);
  return made;
}

static void memory(guest *guest, void **start, size_t *len) {
  uint32_t bytes = 0;
  *start = m3_GetMemory(guest->runtime, &bytes, 0);
  *len = bytes;
}

static const pagetie_space *space(guest *guest) { return guest->space; }

static outcome call(guest *guest, const char *name, const int32_t *args, size_t count, int32_t *result) {
  const void *pointers[4] = {NULL};
  for (size_t i = 0; i < count && i < 4; i++) {
    pointers[i] = &args[i];
  }
  IM3Function function = NULL;
  ENTER(guest);
  M3Result failed = m3_FindFunction(&function, guest->runtime, name);
  if (failed == m3Err_none) {
    failed = m3_Call(function, (uint32_t)count, pointers);
  }
  if (failed == m3Err_none) {
    failed = m3_GetResultsV(function, result);
  }
  ENTER(NULL);
  if (failed != m3Err_none) {
    fprintf(stderr, "wasm3: %s: %s\n", name, failed);
    return strncmp(failed, "[trap]", 6) == 0 ? TRAPPED : FAILED;
  }
  return RETURNED;
}

const struct engine the_engine = {version, open_guest, memory, space, call, close_guest, NULL, NULL, FROM_MALLOC};

static void must(pagetie_status status, const pagetie_error *error) {
  if (status != PAGETIE_OK) {
    fprintf(stderr, "%s: %s\n", pagetie_status_name(status), error->message);
    exit(EXIT_FAILURE);
  }
}

/* The guest adds up bytes that the host wrote, and the host reads a byte that the guest stored. */
int main(void) {
  pagetie_error error = PAGETIE_ERROR_INIT;
  size_t page = pagetie_page_size();
  pagetie_region *region = NULL;
  must(pagetie_region_new(page, NULL, &region, &error), &error);
  must(pagetie_region_write(region, 0, "\1\2\3", 3, &error), &error);

  guest *guest = open_guest(guest_wasm, sizeof guest_wasm);
  if (guest == NULL) {
    return EXIT_FAILURE;
  }
  void *start = NULL;
  size_t len = 0;
  memory(guest, &start, &len);
  const pagetie_space *into = guest->space;
#ifdef WASM3_MALLOC
  pagetie_space_options options = PAGETIE_SPACE_OPTIONS_INIT;
  options.allow_heap = 1; /* we promise that it is not freed while tied */
  pagetie_space *borrowed = NULL;
  must(pagetie_space_borrow_with(start, len, &options, &borrowed, &error), &error);
  into = borrowed;
#endif
  /* The first whole page from the guest's address 65536 on. */
  uintptr_t addr = ((uintptr_t)start + 65536 + page - 1) / page * page;
  size_t at = addr - (uintptr_t)pagetie_space_base(into);
  int32_t seen_at = (int32_t)(addr - (uintptr_t)start);

  pagetie_tie *tie = NULL;
  must(pagetie_tie_new(into, at, region, 0, page, PAGETIE_READ_WRITE_TIE, NULL, &tie, &error), &error);
  int32_t result = 0;
  uint8_t byte = 0;
  call(guest, "sum", (int32_t[]){seen_at, (int32_t)page}, 2, &result);
  printf("tied: the guest's sum is %d\n", (int)result);
  call(guest, "store", (int32_t[]){seen_at + 3, 4}, 2, &result);
  must(pagetie_region_read(region, 3, &byte, 1, &error), &error);
  printf("the host reads %d, which the guest stored\n", byte);

  must(pagetie_untie(tie, &error), &error);
  call(guest, "sum", (int32_t[]){seen_at, (int32_t)page}, 2, &result);
  printf("untied: the guest's sum is %d\n", (int)result);
#ifdef WASM3_MALLOC
  pagetie_space_free(borrowed); /* before the memory goes */
#endif
  close_guest(guest);
  pagetie_region_free(region);
  return 0;
}
