// SPDX-License-Identifier: Apache-2.0
// torture: attacks extraction and says what became of the samples. Exit code 0: nothing; 1: look.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "tests/torture/attack.h"

namespace {

void print(const espalier::torture::AttackReport& r) {
  fmt::print(
      "kills survived        {}, {} of them while something was written ({:.0f} %)\n"
      "slept past the lease  {}, {} of them until the run was complete\n"
      "clocks that jump      {}\n"
      "full disks            {}\n"
      "runs                  {}, {} shards and {} samples audited, in {}\n"
      "samples lost          {}\n"
      "samples duplicated    {}\n"
      "shards damaged        {}\n"
      "shards that differ    {}\n"
      "files left behind     {}\n",
      r.kills, r.kills_while_writing,
      100.0 * static_cast<double>(r.kills_while_writing) /
          static_cast<double>(std::max<int64_t>(r.kills, 1)),
      r.pauses, r.taken_over, r.jumping_clocks, r.full_disks, r.runs, r.shards, r.samples,
      espalier::human_duration(r.seconds), r.lost, r.duplicated, r.damaged, r.different,
      r.leftovers);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace espalier;
  CLI::App app{"Attacks `espalier extract` and audits what is left.", "torture"};
  torture::AttackOptions options;
  app.add_option("--kills", options.kills, "how many workers are killed")->capture_default_str();
  app.add_option("--workers", options.workers, "of each run, 1 to 4; without: 1 to 4 in turn")
      ->check(CLI::Range(1, 4));
  app.add_option("--seconds", options.seconds, "give up after")->capture_default_str();
  app.add_option("--seed", options.seed, "of data and moments")->capture_default_str();
  app.add_option("--size", options.size, "of the data, in thousand tokens")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  std::string name = (std::filesystem::temp_directory_path() / "espalier-torture-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) return 5;
  options.folder = name;
  options.line = [](const std::string& line) {
    fmt::print("{}\n", line);
    std::fflush(stdout);
  };
  int code = 1;
  try {
    const torture::AttackReport report = torture::attack(options);
    print(report);
    code = report.pass() ? 0 : 1;
  } catch (const std::exception& error) {
    fmt::print("FAILED {}\n", error.what());
  }
  std::error_code ignored;
  std::filesystem::remove_all(options.folder, ignored);
  return code;
}
