// pagetie in an embedded V8 that takes its memories from pagetie: v8.cpp with the pages of reserved.hpp.
//
// Nothing is borrowed, so there is no promise to keep: a memory lives in a reserved space of its own.
#include "reserved.hpp"

#include "v8.cpp"

namespace {

ReservedPlatform &platform() {
  static ReservedPlatform platform(default_platform.get());
  return platform;
}

guest *open_reserved(const uint8_t *wasm, size_t len) {
  start_v8(&platform());
  return open_guest(wasm, len);
}

const pagetie::Space *space_in(guest *guest) {
  void *start;
  size_t len;
  memory_of(guest, &start, &len);
  return platform().pages().space_of(start);
}

const pagetie_space *space_of(guest *guest) { return space_in(guest)->get(); }

} // namespace

extern const struct engine the_engine = {version,     open_reserved, memory_of, space_of, call_guest,
                                         close_guest, nullptr,       nullptr,   0};

int main() {
  guest *const guest = open_reserved(guest_wasm, sizeof guest_wasm);
  void *start;
  size_t len;
  memory_of(guest, &start, &len);
  const pagetie::Space &space = *space_in(guest);
  const size_t memory_at = size_t(static_cast<char *>(start) - static_cast<char *>(space.base()));

  const auto region = pagetie::Region::create(65536);
  std::memset(region.data(), 2, region.len());
  auto tie = space.tie(memory_at + 65536, region, 0, region.len(), PAGETIE_READ_ONLY_TIE);

  int32_t result;
  const int32_t range[] = {65536, 65536}, pages[] = {1}, store[] = {65536, 1};
  call_guest(guest, "grow", pages, 1, &result);
  call_guest(guest, "sum", range, 2, &result);
  std::printf("the memory grew, and the guest adds up the host's pages: %d\n", result);
  const bool trapped = call_guest(guest, "store", store, 2, &result) == TRAPPED;
  std::printf("a store to them still %s\n", trapped ? "traps" : "returns");
  close_guest(guest); // its memory is V8's to free at any time: that ends the tie first
  std::printf("the guest is gone, and the tie is %s\n", tie.is_live() ? "live" : "ended");
  return 0;
}
