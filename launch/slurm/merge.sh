#!/usr/bin/env bash
# merge.sh FOLDER: joins the results of all parts, in the order of the input, into FOLDER/results.jsonl. Exit code 75: some
# are not done yet. Run by array.sbatch; harmless to run again.
#
# Each record gets the `index` that it has without a split, and so does the id of a line that had none and could not be
# given one (no JSON). The file is then byte for byte that of one job over the whole input, with one exception: columns
# that only some lines ask for (n, logprobs, metadata) are in the records of their parts only. results.h5, if the job asks for
# it, stays in the parts.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: merge.sh FOLDER" >&2 && exit 2; }
cd "$1"

parts=([0-9]*/) missing=0
for part in "${parts[@]}"; do
  [ -e "$part/out/results.jsonl" ] || missing=$((missing + 1))
done
if [ $missing -gt 0 ]; then
  echo "$missing of ${#parts[@]} parts are not done yet; submit the array again if none of its tasks is left"
  exit 75
fi

# The same job on all parts? Else someone changed it in between.
jobs=$(jq -c '.fingerprints | del(.input) | .job |= sub("\ninput:\n[^\n]*"; "")' "${parts[@]/%//out/manifest.json}" | sort -u | wc -l)
if [ "$jobs" -ne 1 ]; then
  echo "the parts come from $jobs different jobs (model, sampling, build or instruction set): remove those of the wrong one and go on" >&2
  exit 1
fi

work=$(mktemp results.XXXXXX)
trap 'rm -f "$work"' EXIT
for part in "${parts[@]}"; do
  LC_ALL=C awk -v first="$(cat "$part/first")" -v unnamed=unnamed '
    BEGIN { while ((getline line < unnamed) > 0) named[line] = 1 }
    {
      number = first + NR - 1
      if (match($0, /^[{]"id":"([^"\\]|\\.)*","index":[0-9]+/)) {
        head = substr($0, 1, RLENGTH)
        if (number in named && head == "{\"id\":\"" NR - 1 "\",\"index\":" NR - 1) head = "{\"id\":\"" number "\",\"index\":" number
        sub(/[0-9]+$/, number, head)
        $0 = head substr($0, RLENGTH + 1)
      } else if (match($0, /^[{]"id":"batch_req_[0-9]+","custom_id":"([^"\\]|\\.)*","response":[{]"status_code":200,"request_id":"req_[0-9]+","body":[{]"id":"[a-z]+-[0-9]+/) ||
                 match($0, /^[{]"id":"batch_req_[0-9]+/)) {
        head = substr($0, 1, RLENGTH)
        rest = substr($0, RLENGTH + 1)
        number = sprintf("%012d", number)
        sub(/batch_req_[0-9]+/, "batch_req_" number, head)
        sub(/"req_[0-9]+","body"/, "\"req_" number "\",\"body\"", head)
        if (head ~ /-[0-9]+$/) sub(/[0-9]+$/, number, head)
        $0 = head rest
      }
      print
    }' "$part/out/results.jsonl"
done >"$work"
chmod 644 "$work"
mv "$work" results.jsonl
echo "merged ${#parts[@]} parts into $PWD/results.jsonl"
