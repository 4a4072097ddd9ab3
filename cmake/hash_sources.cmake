# cmake -DOUT=... -DROOT=... -DFLAGS=... -P hash_sources.cmake: writes a header with the hash of all sources that results
# come from. Two trees of one version are two builds: a journal of one is not continued by the other.
file(GLOB_RECURSE sources RELATIVE ${ROOT} ${ROOT}/kernels/*.h ${ROOT}/kernels/*.cpp ${ROOT}/lib/*.h ${ROOT}/lib/*.cpp
                                           ${ROOT}/dist/*.h ${ROOT}/dist/*.cpp)
list(SORT sources)
set(hashes "${FLAGS}\n")
foreach(source IN LISTS sources)
  file(SHA256 ${ROOT}/${source} hash)
  string(APPEND hashes "${source} ${hash}\n")
endforeach()
string(SHA256 hash "${hashes}")
string(SUBSTRING ${hash} 0 12 hash)
file(WRITE ${OUT} "// Made by cmake/hash_sources.cmake.
#pragma once

namespace nemo::launch {
inline constexpr const char* kSources = \"${hash}\";
}  // namespace nemo::launch
")
