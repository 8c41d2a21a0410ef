#!/bin/sh
# Generate a data set by a Slurm job array, and join its shards:
#
#   array=$(sbatch --parsable --array=0-15 datasets/job_array.sh darcy-rough darcy-rough.nc)
#   sbatch --dependency=afterok:$array datasets/job_array.sh darcy-rough darcy-rough.nc
#
# Each job of the first command generates one shard; the second command, without --array, joins them. If jobs were
# stopped, submit the same array again: they resume, and finished shards are skipped. The size of the array is the number
# of shards, so a different array makes different shards. Options after the output are those of `sciml-bounds generate`.
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --requeue
set -eu
recipe=$1 out=$2
shift 2
base=${out%.nc}
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    exec sciml-bounds generate "$recipe" "$@" --workers "${SLURM_CPUS_PER_TASK:-1}" \
        --shard-index "$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN))" --num-shards "$SLURM_ARRAY_TASK_COUNT" \
        --out "$base.shard-$SLURM_ARRAY_TASK_ID.nc"
fi
exec sciml-bounds consolidate "$base".shard-*.nc --out "$out"
