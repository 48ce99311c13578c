#!/bin/sh
# Runs a kernel for a submission: no network (the caller has made namespaces), the course hidden, files of this user read-only.
# usage: sealed.sh COURSE CLONE SHARED MEGABYTES COMMAND…
set -e
course=$1 clone=$2 shared=$3 memory=$4
shift 4
cache=${VITLAB_HOME:-$HOME/.cache/vitlab}

keep() { # FOLDER MODE: makes a folder read-only or writable again
    mount --bind "$1" "$1"
    mount -o "remount,bind,$2" "$1"
}
for folder in "$HOME" "$cache" "$clone"; do keep "$folder" ro; done
for folder in "$cache/kernels" "$shared"; do keep "$folder" rw; done
mount -t tmpfs -o size=64m none "$course"
mount -t tmpfs -o size=1g none "$clone/notebooks"
cd "$clone/notebooks"
ulimit -d $((memory * 1024))
# Without capabilities nothing of this can be undone.
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
