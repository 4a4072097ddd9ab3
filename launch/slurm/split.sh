#!/usr/bin/env bash
# split.sh INPUT FOLDER PARTS: makes FOLDER/00000 ... with one part of the input each, for array.sbatch. Calling it again, or
# from several jobs at once, does no harm: the parts stay as they are, and another input is refused.
#
# A part is a run of consecutive lines. Results do not depend on the split: a request's random numbers come from its id,
# which without a split is the number of its line, so lines without id are given that number as their id here. And a
# part has as many empty lines before its own as the input has lines there, so that messages name the input's lines.
set -euo pipefail
[ $# -eq 3 ] || { echo "usage: split.sh INPUT FOLDER PARTS" >&2 && exit 2; }
input=$1 folder=$2 parts=$3

sum=$(zcat -f "$input" | sha256sum | cut -d ' ' -f 1)
check_earlier_split() {
  [ "$(cat "$folder/input.sha256")" = "$sum" ] && exit 0
  echo "$folder holds the parts of another input than $input; name another folder" >&2
  exit 2
}
[ ! -e "$folder/input.sha256" ] || check_earlier_split

mkdir -p "$(dirname "$folder")"
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
zcat -f "$input" >"$work/input"

# One letter for each line: b blank; i an object without id, o the same but empty; n without a usable id but nothing can be
# put in: no object, no JSON, no UTF-8; k keep as it is.
LC_ALL=C.UTF-8 grep -naxv '.*' "$work/input" | cut -d : -f 1 >"$work/not_utf8" || true
jq -rR 'if test("^[ \t\r\u000b\f]*$") then "b" else (
  try (fromjson | if type != "object" then "n"
                  elif has("body") and (has("custom_id") or has("url")) then "k"
                  elif length == 0 then "o"
                  elif has("id") | not then "i"
                  elif .id == null or .id == "" then "e" else "k" end) catch "n") end' "$work/input" >"$work/kinds"
if grep -nm 1 e "$work/kinds" >"$work/empty_id"; then
  echo "$input:$(cut -d : -f 1 "$work/empty_id"): its id is null or empty; give it one, or leave it out" >&2
  exit 2
fi

# Of a part, `first` is the number of its first line; `unnamed` lists the lines that merge.sh must name.
mkdir "$work/parts"
LC_ALL=C awk -v parts="$parts" -v folder="$work/parts" -v not_utf8="$work/not_utf8" -v kinds="$work/kinds" '
  BEGIN {
    while ((getline line < not_utf8) > 0) broken[line] = 1
    while ((getline kind < kinds) > 0) count += kind != "b"
    close(kinds)
    if (parts > count) parts = count
    part = -1
    number = 0
  }
  {
    getline kind < kinds
    if (kind == "b") next
    if (NR in broken) kind = "n"
    if (int(number * parts / count) != part) {
      if (part >= 0) close(name "/prompts.jsonl")
      part = int(number * parts / count)
      name = sprintf("%s/%05d", folder, part)
      system("mkdir \047" name "\047") # 047: a quote, for spaces in the path
      print number > (name "/first")
      close(name "/first")
      last = 0
    }
    for (line = last + 1; line < NR; ++line) print "" > (name "/prompts.jsonl")
    last = NR
    if (kind == "i") sub(/[{]/, "{\"id\":\"" number "\",")
    if (kind == "o") sub(/[{]/, "{\"id\":\"" number "\"")
    if (kind == "n") print number > (folder "/unnamed")
    print > (name "/prompts.jsonl")
    ++number
  }' "$work/input"
echo "$sum" >"$work/parts/input.sha256"

# Renamed into place whole: of several tasks that split at once, one wins and the others find the same.
mv -T "$work/parts" "$folder" 2>/dev/null || check_earlier_split
