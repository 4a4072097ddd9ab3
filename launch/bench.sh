#!/usr/bin/env bash
# Measures this machine's ceilings and every kernel, or a whole model, against them. Arguments go on to nemo-bench:
# --json, --threads N, --model CHECKPOINT; or --calibrate FILE, for nemo-dist --plan --calibration FILE.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

nemo_install_missing "${NEMO_PACKAGES[@]}" >&2
nemo_build release nemo-bench >&2
ranks=()
[[ " $* " != *" --calibrate "* ]] || ranks=(mpirun -np 2) # which measure messages to each other too
exec "${ranks[@]}" build/release/bin/nemo-bench "$@"
