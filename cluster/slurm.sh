#!/usr/bin/env bash
# sbatch cluster/slurm.sh, in a copy of the repository that all nodes see at the same place, with
# `make env` and the [ray] extra done, and an MLflow server that all of them reach:
#   export MLFLOW_TRACKING_URI=http://mlflow.example.org:5000
#SBATCH --job-name=deimos
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
set -euo pipefail
: "${MLFLOW_TRACKING_URI:?names no MLflow server: nodes cannot share a record that is a file}"

export PATH="$PWD/.venv/bin:$PATH"
# Whoever reaches Ray's ports can run commands as you, unless they lack this token in your home.
export RAY_AUTH_MODE=token
ray get-auth-token --generate > /dev/null

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "$SLURM_GPUS_ON_NODE" \
    -- env RAY_ADDRESS=auto make reproduce ENGINE=ray SCALE=paper
