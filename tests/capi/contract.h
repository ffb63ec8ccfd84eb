/* The contract of the C ABI, bare: what every version keeps. It may grow, and nothing in it changes.
 * tests/header.rs compares include/pagetie.h with it. After that header only the functions are left
 * here, which a compiler then checks against the header's own. */
#ifndef PAGETIE_CONTRACT_H
#define PAGETIE_CONTRACT_H

#include <stddef.h>
#include <stdint.h>

#ifndef PAGETIE_H
typedef enum pagetie_status {
  PAGETIE_OK = 0,
  PAGETIE_NULL = 1,
  PAGETIE_MISALIGNED = 2,
  PAGETIE_OUT_OF_RANGE = 3,
  PAGETIE_OVERLAP = 4,
  PAGETIE_NOT_MAPPED = 5,
  PAGETIE_CHANGED = 6,
  PAGETIE_REFUSED_MEMORY = 7,
  PAGETIE_READ_ONLY = 8,
  PAGETIE_LIMIT = 9,
  PAGETIE_NO_MEMORY = 10,
  PAGETIE_UNSUPPORTED = 11,
  PAGETIE_OS = 12,
  PAGETIE_PANIC = 13,
  PAGETIE_INVALID = 14,
  PAGETIE_EMPTY = 15,
  PAGETIE_ENDED = 16
} pagetie_status;

typedef enum pagetie_access {
  PAGETIE_READ_ONLY_TIE = 0,
  PAGETIE_READ_WRITE_TIE = 1,
  PAGETIE_COPY_ON_WRITE_TIE = 2
} pagetie_access;

typedef enum pagetie_prot {
  PAGETIE_PROT_NONE = 0,
  PAGETIE_PROT_READ = 1,
  PAGETIE_PROT_READ_WRITE = 2
} pagetie_prot;

typedef struct pagetie_error {
  size_t size;
  pagetie_status status;
  int32_t os_error;
  size_t value;
  size_t other;
  char message[192];
  size_t value_end;
  size_t other_end;
  size_t index;
} pagetie_error;
#define PAGETIE_ERROR_INIT { sizeof(pagetie_error), PAGETIE_OK, 0, 0, 0, {0}, 0, 0, 0 }

typedef struct pagetie_region_options {
  size_t size;
  const char *name;
  int32_t huge_pages;
  int32_t hide_from_fork;
  size_t huge_page_size;
  size_t max_len;
  int32_t prefault;
  int32_t allow_discard;
  int32_t read_only;
  int32_t reserved;
} pagetie_region_options;
#define PAGETIE_REGION_OPTIONS_INIT { sizeof(pagetie_region_options), NULL, 0, 0, 0, 0, 0, 0, 0, 0 }

typedef struct pagetie_space_options {
  size_t size;
  int32_t allow_heap;
  int32_t reserved;
} pagetie_space_options;
#define PAGETIE_SPACE_OPTIONS_INIT { sizeof(pagetie_space_options), 0, 0 }

typedef struct pagetie_tie_options {
  size_t size;
  int32_t covered;
  int32_t prefault;
  int32_t concurrent;
  int32_t reserved;
} pagetie_tie_options;
#define PAGETIE_TIE_OPTIONS_INIT { sizeof(pagetie_tie_options), 0, 0, 0, 0 }

typedef struct pagetie_region pagetie_region;
typedef struct pagetie_space pagetie_space;
typedef struct pagetie_tie pagetie_tie;
typedef struct pagetie_loan pagetie_loan;

typedef struct pagetie_window pagetie_window;

typedef struct pagetie_range {
  size_t at;
  size_t len;
} pagetie_range;

typedef struct pagetie_tie_item {
  const pagetie_region *region;
  size_t at;
  size_t offset;
  size_t len;
  pagetie_access access;
  int32_t reserved;
} pagetie_tie_item;

typedef struct pagetie_tie_info {
  size_t at;
  size_t len;
  size_t offset;
  pagetie_access access;
  int32_t held;
} pagetie_tie_info;

typedef struct pagetie_mapping {
  size_t addr;
  size_t len;
  uint64_t offset;
  uint64_t inode;
  pagetie_prot prot;
  int32_t shared;
} pagetie_mapping;
#endif /* PAGETIE_H */

#ifdef __cplusplus
extern "C" {
#endif

pagetie_status pagetie_region_new(size_t len, const pagetie_region_options *options, pagetie_region **out, pagetie_error *error);
pagetie_status pagetie_region_from_fd(int fd, const pagetie_region_options *options, pagetie_region **out, pagetie_error *error);
pagetie_status pagetie_region_open(const char *path, const pagetie_region_options *options, pagetie_region **out, pagetie_error *error);
pagetie_status pagetie_region_adopt(void *addr, size_t len, pagetie_region **out, pagetie_error *error);
void           pagetie_region_free(pagetie_region *region);
size_t         pagetie_region_len(const pagetie_region *region);
size_t         pagetie_region_page_size(const pagetie_region *region);
void          *pagetie_region_data(const pagetie_region *region);
int            pagetie_region_fd(const pagetie_region *region);
pagetie_status pagetie_region_read(const pagetie_region *region, size_t offset, void *into, size_t len, pagetie_error *error);
pagetie_status pagetie_region_write(const pagetie_region *region, size_t offset, const void *from, size_t len, pagetie_error *error);
pagetie_status pagetie_region_grow(const pagetie_region *region, size_t new_len, pagetie_error *error);
pagetie_status pagetie_region_collapse(const pagetie_region *region, size_t *huge_bytes, pagetie_error *error);
pagetie_status pagetie_region_prefetch(const pagetie_region *region, size_t offset, size_t len, pagetie_error *error);
pagetie_status pagetie_region_discard(const pagetie_region *region, size_t offset, size_t len, pagetie_error *error);

pagetie_status pagetie_space_reserve(size_t len, pagetie_space **out, pagetie_error *error);
pagetie_status pagetie_space_borrow(void *memory_start, size_t memory_len, pagetie_space **out, pagetie_error *error);
pagetie_status pagetie_space_borrow_with(void *memory_start, size_t memory_len, const pagetie_space_options *options, pagetie_space **out, pagetie_error *error);
pagetie_status pagetie_space_grown_to(const pagetie_space *space, void *memory_start, size_t memory_len, pagetie_error *error);
void           pagetie_space_free(pagetie_space *space);
void           pagetie_space_leak(pagetie_space *space);
void          *pagetie_space_base(const pagetie_space *space);
size_t         pagetie_space_len(const pagetie_space *space);
pagetie_status pagetie_space_ties(const pagetie_space *space, pagetie_tie_info *into, size_t capacity, size_t item_size, size_t *count, pagetie_error *error);
pagetie_status pagetie_inspect(const pagetie_space *space, size_t at, size_t len, pagetie_mapping *into, size_t capacity, size_t item_size, size_t *count, pagetie_error *error);
pagetie_status pagetie_protect(const pagetie_space *space, size_t at, size_t len, pagetie_prot prot, pagetie_error *error);
pagetie_status pagetie_discard(const pagetie_space *space, size_t at, size_t len, pagetie_error *error);

pagetie_status pagetie_discard_many(const pagetie_space *space, const pagetie_range *ranges, size_t count, pagetie_error *error);

pagetie_status pagetie_tie_new(const pagetie_space *space, size_t at, const pagetie_region *region, size_t offset, size_t len,
                               pagetie_access access, const pagetie_tie_options *options, pagetie_tie **out, pagetie_error *error);
pagetie_status pagetie_tie_all(const pagetie_space *space, const pagetie_tie_item *items, size_t count, const pagetie_tie_options *options,
                               pagetie_tie **outs, pagetie_error *error);
pagetie_status pagetie_retie(pagetie_tie *tie, const pagetie_region *region, size_t offset, pagetie_error *error);
pagetie_status pagetie_untie(pagetie_tie *tie, pagetie_error *error);
pagetie_status pagetie_untie_all(const pagetie_space *space, pagetie_error *error);
void           pagetie_tie_free(pagetie_tie *tie);
void           pagetie_tie_leak(pagetie_tie *tie);
size_t         pagetie_tie_at(const pagetie_tie *tie);
size_t         pagetie_tie_len(const pagetie_tie *tie);
size_t         pagetie_tie_offset(const pagetie_tie *tie);
void          *pagetie_tie_addr(const pagetie_tie *tie);
int32_t        pagetie_tie_is_live(const pagetie_tie *tie);
int32_t        pagetie_tie_is_congruent(const pagetie_tie *tie);
pagetie_status pagetie_tie_park(pagetie_tie *tie, pagetie_error *error);
pagetie_status pagetie_tie_resume(pagetie_tie *tie, const pagetie_space *space, size_t at, pagetie_error *error);

pagetie_status pagetie_window_new(const pagetie_space *space, size_t at, size_t len, const pagetie_region *region,
                                  pagetie_access access, const pagetie_tie_options *options, pagetie_window **out, pagetie_error *error);
pagetie_status pagetie_window_show(pagetie_window *window, size_t offset, size_t len, size_t *at, pagetie_error *error);
pagetie_status pagetie_window_prepare(const pagetie_window *window, size_t offset, size_t len, pagetie_error *error);
pagetie_status pagetie_window_untie(pagetie_window *window, pagetie_error *error);
void           pagetie_window_free(pagetie_window *window);
size_t         pagetie_window_at(const pagetie_window *window);
size_t         pagetie_window_len(const pagetie_window *window);
size_t         pagetie_window_offset(const pagetie_window *window);

pagetie_status pagetie_space_lend(const pagetie_space *space, size_t at, void *addr, size_t len, int32_t guarded, pagetie_loan **out,
                                  pagetie_error *error);
pagetie_status pagetie_loan_give_back(pagetie_loan *loan, pagetie_error *error);
void           pagetie_loan_free(pagetie_loan *loan);
size_t         pagetie_loan_at(const pagetie_loan *loan);
size_t         pagetie_loan_len(const pagetie_loan *loan);
void          *pagetie_loan_addr(const pagetie_loan *loan);
void          *pagetie_loan_home(const pagetie_loan *loan);
int32_t        pagetie_loan_is_live(const pagetie_loan *loan);

const char *pagetie_status_name(pagetie_status status);
size_t      pagetie_page_size(void);
uint32_t    pagetie_version(void);

#ifdef __cplusplus
}
#endif

#endif /* PAGETIE_CONTRACT_H */
