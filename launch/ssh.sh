#!/bin/bash
# Train on several hosts: start `fcn4dist launch` on each by ssh, and end them all together.
#
#   launch/ssh.sh HOSTFILE [options of `fcn4dist launch`]
#
# HOSTFILE has a line a host, "NAME [ADDRESS] [slots=N]"; the first one is node 0. This folder, the Python environment, the data
# and the run directory must have the same paths on every host, as on a shared file system.
# FCN4DIST: the command there.  SSH: the ssh command with its options; as it is, a host that vanished is given up after 30 s.
set -euo pipefail
hostfile=$(realpath -- "${1:?usage: launch/ssh.sh HOSTFILE [options of fcn4dist launch]}")
shift
FCN4DIST=${FCN4DIST:-$(command -v fcn4dist)}
read -ra ssh <<<"${SSH:-ssh -o BatchMode=yes -o ServerAliveInterval=10}"
mapfile -t hosts < <(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$hostfile" | awk '{n = split($1, own, "="); print (n > 1 ? own[2] : NF > 1 && $2 !~ /=/ ? $2 : $1)}')

# On each host the secret is the first line of stdin, so that no process list shows it. Stdin stays open as long as this
# script lives: when it ends, however it ends, the launchers there get SIGTERM.
# shellcheck disable=SC2016 # expanded by the shell over there
there='IFS= read -r FCN4DIST_JOB_SECRET; export FCN4DIST_JOB_SECRET; exec 3<&0
"$@" </dev/null 3<&- & launcher=$!
{ cat <&3 >/dev/null; kill "$launcher"; } 2>/dev/null & watch=$!
code=0; wait "$launcher" || code=$?
kill "$watch" 2>/dev/null; exit "$code"'

pipes=$(mktemp -d)
trap 'rm -rf "$pipes"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
secret=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
started=()
for rank in "${!hosts[@]}"; do
    command=(cd "$PWD" "&&" exec sh -c "$there" sh "$FCN4DIST" launch --hostfile "$hostfile" --node-rank "$rank" "$@")
    mkfifo "$pipes/$rank"
    "${ssh[@]}" "${hosts[rank]}" "$(printf '%q ' "${command[@]}" | sed 's/\\&\\&/\&\&/')" <"$pipes/$rank" &
    started+=($!)
    exec {open}>"$pipes/$rank"
    echo "$secret" >&"$open"
done

code=0
for rank in "${!hosts[@]}"; do
    wait "${started[rank]}" || { ended=$?; echo "${hosts[rank]}: exit code $ended" >&2; [ "$code" -ne 0 ] || code=$ended; }
done
exit "$code"
