// A gigabyte of the host's, read by one WebAssembly program after another in V8, and never copied.
//
//   story [MiB] [borrowed | reserved]
//
// The data is a host array in a region. The programs are modules that somebody else wrote and that were not
// there when the data came: each is compiled, started, run over all rows, and thrown away. A program calls
// `next` for more; the host then shows the next 16 MiB where it showed the ones before, in the program's
// own memory, by tying other pages there.
//
//   region           [ chunk 0 | chunk 1 | chunk 2 | ... | chunk 63 ]
//                                   ^ tie, moved on by next()
//   program's memory [ its own | window ]
//
// borrowed: the memory is V8's own, and is lent to pagetie while the program runs. reserved: the memory is
// pagetie's, and V8 takes it from there (../v8/reserved.hpp).
//
// What it costs is printed beside the same program with chunks that next() copies into its memory, and
// beside the same loop in the host: the best of three runs each. First with the kernel's small pages, which
// must be mapped one by one for each chunk and can make a tie as slow as a copy; then with huge pages.
#include <libplatform/libplatform.h>
#include <v8.h>

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>

#include "../v8/reserved.hpp"
#include "pagetie.hpp"
#include "programs.h"

namespace {

constexpr size_t MIB = size_t{1} << 20;
constexpr size_t CHUNK = 16 * MIB;
constexpr int64_t X = int64_t{1} << 62; // a quarter of the rows is above it

// The rows: any numbers will do.
void fill(const pagetie::Region &region) {
  auto *const rows = static_cast<uint64_t *>(region.data());
  for (size_t i = 0; i < region.len() / sizeof *rows; i++) {
    const uint64_t mixed = (i + 1) * 0x9e3779b97f4a7c15;
    rows[i] = (mixed ^ (mixed >> 29)) * 0xbf58476d1ce4e5b9;
  }
}

// ---------------------------------------------------------------------------------------- the programs

struct Program {
  const char *name;
  const uint8_t *wasm;
  size_t len;
  int64_t (*in_host)(const int64_t *rows, const int64_t *end);
};

int64_t sum(const int64_t *rows, const int64_t *end) {
  uint64_t sum = 0; // which wraps around as in WebAssembly
  for (; rows < end; rows++) {
    sum += uint64_t(*rows);
  }
  return int64_t(sum);
}

int64_t highest(const int64_t *rows, const int64_t *end) {
  int64_t highest = X;
  for (; rows < end; rows++) {
    highest = std::max(highest, *rows);
  }
  return highest;
}

int64_t above(const int64_t *rows, const int64_t *end) {
  int64_t count = 0;
  for (; rows < end; rows++) {
    count += *rows > X;
  }
  return count;
}

const Program PROGRAMS[] = {{"sum", sum_wasm, sizeof sum_wasm, sum},
                            {"highest", highest_wasm, sizeof highest_wasm, highest},
                            {"above", above_wasm, sizeof above_wasm, above}};

// ------------------------------------------------------------------------------------------ in V8

using Next = std::function<size_t()>;

// A program that runs: a fresh module, its instance, its memory.
class Running {
public:
  Running(v8::Isolate *isolate, const Program &program, const Next &next) : isolate_(isolate), next_(next) {
    const auto context = isolate->GetCurrentContext();
    const auto source = "(module, next) => new WebAssembly.Instance(module, {host: {next}}).exports";
    const auto script = v8::Script::Compile(context, string(source)).ToLocalChecked();
    const auto start = script->Run(context).ToLocalChecked().As<v8::Function>();
    const auto self = v8::External::New(isolate, this);
    v8::Local<v8::Value> arguments[] = {
        v8::WasmModuleObject::Compile(isolate, {program.wasm, program.len}).ToLocalChecked(),
        v8::Function::New(context, call_next, self).ToLocalChecked()};
    exports_ = start->Call(context, start, 2, arguments).ToLocalChecked().As<v8::Object>();
  }

  std::pair<char *, size_t> memory() {
    const auto store = exported("memory").As<v8::WasmMemoryObject>()->Buffer()->GetBackingStore();
    return {static_cast<char *>(store->Data()), store->ByteLength()};
  }

  int64_t run(size_t window) {
    const v8::TryCatch caught(isolate_);
    const auto run = exported("run").As<v8::Function>();
    v8::Local<v8::Value> arguments[] = {v8::Integer::NewFromUnsigned(isolate_, uint32_t(window)),
                                        v8::BigInt::New(isolate_, X)};
    v8::Local<v8::Value> result;
    if (!run->Call(isolate_->GetCurrentContext(), run, 2, arguments).ToLocal(&result)) {
      throw std::runtime_error(*v8::String::Utf8Value(isolate_, caught.Exception()));
    }
    return result.As<v8::BigInt>()->Int64Value();
  }

private:
  static void call_next(const v8::FunctionCallbackInfo<v8::Value> &info) {
    const auto *const running = static_cast<Running *>(info.Data().As<v8::External>()->Value());
    try {
      info.GetReturnValue().Set(uint32_t(running->next_()));
    } catch (const std::exception &error) { // V8 has no C++ exceptions: it becomes one of JavaScript's
      info.GetIsolate()->ThrowError(running->string(error.what()));
    }
  }

  v8::Local<v8::String> string(const char *text) const {
    return v8::String::NewFromUtf8(isolate_, text).ToLocalChecked();
  }

  v8::Local<v8::Value> exported(const char *name) const {
    return exports_->Get(isolate_->GetCurrentContext(), string(name)).ToLocalChecked();
  }

  v8::Isolate *isolate_;
  const Next &next_;
  v8::Local<v8::Object> exports_;
};

struct Outcome {
  int64_t result;
  double seconds;
};

// `pages` is where V8's memories come from; NULL: from V8 itself.
Outcome tied(v8::Isolate *isolate, ReservedPages *pages, const Program &program,
             const pagetie::Region &region) {
  std::optional<pagetie::Tie> tie;
  const pagetie::Space *space = nullptr;
  size_t window_at = 0, offset = 0; // of the window in the space, of the next rows in the region

  const Next next = [&]() -> size_t {
    if (offset == region.len()) {
      return 0;
    }
    if (offset == 0) {
      // Read-only: programs of others cannot write the data, not even by mistake. What lies in the window
      // is not kept, as nothing does. All pages of a chunk are mapped at once, as all are read.
      pagetie_tie_options options = PAGETIE_TIE_OPTIONS_INIT;
      options.covered = 1;
      options.prefault = 1;
      tie = space->tie(window_at, region, 0, CHUNK, PAGETIE_READ_ONLY_TIE, &options);
    } else {
      tie->retie(region, offset);
    }
    offset += CHUNK;
    return CHUNK;
  };

  Running running(isolate, program, next);
  const auto [start, len] = running.memory();
  // Where huge pages can be shown whole.
  const size_t window = (2 * MIB - reinterpret_cast<uintptr_t>(start) % (2 * MIB)) % (2 * MIB);
  std::optional<pagetie::Space> borrowed;
  if (pages != nullptr) {
    space = pages->space_of(start);
  } else {
    space = &borrowed.emplace(pagetie::Space::borrow(start, len)); // V8 keeps it while `running` lives
  }
  window_at = window + size_t(start - static_cast<char *>(space->base()));

  const auto before = std::chrono::steady_clock::now();
  const int64_t result = running.run(window);
  tie.reset(); // untied, which belongs to what it costs
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - before;
  return {result, time.count()};
}

Outcome copied(v8::Isolate *isolate, const Program &program, const pagetie::Region &region) {
  char *window = nullptr;
  size_t offset = 0;
  const Next next = [&]() -> size_t {
    if (offset == region.len()) {
      return 0;
    }
    std::memcpy(window, static_cast<const char *>(region.data()) + offset, CHUNK);
    offset += CHUNK;
    return CHUNK;
  };

  Running running(isolate, program, next);
  window = running.memory().first;
  std::memset(window, 0, CHUNK); // so that its first touch is not counted
  const auto before = std::chrono::steady_clock::now();
  const int64_t result = running.run(0);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - before;
  return {result, time.count()};
}

Outcome in_host(const Program &program, const pagetie::Region &region) {
  const auto *const rows = static_cast<const int64_t *>(region.data());
  const auto before = std::chrono::steady_clock::now();
  const int64_t result = program.in_host(rows, rows + region.len() / sizeof *rows);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - before;
  return {result, time.count()};
}

// -------------------------------------------------------------------------------------- the whole story

void tell(v8::Isolate *isolate, ReservedPages *pages, const pagetie::Region &region) {
  const double gb = double(region.len()) / 1e9;
  for (const Program &program : PROGRAMS) {
    double best[3] = {1e9, 1e9, 1e9};
    int64_t result = 0;
    for (int round = 0; round < 3; round++) {
      const v8::HandleScope handles(isolate); // nobody knows the program afterwards, and it is collected
      const Outcome ways[] = {tied(isolate, pages, program, region), copied(isolate, program, region),
                              in_host(program, region)};
      for (int way = 0; way < 3; way++) {
        best[way] = std::min(best[way], ways[way].seconds);
        if (ways[way].result != ways[2].result) {
          throw std::runtime_error(std::string(program.name) + " finds something else than the host");
        }
      }
      result = ways[2].result;
    }
    std::printf("  %-8s%21" PRId64 ": tied %5.2f GB/s, copied %5.2f (tied is %.2f times as fast), "
                "host %5.2f (%.2f)\n",
                program.name, result, gb / best[0], gb / best[1], best[1] / best[0], gb / best[2],
                best[2] / best[0]);
  }
}

// What can be taken without harm: three quarters of what is free now.
size_t memory_to_spare() {
  std::ifstream lines("/proc/meminfo");
  std::string name;
  for (size_t kib; lines >> name >> kib; lines.ignore(100, '\n')) {
    if (name == "MemAvailable:") {
      return kib * 1024 / 4 * 3;
    }
  }
  return SIZE_MAX;
}

} // namespace

int main(int argc, char **argv) try {
  const size_t mib = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1024;
  const std::string way = argc > 2 ? argv[2] : "borrowed";
  if (mib == 0 || mib * MIB % CHUNK != 0 || (way != "borrowed" && way != "reserved")) {
    std::fprintf(stderr, "story [MiB, a multiple of 16] [borrowed | reserved]\n");
    return 2;
  }
  size_t len = mib * MIB;
  while (len > memory_to_spare() && len > CHUNK) {
    len = len / 2 / CHUNK * CHUNK;
  }
  if (len != mib * MIB) {
    std::printf("memory is short: %zu MiB instead of %zu\n", len / MIB, mib);
  }

  const auto platform = v8::platform::NewDefaultPlatform();
  ReservedPlatform reserved(platform.get());
  ReservedPages *const pages = way == "reserved" ? &reserved.pages() : nullptr;
  v8::V8::SetFlagsFromString("--no-liftoff"); // compiled once and well, so that runs can be compared
  v8::V8::InitializePlatform(pages != nullptr ? &reserved : platform.get());
  v8::V8::Initialize();
  v8::V8::EnableWebAssemblyTrapHandler(true);

  const auto region = pagetie::Region::create(len);
  fill(region);

  v8::Isolate::CreateParams params;
  params.array_buffer_allocator_shared.reset(v8::ArrayBuffer::Allocator::NewDefaultAllocator());
  v8::Isolate *const isolate = v8::Isolate::New(params);
  {
    const v8::Isolate::Scope entered(isolate);
    const v8::HandleScope handles(isolate);
    const v8::Context::Scope in_context(v8::Context::New(isolate));
    std::printf("%zu MiB of rows, V8 %s, %s memory\n", len / MIB, v8::V8::GetVersion(), way.c_str());
    tell(isolate, pages, region);
    if (const size_t huge = region.collapse(); huge != 0) {
      std::printf("%zu MiB of them in huge pages\n", huge / MIB);
      tell(isolate, pages, region);
    } else {
      std::printf("the kernel makes no huge pages\n");
    }
  }
  v8::platform::NotifyIsolateShutdown(platform.get(), isolate);
  isolate->Dispose();
  return 0;
} catch (const std::exception &error) {
  std::fprintf(stderr, "story: %s\n", error.what());
  return 1;
}
