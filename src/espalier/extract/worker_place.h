// SPDX-License-Identifier: Apache-2.0
// Which of the processes that share a run this one is, from what the system that starts them says.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "espalier/extract/shard_board.h"

namespace espalier::extract {

/// Variables of the environment; nothing for one that is not set.
using Environment = std::function<std::optional<std::string>(const char*)>;

/// Looks at Slurm (SLURM_ARRAY_TASK_*, SLURM_PROCID and SLURM_NTASKS), MPI (OMPI_COMM_WORLD_*,
/// PMI_*), indexed jobs of Kubernetes (JOB_COMPLETION_INDEX, and JOB_COMPLETIONS where the job sets
/// it), and TPU machines (CLOUD_TPU_TASK_ID or TPU_WORKER_ID, and TPU_WORKER_COUNT or
/// TPU_WORKER_HOSTNAMES), in this order. Nothing where none of them is set. Throws `user` for
/// values that are no numbers or do not fit together.
std::optional<WorkerPlace> place_from_environment(const Environment& environment);
Environment system_environment();

struct WorkerChoice {
  WorkerPlace place;
  int64_t local = 1;  // workers inside this process
};
/// What --rank and --workers mean, each "auto" or a number. Without a rank, given or from the
/// environment, a number of workers is how many this process runs by itself. A rank without workers
/// makes room for itself. Throws `user` as above, and for ranks that are not below the workers.
WorkerChoice choose_workers(std::string_view rank, std::string_view workers,
                            const Environment& environment);

}  // namespace espalier::extract
