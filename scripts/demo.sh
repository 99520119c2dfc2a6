#!/bin/sh
# Shows durun's main job: an ordinary Go program, asleep in the middle of its goroutines, is killed with kill -9 and goes
# on in a new process, without the module it came from. Needs bin/durun; `make demo` builds it.
set -eu

durun=$(cd "$(dirname "${DURUN:-bin/durun}")" && pwd)/durun
guest=$(cd "$(dirname "$0")/.." && pwd)/testdata/guests/workers.wasm
dir=$(mktemp -d)
pid=
trap 'test -z "$pid" || kill -9 "$pid" 2>/dev/null || :; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
cd "$dir"
DURUN_STORE=file://$dir/store
export DURUN_STORE

bold= plain=
if test -t 1; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); fi
say() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
show() {
	printf '$ durun %s\n' "$*"
	"$durun" "$@"
}

cp "$guest" workers.wasm

say "A Go program with goroutines, compiled for wasip1. Nobody told it about durun."
printf '$ durun run --id demo workers.wasm 5 250\n'
"$durun" run --id demo workers.wasm 5 250 &
pid=$!

# Three lines in, kill it.
tries=0
while test "$("$durun" logs demo 2>/dev/null | grep -c .)" -lt 3; do
	tries=$((tries + 1))
	test $tries -lt 600 || { echo "demo: the program printed nothing within a minute" >&2; exit 1; }
	sleep 0.1
done
say "kill -9, and the module's file is deleted as well."
kill -9 "$pid"
wait "$pid" 2>/dev/null || :
pid=
rm workers.wasm

say "What is left is in the store: where the program stands,"
show ps
show stack demo >stack.txt
head -10 stack.txt
echo '…'
tail -3 stack.txt
say "and what it has said so far."
show logs demo

say "A new process goes on from there. The program ends with exit code 3, and so does durun."
code=0
show resume demo || code=$?
echo "exit code $code"
test "$code" = 3

say "Each line is in the log once, in order."
show logs demo
"$durun" logs demo >log.txt
test "$(wc -l <log.txt)" -eq 13 || { echo "demo: expected 13 lines" >&2; exit 1; }
test "$(sort log.txt | uniq -d | wc -l)" -eq 0 || { echo "demo: a line came twice" >&2; exit 1; }
