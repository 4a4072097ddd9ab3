# shellcheck shell=bash disable=SC2154 # world_dir comes from hosts.sh
# Sourced after tests/hosts/hosts.sh, inside the private world: a Slurm cluster of hosts made of namespaces. munge and
# slurmctld run outside the hosts, as on a login node, and one slurmd in each host.

# require_slurm: skips the test, with the reason, where there is no Slurm.
require_slurm() {
  local program
  for program in munged slurmctld slurmd sbatch; do
    PATH=$PATH:/usr/sbin command -v $program >/dev/null ||
      skip_for_want "$program is missing: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge libpmix2"
  done
  PATH=$PATH:/usr/sbin
}

# cluster_up <hosts> <CPUs of each>
cluster_up() {
  local dir=$world_dir/slurm i
  hosts_by_bridge "$1"
  mkdir -p "$dir/munge" "$dir/state"
  head -c 128 /dev/urandom >"$dir/munge/key"
  chmod 400 "$dir/munge/key"
  chown -R munge: "$dir/munge"
  runuser -u munge -- munged --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munge/pid" \
    --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" --num-threads=2

  # linuxproc and task/none: no cgroups inside namespaces. config_overrides: more CPUs than the machine has. TmpFS: the
  # PMIx sockets of all nodes are in one /tmp here. The intervals: a test does not wait as patiently as a user.
  cat >"$dir/slurm.conf" <<END
ClusterName=test
SlurmctldHost=head(10.77.0.254)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
TmpFS=$dir/tmp.%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=10000,batch_sched_delay=0,sched_interval=2,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillOnBadExit=1
KillWait=20
SlurmdTimeout=120
ReturnToService=2
NodeName=h[1-$1] CPUs=$2 RealMemory=4000
PartitionName=all Nodes=ALL Default=YES PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL PriorityTier=10
END
  echo "CgroupPlugin=cgroup/v1" >"$dir/cgroup.conf"
  export SLURM_CONF=$dir/slurm.conf
  slurmctld -i
  for i in $(seq "$1"); do
    mkdir "$dir/spool.h$i" "$dir/tmp.h$i"
    on_host "$i" slurmd -N "h$i"
  done
  wait_for 30 "the nodes to be idle" nodes_are_idle "$1"
}

nodes_are_idle() { [ "$(timeout 20 sinfo -h -t idle -o %D)" = "$1" ]; }

# state_of <job>: RUNNING, COMPLETED, ...; the states of all tasks of an array, one a line.
state_of() { timeout 20 scontrol show job "$1" | grep -oP '(?<=JobState=)\w+'; }

# field_of <job> <field of scontrol>
field_of() { timeout 20 scontrol show job "$1" | grep -oP "(?<=\b$2=)\S+" | head -n 1; }

in_state() { state_of "$1" | grep -qxE "$2"; }

is_over() {
  local states
  states=$(state_of "$1") && ! grep -qvxE 'COMPLETED|CANCELLED|FAILED|TIMEOUT|NODE_FAIL|BOOT_FAIL|OUT_OF_MEMORY|DEADLINE' <<<"$states"
}
