#!/usr/bin/env bash
# Measures this machine's ceilings and every kernel against them. Arguments go on to nemo-bench: --json, --threads N.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

nemo_install_missing "${NEMO_PACKAGES[@]}" >&2
nemo_build release nemo-bench >&2
exec build/release/bin/nemo-bench "$@"
