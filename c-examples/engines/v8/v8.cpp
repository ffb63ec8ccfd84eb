// pagetie in an embedded V8: pages of the host shown inside a WebAssembly memory.
//
// The memory's start is what the backing store of its buffer says, and it is page aligned. V8 reserves the
// addresses of all that a memory may become, so it grows in place and ties live on; but it then makes the
// whole memory readable and writable again, ties included, and what was protected must be protected anew.
#include <libplatform/libplatform.h>
#include <v8.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "../engine.h"
#include "../guest.h"
#include "pagetie.hpp"

struct guest {
  v8::Isolate *isolate;
  v8::Global<v8::Context> context;
  v8::Global<v8::Object> exports;
};

namespace {

const auto default_platform = v8::platform::NewDefaultPlatform();

// With the platform of the first call.
void start_v8(v8::Platform *platform) {
  [[maybe_unused]] static const bool trapping = [platform] {
    v8::V8::InitializePlatform(platform);
    v8::V8::Initialize();
    // A store to a read-only tie is a trap then. Without it, it kills the process.
    return v8::V8::EnableWebAssemblyTrapHandler(true);
  }();
}

// What every use of a guest is inside of.
struct Inside {
  explicit Inside(guest *guest)
      : isolate(guest->isolate), handles(guest->isolate), context(guest->context.Get(guest->isolate)),
        entered(context), caught(guest->isolate) {}

  const v8::Isolate::Scope isolate;
  const v8::HandleScope handles;
  const v8::Local<v8::Context> context;
  const v8::Context::Scope entered;
  const v8::TryCatch caught;
};

v8::Local<v8::String> string(guest *guest, const char *text) {
  return v8::String::NewFromUtf8(guest->isolate, text).ToLocalChecked();
}

v8::Local<v8::Value> exported(guest *guest, const Inside &inside, const char *name) {
  return guest->exports.Get(guest->isolate)->Get(inside.context, string(guest, name)).ToLocalChecked();
}

void close_guest(guest *guest) {
  v8::Isolate *const isolate = guest->isolate;
  delete guest;
  v8::platform::NotifyIsolateShutdown(default_platform.get(), isolate);
  isolate->Dispose(); // and the memory with it: untie before
}

guest *open_guest(const uint8_t *wasm, size_t len) {
  start_v8(default_platform.get());
  auto *opened = new guest;
  v8::Isolate::CreateParams params;
  params.array_buffer_allocator_shared.reset(v8::ArrayBuffer::Allocator::NewDefaultAllocator());
  opened->isolate = v8::Isolate::New(params);
  {
    const v8::Isolate::Scope entered(opened->isolate);
    const v8::HandleScope handles(opened->isolate);
    opened->context.Reset(opened->isolate, v8::Context::New(opened->isolate));
    const Inside inside(opened);
    const auto source = string(opened, "module => new WebAssembly.Instance(module).exports");
    const auto script = v8::Script::Compile(inside.context, source).ToLocalChecked();
    const auto function = script->Run(inside.context).ToLocalChecked().As<v8::Function>();
    v8::Local<v8::Value> module, exports;
    if (v8::WasmModuleObject::Compile(opened->isolate, {wasm, len}).ToLocal(&module) &&
        function->Call(inside.context, function, 1, &module).ToLocal(&exports)) {
      opened->exports.Reset(opened->isolate, exports.As<v8::Object>());
      return opened;
    }
  }
  std::fprintf(stderr, "v8: the module does not start\n");
  close_guest(opened);
  return nullptr;
}

// To be asked again after memory.grow: it leaves another buffer in the memory's object.
void memory_of(guest *guest, void **start, size_t *len) {
  const Inside inside(guest);
  const auto buffer = exported(guest, inside, "memory").As<v8::WasmMemoryObject>()->Buffer();
  *start = buffer->GetBackingStore()->Data();
  *len = buffer->ByteLength();
}

outcome call_guest(guest *guest, const char *name, const int32_t *args, size_t count, int32_t *result) {
  const Inside inside(guest);
  const auto function = exported(guest, inside, name).As<v8::Function>();
  v8::Local<v8::Value> values[3], returned;
  for (size_t i = 0; i < count; i++) {
    values[i] = v8::Integer::New(guest->isolate, args[i]);
  }
  if (function->Call(inside.context, function, int(count), values).ToLocal(&returned)) {
    *result = returned.As<v8::Int32>()->Value();
    return RETURNED;
  }
  const v8::String::Utf8Value thrown(guest->isolate, inside.caught.Exception());
  std::fprintf(stderr, "v8: %s: %s\n", name, *thrown);
  return std::strncmp(*thrown, "RuntimeError", 12) == 0 ? TRAPPED : FAILED;
}

const char *version() {
  static const auto text = std::string("V8 ") + v8::V8::GetVersion();
  return text.c_str();
}

} // namespace

#ifndef PAGETIE_V8_RESERVED_HPP // reserved.cpp has its own
extern const struct engine the_engine = {version,     open_guest, memory_of, nullptr, call_guest,
                                         close_guest, nullptr,    nullptr,   0};

int main() {
  guest *const guest = open_guest(guest_wasm, sizeof guest_wasm);
  void *start;
  size_t len;
  memory_of(guest, &start, &len);
  {
    const auto region = pagetie::Region::create(65536);
    std::memset(region.data(), 2, region.len());
    const auto space = pagetie::Space::borrow(start, len);
    auto tie = space.tie(65536, region, 0, region.len(), PAGETIE_READ_ONLY_TIE);
    int32_t result;
    const int32_t range[] = {65536, 65536}, store[] = {65536, 1};
    call_guest(guest, "sum", range, 2, &result);
    std::printf("the guest adds up the host's pages: %d\n", result);
    const bool trapped = call_guest(guest, "store", store, 2, &result) == TRAPPED;
    std::printf("a store to them %s\n", trapped ? "traps" : "returns");
    tie.untie(); // also where space ends
    call_guest(guest, "load", range, 1, &result);
    std::printf("untied, it reads its own byte again: %c\n", result);
  }
  close_guest(guest);
  return 0;
}
#endif
