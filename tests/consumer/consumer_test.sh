#!/usr/bin/env bash
# Installs this build, builds the consumer against what was installed only, and lets it generate.
set -euo pipefail

checkpoint=$NEMO_SOURCE_DIR/configs/checkpoints/kjv-wordnet-7m
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$NEMO_BUILD_DIR" --prefix "$work/a prefix" >"$work/install.log"
cp "$NEMO_SOURCE_DIR"/tests/consumer/{CMakeLists.txt,consumer.cpp} "$work"
flags=$(sed -n 's/^CMAKE_CXX_FLAGS:STRING=//p' "$NEMO_BUILD_DIR/CMakeCache.txt") # a sanitizer's, if any
cmake -G Ninja -S "$work" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/a prefix" -DCMAKE_CXX_FLAGS="$flags"
cmake --build "$work/build"
if grep -rqF "$NEMO_SOURCE_DIR" "$work/a prefix/lib/cmake"; then
  echo "the installed package refers to the source tree" && exit 1
fi

text=$("$work/build/consumer" "$checkpoint" "In the beginning")
echo "$text"
[[ $text =~ ^"In the beginning >"[^\(]*[a-z]{2,}.*\((length|stop)\)$ ]] || { echo "this is not generated text"; exit 1; }
if "$work/build/consumer" "$work/no checkpoint here" x; then
  echo "a missing checkpoint went unnoticed" && exit 1
fi
