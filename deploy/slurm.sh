#!/usr/bin/env bash
# Trains over the nodes of a SLURM job, a worker a node and all GPUs of each:
#
#   sbatch deploy/slurm.sh --config_file=finetune --model_dir=/shared/runs/mine \
#       --params_override=data.train=/shared/videos
#
# --model_dir, the videos and the folder of this command lie on a file system that all nodes share.
# Change the lines below to your cluster: nodes, GPUs, time, how Python is found.
#SBATCH --job-name=mvit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
# SIGUSR1 to this script ten minutes before the end, after which the job is put into the queue
# again. Not SIGTERM, which is scancel: that ends the script, and the job stays ended.
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --output=mvit-%j.log

set -uo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
# source /shared/venvs/mvit/bin/activate

# A port of this job's own, below those that Linux gives out by itself.
export MVIT_PORT=$((20000 + SLURM_JOB_ID % 10000))
# Made by a worker that ends with 2: srun tells only the highest status of all, which may be that
# of the workers that lost it.
export MVIT_MISTAKE="$PWD/mvit-$SLURM_JOB_ID.mistake"
rm -f "$MVIT_MISTAKE"

# Runs on each node.
worker() {
    local child="" signalled="" status
    trap 'signalled=1; [ -z "$child" ] || kill -TERM "$child"' USR1 TERM
    if TF_CONFIG=$(python deploy/tf_config.py --slurm --port="$MVIT_PORT"); then
        export TF_CONFIG
        if [ -n "$signalled" ]; then
            exit 143
        fi
        # SLURM may send a signal to this shell or to Python as well, for which a second one means
        # to end at once: USR1 comes to it by this shell alone.
        (trap "" USR1; exec python train.py "$@") &
        child=$!
        # A signal ends `wait`, not Python.
        while signalled=""; wait "$child"; status=$?; [ -n "$signalled" ]; do :; done
    else
        status=2
    fi
    if [ "$status" -eq 2 ]; then
        : >"$MVIT_MISTAKE"
    fi
    exit "$status"
}

# A worker that has ended ends the others by itself, once they have saved. What is left of them nine
# minutes later hangs, and is killed; not at once, as worker 0 may be writing its checkpoint.
srun --kill-on-bad-exit=0 --wait=540 --label \
    bash -c "$(declare -f worker); worker \"\$@\"" train "$@" &
step=$!
signalled=""
trap 'signalled=1; kill -USR1 "$step"' USR1
while signalled=""; wait "$step"; status=$?; [ -n "$signalled" ]; do :; done
# 2 is a mistake in the command or the data: again it would end the same way. Anything else, a lost
# machine (75) or the end of the time (143), goes on from the last checkpoint.
if [ -e "$MVIT_MISTAKE" ]; then
    rm -f "$MVIT_MISTAKE"
    status=2
fi
if [ "$status" -ne 0 ] && [ "$status" -ne 2 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
