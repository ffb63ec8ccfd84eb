/* wasm3: an interpreter that takes its guest's memory with realloc. memory.c replaces that one, so the
 * memory lies in a space of pagetie's: it starts on a page, grows in place, and ties need no promise.
 *
 * With -DWASM3_MALLOC this is a wasm3 that somebody else built. The memory starts 40 bytes behind a page,
 * so that only other addresses of the guest's can be tied, and when it grows it moves: then the space
 * must be leaked and the memory borrowed anew. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../engine.h"
#include "../guest.h"
#include "memory.h"
#include "wasm3.h"

struct guest {
  IM3Environment environment;
  IM3Runtime runtime;
};

static void close_guest(guest *guest) {
  m3_FreeRuntime(guest->runtime);
  m3_FreeEnvironment(guest->environment);
  free(guest);
}

static guest *open_guest(const uint8_t *wasm, size_t len) {
  guest *made = calloc(1, sizeof *made);
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
  return made;
}

static void memory(guest *guest, void **start, size_t *len) {
  uint32_t bytes = 0;
  *start = m3_GetMemory(guest->runtime, &bytes, 0);
  *len = bytes;
}

static outcome call(guest *guest, const char *name, const int32_t *args, size_t count, int32_t *result) {
  const void *pointers[] = {args, args + 1, args + 2};
  IM3Function function = NULL;
  M3Result failed = m3_FindFunction(&function, guest->runtime, name);
  if (failed == m3Err_none && (failed = m3_Call(function, (uint32_t)count, pointers)) == m3Err_none) {
    failed = m3_GetResultsV(function, result);
  }
  if (failed == m3Err_none) {
    return RETURNED;
  }
  fprintf(stderr, "wasm3: %s: %s\n", name, failed);
  return strncmp(failed, "[trap]", 6) == 0 ? TRAPPED : FAILED;
}

#ifdef WASM3_MALLOC
enum { FROM_MALLOC = 1 };
static const char *version(void) { return "wasm3 " M3_VERSION " (malloc)"; }
static const pagetie_space *space(guest *guest) { return (void)guest, NULL; }
#else
enum { FROM_MALLOC = 0 };
static const char *version(void) { return "wasm3 " M3_VERSION; }
static const pagetie_space *space(guest *guest) { return wasm3_space(m3_GetMemory(guest->runtime, NULL, 0)); }
#endif

const struct engine the_engine = {version, open_guest,  memory, space,      call,
                                  close_guest, NULL, NULL,   FROM_MALLOC};

static void must(pagetie_status status, const pagetie_error *error) {
  if (status != PAGETIE_OK) {
    fprintf(stderr, "%s: %s\n", pagetie_status_name(status), error->message);
    exit(EXIT_FAILURE);
  }
}

/* A page of the host's, as the guest sees it behind its first 64 KiB. */
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
  pagetie_space *borrowed = NULL;
  const pagetie_space *into = space(guest);
  if (into == NULL) {
    pagetie_space_options options = PAGETIE_SPACE_OPTIONS_INIT;
    options.allow_heap = 1; /* a promise: it is not freed while tied */
    must(pagetie_space_borrow_with(start, len, &options, &borrowed, &error), &error);
    into = borrowed;
  }
  /* The first whole page from the guest's address 65536 on, as address, in the space, for the guest. */
  uintptr_t addr = ((uintptr_t)start + 65536 + page - 1) / page * page;
  size_t at = addr - (uintptr_t)pagetie_space_base(into);
  int32_t seen_at = (int32_t)(addr - (uintptr_t)start);

  pagetie_tie *tie = NULL;
  must(pagetie_tie_new(into, at, region, 0, page, PAGETIE_READ_WRITE_TIE, NULL, &tie, &error), &error);
  int32_t result = 0;
  uint8_t byte = 0;
  call(guest, "sum", (int32_t[]){seen_at, 4}, 2, &result);
  printf("tied: the guest's sum of the host's bytes is %d\n", (int)result);
  call(guest, "store", (int32_t[]){seen_at + 3, 4}, 2, &result);
  must(pagetie_region_read(region, 3, &byte, 1, &error), &error);
  printf("the guest stored, and the host reads %d\n", byte);
  must(pagetie_untie(tie, &error), &error);
  call(guest, "store", (int32_t[]){seen_at, 9}, 2, &result);
  must(pagetie_region_read(region, 0, &byte, 1, &error), &error);
  printf("untied: the guest stored elsewhere, and the host reads %d\n", byte);

  pagetie_space_free(borrowed); /* before its memory goes */
  close_guest(guest);
  pagetie_region_free(region);
  return 0;
}
