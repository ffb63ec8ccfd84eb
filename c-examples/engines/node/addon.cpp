/* The native half of the npm package: index.js is the other, and checks what it passes here.
 *
 *   Region   pages of the host's; its view is the ArrayBuffer of the Buffer that a program gets
 *   Memory   one WebAssembly memory, with the only pagetie_space over its addresses in this process
 *   Keeper   an object through which one thread's JavaScript knows a memory: a WebAssembly.Memory, an
 *            ArrayBuffer, a SharedArrayBuffer. A memory is alive while one of its keepers is
 *   Tie      a pagetie_tie. It belongs to the keeper it was made with, not to the function that unties it,
 *            so that a tie stays when that function is dropped
 *
 * What dies in a garbage collection is leaked and never untied: by the time a finalizer runs, V8 may have
 * unmapped the memory on another thread, and something else may live at its addresses. Leaking touches no
 * address. For the same reason a memory that is met again is looked at before it is believed in.
 *
 * One lock guards all of it, over all threads. No N-API call is made with the lock held: any of them may
 * run finalizers, which take it. */
#include <node_api.h>
#include <pagetie.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fcntl.h>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <sys/stat.h>
#include <vector>

namespace {

using Address = std::uintptr_t;
using Lock = std::lock_guard<std::mutex>;

struct Region {
  explicit Region(pagetie::Region made) : region(std::move(made)) {
    struct stat object = {};
    inode = fstat(region.fd(), &object) == 0 ? object.st_ino : 0;
  }
  pagetie::Region region;
  std::uint64_t inode;
};

struct Memory;

struct Tie {
  pagetie::Tie tie;
  std::shared_ptr<Memory> memory;
  std::shared_ptr<Region> region;
  std::size_t at, len;
};

struct Memory {
  Address start;
  bool shared;                         // with other threads
  std::optional<pagetie::Space> space; // none once it is forgotten
  std::set<std::shared_ptr<Tie>> ties;
  std::size_t keepers = 0;
  std::optional<pagetie_error> moved; // why its ties ended, where it was not they that were ended
};

struct Keeper {
  std::shared_ptr<Memory> memory;
  std::set<std::shared_ptr<Tie>> ties;
};

// Neither is ever destroyed: at the end of a process threads may still be at work.
std::mutex &lock = *new std::mutex;
auto &memories = *new std::map<Address, std::shared_ptr<Memory>>; // by start; they do not overlap

pagetie::Error ended(const char *message) {
  pagetie_error error = PAGETIE_ERROR_INIT;
  error.status = PAGETIE_ENDED;
  std::snprintf(error.message, sizeof error.message, "%s", message);
  return pagetie::Error(error);
}

// ---- Memories: all with the lock held ---------------------------------------------------------------

/// Lets go of a memory that is gone, or that is another one than we thought.
void forget(const std::shared_ptr<Memory> &memory) {
  if (memory->space) {
    memory->space->leak();
    memory->space.reset();
    memory->ties.clear(); // their handles have ended, and touch nothing when they are freed
    memories.erase(memory->start);
  }
}

/// Whether the kernel still shows each tie where we left it.
bool is_as_we_left_it(const Memory &memory) {
  for (const auto &tie : memory.ties) {
    std::size_t seen = 0;
    for (const auto &mapping : memory.space->inspect(tie->at, tie->len)) {
      seen += mapping.inode == tie->region->inode && mapping.inode != 0 ? mapping.len : 0;
    }
    if (seen != tie->len) {
      return false;
    }
  }
  return true;
}

/// The memory at these addresses, which are alive: their JavaScript object is being looked at.
std::shared_ptr<Memory> memory_at(Address start, std::size_t len, bool shared) {
  const auto known = memories.find(start);
  if (known != memories.end()) {
    const auto memory = known->second;
    // Without ties nothing speaks for its being the same, and nothing is lost if it is; but other threads
    // may be about to tie. Memories do not shrink, but a thread may not have seen how another one grew.
    const bool may_be = shared || (!memory->ties.empty() && memory->space->len() <= len);
    if (memory->shared == shared && may_be && is_as_we_left_it(*memory)) {
      return memory;
    }
    forget(memory);
  }
  // Live memories do not overlap, so whatever else is on the list here has died.
  auto next = memories.lower_bound(start);
  if (next != memories.begin()) {
    --next;
  }
  while (next != memories.end() && next->first < start + len) {
    const auto memory = (next++)->second;
    if (memory->start + memory->space->len() > start) {
      forget(memory);
    }
  }
  auto memory = std::make_shared<Memory>();
  memory->start = start;
  memory->shared = shared;
  memory->space = pagetie::Space::borrow(reinterpret_cast<void *>(start), len);
  memories[start] = memory;
  return memory;
}

/// Ends what a keeper kept: its JavaScript object is dead, or the thread's JavaScript is.
void let_go(Keeper &keeper) {
  const auto memory = std::move(keeper.memory);
  if (!memory) {
    return;
  }
  memory->keepers -= 1;
  if (memory->keepers == 0) {
    forget(memory);
  }
  for (const auto &tie : keeper.ties) {
    tie->tie.leak(); // if the memory lives on in another thread, the alias stays in it
    memory->ties.erase(tie);
  }
  keeper.ties.clear();
}

/// Brings a keeper up to date: its memory may have grown, in place or not, or be forgotten.
void refresh(Keeper &keeper, Address start, std::size_t len, bool shared) {
  auto memory = keeper.memory;
  if (memory && memory->space && memory->start != start) {
    pagetie_error error = PAGETIE_ERROR_INIT;
    pagetie_space_grown_to(memory->space->get(), reinterpret_cast<void *>(start), len, &error);
    memory->moved = error;
    forget(memory);
  }
  if (!memory || !memory->space) {
    let_go(keeper);
    memory = memory_at(start, len, shared);
    memory->keepers += 1;
    keeper.memory = memory;
  }
  // Another thread may know of a later length than this one's object does.
  if (len > memory->space->len()) {
    memory->space->grown_to(reinterpret_cast<void *>(start), len);
  }
}

/// The space of a keeper that was refreshed. Only another thread can have forgotten it since.
pagetie::Space &space_of(Keeper &keeper) {
  if (!keeper.memory || !keeper.memory->space) {
    throw ended("the memory is not what it was when the call began");
  }
  return *keeper.memory->space;
}

// ---- N-API ------------------------------------------------------------------------------------------

/// An error that is JavaScript's already, or a call that failed because one is.
struct Thrown {};

void check(napi_env env, napi_status status) {
  if (status == napi_ok) {
    return;
  }
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (!pending) {
    const napi_extended_error_info *info = nullptr;
    napi_get_last_error_info(env, &info);
    const char *message = info != nullptr && info->error_message != nullptr ? info->error_message : "?";
    napi_throw_error(env, "PAGETIE_PANIC", message);
  }
  throw Thrown();
}

void set(napi_env env, napi_value object, const char *name, double number) {
  napi_value value;
  check(env, napi_create_double(env, number, &value));
  check(env, napi_set_named_property(env, object, name, value));
}

void throw_error(napi_env env, const pagetie_error &error) {
  napi_value code, message, object;
  check(env, napi_create_string_utf8(env, pagetie_status_name(error.status), NAPI_AUTO_LENGTH, &code));
  check(env, napi_create_string_utf8(env, error.message, NAPI_AUTO_LENGTH, &message));
  switch (error.status) {
  case PAGETIE_NULL:
  case PAGETIE_INVALID:
    check(env, napi_create_type_error(env, code, message, &object));
    break;
  case PAGETIE_MISALIGNED:
  case PAGETIE_OUT_OF_RANGE:
  case PAGETIE_EMPTY:
    check(env, napi_create_range_error(env, code, message, &object));
    break;
  default:
    check(env, napi_create_error(env, code, message, &object));
  }
  set(env, object, "value", static_cast<double>(error.value));
  set(env, object, "valueEnd", static_cast<double>(error.value_end));
  set(env, object, "other", static_cast<double>(error.other));
  set(env, object, "otherEnd", static_cast<double>(error.other_end));
  if (error.os_error != 0) {
    set(env, object, "errno", error.os_error);
  }
  check(env, napi_throw(env, object));
  throw Thrown();
}

/// The arguments of a call. index.js has checked them: a wrong type is a bug in it, and is thrown.
class Arguments {
public:
  Arguments(napi_env env, napi_callback_info info) : env(env) {
    std::size_t count = MOST;
    check(env, napi_get_cb_info(env, info, &count, values_, nullptr, nullptr));
  }

  napi_value value(std::size_t index) const { return values_[index]; }
  std::size_t number(std::size_t index) const {
    double number = 0;
    check(env, napi_get_value_double(env, values_[index], &number));
    return static_cast<std::size_t>(number);
  }
  bool flag(std::size_t index) const {
    bool flag = false;
    check(env, napi_get_value_bool(env, values_[index], &flag));
    return flag;
  }
  std::string text(std::size_t index) const {
    std::size_t len = 0;
    check(env, napi_get_value_string_utf8(env, values_[index], nullptr, 0, &len));
    std::string text(len, '\0');
    check(env, napi_get_value_string_utf8(env, values_[index], text.data(), len + 1, &len));
    return text;
  }
  /// The address that a typed array begins at. Unlike napi_get_arraybuffer_info this also knows the
  /// memory of a SharedArrayBuffer.
  Address address(std::size_t index) const {
    void *data = nullptr;
    check(env, napi_get_typedarray_info(env, values_[index], nullptr, nullptr, &data, nullptr, nullptr));
    return reinterpret_cast<Address>(data);
  }
  template <class Object> std::shared_ptr<Object> handle(std::size_t index) const {
    void *held = nullptr;
    check(env, napi_get_value_external(env, values_[index], &held));
    return *static_cast<std::shared_ptr<Object> *>(held);
  }

  const napi_env env;

private:
  static constexpr std::size_t MOST = 8;
  napi_value values_[MOST];
};

template <class Object> napi_value external(napi_env env, const std::shared_ptr<Object> &object) {
  using Held = std::shared_ptr<Object>;
  auto held = std::make_unique<Held>(object);
  napi_value value;
  check(env, napi_create_external(
                 env, held.get(), [](napi_env, void *data, void *) { delete static_cast<Held *>(data); },
                 nullptr, &value));
  static_cast<void>(held.release());
  return value;
}

/// A function of JavaScript's: what it throws here is thrown there.
template <napi_value (*Body)(const Arguments &)> napi_value entry(napi_env env, napi_callback_info info) {
  try {
    try {
      return Body(Arguments(env, info));
    } catch (const pagetie::Error &error) {
      throw_error(env, error.get());
    } catch (const std::exception &error) {
      napi_throw_error(env, "PAGETIE_NO_MEMORY", error.what());
    }
  } catch (const Thrown &) {
  }
  return nullptr;
}

// ---- Regions ----------------------------------------------------------------------------------------

/// What an ArrayBuffer over a region's view holds of it.
struct View {
  std::shared_ptr<Region> region;
  std::int64_t len;
};

void view_dies(napi_env env, void *, void *hint) {
  const std::unique_ptr<View> view(static_cast<View *>(hint));
  std::int64_t total = 0;
  napi_adjust_external_memory(env, -view->len, &total);
}

/// A region's { buffer, region, fd }.
napi_value result_of(const Arguments &arguments, pagetie::Region made) {
  const napi_env env = arguments.env;
  const auto region = std::make_shared<Region>(std::move(made));
  const std::size_t len = region->region.len();
  auto view = std::make_unique<View>(View{region, static_cast<std::int64_t>(len)});
  void *const data = region->region.data();
  napi_value result, buffer;
  check(env, napi_create_object(env, &result));
  check(env, napi_create_external_arraybuffer(env, data, len, view_dies, view.get(), &buffer));
  static_cast<void>(view.release());
  std::int64_t total = 0;
  check(env, napi_adjust_external_memory(env, static_cast<std::int64_t>(len), &total));
  check(env, napi_set_named_property(env, result, "buffer", buffer));
  check(env, napi_set_named_property(env, result, "region", external(env, region)));
  set(env, result, "fd", region->region.fd());
  return result;
}

/// create(name, size)
napi_value create(const Arguments &arguments) {
  const std::string name = arguments.text(0);
  pagetie_region_options options = PAGETIE_REGION_OPTIONS_INIT;
  options.name = name.c_str();
  return result_of(arguments, pagetie::Region::create(arguments.number(1), &options));
}

/// open(fd, longest): the same of what a descriptor names. It has to be writable, since every ArrayBuffer is,
/// and no longer than those can be.
napi_value open(const Arguments &arguments) {
  const int fd = static_cast<int>(arguments.number(0));
  const int flags = fcntl(fd, F_GETFL);
  if (flags >= 0 && (flags & O_ACCMODE) != O_RDWR) {
    const std::string message =
        "open: descriptor " + std::to_string(fd) + " is not open for reading and writing";
    napi_throw_error(arguments.env, "PAGETIE_READ_ONLY", message.c_str());
    return nullptr;
  }
  pagetie::Region region = pagetie::Region::from_fd(fd);
  if (region.len() > arguments.number(1)) {
    const std::string message = "open: " + std::to_string(region.len()) + " bytes are more than the " +
                                std::to_string(arguments.number(1)) + " that a Buffer can have";
    napi_throw_range_error(arguments.env, "PAGETIE_OUT_OF_RANGE", message.c_str());
    return nullptr;
  }
  region.write(0, "", 0); // refused where it could be mapped for reading only: a sealed memfd
  return result_of(arguments, std::move(region));
}

// ---- Memories and ties ------------------------------------------------------------------------------

void keeper_dies(napi_env, void *data, void *) {
  const std::unique_ptr<std::shared_ptr<Keeper>> keeper(static_cast<std::shared_ptr<Keeper> *>(data));
  const Lock locked(lock);
  let_go(**keeper);
}

/// keeper(object, view, byteLength, shared): a new keeper of the memory that `view` begins at, which lives as
/// long as `object` does.
napi_value keeper(const Arguments &arguments) {
  const auto keeper = std::make_shared<Keeper>();
  const Address start = arguments.address(1);
  const std::size_t len = arguments.number(2);
  const bool shared = arguments.flag(3);
  const napi_value result = external(arguments.env, keeper);
  auto held = std::make_unique<std::shared_ptr<Keeper>>(keeper);
  check(arguments.env,
        napi_add_finalizer(arguments.env, arguments.value(0), held.get(), keeper_dies, nullptr, nullptr));
  static_cast<void>(held.release());
  const Lock locked(lock);
  refresh(*keeper, start, len, shared);
  return result;
}

/// refresh(keeper, view, byteLength, shared): call it before any of the functions below.
napi_value refresh_keeper(const Arguments &arguments) {
  const auto keeper = arguments.handle<Keeper>(0);
  const Address start = arguments.address(1);
  const std::size_t len = arguments.number(2);
  const bool shared = arguments.flag(3);
  const Lock locked(lock);
  refresh(*keeper, start, len, shared);
  return nullptr;
}

/// tie(keeper, at, region, offset, len, access, discardCovered)
napi_value tie(const Arguments &arguments) {
  const auto keeper = arguments.handle<Keeper>(0);
  const auto region = arguments.handle<Region>(2);
  const std::size_t at = arguments.number(1), offset = arguments.number(3), len = arguments.number(4);
  const auto access = static_cast<pagetie_access>(arguments.number(5));
  pagetie_tie_options options = PAGETIE_TIE_OPTIONS_INIT;
  options.covered = arguments.flag(6) ? 1 : 0;
  std::shared_ptr<Tie> tie;
  {
    const Lock locked(lock);
    pagetie::Space &space = space_of(*keeper);
    const auto memory = keeper->memory;
    options.concurrent = memory->shared ? 1 : 0; // its other threads go on meanwhile
    tie = std::make_shared<Tie>(Tie{space.tie(at, region->region, offset, len, access, &options),
                                    memory, region, at, 0});
    tie->len = tie->tie.len(); // whole pages, also where a file ends inside the last one
    memory->ties.insert(tie);
    keeper->ties.insert(tie);
  }
  return external(arguments.env, tie);
}

/// Throws why a tie has ended, where it was the engine that ended it.
void check_not_moved(const Tie &tie) {
  if (tie.memory->moved) {
    throw pagetie::Error(*tie.memory->moved);
  }
}

/// untie(keeper, tie): a tie that has ended is fine.
napi_value untie(const Arguments &arguments) {
  const auto keeper = arguments.handle<Keeper>(0);
  const auto tie = arguments.handle<Tie>(1);
  const Lock locked(lock);
  if (!tie->region) {
    return nullptr;
  }
  if (tie->tie.is_live()) {
    tie->tie.untie();
  } else {
    pagetie_tie_free(tie->tie.release());
  }
  tie->memory->ties.erase(tie);
  keeper->ties.erase(tie);
  tie->region.reset();
  check_not_moved(*tie);
  return nullptr;
}

/// retie(tie, region, offset)
napi_value retie(const Arguments &arguments) {
  const auto tie = arguments.handle<Tie>(0);
  const auto region = arguments.handle<Region>(1);
  const std::size_t offset = arguments.number(2);
  const Lock locked(lock);
  check_not_moved(*tie);
  if (!tie->region) {
    throw ended("retie: the tie was ended before");
  }
  tie->tie.retie(region->region, offset);
  tie->region = region;
  return nullptr;
}

/// rehome(from, to, tie): another object keeps the tie's memory from now on. False: it is of another memory.
napi_value rehome(const Arguments &arguments) {
  const auto from = arguments.handle<Keeper>(0), to = arguments.handle<Keeper>(1);
  const auto tie = arguments.handle<Tie>(2);
  bool same = false;
  {
    const Lock locked(lock);
    check_not_moved(*tie);
    same = tie->memory == to->memory;
    if (same && from->ties.erase(tie) != 0) {
      to->ties.insert(tie);
    }
  }
  napi_value result;
  check(arguments.env, napi_get_boolean(arguments.env, same, &result));
  return result;
}

/// protect(keeper, at, len, prot)
napi_value protect(const Arguments &arguments) {
  const auto keeper = arguments.handle<Keeper>(0);
  const std::size_t at = arguments.number(1), len = arguments.number(2);
  const auto prot = static_cast<pagetie_prot>(arguments.number(3));
  const Lock locked(lock);
  space_of(*keeper).protect(at, len, prot);
  return nullptr;
}

/// discard(keeper, at, len)
napi_value discard(const Arguments &arguments) {
  const auto keeper = arguments.handle<Keeper>(0);
  const std::size_t at = arguments.number(1), len = arguments.number(2);
  const Lock locked(lock);
  space_of(*keeper).discard(at, len);
  return nullptr;
}

/// inspect(keeper, at, len): a list of { at, len, offset, inode, prot, shared }.
napi_value inspect(const Arguments &arguments) {
  const napi_env env = arguments.env;
  const auto keeper = arguments.handle<Keeper>(0);
  const std::size_t at = arguments.number(1), len = arguments.number(2);
  std::vector<pagetie_mapping> mappings;
  Address start = 0;
  {
    const Lock locked(lock);
    mappings = space_of(*keeper).inspect(at, len);
    start = keeper->memory->start;
  }
  napi_value list;
  check(env, napi_create_array(env, &list));
  for (std::size_t index = 0; index < mappings.size(); index++) {
    const pagetie_mapping &mapping = mappings[index];
    napi_value item;
    check(env, napi_create_object(env, &item));
    set(env, item, "at", static_cast<double>(mapping.addr - start));
    set(env, item, "len", static_cast<double>(mapping.len));
    set(env, item, "offset", static_cast<double>(mapping.offset));
    set(env, item, "inode", static_cast<double>(mapping.inode));
    set(env, item, "prot", mapping.prot);
    set(env, item, "shared", mapping.shared);
    check(env, napi_set_element(env, list, static_cast<std::uint32_t>(index), item));
  }
  return list;
}

/// isLive(tie)
napi_value is_live(const Arguments &arguments) {
  const auto tie = arguments.handle<Tie>(0);
  bool live = false;
  {
    const Lock locked(lock);
    live = tie->tie.is_live();
  }
  napi_value result;
  check(arguments.env, napi_get_boolean(arguments.env, live, &result));
  return result;
}

/// outside(view, byteLength): { start, reserved }: where it begins, and how many bytes right behind it are
/// reserved and inaccessible.
napi_value outside(const Arguments &arguments) {
  const Address start = arguments.address(0), end = start + arguments.number(1);
  Address reached = end;
  std::ifstream maps("/proc/self/maps");
  if (!maps) {
    throw std::runtime_error("/proc/self/maps cannot be read");
  }
  for (std::string line; std::getline(maps, line);) {
    unsigned long from = 0, to = 0;
    char prot[5] = "";
    const bool parsed = std::sscanf(line.c_str(), "%lx-%lx %4s", &from, &to, prot) == 3;
    if (parsed && from <= reached && reached < to && std::string(prot) == "---p") {
      reached = to;
    }
  }
  napi_value result;
  check(arguments.env, napi_create_object(arguments.env, &result));
  set(arguments.env, result, "start", static_cast<double>(start));
  set(arguments.env, result, "reserved", static_cast<double>(reached - end));
  return result;
}

/// counts(): what is on our side, in the whole process. The tests look whether that comes back to nothing.
napi_value counts(const Arguments &arguments) {
  std::size_t ties = 0, spaces = 0, keepers = 0;
  {
    const Lock locked(lock);
    spaces = memories.size();
    for (const auto &[start, memory] : memories) {
      ties += memory->ties.size();
      keepers += memory->keepers;
    }
  }
  napi_value result;
  check(arguments.env, napi_create_object(arguments.env, &result));
  set(arguments.env, result, "ties", static_cast<double>(ties));
  set(arguments.env, result, "spaces", static_cast<double>(spaces));
  set(arguments.env, result, "keepers", static_cast<double>(keepers));
  return result;
}

} // namespace

NAPI_MODULE_INIT() {
  const struct {
    const char *name;
    napi_callback function;
  } functions[] = {
      {"create", entry<create>},   {"open", entry<open>},           {"keeper", entry<keeper>},
      {"tie", entry<tie>},         {"refresh", entry<refresh_keeper>}, {"untie", entry<untie>},
      {"retie", entry<retie>},     {"rehome", entry<rehome>},       {"protect", entry<protect>},
      {"discard", entry<discard>}, {"inspect", entry<inspect>},     {"isLive", entry<is_live>},
      {"counts", entry<counts>},   {"outside", entry<outside>},
  };
  try {
    for (const auto &each : functions) {
      napi_value function;
      check(env, napi_create_function(env, each.name, NAPI_AUTO_LENGTH, each.function, nullptr, &function));
      check(env, napi_set_named_property(env, exports, each.name, function));
    }
    set(env, exports, "pageSize", static_cast<double>(pagetie_page_size()));
    set(env, exports, "version", pagetie_version());
  } catch (const Thrown &) {
    return nullptr;
  }
  return exports;
}
