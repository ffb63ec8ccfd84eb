// raii.cpp: regions, spaces and ties as C++ objects.
//
// <pagetie.hpp> adds nothing to the C functions but C++ manners: an object frees what it made, it is
// moved and never copied, and what fails throws pagetie::Error.

#include <cstdint>
#include <iostream>
#include <pagetie.hpp>
#include <utility>
#include <vector>

// A guest that sees one page of a table at a time, at an address that stays. Members are destroyed from
// the last to the first: the tie ends before the space goes. (Any other order is allowed as well.)
class Window {
public:
  Window(const pagetie::Region &region, std::size_t len)
      : space(pagetie::Space::reserve(len)),
        tie(space.tie(0, region, 0, len, PAGETIE_READ_ONLY_TIE)) {}

  void show(const pagetie::Region &region, std::size_t offset) { tie.retie(region, offset); }

  // volatile: these bytes change with no store that the compiler could see.
  const volatile std::uint64_t *rows() const {
    return static_cast<const volatile std::uint64_t *>(tie.addr());
  }

private:
  pagetie::Space space;
  pagetie::Tie tie;
};

int main() try {
  const std::size_t page = pagetie::page_size();
  const std::size_t rows = page / sizeof(std::uint64_t);

  // Options are those of C; what is not set has its default.
  pagetie_region_options options = PAGETIE_REGION_OPTIONS_INIT;
  options.name = "table";
  auto region = pagetie::Region::create(3 * page, &options);
  auto *table = static_cast<volatile std::uint64_t *>(region.data());
  for (std::size_t row = 0; row < 3 * rows; row++) {
    table[row] = row / rows; // each page holds its number
  }

  Window window(region, page);
  const std::size_t order[] = {2, 0, 1};
  for (std::size_t number : order) {
    window.show(region, number * page);
    std::cout << "page " << number << " of the table holds " << window.rows()[0] << "\n";
  }

  // Into a container, or out of a function: the handle goes along, the memory stays where it is.
  const volatile std::uint64_t *before = window.rows();
  std::vector<Window> windows;
  windows.push_back(std::move(window));
  std::cout << "moved, and at the same address: " << (windows.front().rows() == before ? "yes" : "no")
            << "\n";
  windows.clear(); // untied and freed

  // What goes wrong is thrown. error.get() is the whole pagetie_error, with the numbers.
  try {
    auto space = pagetie::Space::reserve(page);
    auto tie = space.tie(0, region, 3 * page, page, PAGETIE_READ_WRITE_TIE);
  } catch (const pagetie::Error &error) {
    std::cout << pagetie::status_name(error.status()) << ": " << error.what() << "\n";
  }

  // A C function gets the handle from get(), which lends it; release() gives it away.
  std::cout << "the region has " << pagetie_region_len(region.get()) / page << " pages\n";
} catch (const pagetie::Error &error) {
  std::cerr << error.what() << "\n";
  return 1;
}
