#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
srun python tools/train.py trainer=slurm trainer.num_nodes="$SLURM_NNODES" "$@"
