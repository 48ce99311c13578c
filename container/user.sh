#!/bin/sh
# Installs Rust, unless there is one, and sets this clone up. Run as the user who will run the notebooks.
set -eu
cd "$(dirname "$0")/.."
rust=1.95.0
if ! command -v cargo > /dev/null; then
  curl --proto '=https' --tlsv1.2 -sSf https://static.rust-lang.org/rustup/rustup-init.sh |
    sh -s -- -y --no-modify-path --profile minimal --component rust-src --default-toolchain "$rust"
fi
export PATH="$HOME/.cargo/bin:$PATH"
cargo lab setup
# Needed only by further builds of the kernel.
rm -rf "${VITLAB_HOME:-$HOME/.cache/vitlab}/kernel-build"
