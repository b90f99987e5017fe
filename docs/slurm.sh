#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@120  # 120 seconds before the end: the run saves, and the job is queued again
srun python tools/train.py trainer=slurm trainer.num_nodes="$SLURM_NNODES" "$@"
