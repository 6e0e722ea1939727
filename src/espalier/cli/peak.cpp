// SPDX-License-Identifier: Apache-2.0
// espalier peak
#include "espalier/backend/cpu/peak/peak.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "espalier/base/text.h"
#include "espalier/cli/command.h"
#include "espalier/io/json.h"

namespace espalier::cli {
namespace {

struct State {
  cpu::PeakOptions options;
  bool json = false;
};

constexpr double kGiga = 1e-9;

void print_json(const cpu::PeakReport& report) {
  nlohmann::ordered_json line{{"peak", report.model},
                              {"isa", std::string(cpu::name(report.isa))},
                              {"threads", report.threads}};
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const cpu::ArithmeticPeak& peak = report.of(dtype);
    line[std::string(name(dtype))] = {{"fma_one_gflops", peak.fma_one * kGiga},
                                      {"fma_all_gflops", peak.fma_all * kGiga},
                                      {"matmul_all_gflops", peak.matmul_all * kGiga},
                                      {"peak_gflops", peak.peak() * kGiga},
                                      {"native", peak.native},
                                      {"how", peak.how}};
  }
  line["memory"] = {{"read_bytes_per_second", report.memory.read},
                    {"write_bytes_per_second", report.memory.write},
                    {"triad_bytes_per_second", report.memory.triad}};
  line["disk"] = {{"write_bytes_per_second", report.disk.write},
                  {"read_bytes_per_second", report.disk.read}};
  fmt::print("{}\n", line.dump());
}

void print_text(const cpu::PeakReport& report) {
  fmt::print("{}, {}, {} threads\n\n", report.model, cpu::name(report.isa), report.threads);
  fmt::print("{:<6} {:>14} {:>14} {:>14} {:>14}\n", "GFLOP/s", "FMA, 1 thread", "FMA, all",
             "matmul, all", "peak");
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const cpu::ArithmeticPeak& peak = report.of(dtype);
    fmt::print("{:<7} {:>14.1f} {:>14.1f} {:>14.1f} {:>14.1f}   {}\n", name(dtype),
               peak.fma_one * kGiga, peak.fma_all * kGiga, peak.matmul_all * kGiga,
               peak.peak() * kGiga, peak.how);
  }
  fmt::print(
      "\nmemory  read {:.1f} GB/s, write {:.1f} GB/s, a = b + s c {:.1f} GB/s ({} an array)\n",
      report.memory.read * kGiga, report.memory.write * kGiga, report.memory.triad * kGiga,
      human_bytes(report.memory.bytes));
  if (report.disk.bytes > 0) {
    fmt::print("disk    write {:.2f} GB/s, read {:.2f} GB/s ({})\n", report.disk.write * kGiga,
               report.disk.read * kGiga, human_bytes(report.disk.bytes));
  }
}

int run(const State& state) {
  const cpu::PeakReport report = cpu::measure_peak(state.options);
  state.json ? print_json(report) : print_text(report);
  return 0;
}

}  // namespace

void add_peak(Program& program) {
  Command* app = program.app.add_subcommand("peak", "measure arithmetic, memory and disk");
  const auto state = std::make_shared<State>();
  state->options.disk_folder = ".";
  app->add_option("--threads", state->options.threads, "0: as many as there are processors");
  app->add_option("--seconds", state->options.seconds, "of each measurement");
  app->add_option("--disk-folder", state->options.disk_folder, "empty: the disk is not measured");
  app->add_flag("--json", state->json, "one JSON object");
  app->footer("Example:\n  espalier peak --seconds 2 --disk-folder /tmp");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
}

}  // namespace espalier::cli
