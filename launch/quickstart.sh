#!/usr/bin/env bash
# From a fresh clone to a first result: makes .venv, installs tieflow, solves the shipped IEEE 123 bus case on five ranks
# (the coordinator and four areas) and writes ieee123.h5 into the directory it is called from.
# Arguments go to `tieflow solve ieee123`. To choose the MPI or the Python, see environment.sh.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment ''

launch_ranks 5 "$venv/bin/tieflow" solve ieee123 --output "$PWD/ieee123.h5" "$@"
