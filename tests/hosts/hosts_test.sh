#!/usr/bin/env bash
# The 16-rank job on four hosts made of namespaces, with TCP, delay and a rate between them: it gives the bytes of one
# process. Then a cable is cut, a host dies, a host hangs: the job ends within its deadline and names the cause, and the
# same command gives the same bytes on the three hosts that are left. A host with a slow link only takes longer.
set -euo pipefail
cd "$PWD" # the folder of this test, seen from inside the private world too
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR
source "$here/hosts.sh"
command -v g++ >/dev/null || skip_for_want "g++ is missing, which compiles the switch between the hosts"
[ -e /dev/net/tun ] || skip "/dev/net/tun is missing: no way to delay what goes between the hosts"
enter_private_world "$here/$(basename "${BASH_SOURCE[0]}")"

source "${NEMO_SOURCE_DIR:=$here/../..}/launch/environment.sh"
: "${NEMO_DIST:=$NEMO_SOURCE_DIR/build/release/bin/nemo-dist}"
export NEMO_PROGRESS=off
delay=200    # microseconds, one way: a few switches of a data centre
rate=500mbit # of each host
slow=2mbit   # of one host; also makes a job long enough to be interrupted, however fast the machine
deadline=15  # seconds; the job file's limits.wait_deadline

write_job() {
  rm -rf job && mkdir job
  cat >job/job.yaml <<END
model: {path: $(realpath "$NEMO_SOURCE_DIR/configs/checkpoints/kjv-wordnet-7m"), dtype: float32}
input: {path: prompts.jsonl}
output: {path: out}
sampling: {temperature: 0.8, ignore_eos: true, seed: 3}
limits: {wait_deadline: ${deadline}s}
END
  # Of different lengths, so that some are done when trouble comes.
  jq -nc 'range(16) | {id: "p\(.)", prompt: "And it came to pass on day \(.), that", max_tokens: (4 + . * 3)}' >job/prompts.jsonl
}

# start_job <hosts> <option...>: four ranks on each of the hosts, e.g. "1 2 4"; mpirun runs on the first of them.
# Ranks go round the hosts, so that the lanes of a stage, and stages too, are on several.
start_job() {
  local hosts=$1 layout='pipeline: 2, expert: 4, replicas: 2' i
  shift
  [ "$(wc -w <<<"$hosts")" -eq 4 ] || layout='pipeline: 3, expert: 4, replicas: 1'
  printf -v log 'job/log.%d' $((++runs))
  for i in $hosts; do echo "h$i slots=4"; done >job/hostfile
  on_host "${hosts%% *}" mpirun --hostfile job/hostfile --map-by node -np $((4 * $(wc -w <<<"$hosts"))) \
    --mca plm rsh --mca plm_rsh_agent "$shell" --mca oob_tcp_if_include eth0 --mca btl_tcp_if_include eth0 \
    "$NEMO_DIST" --job job/job.yaml --set "parallel={$layout, threads: 1}" "$@" >"$log" 2>&1 </dev/null &
  run=$!
  started=$SECONDS
  wait_for 10 "mpirun to start" test -e "$log"
}

diagnose() { cat "${log:-/dev/null}"; }

is_over() { ! kill -0 "$run" 2>/dev/null; }

# end_of_job <seconds>: sets code.
end_of_job() {
  wait_for "$1" "the end of the job" is_over
  code=0
  wait $run || code=$?
  took=$((SECONDS - started))
}

has_begun() {
  is_over && fail "the job ended too early" "$(cat "$log")"
  [ "$(stat -c %s job/out/journal/segment-000001.nj 2>/dev/null || echo 0)" -gt 3000 ]
}

# as_expected <hosts that took part, for jq>
as_expected() {
  [ "$code" -eq 0 ] || fail "exit code $code" "$(cat "$log")"
  cmp job/expected.jsonl job/out/results.jsonl || fail "the results differ from those of one process"
  jq -e ".layout.hosts == $1" job/out/manifest.json >/dev/null || fail "it did not run on $1"
}

nobody_is_left() {
  local i
  for i in 1 2 3 4; do [ -z "$(processes_of "$i" nemo-dist)" ] || return 1; done
}

# interrupt_me: a job that has some results already.
interrupt_me() {
  rm -rf job/out
  limit_rate 2 $slow
  start_job "1 2 3 4"
  wait_for 60 "the first results" has_begun
}

# ended_by <what happened> <seconds> <regular expression of the cause>
ended_by() {
  local begin=$SECONDS
  end_of_job "$2"
  [ "$code" -ne 0 ] || fail "the job did not notice: $1"
  grep -qE "$3" "$log" || fail "'$3' is not in" "$(cat "$log")"
  wait_for 30 "the ranks to leave after: $1" nobody_is_left
  echo "$1: ended after $((SECONDS - begin)) s with exit code $code: $(grep -m 1 -oE ".{0,80}($3).{0,100}" "$log")"
}

# resumed <hosts>: the same command where hosts are left.
resumed() {
  local done_before
  limit_rate 2 $rate
  start_job "$1"
  end_of_job 120
  as_expected "$(jq -Rc 'split(" ") | map("h\(.)")' <<<"$1")"
  done_before=$(jq .counts.resumed job/out/manifest.json)
  echo "  resumed on hosts $1 with $done_before of 16 requests done before: $took s"
}

traffic() { on_host 1 cat /sys/class/net/eth0/statistics/tx_bytes; }

runs=0
g++ -std=c++20 -O1 -o switch "$here/delaying_switch.cpp"
hosts_by_switch 4 "$PWD/switch" $delay
shell=$(remote_shell)
for i in 1 2 3 4; do limit_rate "$i" $rate; done

write_job
"$NEMO_DIST" --job job/job.yaml >job/log.0 2>&1 || fail "one process:" "$(cat job/log.0)"
mv job/out/results.jsonl job/expected.jsonl

start_job "1 2 3 4" --fresh
end_of_job 120
as_expected '["h1","h2","h3","h4"]'
echo "16 ranks on 4 hosts, $delay us and $rate between them: $took s, $(($(traffic) / 1000)) kB sent by h1"

limit_rate 2 $slow
start_job "1 2 3 4" --fresh
end_of_job 200
as_expected '["h1","h2","h3","h4"]'
echo "the link of h2 at $slow: $took s"

interrupt_me
cut_cable 3
ended_by "the cable of h3 was cut" 40 'h3'
resumed "1 2 4"
mend_cable 3

interrupt_me
mapfile -t hanging < <(processes_of 4 nemo-dist)
kill -STOP "${hanging[@]}"
ended_by "h4 hangs" $((deadline + 30)) 'waited [0-9]+ s for .* from rank'
resumed "1 2 3"

interrupt_me
kill_host 3
ended_by "h3 died" 40 'h3'
resumed "1 2 4"
