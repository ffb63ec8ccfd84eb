/* wasm2c: the guest was translated to C and compiled into this program (see ../Makefile), so there is no
 * module to load. The memory is that of wasm-rt: 8 GiB of addresses that it never leaves, and a signal
 * handler that makes a trap of every fault, wherever it happens. */
#define _GNU_SOURCE /* for sigsetjmp */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../engine.h"
#include "guest2c.h" /* by wasm2c */
#include "wasm-rt-impl.h"

struct guest {
  Z_guest_instance_t instance;
};

static const char *version(void) { return "wasm2c " WABT_VERSION; }

/* Once a process: the handler, on a stack of its own that only the first thread has. */
static void init(void) {
  wasm_rt_init();
  Z_guest_init_module();
}

static guest *open_guest(const uint8_t *wasm, size_t len) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)wasm, (void)len;
  pthread_once(&once, init);
  guest *made = calloc(1, sizeof *made);
  Z_guest_instantiate(&made->instance);
  return made;
}

static void memory(guest *guest, void **start, size_t *len) {
  *start = guest->instance.w2c_memory.data;
  *len = guest->instance.w2c_memory.size;
}

/* What wasm2c made of each export is a C function of its own type. */
static uint32_t run(Z_guest_instance_t *instance, const char *name, const uint32_t *args) {
  return strcmp(name, "load") == 0    ? Z_guestZ_load(instance, args[0])
         : strcmp(name, "store") == 0 ? Z_guestZ_store(instance, args[0], args[1])
         : strcmp(name, "fill") == 0  ? Z_guestZ_fill(instance, args[0], args[1], args[2])
         : strcmp(name, "sum") == 0   ? Z_guestZ_sum(instance, args[0], args[1])
                                      : Z_guestZ_grow(instance, args[0]);
}

/* The place that a trap jumps to is one for the process: with several threads, only one may trap. */
static outcome call(guest *guest, const char *name, const int32_t *args, size_t count, int32_t *result) {
  uint32_t cells[3] = {0};
  memcpy(cells, args, count * sizeof *args);
  wasm_rt_trap_t trap = (wasm_rt_trap_t)wasm_rt_impl_try();
  if (trap != WASM_RT_TRAP_NONE) {
    fprintf(stderr, "wasm2c: %s: %s\n", name, wasm_rt_strerror(trap));
    return TRAPPED;
  }
  *result = (int32_t)run(&guest->instance, name, cells);
  return RETURNED;
}

static void close_guest(guest *guest) {
  /* wasm-rt of this version unmaps what the guest could use, and leaves the rest of the 8 GiB behind. */
  wasm_rt_memory_t memory = guest->instance.w2c_memory;
  Z_guest_free(&guest->instance);
  munmap(memory.data + memory.size, 0x200000000 - memory.size);
  free(guest);
}

const struct engine the_engine = {version, open_guest, memory, NULL, call, close_guest, NULL, NULL, 0};

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

  guest *guest = open_guest(NULL, 0);
  void *start = NULL;
  size_t len = 0;
  memory(guest, &start, &len);
  pagetie_space *space = NULL; /* a promise: its memory stays until the space is gone */
  must(pagetie_space_borrow(start, len, &space, &error), &error);

  pagetie_tie *tie = NULL;
  must(pagetie_tie_new(space, 65536, region, 0, page, PAGETIE_READ_WRITE_TIE, NULL, &tie, &error), &error);
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

  must(pagetie_untie_all(space, &error), &error); /* OK: nothing of ours is left in it */
  pagetie_space_free(space);
  close_guest(guest);
  pagetie_region_free(region);
  return 0;
}
