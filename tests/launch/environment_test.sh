#!/usr/bin/env bash
# launch/environment.sh against a machine of stand-ins: dpkg-query, apt-cache, apt-get, sudo and id of our own.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$NEMO_SOURCE_DIR/launch/environment.sh"

machine=$(mktemp -d)
trap 'rm -rf "$machine"' EXIT
export machine
PATH=$machine/bin:$PATH

stand_in() { # <command> <script>
  printf '#!/bin/bash\n%s\n' "$2" >"$machine/bin/$1"
  chmod +x "$machine/bin/$1"
}

# A machine on which `present` lists the packages; apt-get writes its calls to `calls`, and fails `failures` times.
reset() { # <user id> <package...>
  rm -rf "${machine:?}/bin"
  hash -r
  mkdir "$machine/bin"
  stand_in id "echo $1"
  printf '%s installed\n' "${@:2}" >"$machine/present"
  echo "gone not-installed" >>"$machine/present"
  echo 0 >"$machine/failures"
  : >"$machine/calls"
  stand_in dpkg-query "cat $machine/present; exit 1" # as the real one if any of the names is unknown
  stand_in apt-cache "exit 0"
  stand_in sleep "exit 0"
  # shellcheck disable=SC2016
  stand_in apt-get 'echo "$DEBIAN_FRONTEND $*" >>"$machine/calls"
    n=$(<"$machine/failures"); [[ $* != *install* || $n -eq 0 ]] || { echo $((n - 1)) >"$machine/failures"; exit 100; }'
}

expect() { # <what> <actual> <pattern>
  # shellcheck disable=SC2053
  [[ $2 == $3 ]] || { printf 'FAILED: %s\nexpected: %s\ngot: %s\n' "$1" "$3" "$2"; exit 1; }
}
calls() { tr '\n' '|' <"$machine/calls"; }

reset 0 g++ jq
nemo_install_missing g++ jq >/dev/null
expect "nothing missing calls no apt-get" "$(calls)" ""

nemo_install_missing g++ gone jq-extra jq >/dev/null
expect "installs what is missing, no more, without update" "$(calls)" \
  "noninteractive * install --no-install-recommends gone jq-extra|"

reset 0
stand_in apt-cache "exit 100"
nemo_install_missing cmake >/dev/null
expect "refreshes lists that do not know the package" "$(calls)" "* update|* install * cmake|"

reset 0
echo 2 >"$machine/failures"
nemo_install_missing cmake >/dev/null
expect "tries again after a failure" "$(calls)" "*install*|*update|*install*|*update|*install*|"

reset 0
echo 3 >"$machine/failures"
if text=$(nemo_install_missing cmake 2>&1); then expect "gives up" succeeded failed; fi
expect "says what could not be installed" "$text" "*apt could not install*As root, run:*cmake"

reset 1000
# shellcheck disable=SC2016
stand_in sudo 'echo sudo >>"$machine/calls"; shift; exec "$@"'
nemo_install_missing cmake >/dev/null
expect "uses sudo if not root" "$(calls)" "sudo|noninteractive * install * cmake|"

reset 1000
ln -s "$(type -P cat)" "$(type -P grep)" "$machine/bin" # and nothing else, so no sudo
if text=$(PATH=$machine/bin nemo_install_missing cmake 2>&1); then expect "fails without root and sudo" succeeded failed; fi
expect "says how to install as root" "$text" "*As root, run:*apt-get install*cmake"
expect "without root and sudo calls no apt-get" "$(calls)" ""

expect "mpirun works as root" "$OMPI_ALLOW_RUN_AS_ROOT$OMPI_ALLOW_RUN_AS_ROOT_CONFIRM" 11
expect "at least one compiler" "$(nemo_jobs)" "[1-9]*"

(
  # shellcheck disable=SC2030
  set +eu
  unset HOME
  before=$-
  # shellcheck source=launch/environment.sh
  source "$NEMO_SOURCE_DIR/launch/environment.sh"
  expect "a user's shell options stay as they are" "$-" "$before"
)
echo "all as expected"
