#include "kernels/context.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "kernels/error.h"

namespace nemo::kernels {
namespace {

/// Linux gives a process AMX's tile registers, 8 KiB a thread, if it asks (arch_prctl(2)).
bool may_use_tiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool machine_has(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::kAvx512:
      return machine_has(Isa::kAvx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512dq");
    case Isa::kAvx512Bf16:
      return machine_has(Isa::kAvx512) && __builtin_cpu_supports("avx512bf16") &&
             __builtin_cpu_supports("avx512vbmi");
    case Isa::kAmx:
      return machine_has(Isa::kAvx512Bf16) && __builtin_cpu_supports("amx-tile") &&
             __builtin_cpu_supports("amx-bf16") && may_use_tiles();
  }
  return false;
}

constexpr Isa kAll[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx};

Isa best_of_machine() {
  Isa best = Isa::kScalar;
  for (Isa isa : kAll)
    if (machine_has(isa)) best = isa;
  return best;
}

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Bf16:
      return "avx512bf16";
    case Isa::kAmx:
      return "amx";
  }
  return "unknown";
}

Isa detect_isa() {
  const char* wish = std::getenv("NEMO_ISA");
  if (wish == nullptr || *wish == '\0') return best_of_machine();
  for (Isa isa : kAll) {
    if (isa_name(isa) != wish) continue;
    if (machine_has(isa)) return isa;
    throw Error("NEMO_ISA", std::string("this machine has no ") + wish,
                "unset it, or set it to " + std::string(isa_name(best_of_machine())) + " or lower",
                ErrorKind::kBadJob);
  }
  throw Error("NEMO_ISA", std::string("unknown instruction set '") + wish + "'",
              "use scalar, avx2, avx512, avx512bf16 or amx", ErrorKind::kBadJob);
}

}  // namespace nemo::kernels
