#!/bin/bash
# Trains on the nodes of a SLURM cluster and goes on after every stop:
#
#   sbatch --nodes=2 --gpus-per-node=8 scripts/slurm.sh \
#     --gin_file=dialogsum.gin --data_dir=DIR --workdir=DIR
#
# Arguments are those of `python -m t5tune.train`; options of sbatch come before the
# script. --workdir lies on a file system that all nodes share. One process a node
# drives all its GPUs. A minute before the time limit, and when the job is preempted,
# every process gets SIGTERM, saves, and exits with status 75: the job is queued again
# and continues. So it may be longer than the cluster's time limit.
#
#   T5TUNE_PYTHON   the interpreter (default: python)
#
#SBATCH --job-name=t5tune
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@90
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -uo pipefail

saved=75       # stopped with everything saved, or another process died
most_crashes=3 # starts again after a process was killed, as for want of memory

# The processes end each other; srun must not kill those that still save.
srun --kill-on-bad-exit=0 "${T5TUNE_PYTHON:-python}" -m t5tune.train "$@"
status=$?

again=no
if [ "$status" -eq "$saved" ]; then
  again=yes
elif [ "$status" -gt 128 ] && [ "$status" -ne 130 ]; then
  [ "${SLURM_RESTART_COUNT:-0}" -lt "$most_crashes" ] && again=yes
fi
if [ "$again" = yes ]; then
  echo "status $status: queued again, to continue from the latest checkpoint"
  scontrol requeue "$SLURM_JOB_ID" && exit 0
fi
exit "$status"
