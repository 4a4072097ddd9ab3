# shellcheck shell=bash disable=SC2034
# Sourced: `source launch/environment.sh` makes plain `mpirun -np N` work as root and with more ranks than cores.
# Also the one list of Debian packages, and what quickstart.sh and test.sh share. It changes no shell option.

# What building and running needs; then what the tests need besides.
NEMO_PACKAGES=(
  g++ cmake ninja-build pkgconf libopenmpi-dev openmpi-bin libhdf5-dev libyaml-cpp-dev nlohmann-json3-dev libpcre2-dev
  libxxhash-dev librandom123-dev zlib1g-dev libboost-dev libcli11-dev libgtest-dev python3 python3-jinja2 jq
)
NEMO_TEST_PACKAGES=(git python3-h5py clang-format-14 shellcheck slurmctld slurmd slurm-client munge libpmix2 iproute2)

# Open MPI. tests/CMakeLists.txt reads these lines too, so that ctest alone has the same environment.
export OMPI_ALLOW_RUN_AS_ROOT=1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1     # more ranks than cores
export OMPI_MCA_mpi_yield_when_idle=1          # a waiting rank leaves its core to a computing one
export OMPI_MCA_hwloc_base_binding_policy=none # a rank's threads may use all cores
export OMPI_MCA_oob_tcp_keepalive_time=2       # a host that vanishes is noticed after 2 + 3 x 1 seconds
export OMPI_MCA_oob_tcp_keepalive_intvl=1
export OMPI_MCA_oob_tcp_keepalive_probes=3

# Open MPI takes 4 MiB of /dev/shm a rank and dies of a bus error where it is too small, as it is in many containers.
if [ "$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)" -lt 131072 ] 2>/dev/null; then
  export OMPI_MCA_btl_vader_backing_directory="${TMPDIR:-/tmp}"
fi

nemo_fail() {
  printf '%s\n' "$@" >&2
  return 1
}

# nemo_missing <package...>: prints those that are not installed.
nemo_missing() {
  local installed package
  # shellcheck disable=SC2016  # dpkg-query expands these
  installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null) || true
  for package in "$@"; do
    grep -qxF -e "$package installed" <<<"$installed" || echo "$package"
  done
}

# nemo_apt_get <arguments...>: as root; asks nothing, waits for another apt, tries a flaky mirror again.
nemo_apt_get() {
  local as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo --)
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 \
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5 "$@"
}

# nemo_install_missing <package...>: calls apt only for what is missing, and refreshes its lists only if it must.
nemo_install_missing() {
  local missing attempt by_hand
  if ! command -v dpkg-query >/dev/null; then
    nemo_fail "This needs Debian 12. Elsewhere, install the counterparts of these and use cmake --preset release:" "  $*"
    return 1
  fi
  mapfile -t missing < <(nemo_missing "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  by_hand="As root, run: apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
  if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
    nemo_fail "Packages are missing, and this user is neither root nor has sudo." "$by_hand"
    return 1
  fi
  echo "Installing ${#missing[@]} Debian packages: ${missing[*]}"
  for attempt in 1 2 3; do
    if [ "$attempt" -gt 1 ] || ! apt-cache show "${missing[@]}" >/dev/null 2>&1; then
      nemo_apt_get update || true  # one broken source among several must not stop us: install tells
    fi
    nemo_apt_get install --no-install-recommends "${missing[@]}" >/dev/null && return 0
    [ "$attempt" -eq 3 ] || sleep $((attempt * 2))
  done
  nemo_fail "apt could not install what is missing." "$by_hand"
}

# nemo_jobs: as many compilers as cores, but no more than the free memory feeds (1 GiB each).
nemo_jobs() {
  local cores gib
  cores=$(nproc)
  gib=$(awk '/^MemAvailable:/ {print int($2 / 1048576)}' /proc/meminfo)
  echo $((gib < 1 ? 1 : gib < cores ? gib : cores))
}

# nemo_build <preset> [target...]: from the repository's root; configures only what is not configured for this place.
nemo_build() {
  local preset=$1 folder="build/$1" quiet=(--quiet)
  shift
  if ! nemo_is_configured "$folder"; then
    echo "Configuring and building $folder with $(nemo_jobs) jobs; this takes some minutes"
    mkdir -p "$folder"
    if ! cmake --fresh --preset "$preset" >"$folder/configure.log" 2>&1; then
      nemo_fail "Configuring failed:" "$(tail -n 30 "$folder/configure.log")"
      return 1
    fi
  fi
  [ ! -t 1 ] || quiet=() # a terminal shows one line that counts
  ninja -C "$folder" -j "$(nemo_jobs)" "${quiet[@]}" "$@"
}

# nemo_is_configured <build folder>: also false if the clone was moved, as CMake would refuse it.
nemo_is_configured() {
  [ -e "$1/build.ninja" ] && ! [ CMakePresets.json -nt "$1/build.ninja" ] &&
    grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$1/CMakeCache.txt"
}
