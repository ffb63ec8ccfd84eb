/* WAMR: the WebAssembly Micro Runtime's interpreter. It takes allocators from its embedder, and those of
 * memory.c put the memory of a guest into a space of pagetie's: it starts on a page, grows in place, and
 * ties need no promise. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../engine.h"
#include "../guest.h"
#include "memory.h"
#include "wasm_export.h"

struct guest {
  uint8_t *wasm; /* WAMR writes into it, and needs it to the end */
  wasm_module_t module;
  wasm_module_inst_t instance;
  wasm_exec_env_t stack;
  struct wamr_memory memory;
};

static void init(void) {
  RuntimeInitArgs args = {0};
  args.mem_alloc_type = Alloc_With_Allocator;
  args.mem_alloc_option.allocator.malloc_func = (void *)(uintptr_t)wamr_malloc;
  args.mem_alloc_option.allocator.realloc_func = (void *)(uintptr_t)wamr_realloc;
  args.mem_alloc_option.allocator.free_func = (void *)(uintptr_t)wamr_free;
  if (!wasm_runtime_full_init(&args)) {
    fputs("wamr: does not start\n", stderr);
    exit(EXIT_FAILURE);
  }
}

static const char *version(void) { return "WAMR (wamr-sys 0.1.1)"; }

static void close_guest(guest *guest) {
  wamr_current = &guest->memory;
  if (guest->stack != NULL) {
    wasm_runtime_destroy_exec_env(guest->stack);
  }
  if (guest->instance != NULL) {
    wasm_runtime_deinstantiate(guest->instance);
  }
  if (guest->module != NULL) {
    wasm_runtime_unload(guest->module);
  }
  wamr_current = NULL;
  pagetie_space_free(guest->memory.space); /* ends its ties, and unmaps it */
  free(guest->wasm);
  free(guest);
}

static guest *open_guest(const uint8_t *wasm, size_t len) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, init);
  guest *made = calloc(1, sizeof *made);
  made->wasm = malloc(len);
  memcpy(made->wasm, wasm, len);
  char failed[128] = "no stack";
  made->module = wasm_runtime_load(made->wasm, (uint32_t)len, failed, sizeof failed);
  wamr_current = &made->memory;
  if (made->module != NULL) {
    made->instance = wasm_runtime_instantiate(made->module, 8192, 0, failed, sizeof failed);
  }
  if (made->instance != NULL) {
    made->stack = wasm_runtime_create_exec_env(made->instance, 8192);
  }
  wamr_current = NULL;
  if (made->stack == NULL) {
    fprintf(stderr, "wamr: %s\n", failed);
    close_guest(made);
    return NULL;
  }
  return made;
}

static void memory(guest *guest, void **start, size_t *len) {
  *start = pagetie_space_base(guest->memory.space);
  *len = guest->memory.len;
}

static const pagetie_space *space(guest *guest) { return guest->memory.space; }

static outcome call(guest *guest, const char *name, const int32_t *args, size_t count, int32_t *result) {
  uint32_t cells[4] = {0};
  memcpy(cells, args, count * sizeof *args);
  wasm_function_inst_t function = wasm_runtime_lookup_function(guest->instance, name, NULL);
  wamr_current = &guest->memory;
  bool returned =
      function != NULL && wasm_runtime_call_wasm(guest->stack, function, (uint32_t)count, cells);
  wamr_current = NULL;
  if (returned) {
    *result = (int32_t)cells[0];
    return RETURNED;
  }
  const char *failed = wasm_runtime_get_exception(guest->instance);
  fprintf(stderr, "wamr: %s: %s\n", name, failed != NULL ? failed : "no such function");
  wasm_runtime_clear_exception(guest->instance);
  return failed != NULL ? TRAPPED : FAILED;
}

const struct engine the_engine = {version, open_guest, memory, space, call, close_guest, NULL, NULL, 0};

static void must(pagetie_status status, const pagetie_error *error) {
  if (status != PAGETIE_OK) {
    fprintf(stderr, "%s: %s\n", pagetie_status_name(status), error->message);
    exit(EXIT_FAILURE);
  }
}

/* A page of the host's, as the guest sees it at its address 65536. */
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
  pagetie_tie *tie = NULL;
  must(pagetie_tie_new(guest->memory.space, 65536, region, 0, page, PAGETIE_READ_WRITE_TIE, NULL, &tie, &error), &error);
  int32_t result = 0;
  uint8_t byte = 0;
  call(guest, "sum", (int32_t[]){65536, 4}, 2, &result);
  printf("tied: the guest's sum of the host's bytes is %d\n", (int)result);
  call(guest, "store", (int32_t[]){65536 + 3, 4}, 2, &result);
  must(pagetie_region_read(region, 3, &byte, 1, &error), &error);
  printf("the guest stored, and the host reads %d\n", byte);
  must(pagetie_untie(tie, &error), &error);
  call(guest, "store", (int32_t[]){65536, 9}, 2, &result);
  must(pagetie_region_read(region, 0, &byte, 1, &error), &error);
  printf("untied: the guest stored elsewhere, and the host reads %d\n", byte);

  close_guest(guest);
  pagetie_region_free(region);
  return 0;
}
