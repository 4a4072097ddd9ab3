#include "kernels/large_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace nemo::kernels {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

/// Makes fresh memory read as zero. Whole pages are handed back to the system, which clears a page when it is
/// first touched, on the thread that fills it: what is overwritten next is not written twice.
void clear(std::byte* memory, size_t num_bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  size_t whole = reinterpret_cast<uintptr_t>(memory) % page == 0 ? num_bytes / page * page : 0;
  if (whole > 0 && madvise(memory, whole, MADV_DONTNEED) != 0) whole = 0;  // memory may be locked
  std::memset(memory + whole, 0, num_bytes - whole);
}

}  // namespace

void LargeMemory::Free::operator()(std::byte* pointer) const {
  std::free(pointer);
}

LargeMemory::LargeMemory(int64_t num_bytes) : num_bytes_(num_bytes) {
  if (num_bytes == 0) return;
  const auto size = static_cast<size_t>(num_bytes);
  void* pointer = nullptr;
  const bool huge = num_bytes >= kHugePage;
  if (posix_memalign(&pointer, huge ? kHugePage : 64, size) != 0) throw std::bad_alloc();
  data_.reset(static_cast<std::byte*>(pointer));
  if (huge) madvise(pointer, size, MADV_HUGEPAGE);  // advice: without it we are only slower
  clear(data_.get(), size);
}

}  // namespace nemo::kernels
