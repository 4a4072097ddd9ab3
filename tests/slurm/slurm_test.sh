#!/usr/bin/env bash
# A real Slurm on two hosts made of namespaces runs the batch scripts of launch/slurm, submitted as their heads and the
# README print it. All results are those of one process: after the time limit, scancel, a preemption, and an array that
# is submitted again with another number of tasks.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../hosts/hosts.sh
source "$here/../hosts/hosts.sh"
# shellcheck source-path=SCRIPTDIR source=cluster.sh
source "$here/cluster.sh"
require_slurm
enter_private_world "$here/$(basename "${BASH_SOURCE[0]}")"

: "${NEMO_SOURCE_DIR:=$here/../..}"
source "$NEMO_SOURCE_DIR/launch/environment.sh"
program=${NEMO_DIST:-$NEMO_SOURCE_DIR/build/release/bin/nemo-dist}
unset NEMO_DIST # the scripts find it where the README builds it
export NEMO_PROGRESS=off

# A folder that looks like the root of the repository: what is printed can be typed here.
rm -rf root && mkdir -p root/build/release/bin && cd root
ln -s "$(realpath "$NEMO_SOURCE_DIR/launch")" launch
ln -s "$(realpath "$NEMO_SOURCE_DIR/configs")" configs
ln -s "$(realpath "$program")" build/release/bin/nemo-dist

cat >job.yaml <<END
model: {path: configs/checkpoints/kjv-wordnet-7m, dtype: float32}
input: {path: prompts.jsonl}
output: {path: out}
sampling: {max_tokens: 24, temperature: 0.8, seed: 5}
END
jq -nc 'range(48) | {prompt: "And it came to pass on day \(.), that"}' >prompts.jsonl

# printed <script>: its command, which its head and the README must print alike.
printed() {
  local command
  command=$(grep -m 1 -oP '^#   \Ksbatch .*' "launch/slurm/$1")
  grep -qxF "    $command" "$NEMO_SOURCE_DIR/README.md" || fail "the README does not print '$command'"
  echo "$command"
}

# submit <job file> <options of sbatch> <command>: as printed, but for another job file and options; sets job and log.
submit() {
  local command=$3
  command=${command/job.yaml/$1}
  job=$(bash -c "${command/sbatch/sbatch --parsable $2}")
  log=nemo-dist-$job.log
}

diagnose() {
  echo "job ${job:-}: $(state_of "${job:-0}")"
  cat "${log:-/dev/null}" "$world_dir"/slurm/slurmctld.log
}

# finished <seconds> <state>: the job has ended like that.
finished() {
  wait_for "$1" "the end of job $job" is_over "$job"
  in_state "$job" "$2" || fail "job $job ended as $(state_of "$job")" "$(cat "$log")"
}

check_results() {
  cmp expected.jsonl "$1" || fail "$2: not the results of one process"
  echo "$2: the same results"
}

# A variant of the job that is slow enough to be interrupted: one sequence at a time gives the same results. With
# stages on both hosts a slow network makes it last ten seconds and more, however fast the machine.
slow_job() {
  sed "s/path: out/path: $1/" job.yaml >"$1.yaml"
  echo 'engine: {max_sequences: 1}' >>"$1.yaml"
}

stages_on_both_hosts() { echo 'parallel: {pipeline: 4, expert: 4}' >>"$1.yaml"; }

network() { # <rate>
  limit_rate 1 "$1"
  limit_rate 2 "$1"
}

has_begun() { [ "$(stat -c %s "$1/journal/segment-000001.nj" 2>/dev/null || echo 0)" -gt 3000 ]; }

interrupted() {
  wait_for 120 "the first results of job $job" has_begun "$1"
  in_state "$job" RUNNING || fail "job $job was to be interrupted, but it is $(state_of "$job")" "$(cat "$log")"
}

"$program" --job job.yaml >serial.log 2>&1 || fail "one process:" "$(cat serial.log)"
mv out/results.jsonl expected.jsonl
rm -r out
cluster_up 2 8
echo "a cluster of 2 nodes is up after $SECONDS s"

command=$(printed job.sbatch)

as_printed() {
  submit job.yaml "" "$command"
  finished 120 COMPLETED
  jq -e '.layout | .world_size == 16 and .hosts == ["h1", "h2"]' out/manifest.json >/dev/null || fail "not 16 ranks on 2 hosts"
  check_results out/results.jsonl "as printed, 16 ranks"
  rm -r out
}

by_mpirun() {
  NEMO_LAUNCHER=mpirun submit job.yaml "" "$command"
  finished 120 COMPLETED
  jq -e '.layout | .world_size == 16 and .hosts == ["h1", "h2"]' out/manifest.json >/dev/null || fail "not 16 ranks on 2 hosts"
  check_results out/results.jsonl "mpirun in a batch job"
  rm -r out
}

interactive() {
  timeout "$(seconds 120)" srun --mpi=pmix -N 2 -n 4 "$program" --job job.yaml >srun.log 2>&1 || fail "srun:" "$(cat srun.log)"
  check_results out/results.jsonl "srun --mpi=pmix"
  rm -r out
  timeout "$(seconds 120)" salloc -N 2 -n 4 mpirun "$program" --job job.yaml >salloc.log 2>&1 || fail "salloc:" "$(cat salloc.log)"
  check_results out/results.jsonl "mpirun in an allocation"
  rm -r out
}

lone_copies() {
  local code=0
  timeout "$(seconds 60)" srun --mpi=none -n 4 "$program" --job job.yaml >copies.log 2>&1 || code=$?
  [ $code -eq 2 ] || fail "lone copies: exit code $code" "$(cat copies.log)"
  grep -q 'srun --mpi=pmix' copies.log || fail "lone copies: no remedy in" "$(cat copies.log)"
  [ ! -e out ] || fail "lone copies have begun to work"
  echo "lone copies: $(grep -m 1 nemo-dist: copies.log)"
}

time_limit() {
  local restarts
  sed -i 's/max_tokens: 24/max_tokens: 300/' job.yaml
  "$program" --job job.yaml >serial.log 2>&1 || fail "one process:" "$(cat serial.log)"
  mv out/results.jsonl expected.jsonl
  slow_job limited
  # A slow network between the stages makes it last for half a minute and more, however fast the machine.
  command="${command/--ntasks=16/--ntasks=4} --set 'parallel={pipeline: 2, expert: 2}'"
  network 5mbit
  # A minute is the shortest limit, and Slurm warns up to a minute early.
  submit limited.yaml "--signal=B:USR1@50" "${command/--time=8:00:00/--time=1}"
  finished 500 COMPLETED
  restarts=$(field_of "$job" Restarts)
  [ "$restarts" -gt 0 ] || fail "job $job was not requeued" "$(cat "$log")"
  [ "$(grep -c "job $job, restart" "$log")" -eq $((restarts + 1)) ] || fail "the log was not continued" "$(cat "$log")"
  check_results limited/results.jsonl "time limit, requeued $restarts times"
}

cancelled() {
  slow_job cancelled
  stages_on_both_hosts cancelled
  network 1mbit
  submit cancelled.yaml "" "$command"
  interrupted cancelled
  scancel "$job"
  finished 60 CANCELLED
  network none
  grep -q 'cancelled or preempted' "$log" || fail "the script was not told" "$(cat "$log")"
  [ ! -e cancelled/results.jsonl ] || fail "the job was complete before it was cancelled"
  submit cancelled.yaml "" "$command"
  finished 300 COMPLETED
  check_results cancelled/results.jsonl "scancel, submitted again with $(jq .counts.resumed cancelled/manifest.json) requests done"
}

is_pushed_aside() { ! in_state "$1" RUNNING; }

preempted() {
  local low low_log
  slow_job preempted
  stages_on_both_hosts preempted
  network 1mbit
  submit preempted.yaml "" "$command"
  low=$job low_log=$log
  interrupted preempted
  submit job.yaml "--partition=urgent" "$command"
  wait_for 60 "job $low to make room" is_pushed_aside "$low"
  network none
  finished 200 COMPLETED
  check_results out/results.jsonl "a more urgent job"
  rm -r out
  job=$low log=$low_log
  finished 300 COMPLETED
  [ "$(field_of "$job" Restarts)" -gt 0 ] || fail "job $job was not requeued" "$(cat "$log")"
  check_results preempted/results.jsonl "preempted and requeued"
}

array_variant() {
  local array first
  array=$(printed array.sbatch)
  slow_job array
  # With 3 tasks of 2 ranks, cancelled when a part is done; then with 2.
  submit array.yaml "" "$(sed 's/--array=0-7 --ntasks=16/--array=0-2 --ntasks=2/; s/^/NEMO_PARTS=8 /' <<<"$array")"
  first=$job
  log=nemo-dist-$job-0.log
  wait_for 120 "a part to be done" compgen -G 'parts/0*/out/results.jsonl' >part_done
  scancel "$job"
  wait_for 60 "the array to be cancelled" is_over "$job"
  [ ! -e parts/results.jsonl ] || fail "the array was complete before it was cancelled"
  submit array.yaml "" "$(sed 's/--array=0-7 --ntasks=16/--array=0-1 --ntasks=3/; s/^/NEMO_PARTS=8 /' <<<"$array")"
  log=nemo-dist-$job-0.log
  wait_for 300 "the end of array $job" is_over "$job"
  [ -e parts/results.jsonl ] || fail "array $job did not merge" "$(cat nemo-dist-"$job"-*.log)"
  check_results parts/results.jsonl "array of 3 tasks ($first), cancelled, then of 2 ($job)"
}

for part in ${NEMO_SLURM_PARTS:-as_printed by_mpirun interactive lone_copies cancelled preempted array_variant time_limit}; do
  $part
done
