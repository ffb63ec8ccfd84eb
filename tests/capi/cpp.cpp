// pagetie.hpp: each method once, what moves and what stays, what is thrown and what it carries.

#include "pagetie.hpp"
#include "check.h"

#include <string>
#include <type_traits>
#include <utility>

using pagetie::Error;
using pagetie::Loan;
using pagetie::Region;
using pagetie::Space;
using pagetie::Tie;

template <class T> constexpr bool owns() {
  return !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T> &&
         std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
         sizeof(T) == sizeof(void *);
}
static_assert(owns<Region>() && owns<Space>() && owns<Tie>() && owns<Loan>(), "handles, moved and never copied");
static_assert(std::is_nothrow_copy_constructible_v<Error>, "a copy of an exception must not throw");

// Whether `call` throws an Error of this status; it is handed out whole.
template <class Call> pagetie_error thrown(pagetie_status status, Call call) {
  try {
    call();
  } catch (const std::exception &exception) {
    const auto *error = dynamic_cast<const Error *>(&exception);
    CHECK(error != nullptr);
    CHECK(error->status() == status && error->get().status == status);
    CHECK(std::string(error->what()) == error->get().message && error->what()[0] != 0);
    return error->get();
  }
  failed(__FILE__, __LINE__, pagetie::status_name(status));
  return PAGETIE_ERROR_INIT;
}

static void regions() {
  pagetie_region_options options = PAGETIE_REGION_OPTIONS_INIT;
  options.max_len = 3 * page;
  Region region = Region::create(2 * page, &options);
  CHECK(region.len() == 2 * page && region.page_size() == page && region.fd() >= 0);
  region.write(page, "w", 1);
  char byte = 0;
  region.read(page, &byte, 1);
  CHECK(byte == 'w' && peek(static_cast<char *>(region.data()) + page) == 'w');
  region.grow(3 * page);
  CHECK(region.len() == 3 * page);
  region.prefetch(0, page);
  CHECK(region.collapse() % page == 0);

  const Region again = Region::from_fd(region.fd());
  CHECK(again.len() == 3 * page && peek(static_cast<char *>(again.data()) + page) == 'w');
  region.discard(page, page);
  CHECK(peek(static_cast<char *>(again.data()) + page) == 0);

  options.read_only = 1;
  const Region file = Region::open("/proc/self/exe", &options);
  CHECK(peek(file.data()) == 0x7f && peek(static_cast<char *>(file.data()) + 1) == 'E');
  thrown(PAGETIE_READ_ONLY, [&] { file.write(0, "x", 1); });

  // A handle goes out of an object, and into another.
  pagetie_region *const handle = region.get();
  pagetie_region *const released = region.release();
  CHECK(released == handle && region.get() == nullptr && region.len() == 0);
  thrown(PAGETIE_NULL, [&] { region.grow(page); });
  Region taken(released);
  Region moved = std::move(taken);
  CHECK(moved.get() == handle && taken.get() == nullptr);
  region = std::move(moved);
  CHECK(region.get() == handle && region.fd() >= 0);
}

static void spaces_and_ties() {
  const Region region = Region::create(4 * page);
  region.write(0, "0", 1);
  region.write(page, "1", 1);
  Space space = Space::reserve(8 * page);
  CHECK(space.len() == 8 * page && space.base() != nullptr && space.ties().empty());

  Tie tie = space.tie(page, region, 0, page, PAGETIE_READ_WRITE_TIE, tie_options());
  CHECK(tie.at() == page && tie.len() == page && tie.offset() == 0 && tie.is_live());
  CHECK(tie.addr() == static_cast<char *>(space.base()) + page && peek(tie.addr()) == '0');
  tie.retie(region, page);
  CHECK(peek(tie.addr()) == '1' && tie.offset() == page);
  space.protect(page, page, PAGETIE_PROT_READ);
  const auto mappings = space.inspect(page, page);
  CHECK(mappings.size() == 1 && mappings[0].prot == PAGETIE_PROT_READ && mappings[0].shared == 1);
  space.protect(page, page, PAGETIE_PROT_READ_WRITE);
  space.discard(page, page);
  CHECK(peek(tie.addr()) == 0);

  const pagetie_error overlap = thrown(PAGETIE_OVERLAP, [&] {
    Tie none = space.tie(0, region, 0, 2 * page, PAGETIE_READ_ONLY_TIE, tie_options());
  });
  CHECK(overlap.other == page && overlap.other_end == 2 * page && overlap.index == SIZE_MAX);

  std::vector<pagetie_tie_item> items;
  for (std::size_t i = 0; i < 3; i++) {
    items.push_back({region.get(), (2 + 2 * i) * page, i * page, page, PAGETIE_READ_ONLY_TIE, 0});
  }
  std::vector<Tie> ties = space.tie_all(items, tie_options());
  CHECK(ties.size() == 3 && ties[2].at() == 6 * page && space.ties().size() == 4);
  CHECK(space.ties()[3].offset == 2 * page);
  items[1].len = 1;
  CHECK(thrown(PAGETIE_MISALIGNED, [&] { (void)space.tie_all(items, tie_options()); }).index == 1);
  CHECK(space.tie_all({}).empty());

  // The end of an object is the end of its tie; untie says so beforehand, and leaves it empty.
  ties.pop_back();
  CHECK(space.ties().size() == 3);
  ties[0].untie();
  CHECK(ties[0].get() == nullptr && !ties[0].is_live() && space.ties().size() == 2);
  thrown(PAGETIE_NULL, [&] { ties[0].untie(); });
  tie = std::move(ties[1]);
  CHECK(space.ties().size() == 1 && tie.at() == 4 * page);
  space.untie_all();
  CHECK(!tie.is_live());
  thrown(PAGETIE_ENDED, [&] { tie.retie(region, 0); });
  tie.leak();
  CHECK(tie.get() == nullptr);

  // A tie may outlive its space and its region.
  {
    Region short_lived = Region::create(page);
    Space gone = Space::reserve(page);
    tie = gone.tie(0, short_lived, 0, page, PAGETIE_READ_WRITE_TIE, tie_options());
  }
  CHECK(!tie.is_live());
  tie.untie();
  CHECK(tie.get() == nullptr);
}

static void borrowed_memory() {
  unsigned char *memory = engine_memory(3);
  const Region region = Region::create(page);
  Space space = Space::borrow(memory, page);
  space.grown_to(memory, 2 * page);
  CHECK(space.len() == 2 * page);
  thrown(PAGETIE_CHANGED, [&] { space.grown_to(memory + page, page); });
  thrown(PAGETIE_OVERLAP, [&] { (void)Space::borrow(memory, page); });

  // An untie that fails throws, and the tie is still there.
  Tie tie = space.tie(0, region, 0, page, PAGETIE_READ_ONLY_TIE, tie_options());
  CHECK(mmap(memory, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
  thrown(PAGETIE_CHANGED, [&] { tie.untie(); });
  CHECK(tie.get() != nullptr && !tie.is_live());
  space.leak();
  CHECK(space.get() == nullptr && space.len() == 0);

  pagetie_space_options options = PAGETIE_SPACE_OPTIONS_INIT;
  space = Space::borrow(memory, page, &options);
  options.allow_heap = 2;
  CHECK(thrown(PAGETIE_INVALID, [&] { (void)Space::borrow(memory, page, &options); }).value == 2);
}

static void ties_that_move() {
  const Region region = Region::create(16 * page);
  const Space space = Space::reserve(8 * page);
  auto *bytes = static_cast<unsigned char *>(region.data());
  for (std::size_t i = 0; i < 16; i++) poke(bytes + i * page, static_cast<unsigned char>(i + 1));
  if (under("valgrind")) {
    left_out("parking", "valgrind does not know MREMAP_DONTUNMAP");
  } else {
    Tie tie = space.tie(0, region, 2 * page, page, PAGETIE_READ_WRITE_TIE, tie_options());
    CHECK(!tie.is_congruent());
    tie.park();
    CHECK(!tie.is_live() && space.ties().empty());
    thrown(PAGETIE_OUT_OF_RANGE, [&] { tie.resume(space, 8 * page); });
    tie.resume(space, 3 * page);
    CHECK(tie.is_live() && peek(tie.addr()) == 3);
  }
  using pagetie::Window;
  Window window = Window::create(space, 4 * page, 2 * page, region, PAGETIE_READ_ONLY_TIE, tie_options());
  window.prepare(9 * page, page);
  const std::size_t at = window.show(9 * page + 5, 20);
  CHECK(at % page == 5 && peek(static_cast<unsigned char *>(space.base()) + at - 5) == 10);
  CHECK(window.at() == 4 * page && window.len() == 2 * page && window.offset() % page == 0);
  thrown(PAGETIE_OUT_OF_RANGE, [&] { window.show(1, 2 * page); });
  Window moved = std::move(window);
  CHECK(window.get() == nullptr);
  moved.untie();
  CHECK(moved.get() == nullptr && space.ties().empty());

  space.protect(0, 4 * page, PAGETIE_PROT_READ_WRITE);
  poke(space.base(), 'm');
  space.discard_many({{0, page}, {2 * page, page}});
  CHECK(peek(space.base()) == 0);
  CHECK(thrown(PAGETIE_EMPTY, [&] { space.discard_many({{0, page}, {page, 0}}); }).index == 1);
}

static void memory_of_the_host() {
  unsigned char *memory = engine_memory(2);
  poke(memory, 'h');
  const Region region = Region::adopt(memory, page);
  CHECK(region.data() == memory && peek(memory) == 'h');
  thrown(PAGETIE_REFUSED_MEMORY, [&] { (void)Region::adopt(memory, page); });
  const Space space = Space::reserve(2 * page);
  Tie tie = space.tie(0, region, 0, page, PAGETIE_READ_WRITE_TIE, tie_options());
  poke(tie.addr(), 'g');
  CHECK(peek(memory) == 'g');

  if (under("valgrind")) return left_out("loans", "valgrind does not know MREMAP_DONTUNMAP");
  poke(memory + page, 'l');
  Loan loan = space.lend(page, memory + page, page);
  CHECK(loan.at() == page && loan.len() == page && loan.home() == memory + page && loan.is_live());
  CHECK(peek(loan.addr()) == 'l' && peek(memory + page) == 0);
  thrown(PAGETIE_OVERLAP, [&] { (void)space.lend(page, memory + page, page, true); });
  loan.give_back();
  CHECK(loan.get() == nullptr && !loan.is_live() && peek(memory + page) == 'l');
  thrown(PAGETIE_NULL, [&] { loan.give_back(); });
  // Its end gives it back too.
  (void)space.lend(page, memory + page, page, true);
  CHECK(peek(memory + page) == 'l');
}

int main() {
  begin();
  CHECK(pagetie::page_size() == page && pagetie::version() == pagetie_version());
  CHECK(std::string(pagetie::status_name(PAGETIE_LIMIT)) == "PAGETIE_LIMIT");
  regions();
  spaces_and_ties();
  borrowed_memory();
  ties_that_move();
  memory_of_the_host();
  return 0;
}
