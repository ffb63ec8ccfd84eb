/* pagetie for C++17: Region, Space, Tie, Window and Loan own their handles and free them; what fails throws Error.
 *
 * Nothing is added to the C functions, and what pagetie.h says of each of them holds here: units,
 * promises, statuses, threads. Objects are moved, not copied. get() lends the handle to a C function,
 * release() hands it over, and an object is made of a handle by its constructor. One that was moved from
 * or released has none: what is called on it throws PAGETIE_NULL, or returns what C returns of NULL.
 *
 * Objects may be destroyed in any order: a tie keeps its region, and a tie whose space is gone has ended.
 */
#ifndef PAGETIE_HPP
#define PAGETIE_HPP

#include "pagetie.h"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <vector>

namespace pagetie {

/// A status that is not PAGETIE_OK, with all that pagetie_error holds.
class Error : public std::exception {
public:
  explicit Error(const pagetie_error &error) noexcept : error_(error) {}

  /// One line for a person.
  const char *what() const noexcept override { return error_.message; }
  pagetie_status status() const noexcept { return error_.status; }
  const pagetie_error &get() const noexcept { return error_; }

private:
  pagetie_error error_;
};

namespace detail {

template <auto Free> struct Deleter {
  template <class Handle> void operator()(Handle *handle) const noexcept { Free(handle); }
};

template <class Handle, auto Free> using Owner = std::unique_ptr<Handle, Deleter<Free>>;

/// Calls a function whose last argument is the error, and throws what it says.
template <class Function, class... Arguments> void call(Function function, Arguments... arguments) {
  pagetie_error error = PAGETIE_ERROR_INIT;
  if (function(arguments..., &error) != PAGETIE_OK) {
    throw Error(error);
  }
}

/// The same for one whose last but one argument is where a new handle goes.
template <class Handle, class Function, class... Arguments>
Handle *make(Function function, Arguments... arguments) {
  Handle *handle = nullptr;
  call(function, arguments..., &handle);
  return handle;
}

/// All of a list whose length only the call tells, and which may have become longer since.
template <class Item, class Function, class... Arguments>
std::vector<Item> list(Function function, Arguments... arguments) {
  std::vector<Item> items;
  for (;;) {
    std::size_t count = 0;
    call(function, arguments..., items.data(), items.size(), sizeof(Item), &count);
    const bool complete = count <= items.size();
    items.resize(count);
    if (complete) {
      return items;
    }
  }
}

} // namespace detail

/// Pages that can be tied: pagetie_region.
class Region {
public:
  /// Takes a handle over.
  explicit Region(pagetie_region *handle) noexcept : handle_(handle) {}

  /// pagetie_region_new. NULL options are the defaults, here and below.
  static Region create(std::size_t len, const pagetie_region_options *options = nullptr) {
    return Region(detail::make<pagetie_region>(pagetie_region_new, len, options));
  }
  /// pagetie_region_from_fd.
  static Region from_fd(int fd, const pagetie_region_options *options = nullptr) {
    return Region(detail::make<pagetie_region>(pagetie_region_from_fd, fd, options));
  }
  /// pagetie_region_open.
  static Region open(const char *path, const pagetie_region_options *options = nullptr) {
    return Region(detail::make<pagetie_region>(pagetie_region_open, path, options));
  }

  /// pagetie_region_adopt, with its promises.
  static Region adopt(void *addr, std::size_t len) {
    return Region(detail::make<pagetie_region>(pagetie_region_adopt, addr, len));
  }

  std::size_t len() const noexcept { return pagetie_region_len(get()); }
  std::size_t page_size() const noexcept { return pagetie_region_page_size(get()); }
  void *data() const noexcept { return pagetie_region_data(get()); }
  int fd() const noexcept { return pagetie_region_fd(get()); }

  void read(std::size_t offset, void *into, std::size_t len) const {
    detail::call(pagetie_region_read, get(), offset, into, len);
  }
  void write(std::size_t offset, const void *from, std::size_t len) const {
    detail::call(pagetie_region_write, get(), offset, from, len);
  }
  void grow(std::size_t new_len) const { detail::call(pagetie_region_grow, get(), new_len); }
  std::size_t collapse() const {
    std::size_t huge_bytes = 0;
    detail::call(pagetie_region_collapse, get(), &huge_bytes);
    return huge_bytes;
  }
  void prefetch(std::size_t offset, std::size_t len) const {
    detail::call(pagetie_region_prefetch, get(), offset, len);
  }
  void discard(std::size_t offset, std::size_t len) const {
    detail::call(pagetie_region_discard, get(), offset, len);
  }

  pagetie_region *get() const noexcept { return handle_.get(); }
  [[nodiscard]] pagetie_region *release() noexcept { return handle_.release(); }

private:
  detail::Owner<pagetie_region, pagetie_region_free> handle_;
};

class Space;

/// One alias: pagetie_tie. Space::tie makes it; its end unties it.
class Tie {
public:
  /// Takes a handle over.
  explicit Tie(pagetie_tie *handle) noexcept : handle_(handle) {}

  std::size_t at() const noexcept { return pagetie_tie_at(get()); }
  std::size_t len() const noexcept { return pagetie_tie_len(get()); }
  std::size_t offset() const noexcept { return pagetie_tie_offset(get()); }
  void *addr() const noexcept { return pagetie_tie_addr(get()); }
  bool is_live() const noexcept { return pagetie_tie_is_live(get()) != 0; }
  bool is_congruent() const noexcept { return pagetie_tie_is_congruent(get()) != 0; }

  void retie(const Region &region, std::size_t offset) {
    detail::call(pagetie_retie, get(), region.get(), offset);
  }
  /// pagetie_tie_park: off its addresses, until it is resumed.
  void park() { detail::call(pagetie_tie_park, get()); }
  void resume(const Space &space, std::size_t at);
  /// pagetie_untie: this is empty afterwards. Where it throws, the tie is still here.
  void untie() {
    detail::call(pagetie_untie, get());
    static_cast<void>(release());
  }
  /// pagetie_tie_leak: this is empty afterwards.
  void leak() noexcept { pagetie_tie_leak(release()); }

  pagetie_tie *get() const noexcept { return handle_.get(); }
  [[nodiscard]] pagetie_tie *release() noexcept { return handle_.release(); }

private:
  detail::Owner<pagetie_tie, pagetie_tie_free> handle_;
};

/// Pages that a space shows for a while: pagetie_loan. Space::lend makes it; its end gives them back.
class Loan {
public:
  /// Takes a handle over.
  explicit Loan(pagetie_loan *handle) noexcept : handle_(handle) {}

  std::size_t at() const noexcept { return pagetie_loan_at(get()); }
  std::size_t len() const noexcept { return pagetie_loan_len(get()); }
  void *addr() const noexcept { return pagetie_loan_addr(get()); }
  void *home() const noexcept { return pagetie_loan_home(get()); }
  bool is_live() const noexcept { return pagetie_loan_is_live(get()) != 0; }

  /// pagetie_loan_give_back: this is empty afterwards. Where it throws, the loan is still here.
  void give_back() {
    detail::call(pagetie_loan_give_back, get());
    static_cast<void>(release());
  }

  pagetie_loan *get() const noexcept { return handle_.get(); }
  [[nodiscard]] pagetie_loan *release() noexcept { return handle_.release(); }

private:
  detail::Owner<pagetie_loan, pagetie_loan_free> handle_;
};

/// Addresses that ties may be laid over: pagetie_space.
class Space {
public:
  /// Takes a handle over.
  explicit Space(pagetie_space *handle) noexcept : handle_(handle) {}

  /// pagetie_space_reserve.
  static Space reserve(std::size_t len) {
    return Space(detail::make<pagetie_space>(pagetie_space_reserve, len));
  }
  /// pagetie_space_borrow, with its four promises.
  static Space borrow(void *memory_start, std::size_t memory_len) {
    return Space(detail::make<pagetie_space>(pagetie_space_borrow, memory_start, memory_len));
  }
  /// pagetie_space_borrow_with, with its promises.
  static Space borrow(void *memory_start, std::size_t memory_len,
                      const pagetie_space_options *options) {
    return Space(
        detail::make<pagetie_space>(pagetie_space_borrow_with, memory_start, memory_len, options));
  }

  void *base() const noexcept { return pagetie_space_base(get()); }
  std::size_t len() const noexcept { return pagetie_space_len(get()); }

  void grown_to(void *memory_start, std::size_t memory_len) const {
    detail::call(pagetie_space_grown_to, get(), memory_start, memory_len);
  }
  std::vector<pagetie_tie_info> ties() const {
    return detail::list<pagetie_tie_info>(pagetie_space_ties, get());
  }
  std::vector<pagetie_mapping> inspect(std::size_t at, std::size_t len) const {
    return detail::list<pagetie_mapping>(pagetie_inspect, get(), at, len);
  }
  void protect(std::size_t at, std::size_t len, pagetie_prot prot) const {
    detail::call(pagetie_protect, get(), at, len, prot);
  }
  void discard(std::size_t at, std::size_t len) const {
    detail::call(pagetie_discard, get(), at, len);
  }

  void discard_many(const std::vector<pagetie_range> &ranges) const {
    detail::call(pagetie_discard_many, get(), ranges.data(), ranges.size());
  }

  /// pagetie_tie_new.
  [[nodiscard]] Tie tie(std::size_t at, const Region &region, std::size_t offset, std::size_t len,
                        pagetie_access access, const pagetie_tie_options *options = nullptr) const {
    return Tie(detail::make<pagetie_tie>(pagetie_tie_new, get(), at, region.get(), offset, len,
                                         access, options));
  }
  /// pagetie_tie_all: all of the items, or none.
  [[nodiscard]] std::vector<Tie> tie_all(const std::vector<pagetie_tie_item> &items,
                                         const pagetie_tie_options *options = nullptr) const {
    std::vector<pagetie_tie *> handles(items.size());
    std::vector<Tie> ties;
    ties.reserve(items.size()); // so that nothing throws once they are laid
    detail::call(pagetie_tie_all, get(), items.data(), items.size(), options, handles.data());
    for (pagetie_tie *handle : handles) {
      ties.emplace_back(handle);
    }
    return ties;
  }
  /// pagetie_space_lend, with its promises.
  [[nodiscard]] Loan lend(std::size_t at, void *addr, std::size_t len, bool guarded = false) const {
    return Loan(detail::make<pagetie_loan>(pagetie_space_lend, get(), at, addr, len,
                                           static_cast<std::int32_t>(guarded)));
  }
  void untie_all() const { detail::call(pagetie_untie_all, get()); }
  /// pagetie_space_leak: this is empty afterwards.
  void leak() noexcept { pagetie_space_leak(release()); }

  pagetie_space *get() const noexcept { return handle_.get(); }
  [[nodiscard]] pagetie_space *release() noexcept { return handle_.release(); }

private:
  detail::Owner<pagetie_space, pagetie_space_free> handle_;
};

/// pagetie_tie_resume: a parked tie, in this space or another.
inline void Tie::resume(const Space &space, std::size_t at) {
  detail::call(pagetie_tie_resume, get(), space.get(), at);
}

/// A tie that slides along a region: pagetie_window.
class Window {
public:
  /// Takes a handle over.
  explicit Window(pagetie_window *handle) noexcept : handle_(handle) {}

  /// pagetie_window_new.
  static Window create(const Space &space, std::size_t at, std::size_t len, const Region &region,
                       pagetie_access access, const pagetie_tie_options *options = nullptr) {
    return Window(detail::make<pagetie_window>(pagetie_window_new, space.get(), at, len,
                                               region.get(), access, options));
  }

  /// pagetie_window_show: where in the space the first byte now is.
  std::size_t show(std::size_t offset, std::size_t len) {
    std::size_t at = 0;
    detail::call(pagetie_window_show, get(), offset, len, &at);
    return at;
  }
  /// pagetie_window_prepare, also while another thread shows.
  void prepare(std::size_t offset, std::size_t len) const {
    detail::call(pagetie_window_prepare, get(), offset, len);
  }

  std::size_t at() const noexcept { return pagetie_window_at(get()); }
  std::size_t len() const noexcept { return pagetie_window_len(get()); }
  std::size_t offset() const noexcept { return pagetie_window_offset(get()); }

  /// pagetie_window_untie: this is empty afterwards. Where it throws, the window is still here.
  void untie() {
    detail::call(pagetie_window_untie, get());
    static_cast<void>(release());
  }

  pagetie_window *get() const noexcept { return handle_.get(); }
  [[nodiscard]] pagetie_window *release() noexcept { return handle_.release(); }

private:
  detail::Owner<pagetie_window, pagetie_window_free> handle_;
};

inline const char *status_name(pagetie_status status) noexcept { return pagetie_status_name(status); }
inline std::size_t page_size() noexcept { return pagetie_page_size(); }
inline std::uint32_t version() noexcept { return pagetie_version(); }

} // namespace pagetie

#endif /* PAGETIE_HPP */
