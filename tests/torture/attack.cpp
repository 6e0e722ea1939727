// SPDX-License-Identifier: Apache-2.0
#include "tests/torture/attack.h"

#include <fmt/format.h>

#include <algorithm>

#include "espalier/base/error.h"
#include "tests/torture/audit.h"
#include "tests/torture/crew.h"
#include "tests/torture/inputs.h"
#include "tests/torture/small_disk.h"
#include "tests/torture/watch.h"

namespace espalier::torture {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

constexpr double kLease = 0.4;       // seconds: workers that are gone are soon taken over
constexpr double kLongLease = 3600;  // none may be taken over
constexpr int64_t kRuns = 8;         // among which the kills are shared
constexpr int kBlind = 10;           // every tenth kill is not aimed

class Attacks {
 public:
  explicit Attacks(const AttackOptions& options)
      : o_(options),
        start_(steady_clock::now()),
        deadline_(start_ + std::chrono::duration_cast<steady_clock::duration>(
                               std::chrono::duration<double>(options.seconds))),
        random_(options.seed) {}

  AttackReport run() {
    fs::create_directories(o_.folder);
    inputs_ = make_inputs(o_.folder, o_.size, o_.seed);
    undisturbed();
    jumping_clocks();
    full_disk();
    while (report_.kills < o_.kills) killed();
    report_.seconds = std::chrono::duration<double>(steady_clock::now() - start_).count();
    const int64_t least = (o_.kills * 4 + 4) / 5;
    if (report_.kills_while_writing < least) {
      blame("in all", fmt::format("only {} of {} kills landed while something was written",
                                  report_.kills_while_writing, report_.kills));
    }
    return std::move(report_);
  }

 private:
  void say(const std::string& line) const {
    if (o_.line) o_.line(line);
  }

  int workers() const {
    return o_.workers > 0 ? o_.workers : 1 + static_cast<int>(report_.runs % 4);
  }

  CrewOptions crew(const fs::path& run, double lease_seconds) const {
    CrewOptions options{.arguments = inputs_.arguments,
                        .environment = {},
                        .writing = [run](pid_t pid) { return files_being_written(pid, run); },
                        .deadline = deadline_};
    for (const std::string& more :
         {std::string("--output"), run.string(), std::string("--lease-seconds"),
          fmt::format("{}", lease_seconds)}) {
      options.arguments.push_back(more);
    }
    return options;
  }

  /// Says what was wrong with a run that is complete, and removes it.
  void audit(const fs::path& run, const std::string& what) {
    const Audit audit = audit_run(run, inputs_.samples, undisturbed_);
    add(audit, what);
    const test::Ran verified = test::run({"verify", run.string()});
    if (verified.code != 0) blame(what, "espalier verify: " + verified.out + verified.err);
    say(fmt::format("{}: {} samples in {} shards, {}", what, audit.samples, audit.shards,
                    audit.pass() && verified.code == 0 ? "as undisturbed" : "NOT as undisturbed"));
    ++report_.runs;
  }
  void add(const Audit& audit, const std::string& what) {
    report_.samples += audit.samples;
    report_.shards += audit.shards;
    report_.lost += audit.lost;
    report_.duplicated += audit.duplicated;
    report_.damaged += audit.damaged;
    report_.different += audit.different;
    report_.leftovers += audit.leftovers;
    for (const std::string& line : audit.wrong) blame(what, line);
  }
  void blame(const std::string& what, const std::string& why) {
    report_.wrong.push_back(fmt::format("{}: {}", what, why));
    say("WRONG " + report_.wrong.back());
  }

  /// The bytes that all others must have.
  void undisturbed() {
    const fs::path run = o_.folder / "undisturbed";
    Crew(crew(run, kLongLease), 1, random_).finish();
    undisturbed_ = shard_checksums(run);
    for (const auto& [key, sum] : undisturbed_) {
      const auto size = static_cast<int64_t>(fs::file_size(run / key));
      bytes_ += size;
      largest_ = std::max(largest_, size);
    }
    audit(run, fmt::format("undisturbed, {} MB", bytes_ / 1000000));
    fs::remove_all(run);
  }

  /// No worker is silent, so none may be taken over, whatever the clocks say.
  void jumping_clocks() {
    const fs::path run = o_.folder / "clocks";
    CrewOptions options = crew(run, kLongLease);
    options.environment.push_back(std::string("LD_PRELOAD=") + TORTURE_CLOCK);
    Crew crew(options, 2, random_);
    crew.finish();
    report_.jumping_clocks += 2;
    audit(run, "2 workers with clocks that jump by days");
    fs::remove_all(run);
  }

  /// A disk for a part of the run, then for more, then for all.
  void full_disk() {
    const fs::path disk = o_.folder / "disk";
    SmallDisk small(disk, bytes_ / 3);
    const fs::path run = disk / "run";
    for (const int thirds : {1, 2}) {
      CrewOptions options = crew(run, kLease);
      if (small.mounted()) {
        small.resize(bytes_ * thirds / 3);
      } else {
        options.file_limit = static_cast<rlim_t>(largest_ * thirds / 3);
      }
      for (const test::Ran& ran : Crew(options, thirds, random_).wait()) {
        const bool said =
            ran.err.find(small.mounted() ? "No space left" : "File too large") != std::string::npos;
        if (ran.code == 5 && said) continue;
        blame("on a full disk", fmt::format("a worker ended with {}: {}", ran.code, ran.err));
      }
      add(audit_part(run, undisturbed_), "on a full disk");
      ++report_.full_disks;
    }
    if (small.mounted()) small.resize(bytes_ * 4);
    Crew(crew(run, kLease), 2, random_).finish();
    audit(run, small.mounted() ? "after a full disk" : "after a limit on files");
    fs::remove_all(run);
  }

  /// Kills until the share of this run is used up or the run is complete; at the end one worker
  /// sleeps until the others are done.
  void killed() {
    const int64_t share = std::min(o_.kills - report_.kills, (o_.kills + kRuns - 1) / kRuns);
    const int count = workers();
    const fs::path run = o_.folder / fmt::format("killed-{}", report_.runs);
    Crew crew(this->crew(run, kLease), count, random_);
    bool paused = false;
    while (crew.kills() < share && !crew.complete()) {
      crew.kill_one(random_() % kBlind != 0);
      if (!paused && crew.kills() >= share / 2 && !crew.complete()) {
        crew.pause_one(1.5 * kLease);
        paused = true;
        ++report_.pauses;
      }
    }
    if (!crew.complete() && crew.pause_until_complete()) {
      ++report_.pauses;
      ++report_.taken_over;
    }
    crew.finish();
    // Who is killed when the others have swept up leaves a file until the command runs again.
    Crew(this->crew(run, kLease), 1, random_).finish();
    report_.kills += crew.kills();
    report_.kills_while_writing += crew.kills_while_writing();
    audit(run, fmt::format("{} workers, {} kills, {} of them while writing", count, crew.kills(),
                           crew.kills_while_writing()));
    fs::remove_all(run);
  }

  const AttackOptions& o_;
  const TimePoint start_, deadline_;
  Random random_;
  Inputs inputs_;
  Checksums undisturbed_;
  int64_t bytes_ = 0, largest_ = 0;
  AttackReport report_;
};

}  // namespace

AttackReport attack(const AttackOptions& options) { return Attacks(options).run(); }

}  // namespace espalier::torture
