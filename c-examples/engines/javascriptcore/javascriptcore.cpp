// pagetie in an embedded JavaScriptCore: pages of the host shown inside a WebAssembly memory.
//
// The memory's start is that of a typed array over memory.buffer (asking the buffer itself is refused), and
// it is page aligned. Eight live memories of a process (JSC_maxNumWasmFastMemories) are "fast": the
// addresses of all that they may become are reserved, they grow in place, and a fault of the guest is a
// trap. Any further one moves when it grows, and a store to a read-only tie kills the process there.
#include <JavaScriptCore/JavaScript.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "../engine.h"
#include "../guest.h"
#include "pagetie.hpp"

// As in <jsc/JSCVersion.h>, which needs the headers of glib.
extern "C" unsigned jsc_get_major_version(), jsc_get_minor_version(), jsc_get_micro_version();

// One group, which is one heap, for each guest: releasing it releases the memory at once.
struct guest {
  JSContextGroupRef group;
  JSGlobalContextRef context;
  JSObjectRef exports;
};

namespace {

// Evaluates a function and calls it with one argument. NULL: it threw.
JSObjectRef run(JSContextRef context, const char *function, JSValueRef argument) {
  const JSStringRef text = JSStringCreateWithUTF8CString(function);
  const JSValueRef evaluated = JSEvaluateScript(context, text, nullptr, nullptr, 1, nullptr);
  JSStringRelease(text);
  JSValueRef exception = nullptr;
  const JSObjectRef callee = JSValueToObject(context, evaluated, nullptr);
  const JSValueRef returned = JSObjectCallAsFunction(context, callee, nullptr, 1, &argument, &exception);
  return exception == nullptr ? JSValueToObject(context, returned, nullptr) : nullptr;
}

void close_guest(guest *guest) {
  JSGlobalContextRelease(guest->context);
  JSContextGroupRelease(guest->group); // and the memory with it: untie before
  delete guest;
}

guest *open_guest(const uint8_t *wasm, size_t len) {
  auto *opened = new guest;
  opened->group = JSContextGroupCreate();
  opened->context = JSGlobalContextCreateInGroup(opened->group, nullptr);
  const JSContextRef context = opened->context;
  const JSObjectRef bytes = JSObjectMakeTypedArray(context, kJSTypedArrayTypeUint8Array, len, nullptr);
  std::memcpy(JSObjectGetTypedArrayBytesPtr(context, bytes, nullptr), wasm, len);
  static const char program[] = "bytes => new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports";
  opened->exports = run(context, program, bytes);
  if (opened->exports == nullptr) {
    std::fprintf(stderr, "javascriptcore: the module does not start\n");
    close_guest(opened);
    return nullptr;
  }
  JSValueProtect(context, opened->exports);
  return opened;
}

// To be asked again after memory.grow: it leaves another buffer in the memory's object.
void memory_of(guest *guest, void **start, size_t *len) {
  const JSObjectRef bytes =
      run(guest->context, "exports => new Uint8Array(exports.memory.buffer)", guest->exports);
  *start = JSObjectGetTypedArrayBytesPtr(guest->context, bytes, nullptr);
  *len = JSObjectGetTypedArrayByteLength(guest->context, bytes, nullptr);
}

outcome call_guest(guest *guest, const char *name, const int32_t *args, size_t count, int32_t *result) {
  const JSContextRef context = guest->context;
  JSValueRef values[3], exception = nullptr;
  for (size_t i = 0; i < count; i++) {
    values[i] = JSValueMakeNumber(context, args[i]);
  }
  JSStringRef text = JSStringCreateWithUTF8CString(name);
  const JSValueRef found = JSObjectGetProperty(context, guest->exports, text, nullptr);
  JSStringRelease(text);
  const JSObjectRef function = JSValueToObject(context, found, nullptr);
  const JSValueRef returned = JSObjectCallAsFunction(context, function, nullptr, count, values, &exception);
  if (exception == nullptr) {
    *result = int32_t(JSValueToNumber(context, returned, nullptr));
    return RETURNED;
  }
  char message[200];
  text = JSValueToStringCopy(context, exception, nullptr);
  JSStringGetUTF8CString(text, message, sizeof message);
  JSStringRelease(text);
  std::fprintf(stderr, "javascriptcore: %s: %s\n", name, message);
  return std::strncmp(message, "RuntimeError", 12) == 0 ? TRAPPED : FAILED;
}

const char *version() {
  static const auto text = "JavaScriptCore " + std::to_string(jsc_get_major_version()) + "." +
                           std::to_string(jsc_get_minor_version()) + "." +
                           std::to_string(jsc_get_micro_version());
  return text.c_str();
}

} // namespace

extern const struct engine the_engine = {version,     open_guest, memory_of, nullptr, call_guest,
                                         close_guest, nullptr,    nullptr,   0};

int main() {
  guest *const guest = open_guest(guest_wasm, sizeof guest_wasm);
  void *start;
  size_t len;
  memory_of(guest, &start, &len);
  {
    const auto region = pagetie::Region::create(65536); // the host's pages
    std::memset(region.data(), 2, region.len());
    const auto space = pagetie::Space::borrow(start, len); // the guest's
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
