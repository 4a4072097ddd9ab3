# shellcheck shell=bash
# Sourced by the batch scripts: runs nemo-dist on the ranks of an allocation, and brings the job back if it was stopped.
#
# Submit from the root of this repository, or set NEMO_ROOT to it (Slurm runs a copy of the script, so its own place
# says nothing). NEMO_DIST picks another program, NEMO_LAUNCHER=mpirun another launcher than srun, and NEMO_MAX_RESTARTS
# how often a job may be requeued.
source "$NEMO_ROOT/launch/environment.sh"
: "${NEMO_DIST:=$NEMO_ROOT/build/release/bin/nemo-dist}"
export NEMO_PROGRESS=${NEMO_PROGRESS:-off} # a log file is no terminal

say() { echo "$(date -u +%FT%TZ) $*"; }

# Slurm's warning before the time limit comes to this shell only (--signal=B:), so that the ranks get it once: srun and
# mpirun hand it on to all of them. SIGTERM means that the job was cancelled or preempted: srun's ranks have had it
# from Slurm themselves, mpirun's have not all.
warned='' ended='' launcher=''
on_warning() {
  warned=1
  say "the time limit is near: saving what is under way"
  [ -z "$launcher" ] || kill -USR1 "$launcher" 2>/dev/null || true
}
on_end() {
  ended=1
  say "cancelled or preempted: saving what is under way"
  [ -z "$launcher" ] || [ "${NEMO_LAUNCHER:-srun}" = srun ] || kill -USR1 "$launcher" 2>/dev/null || true
}
trap on_warning USR1
trap on_end TERM

# run_nemo_dist <arguments...>: returns its exit code. A trap cuts `wait` short, so it may take several.
run_nemo_dist() {
  local launch=(srun --mpi=pmix) code seen
  [ "${NEMO_LAUNCHER:-srun}" = srun ] || launch=(mpirun)
  [ -z "$warned$ended" ] || return 75
  "${launch[@]}" "$NEMO_DIST" "$@" &
  launcher=$!
  while seen=$warned$ended && code=0 && { wait "$launcher" || code=$?; } && [ "$seen" != "$warned$ended" ]; do :; done
  launcher=''
  return $code
}

# Back into the queue? Yes after the warning. A preemption may reach the ranks alone, as SIGTERM, so Slurm is asked. Not if
# the job was cancelled, and not at limits.max_time or the stop file: those are the user's word.
comes_back() {
  [ -z "$ended" ] || return 1
  [ -n "$warned" ] || scontrol show job "$SLURM_JOB_ID" | grep -q 'PreemptTime=[0-9]'
}

# leave <exit code>: ends the script; a job that comes back resumes from what it has saved.
leave() {
  local restarts=${SLURM_RESTART_COUNT:-0}
  if [ "$1" -eq 75 ] && comes_back; then
    if [ "$restarts" -lt "${NEMO_MAX_RESTARTS:-1000}" ]; then
      say "not finished: requeued"
      trap 'exit 75' TERM # comes with the requeue, which ends this run of the script
      scontrol requeue "$SLURM_JOB_ID"
      sleep 300 &
      wait $! || true
    else
      say "not finished after $restarts restarts, all that NEMO_MAX_RESTARTS allows"
    fi
  fi
  say "ends with exit code $1"
  exit "$1"
}
