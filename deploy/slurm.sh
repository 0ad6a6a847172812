#!/usr/bin/env bash
# Trains over the nodes of a SLURM job, a worker a node and all GPUs of each:
#
#   sbatch deploy/slurm.sh --config_file=finetune --model_dir=/shared/runs/mine \
#       --params_override=data.train=/shared/videos
#
# --model_dir and the videos lie on a file system that all nodes share. Change the lines below to
# your cluster: nodes, GPUs, time, how Python is found.
#SBATCH --job-name=mvit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
# SIGTERM ten minutes before the end, after which the job is put into the queue again.
#SBATCH --signal=B:TERM@600
#SBATCH --requeue
#SBATCH --output=mvit-%j.log

set -uo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
# source /shared/venvs/mvit/bin/activate

# A port of this job's own, below those that Linux gives out by itself.
export MVIT_PORT=$((20000 + SLURM_JOB_ID % 10000))
# When one worker ends, the others are ended too.
srun --kill-on-bad-exit=1 --label bash -c '
    export TF_CONFIG=$(python deploy/tf_config.py --slurm --port="$MVIT_PORT")
    exec python train.py "$@"' train "$@" &
step=$!
stopped=
trap 'stopped=1; kill -TERM "$step"' TERM
wait "$step"
status=$?
if [ -n "$stopped" ]; then
    wait "$step"
    status=$?
fi
# 2 is a mistake in the command or the data: again it would end the same way. Anything else, a lost
# machine (75) or the end of the time (130, 143), goes on from the last checkpoint.
if [ "$status" -ne 0 ] && [ "$status" -ne 2 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
