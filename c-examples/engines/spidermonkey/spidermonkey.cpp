// pagetie in an embedded SpiderMonkey: pages of the host shown inside a WebAssembly memory.
//
// The memory's start is that of memory.buffer, and it is page aligned. The addresses of all that a memory
// may become are reserved, so it grows in place and ties live on. A fault of the guest is a trap.
#include <js/ArrayBuffer.h>
#include <js/CallAndConstruct.h>
#include <js/CompilationAndEvaluation.h>
#include <js/ErrorReport.h>
#include <js/Exception.h>
#include <js/Initialization.h>
#include <js/SourceText.h>
#include <jsapi.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "../engine.h"
#include "../guest.h"
#include "pagetie.hpp"

const JSClass global_class = {
    "global", JSCLASS_GLOBAL_FLAGS, &JS::DefaultGlobalClassOps, nullptr, nullptr, nullptr};

struct guest {
  JS::PersistentRootedObject global, exports;
};

namespace {

struct Library {
  Library() { JS_Init(); }
  ~Library() { JS_ShutDown(); }
};

// A thread has one context, made when it is first needed. It goes with the thread.
JSContext *context() {
  static const Library library;
  static thread_local const std::unique_ptr<JSContext, void (*)(JSContext *)> context = [] {
    JSContext *const cx = JS_NewContext(JS::DefaultHeapMaxBytes);
    JS::InitSelfHostedCode(cx);
    return decltype(context)(cx, JS_DestroyContext);
  }();
  return context.get();
}

void close_guest(guest *guest) {
  delete guest;
  // The memory goes when it is collected, which needs no call; this makes it go now. Untie before.
  JS::PrepareForFullGC(context());
  JS::NonIncrementalGC(context(), JS::GCOptions::Shrink, JS::GCReason::API);
}

guest *open_guest(const uint8_t *wasm, size_t len) {
  static const char text[] = "bytes => new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports";
  JSContext *const cx = context();
  const JS::RealmOptions options;
  auto *global = JS_NewGlobalObject(cx, &global_class, nullptr, JS::FireOnNewGlobalHook, options);
  auto *opened = new guest{{cx, global}, JS::PersistentRootedObject(cx)};
  {
    const JSAutoRealm realm(cx, opened->global);
    JS::SourceText<mozilla::Utf8Unit> source;
    JS::RootedObject bytes(cx, JS::NewArrayBuffer(cx, len));
    JS::RootedValue function(cx), argument(cx, JS::ObjectValue(*bytes)), exports(cx);
    bool shared;
    std::memcpy(JS::GetArrayBufferData(bytes, &shared, JS::AutoCheckCannotGC()), wasm, len);
    if (source.init(cx, text, std::strlen(text), JS::SourceOwnership::Borrowed) &&
        JS::Evaluate(cx, JS::CompileOptions(cx), source, &function) &&
        JS_CallFunctionValue(cx, nullptr, function, JS::HandleValueArray(argument), &exports)) {
      opened->exports = &exports.toObject();
      return opened;
    }
    JS_ClearPendingException(cx);
  }
  std::fprintf(stderr, "spidermonkey: the module does not start\n");
  close_guest(opened);
  return nullptr;
}

// To be asked again after memory.grow: it leaves another buffer in the memory's object.
void memory_of(guest *guest, void **start, size_t *len) {
  JSContext *const cx = context();
  const JSAutoRealm realm(cx, guest->global);
  JS::RootedValue memory(cx), buffer(cx);
  JS_GetProperty(cx, guest->exports, "memory", &memory);
  JS::RootedObject object(cx, &memory.toObject());
  JS_GetProperty(cx, object, "buffer", &buffer);
  bool shared;
  JS::GetArrayBufferLengthAndData(&buffer.toObject(), len, &shared, reinterpret_cast<uint8_t **>(start));
}

outcome call_guest(guest *guest, const char *name, const int32_t *args, size_t count, int32_t *result) {
  JSContext *const cx = context();
  const JSAutoRealm realm(cx, guest->global);
  JS::RootedValueArray<3> values(cx);
  JS::RootedValue value(cx);
  for (size_t i = 0; i < count; i++) {
    values[i].setInt32(args[i]);
  }
  const auto arguments = JS::HandleValueArray::subarray(values, 0, count);
  if (JS_CallFunctionName(cx, guest->exports, name, arguments, &value)) {
    *result = value.toInt32();
    return RETURNED;
  }
  JS_GetPendingException(cx, &value);
  JS_ClearPendingException(cx);
  JS::RootedObject exception(cx, &value.toObject());
  const JSErrorReport *const report = JS_ErrorFromException(cx, exception);
  std::fprintf(stderr, "spidermonkey: %s: %s\n", name, report->message().c_str());
  return report->exnType == JSEXN_WASMRUNTIMEERROR ? TRAPPED : FAILED;
}

const char *version() {
  const char *const number = std::strpbrk(JS_GetImplementationVersion(), "0123456789");
  static const auto text = std::string("SpiderMonkey ") + number;
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
