/* The space that memory.c put a guest's memory into; it lives as long as that. */
#include <pagetie.h>

const pagetie_space *wasm3_space(const uint8_t *memory);
