#!/bin/sh
# Installs the packages of Debian (12 or later) that the set-up builds on. Run as root.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends ca-certificates curl g++ git python3 python3-venv
rm -rf /var/lib/apt/lists/*
