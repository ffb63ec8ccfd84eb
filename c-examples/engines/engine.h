/* What the suite asks of an engine, and all it asks: a guest, its memory, calls into it. Every folder
 * beside this file has one program that embeds an engine: its `main` is what an embedder copies, and
 * its `the_engine` is what suite.c drives (built with -Dmain=example_main).
 *
 * The guest is always guest.wat. Open, call and close one guest on one thread; guests of different
 * threads are independent. */
#ifndef PAGETIE_ENGINE_H
#define PAGETIE_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "pagetie.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct guest guest; /* whatever the engine needs to keep */

typedef enum outcome {
  RETURNED = 0, /* the function returned */
  TRAPPED = 1,  /* the guest trapped, and its host may go on */
  FAILED = 2    /* neither: a message is on stderr */
} outcome;

struct engine {
  /* As docs/engines.md calls it, with the version that runs. */
  const char *(*version)(void);

  /* Compiles and starts guest.wasm. NULL: a message is on stderr. */
  guest *(*open)(const uint8_t *wasm, size_t len);

  /* Where the guest's memory is now and how long it is. */
  void (*memory)(guest *guest, void **start, size_t *len);

  /* The space that the memory lives in, where the embedder gave the engine addresses of pagetie's
   * (pagetie_space_reserve); NULL, or a NULL result, where the engine has memory of its own and the
   * caller borrows it. The space belongs to the guest. */
  const pagetie_space *(*space)(guest *guest);

  /* Calls an export of guest.wat with `count` arguments (all i32), one i32 result into *result. */
  outcome (*call)(guest *guest, const char *name, const int32_t *args, size_t count, int32_t *result);

  /* Lets go of the guest and, as far as the engine can be made to, of its memory at once. */
  void (*close)(guest *guest);

  /* Around all other calls on a thread that is not the first; NULL where nothing is needed. */
  void (*thread_begin)(void);
  void (*thread_end)(void);

  /* 1 where the memory comes from malloc, which may put it into [heap]: see pagetie_space_options. */
  int32_t allow_heap;
};

extern const struct engine the_engine;

#ifdef __cplusplus
}
#endif

#endif
