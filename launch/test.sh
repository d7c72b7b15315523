#!/usr/bin/env bash
# The whole check: style, types, tests. Arguments go to pytest: ./launch/test.sh -k admm
# To choose the MPI or the Python, see environment.sh.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment test

cd -- "$checkout"
ruff check
ruff format --check
mypy
# What tests share; the tests themselves are checked by running.
mapfile -t shared < <(find tests -maxdepth 1 -name '*.py' ! -name 'test_*')
MYPYPATH=tests mypy --follow-imports=silent "${shared[@]}"
# Two files at a time, whatever the machine has: many tests are several ranks themselves.
pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
