#!/bin/sh
# Runs a command for a submission: `lab kernel` starts the kernel's program by it. No network, the course out of sight, home,
# clone and cache read-only, limited memory. What the command writes is gone afterwards.
# usage: [GRADING_SHARED=FOLDER] [GRADING_MEGABYTES=N] sealed.sh COMMAND…
set -e
course=$(cd "$(dirname "$0")" && pwd) clone="{CLONE}"

if [ -z "$GRADING_SEALED" ]; then
    export GRADING_SEALED=1
    exec unshare --user --map-root-user --net --mount --pid --fork --kill-child --mount-proc sh "$course/sealed.sh" "$@"
fi

keep() { # MODE FOLDER: makes a folder read-only or writable again
    mount --bind "$2" "$2"
    mount -o "remount,bind,$1" "$2"
}
keep ro "$HOME"
keep ro "${VITLAB_HOME:-$HOME/.cache/vitlab}"
keep ro "$clone"
if [ -n "$GRADING_SHARED" ]; then keep rw "$GRADING_SHARED"; fi
mount -t tmpfs -o size=4g none "$course"
mount -t tmpfs -o size=1g none "$clone/notebooks"
if [ -n "$EVCXR_TMPDIR" ]; then
    # The kernel's folder shares its files with those of all kernels: changes go into memory.
    mkdir "$course/upper" "$course/work"
    folder=$(dirname "$EVCXR_TMPDIR")
    mount -t overlay -o "lowerdir=$folder,upperdir=$course/upper,workdir=$course/work,userxattr" none "$folder"
fi
cd "$clone/notebooks"
ulimit -d $((${GRADING_MEGABYTES:-8000} * 1024))
# Without capabilities nothing of this can be undone.
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
