#!/bin/sh
# Make a data set as a job array of Slurm, and join its shards:
#
#   array=$(sbatch --parsable --array=0-15 datasets/job_array.sh darcy-rough darcy-rough.nc)
#   sbatch --dependency=afterok:$array datasets/job_array.sh darcy-rough darcy-rough.nc
#
# The first makes one shard a job, the second, without --array, joins them. Submit the same array again where jobs were
# stopped: they go on, and those that had finished are left alone. (--array says into how many shards the data set is
# cut, so that another one makes other shards.) Options after the output are those of `sciml-bounds generate`.
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
