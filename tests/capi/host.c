/* Memory of the host: lent to a space and given back, in every order; adopted as a region. */
#include "check.h"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned char *memory;

static pagetie_loan *lend(const pagetie_space *space, size_t at_page, int32_t guarded) {
  pagetie_loan *loan = NULL;
  OK(pagetie_space_lend(space, at_page * page, memory, 2 * page, guarded, &loan, e));
  CHECK(loan != NULL);
  return loan;
}

/* What is at home, before and after. */
static void fill(void) {
  poke(memory, 'h');
  poke(memory + 2 * page - 1, 'i');
}

static void check_home(unsigned char first) {
  CHECK(peek(memory) == first && peek(memory + 2 * page - 1) == 'i');
}

static void a_loan_goes_and_comes_back(void) {
  pagetie_space *space = new_space(4);
  fill();
  pagetie_loan *loan = lend(space, 1, 0);
  CHECK(pagetie_loan_at(loan) == page && pagetie_loan_len(loan) == 2 * page);
  CHECK(pagetie_loan_home(loan) == memory && pagetie_loan_is_live(loan) == 1);
  unsigned char *there = pagetie_loan_addr(loan);
  CHECK(there == (unsigned char *)pagetie_space_base(space) + page);
  CHECK(peek(there) == 'h' && peek(there + 2 * page - 1) == 'i');
  CHECK(peek(memory) == 0 && peek(memory + 2 * page - 1) == 0);
  poke(there, 'g');

  pagetie_loan *none = UNTOUCHED(pagetie_loan);
  EXPECT_THEN(PAGETIE_OVERLAP, pagetie_space_lend(space, 2 * page, memory, page, 0, &none, e),
              CHECK(e->other == page && e->other_end == 3 * page));
  EXPECT_THEN(PAGETIE_OVERLAP, pagetie_space_lend(space, 0, memory + page, page, 0, &none, e),
              CHECK(e->value == (size_t)(memory + page)));
  EXPECT(PAGETIE_MISALIGNED, pagetie_space_lend(space, 0, memory + 1, page, 0, &none, e));
  EXPECT(PAGETIE_EMPTY, pagetie_space_lend(space, 0, memory, 0, 0, &none, e));
  CHECK(none == UNTOUCHED(pagetie_loan));
  OK(pagetie_loan_give_back(loan, e));
  check_home('g');
  pagetie_space_free(space);
  check_home('g');
}

static void loans_end_in_every_order(void) {
  for (int way = 0; way < 4; way++) {
    fill();
    pagetie_space *space = new_space(2);
    pagetie_loan *loan = lend(space, 0, way & 1);
    poke(pagetie_loan_addr(loan), 'g');
    if (way & 2) {
      pagetie_loan_free(loan);
      check_home('g');
    }
    pagetie_space_free(space);
    check_home('g');
    if (!(way & 2)) {
      CHECK(pagetie_loan_is_live(loan) == 0);
      OK(pagetie_loan_give_back(loan, e));
    }
  }
}

static void guarded_memory_faults(void) {
  fill();
  pagetie_space *space = new_space(2);
  pagetie_loan *loan = lend(space, 0, 1);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL); /* sanitizers have a handler of their own, which exits */
    peek(memory);
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
  pagetie_loan_free(loan);
  check_home('h');
  pagetie_space_free(space);
}

static void a_loan_whose_pages_somebody_replaced(void) {
  unsigned char *engine = engine_memory(2);
  pagetie_space *space = borrow(engine, 2 * page);
  fill();
  pagetie_loan *loan = lend(space, 0, 0);
  CHECK(mmap(engine, page, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == engine);
  EXPECT_THEN(PAGETIE_CHANGED, pagetie_loan_give_back(loan, e),
              CHECK(e->value == 0 && e->value_end == page));
  CHECK(pagetie_loan_is_live(loan) == 0);
  check_home(0);
  pagetie_loan_free(loan);
  pagetie_space_free(space);
}

static void adopted_memory_is_a_region(void) {
  unsigned char *own = engine_memory(2);
  poke(own, 'a');
  poke(own + page, 'b');
  pagetie_region *region = NULL;
  OK(pagetie_region_adopt(own, 2 * page, &region, e));
  CHECK(pagetie_region_data(region) == own && pagetie_region_len(region) == 2 * page);
  CHECK(peek(own) == 'a' && peek(own + page) == 'b');
  pagetie_space *space = new_space(2);
  pagetie_tie *ties[2] = {new_tie(space, 0, region, 1, 1, PAGETIE_READ_WRITE_TIE),
                          new_tie(space, 1, region, 1, 1, PAGETIE_READ_ONLY_TIE)};
  poke(pagetie_tie_addr(ties[0]), 'c');
  CHECK(peek(pagetie_tie_addr(ties[1])) == 'c' && peek(own + page) == 'c');
  pagetie_region *none = UNTOUCHED(pagetie_region);
  EXPECT(PAGETIE_REFUSED_MEMORY, pagetie_region_adopt(own, page, &none, e));
  EXPECT(PAGETIE_MISALIGNED, pagetie_region_adopt(own + 1, page, &none, e));
  pagetie_space *other = new_space(1);
  OK(pagetie_protect(other, 0, page, PAGETIE_PROT_READ_WRITE, e));
  EXPECT(PAGETIE_OVERLAP, pagetie_region_adopt(pagetie_space_base(other), page, &none, e));
  pagetie_space_free(other);
  CHECK(none == UNTOUCHED(pagetie_region));
  pagetie_region_free(region);
  pagetie_space_free(space);
  pagetie_tie_free(ties[0]);
  pagetie_tie_free(ties[1]);
  /* The bytes stay where they are. */
  CHECK(peek(own) == 'a' && peek(own + page) == 'c');
  poke(own, 'd');
  CHECK(peek(own) == 'd' && munmap(own, 2 * page) == 0);
}

int main(void) {
  begin();
  memory = engine_memory(2);
  adopted_memory_is_a_region();
  if (under("valgrind")) {
    left_out("loans", "valgrind does not know MREMAP_DONTUNMAP");
    return 0;
  }
  a_loan_goes_and_comes_back();
  loans_end_in_every_order();
  guarded_memory_faults();
  a_loan_whose_pages_somebody_replaced();
  return 0;
}
