// Gives V8 the addresses of its WebAssembly memories: each is a reserved space of pagetie's.
//
// V8 takes all pages from the page allocator of the embedder's platform, which is public API. What this
// changes against borrowing memory of V8's own: memory.grow leaves ties and protections alone, memory that
// is collected while tied ends its ties first, and no promise has to be kept. It does nothing in a V8 that
// was built with the sandbox, whose memories come from there (see README.md).
#ifndef PAGETIE_V8_RESERVED_HPP
#define PAGETIE_V8_RESERVED_HPP

#include <v8.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "pagetie.hpp"

// Collections free memories on other threads, hence the mutex.
class ReservedPages final : public v8::PageAllocator {
public:
  explicit ReservedPages(v8::PageAllocator *others) : others_(others) {}

  // The space that an address lies in; NULL: in none. It lives as long as the memory does.
  const pagetie::Space *space_of(const void *address) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = find(address);
    return found == memories_.end() ? nullptr : &found->second.space;
  }

  // With trap handlers a memory reserves 10 GiB: 2 GiB of guards, the 4 GiB it may become, more guards.
  // Nothing else asks for that much. Another version of V8 may have another number: see README.md.
  void *AllocatePages(void *hint, size_t len, size_t alignment, Permission permission) override {
    constexpr size_t MEMORY = size_t{10} << 30, ALIGNED = size_t{2} << 20;
    if (len != MEMORY || alignment > ALIGNED || permission != kNoAccess) {
      return others_->AllocatePages(hint, len, alignment, permission);
    }
    try {
      auto space = pagetie::Space::reserve(len);
      void *const base = space.base();
      const std::lock_guard<std::mutex> lock(mutex_);
      memories_.emplace(base, Memory{std::move(space), 0, 0});
      return base;
    } catch (const pagetie::Error &) {
      return nullptr; // V8 collects garbage and tries again
    }
  }

  bool FreePages(void *base, size_t len) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return memories_.erase(base) != 0 || others_->FreePages(base, len);
  }

  // V8 makes a memory accessible from its start on, again and again as it grows. Only what is new is
  // passed on: the rest may be tied or protected.
  bool SetPermissions(void *address, size_t len, Permission permission) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = find(address);
    if (found == memories_.end()) {
      return others_->SetPermissions(address, len, permission);
    }
    Memory &memory = found->second;
    const size_t at = size_t(static_cast<char *>(address) - static_cast<char *>(memory.space.base()));
    if (permission != kReadWrite || (memory.len != 0 && at != memory.at)) {
      return false;
    }
    try {
      if (len > memory.len) {
        memory.space.protect(at + memory.len, len - memory.len, PAGETIE_PROT_READ_WRITE);
      }
      memory.at = at;
      memory.len = std::max(memory.len, len);
      return true;
    } catch (const pagetie::Error &) {
      return false;
    }
  }

  size_t AllocatePageSize() override { return others_->AllocatePageSize(); }
  size_t CommitPageSize() override { return others_->CommitPageSize(); }
  void SetRandomMmapSeed(int64_t seed) override { others_->SetRandomMmapSeed(seed); }
  void *GetRandomMmapAddr() override { return others_->GetRandomMmapAddr(); }
  bool ReleasePages(void *base, size_t len, size_t rest) override {
    return others_->ReleasePages(base, len, rest);
  }
  bool DiscardSystemPages(void *address, size_t len) override {
    return others_->DiscardSystemPages(address, len);
  }
  bool DecommitPages(void *address, size_t len) override { return others_->DecommitPages(address, len); }

private:
  struct Memory {
    pagetie::Space space;
    size_t at, len; // what V8 made accessible of it
  };
  using Memories = std::map<const void *, Memory>;

  Memories::iterator find(const void *address) {
    const auto next = memories_.upper_bound(address);
    if (next == memories_.begin()) {
      return memories_.end();
    }
    const auto found = std::prev(next);
    const size_t at = size_t(static_cast<const char *>(address) - static_cast<const char *>(found->first));
    return at < found->second.space.len() ? found : memories_.end();
  }

  v8::PageAllocator *const others_;
  std::mutex mutex_;
  Memories memories_;
};

// Another platform, with these pages.
class ReservedPlatform final : public v8::Platform {
public:
  explicit ReservedPlatform(v8::Platform *other) : other_(other), pages_(other->GetPageAllocator()) {}

  ReservedPages &pages() { return pages_; }

  v8::PageAllocator *GetPageAllocator() override { return &pages_; }
  int NumberOfWorkerThreads() override { return other_->NumberOfWorkerThreads(); }
  std::shared_ptr<v8::TaskRunner> GetForegroundTaskRunner(v8::Isolate *isolate) override {
    return other_->GetForegroundTaskRunner(isolate);
  }
  void CallOnWorkerThread(std::unique_ptr<v8::Task> task) override {
    other_->CallOnWorkerThread(std::move(task));
  }
  void CallDelayedOnWorkerThread(std::unique_ptr<v8::Task> task, double seconds) override {
    other_->CallDelayedOnWorkerThread(std::move(task), seconds);
  }
  std::unique_ptr<v8::JobHandle> PostJob(v8::TaskPriority priority,
                                         std::unique_ptr<v8::JobTask> job) override {
    return other_->PostJob(priority, std::move(job));
  }
  bool IdleTasksEnabled(v8::Isolate *isolate) override { return other_->IdleTasksEnabled(isolate); }
  double MonotonicallyIncreasingTime() override { return other_->MonotonicallyIncreasingTime(); }
  double CurrentClockTimeMillis() override { return other_->CurrentClockTimeMillis(); }
  v8::TracingController *GetTracingController() override { return other_->GetTracingController(); }

private:
  v8::Platform *const other_;
  ReservedPages pages_;
};

#endif
