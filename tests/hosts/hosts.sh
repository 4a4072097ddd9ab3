# shellcheck shell=bash
# Sourced: several hosts on one machine, made of namespaces. A host has its own addresses, host name and /dev/shm, so
# that MPI takes shared memory inside a host and TCP between hosts, as on a cluster.
#
# The whole test moves into a private world first: PID, network and mount namespaces that end with it. Nothing it makes
# can be seen from outside, two tests can run at once, and nothing is left behind however a test ends.

skip() {
  echo "SKIPPED: $*"
  exit 77
}

# For want of a program or package: no excuse where NEMO_REQUIRE_TOOLS is set, as it is in .ci/run.
skip_for_want() {
  [ -z "${NEMO_REQUIRE_TOOLS:-}" ] || fail "$*"
  skip "$*"
}

fail() {
  printf 'FAILED: %s\n' "$@"
  exit 1
}

# Bounds that wait for work allow for a busy machine; NEMO_SLOW stretches them further.
seconds() { echo $(($1 * ${NEMO_SLOW:-1})); }

# diagnose: what to show when a wait was in vain; tests replace it.
diagnose() { :; }

# wait_for <seconds> <what> <command...>: polls until the command succeeds.
wait_for() {
  local what=$2 end
  end=$((SECONDS + $(seconds "$1")))
  shift 2
  until "$@"; do
    [ $SECONDS -lt "$end" ] || fail "waited in vain for $what" "$(diagnose)"
    sleep 0.1
  done
}

# enter_private_world <script> <arguments...>: starts the script again inside; returns when inside.
enter_private_world() {
  local world=(unshare --pid --fork --kill-child --mount-proc --mount --net --uts)
  if [ -z "${NEMO_PRIVATE_WORLD:-}" ]; then
    [ "$(id -u)" -eq 0 ] || skip "namespaces need root"
    command -v ip >/dev/null || skip_for_want "the package iproute2 is missing"
    "${world[@]}" ip link add try0 type bridge 2>/dev/null || skip "namespaces and bridges are not allowed here"
    NEMO_PRIVATE_WORLD=1 exec "${world[@]}" bash "$@"
  fi
  world_dir=/run/nemo # in a /run of its own
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir "$world_dir"
  hostname head
  ip link set lo up
}

# host_names <n>: what all hosts, and the outside of them, use as /etc/hosts.
host_names() {
  local i
  printf '127.0.0.1 localhost\n10.77.0.254 head\n' >"$world_dir/hosts"
  for i in $(seq "$1"); do echo "10.77.0.$i h$i"; done >>"$world_dir/hosts"
  mount --bind "$world_dir/hosts" /etc/hosts
}

# start_host <i>: a process that holds the namespaces of host h<i>.
start_host() {
  # shellcheck disable=SC2016  # $0 is for the inner shell
  unshare --net --uts --mount sh -c 'hostname "$0"; mount -t tmpfs tmpfs /dev/shm; echo $$ >/run/nemo/"$0".new
    mv /run/nemo/"$0".new /run/nemo/"$0".pid; exec sleep infinity' "h$1" &
  disown $! # what happens to it is no news for this shell
  wait_for 20 "host h$1" test -e "$world_dir/h$1.pid"
}

# connect <i>: gives eth0, which plug has put into the host, its address.
connect() {
  on_host "$1" sh -c "ip addr add 10.77.0.$1/24 dev eth0 && ip link set eth0 up && ip link set lo up"
}

# hosts_by_bridge <n>: h1 ... hn and this shell (10.77.0.254) on a bridge of the kernel: as fast as it goes.
hosts_by_bridge() {
  local i
  host_names "$1"
  ip link add br0 type bridge
  ip addr add 10.77.0.254/24 dev br0
  ip link set br0 up
  for i in $(seq "$1"); do
    start_host "$i"
    ip link add "port$i" type veth peer name eth0 netns "$(host_pid "$i")"
    ip link set "port$i" master br0 up
    connect "$i"
  done
}

# hosts_by_switch <n> <program> <delay in us>: h1 ... hn on our own switch, which holds every frame back.
hosts_by_switch() {
  local i
  host_names "$1"
  "$2" "$1" "$3" >"$world_dir/switch".log 2>&1 &
  disown $!
  wait_for 20 "the switch" grep -q ready "$world_dir/switch.log"
  for i in $(seq "$1"); do
    start_host "$i"
    ip link set "port$i" netns "$(host_pid "$i")" name eth0
    connect "$i"
  done
}

host_pid() { cat "$world_dir/h$1.pid"; }

# on_host <i> <command...>
on_host() {
  local i=$1
  shift
  nsenter -t "$(host_pid "$i")" --net --uts --mount --wdns="$PWD" -- "$@"
}

# limit_rate <i> <rate>: of what the host sends, e.g. 200mbit; none takes the limit away.
limit_rate() {
  on_host "$1" tc qdisc del dev eth0 root 2>/dev/null || true
  [ "$2" = none ] || on_host "$1" tc qdisc add dev eth0 root tbf rate "$2" burst 256kb latency 50ms
}

cut_cable() { on_host "$1" ip link set eth0 down; }
mend_cable() { on_host "$1" ip link set eth0 up; }

# processes_of <i> [name]: their numbers; the process that holds the host is not among them.
processes_of() {
  local network holder process
  holder=$(host_pid "$1")
  network=$(readlink "/proc/$holder/ns/net") || return 0
  for process in /proc/[0-9]*; do
    [ "$(readlink "$process/ns/net" 2>/dev/null)" = "$network" ] || continue
    [ "${process#/proc/}" != "$holder" ] || continue
    [ -z "${2:-}" ] || [ "$(cat "$process/comm" 2>/dev/null)" = "$2" ] || continue
    case $(awk '/^State/ {print $2}' "$process/status" 2>/dev/null) in Z | X | '') continue ;; esac
    echo "${process#/proc/}"
  done
}

# kill_host <i>: every process of it at once; only its cable stays.
kill_host() {
  local victims
  while victims=$(processes_of "$1") && [ -n "$victims" ]; do
    # shellcheck disable=SC2086  # one argument each
    kill -KILL $victims 2>/dev/null || true
    sleep 0.05
  done
}

# remote_shell: prints the path of what mpirun calls instead of ssh: remote_shell [options] HOST COMMAND...
remote_shell() {
  cat >"$world_dir/remote_shell" <<'END'
#!/usr/bin/env bash
set -euo pipefail
while [[ $1 == -* ]]; do shift; done
pid=$(cat "/run/nemo/$1.pid")
shift
exec nsenter -t "$pid" --net --uts --mount -- sh -c "$*"
END
  chmod +x "$world_dir/remote_shell"
  echo "$world_dir/remote_shell"
}
