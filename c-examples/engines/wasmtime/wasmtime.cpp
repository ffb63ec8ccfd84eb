// wasmtime: its C++ headers over its C library. The memory is Wasmtime's own: 4 GiB of addresses that it
// keeps when it grows, in which every fault of compiled code is a trap. The space borrows it, and goes
// before the store does.
#include <iostream>
#include <memory>
#include <pagetie.hpp>
#include <wasmtime.h> // for the version
#include <wasmtime.hh>

#include "../engine.h"
#include "../guest.h"

// Members are destroyed from the last to the first.
struct guest {
  wasmtime::Store store;
  wasmtime::Instance instance;
  wasmtime::Memory memory;

  wasmtime::Func function(const char *name) {
    return std::get<wasmtime::Func>(*instance.get(store, name));
  }
};

// One for the process, and for all of its threads.
static wasmtime::Engine &engine() {
  static wasmtime::Engine made;
  return made;
}

static const char *version() { return "Wasmtime " WASMTIME_VERSION " (C++)"; }

static guest *open_guest(const uint8_t *wasm, size_t len) {
  auto module = wasmtime::Module::compile(engine(), {const_cast<uint8_t *>(wasm), len});
  if (!module) {
    std::cerr << "wasmtime: " << module.err().message() << "\n";
    return nullptr;
  }
  wasmtime::Store store(engine());
  auto instance = wasmtime::Instance::create(store, module.ok(), {});
  if (!instance) {
    std::cerr << "wasmtime: " << instance.err().message() << "\n";
    return nullptr;
  }
  auto made = instance.ok();
  auto memory = std::get<wasmtime::Memory>(*made.get(store, "memory"));
  return new guest{std::move(store), made, memory};
}

static void memory(guest *guest, void **start, size_t *len) {
  auto bytes = guest->memory.data(guest->store);
  *start = bytes.data();
  *len = bytes.size();
}

static outcome call(guest *guest, const char *name, const int32_t *args, size_t count, int32_t *result) {
  const std::vector<wasmtime::Val> values(args, args + count);
  auto returned = guest->function(name).call(guest->store, values);
  if (returned) {
    *result = returned.ok().at(0).i32();
    return RETURNED;
  }
  auto failed = returned.err();
  std::cerr << "wasmtime: " << name << ": " << failed.message() << "\n";
  return std::holds_alternative<wasmtime::Trap>(failed.data) ? TRAPPED : FAILED;
}

static void close_guest(guest *guest) { delete guest; }

extern const struct engine the_engine = {version,     open_guest, memory,  nullptr, call,
                                         close_guest, nullptr,    nullptr, 0};

// A page of the host's, as the guest sees it at its address 65536.
int main() try {
  const size_t page = pagetie::page_size();
  auto region = pagetie::Region::create(page);
  region.write(0, "\1\2\3", 3);

  std::unique_ptr<guest> guest(open_guest(guest_wasm, sizeof guest_wasm));
  if (guest == nullptr) {
    return EXIT_FAILURE;
  }
  auto bytes = guest->memory.data(guest->store);
  // A promise: the memory stays until the space is gone. It is destroyed before the guest.
  auto space = pagetie::Space::borrow(bytes.data(), bytes.size());

  auto tie = space.tie(65536, region, 0, page, PAGETIE_READ_WRITE_TIE);
  auto sum = guest->function("sum").call(guest->store, {65536, 4}).unwrap();
  std::cout << "tied: the guest's sum of the host's bytes is " << sum[0].i32() << "\n";
  guest->function("store").call(guest->store, {65536 + 3, 4}).unwrap();
  uint8_t byte = 0;
  region.read(3, &byte, 1);
  std::cout << "the guest stored, and the host reads " << int(byte) << "\n";
  tie.untie();
  guest->function("store").call(guest->store, {65536, 9}).unwrap();
  region.read(0, &byte, 1);
  std::cout << "untied: the guest stored elsewhere, and the host reads " << int(byte) << "\n";

  space.untie_all(); // throws where something of ours would be left
  return 0;
} catch (const pagetie::Error &error) {
  std::cerr << pagetie::status_name(error.status()) << ": " << error.what() << "\n";
  return EXIT_FAILURE;
}
