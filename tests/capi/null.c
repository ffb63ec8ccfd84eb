/* NULL in every pointer position of every function: a status or a plain answer, and nothing is changed. */
#include "check.h"

int main(void) {
  begin();
  pagetie_region *region = new_region(2);
  pagetie_space *space = new_space(4);
  unsigned char *memory = engine_memory(2);
  pagetie_space *borrowed = borrow(memory, 2 * page);
  pagetie_tie *tie = new_tie(space, 0, region, 0, 1, PAGETIE_READ_WRITE_TIE);
  pagetie_region *some_region = UNTOUCHED(pagetie_region);
  pagetie_space *some_space = UNTOUCHED(pagetie_space);
  pagetie_tie *some_tie = UNTOUCHED(pagetie_tie);
  size_t count = 77;
  pagetie_loan *some_loan = UNTOUCHED(pagetie_loan);
  unsigned char byte = 'b';

  /* Where NULL is an answer's lack, and refused. */
#define NULLS(call) EXPECT(PAGETIE_NULL, call)
  NULLS(pagetie_region_new(page, NULL, NULL, e));
  NULLS(pagetie_region_from_fd(pagetie_region_fd(region), NULL, NULL, e));
  NULLS(pagetie_region_open(NULL, NULL, &some_region, e));
  NULLS(pagetie_region_open("/proc/self/exe", NULL, NULL, e));
  NULLS(pagetie_region_read(NULL, 0, &byte, 1, e));
  NULLS(pagetie_region_read(region, 0, NULL, 1, e));
  NULLS(pagetie_region_write(NULL, 0, &byte, 1, e));
  NULLS(pagetie_region_write(region, 0, NULL, 1, e));
  NULLS(pagetie_region_grow(NULL, page, e));
  NULLS(pagetie_region_collapse(NULL, &count, e));
  NULLS(pagetie_region_prefetch(NULL, 0, page, e));
  NULLS(pagetie_region_discard(NULL, 0, page, e));
  NULLS(pagetie_space_reserve(page, NULL, e));
  NULLS(pagetie_space_borrow(NULL, page, &some_space, e));
  NULLS(pagetie_space_borrow(memory, page, NULL, e));
  NULLS(pagetie_space_borrow_with(NULL, page, NULL, &some_space, e));
  NULLS(pagetie_space_borrow_with(memory, page, NULL, NULL, e));
  NULLS(pagetie_space_grown_to(NULL, memory, 2 * page, e));
  NULLS(pagetie_space_grown_to(borrowed, NULL, 2 * page, e));
  NULLS(pagetie_space_ties(NULL, NULL, 0, sizeof(pagetie_tie_info), &count, e));
  NULLS(pagetie_space_ties(space, NULL, 1, sizeof(pagetie_tie_info), &count, e));
  NULLS(pagetie_space_ties(space, NULL, 0, sizeof(pagetie_tie_info), NULL, e));
  NULLS(pagetie_inspect(NULL, 0, page, NULL, 0, sizeof(pagetie_mapping), &count, e));
  NULLS(pagetie_inspect(space, 0, page, NULL, 1, sizeof(pagetie_mapping), &count, e));
  NULLS(pagetie_inspect(space, 0, page, NULL, 0, sizeof(pagetie_mapping), NULL, e));
  NULLS(pagetie_protect(NULL, 0, page, PAGETIE_PROT_READ, e));
  NULLS(pagetie_discard(NULL, 0, page, e));
  NULLS(pagetie_tie_new(NULL, 0, region, 0, page, PAGETIE_READ_ONLY_TIE, NULL, &some_tie, e));
  NULLS(pagetie_tie_new(space, page, NULL, 0, page, PAGETIE_READ_ONLY_TIE, NULL, &some_tie, e));
  NULLS(pagetie_tie_new(space, page, region, 0, page, PAGETIE_READ_ONLY_TIE, NULL, NULL, e));
  NULLS(pagetie_retie(NULL, region, 0, e));
  NULLS(pagetie_retie(tie, NULL, 0, e));
  NULLS(pagetie_untie(NULL, e));
  NULLS(pagetie_untie_all(NULL, e));
  NULLS(pagetie_region_adopt(NULL, page, &some_region, e));
  NULLS(pagetie_region_adopt(memory, page, NULL, e));
  NULLS(pagetie_space_lend(NULL, page, memory, page, 0, &some_loan, e));
  NULLS(pagetie_space_lend(space, page, NULL, page, 0, &some_loan, e));
  NULLS(pagetie_space_lend(space, page, memory, page, 0, NULL, e));
  NULLS(pagetie_loan_give_back(NULL, e));

  pagetie_tie_item items[2] = {{region, page, 0, page, PAGETIE_READ_ONLY_TIE, 0},
                               {region, 2 * page, page, page, PAGETIE_READ_ONLY_TIE, 0}};
  pagetie_tie *ties[2] = {some_tie, some_tie};
  NULLS(pagetie_tie_all(NULL, items, 2, NULL, ties, e));
  NULLS(pagetie_tie_all(space, NULL, 2, NULL, ties, e));
  NULLS(pagetie_tie_all(space, items, 2, NULL, NULL, e));
  items[1].region = NULL;
  EXPECT_THEN(PAGETIE_NULL, pagetie_tie_all(space, items, 2, NULL, ties, e), CHECK(e->index == 1));
  CHECK(ties[0] == some_tie && ties[1] == some_tie);

  /* Nothing came of it. */
  CHECK(some_region == UNTOUCHED(pagetie_region) && some_space == UNTOUCHED(pagetie_space));
  CHECK(some_loan == UNTOUCHED(pagetie_loan));
  CHECK(some_tie == UNTOUCHED(pagetie_tie) && count == 77 && byte == 'b');
  CHECK(pagetie_tie_is_live(tie) == 1);
  OK(pagetie_space_ties(space, NULL, 0, 0, &count, e));
  CHECK(count == 1);

  /* Without an error the status is the same. */
  CHECK(pagetie_region_new(page, NULL, NULL, NULL) == PAGETIE_NULL);
  CHECK(pagetie_untie(NULL, NULL) == PAGETIE_NULL);
  CHECK(pagetie_protect(space, 1, page, PAGETIE_PROT_READ, NULL) == PAGETIE_MISALIGNED);
  CHECK(pagetie_tie_new(NULL, 0, NULL, 0, 0, (pagetie_access)9, NULL, NULL, NULL) == PAGETIE_NULL);

  /* Where NULL is fine. */
  OK(pagetie_region_collapse(region, NULL, e));
  OK(pagetie_tie_all(space, NULL, 0, NULL, NULL, e));
  OK(pagetie_space_ties(space, NULL, 0, sizeof(pagetie_tie_info), &count, e));
  OK(pagetie_inspect(space, 0, page, NULL, 0, sizeof(pagetie_mapping), &count, e));

  /* Questions to nobody. */
  CHECK(pagetie_region_len(NULL) == 0 && pagetie_region_page_size(NULL) == 0);
  CHECK(pagetie_region_data(NULL) == NULL && pagetie_region_fd(NULL) == -1);
  CHECK(pagetie_space_base(NULL) == NULL && pagetie_space_len(NULL) == 0);
  CHECK(pagetie_tie_at(NULL) == 0 && pagetie_tie_len(NULL) == 0 && pagetie_tie_offset(NULL) == 0);
  CHECK(pagetie_tie_addr(NULL) == NULL && pagetie_tie_is_live(NULL) == 0);

  CHECK(pagetie_loan_at(NULL) == 0 && pagetie_loan_len(NULL) == 0);
  CHECK(pagetie_loan_addr(NULL) == NULL && pagetie_loan_home(NULL) == NULL);
  CHECK(pagetie_loan_is_live(NULL) == 0);

  pagetie_region_free(NULL);
  pagetie_loan_free(NULL);
  pagetie_space_free(NULL);
  pagetie_space_leak(NULL);
  pagetie_tie_free(NULL);
  pagetie_tie_leak(NULL);

  OK(pagetie_untie(tie, e));
  pagetie_space_free(borrowed);
  pagetie_space_free(space);
  pagetie_region_free(region);
  return 0;
}
