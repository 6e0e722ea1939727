// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "espalier/base/text.h"
#include "espalier/cli/command.h"
#include "espalier/extract/verify.h"

namespace espalier::cli {

void add_verify(Program& program) {
  CLI::App* app = program.app.add_subcommand("verify", "check every shard of an extraction");
  const auto folder = std::make_shared<std::string>();
  app->add_option("RUN", *folder, "folder of the run")->required();
  app->footer("Example:\n  espalier verify activations");
  app->callback([&program, folder] {
    program.action = [folder] {
      const extract::VerifyReport report = extract::verify_run(*folder);
      for (const std::string& line : report.wrong) fmt::print("{}\n", line);
      fmt::print("{} shards, {} samples, {} tokens, {}: {}\n", report.shards, report.samples,
                 report.tokens, human_bytes(report.bytes),
                 report.pass() ? "every sample once, every checksum right" : "NOT as it should be");
      return report.pass() ? 0 : 1;
    };
  });
}

}  // namespace espalier::cli
