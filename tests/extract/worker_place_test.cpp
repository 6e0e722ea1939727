// SPDX-License-Identifier: Apache-2.0
// Which of how many workers a process is, by the system that started it and by flags.
#include "espalier/extract/worker_place.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

using test::error_of;
using ::testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

Environment environment(Variables variables) {
  return [variables = std::move(variables)](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  };
}

/// "RANK of WORKERS", and how many models the process runs where it is more than one.
std::string place(const Variables& variables, std::string_view rank = "auto",
                  std::string_view workers = "auto") {
  const WorkerChoice choice = choose_workers(rank, workers, environment(variables));
  std::string text = fmt::format("{} of {}", choice.place.rank, choice.place.workers);
  if (choice.local > 1) text += fmt::format(", {} here", choice.local);
  return text;
}

TEST(WorkerPlace, IsWhatTheSystemSays) {
  EXPECT_EQ(place({}), "0 of 1");
  EXPECT_EQ(place({{"SLURM_PROCID", "3"}, {"SLURM_NTASKS", "8"}}), "3 of 8");
  EXPECT_EQ(place({{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}}), "1 of 2");
  EXPECT_EQ(place({{"PMI_RANK", "0"}, {"PMI_SIZE", "4"}}), "0 of 4");
  EXPECT_EQ(place({{"JOB_COMPLETION_INDEX", "5"}, {"JOB_COMPLETIONS", "6"}}), "5 of 6");
  EXPECT_EQ(place({{"JOB_COMPLETION_INDEX", "5"}}), "5 of 6") << "there are as many at least";
  EXPECT_EQ(place({{"TPU_WORKER_ID", "2"}, {"TPU_WORKER_HOSTNAMES", "a,b,c"}}), "2 of 3");
  EXPECT_EQ(place({{"TPU_WORKER_ID", "2"}, {"CLOUD_TPU_TASK_ID", "1"}, {"TPU_WORKER_COUNT", "4"}}),
            "1 of 4");
  // Jobs of an array are workers; their numbers need not start at 0.
  EXPECT_EQ(place({{"SLURM_ARRAY_TASK_ID", "12"},
                   {"SLURM_ARRAY_TASK_MIN", "10"},
                   {"SLURM_ARRAY_TASK_COUNT", "4"},
                   {"SLURM_PROCID", "0"},
                   {"SLURM_NTASKS", "1"}}),
            "2 of 4");
}

TEST(WorkerPlace, FlagsGoFirst) {
  const Variables slurm{{"SLURM_PROCID", "3"}, {"SLURM_NTASKS", "8"}};
  EXPECT_EQ(place(slurm, "1"), "1 of 8");
  EXPECT_EQ(place(slurm, "9"), "9 of 10");
  EXPECT_EQ(place(slurm, "auto", "4"), "3 of 4");
  EXPECT_EQ(place({}, "1", "3"), "1 of 3");
  EXPECT_EQ(place({}, "auto", "3"), "0 of 1, 3 here") << "without a rank all are here";
}

TEST(WorkerPlace, WhatDoesNotFitIsAnError) {
  const auto error = [](const Variables& variables, std::string_view rank,
                        std::string_view workers) {
    return error_of([&] { place(variables, rank, workers); });
  };
  EXPECT_THAT(error({{"SLURM_PROCID", "x"}}, "auto", "auto"),
              HasSubstr("[extract] SLURM_PROCID is \"x\", no number"));
  EXPECT_THAT(error({{"SLURM_PROCID", "8"}, {"SLURM_NTASKS", "8"}}, "auto", "auto"),
              HasSubstr("SLURM_PROCID = 8 does not fit 8 workers (SLURM_NTASKS); give --rank and"));
  EXPECT_THAT(error({}, "-1", "auto"), HasSubstr("--rank is \"-1\", no number"));
  EXPECT_THAT(error({}, "2", "2"), HasSubstr("rank 2 is not below --workers 2"));
  EXPECT_THAT(error({}, "auto", "0"), HasSubstr("--workers must be positive"));
  EXPECT_THAT(error({}, "auto", "many"), HasSubstr("--workers is \"many\", no number"));
}

}  // namespace
}  // namespace espalier::extract
