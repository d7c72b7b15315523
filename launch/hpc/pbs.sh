#!/bin/bash
# tieflow under PBS: one process for the coordinator, one for each area.
#
#   ./launch/quickstart.sh           once, on the login node: makes .venv (TIEFLOW_MPI=system for the cluster's own MPI)
#   qsub launch/hpc/pbs.sh           from the checkout
#
# With the cluster's own MPI, load its module below. On several nodes the mpich wheel's mpirun needs -f "$PBS_NODEFILE".
#PBS -N tieflow
#PBS -l select=1:ncpus=5:mpiprocs=5
#PBS -l walltime=00:10:00
#PBS -j oe
set -euo pipefail

cd -- "$PBS_O_WORKDIR"
# shellcheck disable=SC1091
source "${TIEFLOW_VENV:-$PWD/.venv}/bin/activate"
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
mpirun -n 5 tieflow solve ieee123 --output "tieflow-$PBS_JOBID.h5"
