// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/worker_place.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "espalier/base/error.h"

namespace espalier::extract {
namespace {

int64_t number(std::string_view name, std::string_view text) {
  int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  ESPALIER_CHECK(error == std::errc() && end == text.data() + text.size() && value >= 0,
                 ErrorKind::user, "extract", "{} is \"{}\", no number", name, text);
  return value;
}

/// What one system sets. `first`: what `rank` counts from, for arrays that need not start at 0.
struct Names {
  const char* rank;
  const char* workers;
  const char* first = nullptr;
};

constexpr std::array kSystems{
    Names{"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"},
    Names{"SLURM_PROCID", "SLURM_NTASKS"},
    Names{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
    Names{"PMI_RANK", "PMI_SIZE"},
    Names{"JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"},
    Names{"CLOUD_TPU_TASK_ID", "TPU_WORKER_COUNT"},
    Names{"TPU_WORKER_ID", "TPU_WORKER_COUNT"}};

std::optional<int64_t> workers_of(const Names& names, const Environment& environment) {
  if (const auto text = environment(names.workers)) return number(names.workers, *text);
  const auto hosts = environment("TPU_WORKER_HOSTNAMES");
  if (!hosts || std::string_view(names.workers) != "TPU_WORKER_COUNT") return std::nullopt;
  return 1 + std::count(hosts->begin(), hosts->end(), ',');
}

}  // namespace

Environment system_environment() {
  return [](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  };
}

std::optional<WorkerPlace> place_from_environment(const Environment& environment) {
  for (const Names& names : kSystems) {
    const auto text = environment(names.rank);
    if (!text) continue;
    int64_t rank = number(names.rank, *text);
    if (names.first != nullptr) {
      if (const auto first = environment(names.first)) rank -= number(names.first, *first);
    }
    const int64_t workers = workers_of(names, environment).value_or(rank + 1);
    ESPALIER_CHECK(rank >= 0 && rank < workers, ErrorKind::user, "extract",
                   "{} = {} does not fit {} workers ({}); give --rank and --workers", names.rank,
                   *text, workers, names.workers);
    return WorkerPlace{.rank = rank, .workers = workers};
  }
  return std::nullopt;
}

WorkerChoice choose_workers(std::string_view rank, std::string_view workers,
                            const Environment& environment) {
  std::optional<WorkerPlace> place;
  if (rank != "auto") {
    const int64_t given = number("--rank", rank);
    place = {.rank = given, .workers = given + 1};
    // How many there are may still be known to the environment.
    if (const auto there = place_from_environment(environment)) {
      place->workers = std::max(place->workers, there->workers);
    }
  } else {
    place = place_from_environment(environment);
  }
  WorkerChoice choice{.place = place.value_or(WorkerPlace{})};
  if (workers == "auto") return choice;
  const int64_t count = number("--workers", workers);
  ESPALIER_CHECK(count > 0, ErrorKind::user, "extract", "--workers must be positive");
  if (!place) {
    choice.local = count;
    return choice;
  }
  choice.place.workers = count;
  ESPALIER_CHECK(choice.place.rank < count, ErrorKind::user, "extract",
                 "rank {} is not below --workers {}", choice.place.rank, count);
  return choice;
}

}  // namespace espalier::extract
