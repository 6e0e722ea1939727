// SPDX-License-Identifier: Apache-2.0
// Subcommands. Each file of this folder adds one to the program; what they do lives in the library.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "espalier/cli/flags.h"

namespace espalier::cli {

/// Set by a subcommand when the arguments name it; returns the exit code.
using Action = std::function<int()>;

struct Program {
  Command app{"Espalier trains transformers on the CPU as one compiled graph.", "espalier"};
  Action action;
  std::vector<std::string> arguments;  // as parsed, for a second pass over them
};

void add_train(Program& program);
void add_generate(Program& program);
void add_eval(Program& program);
void add_dump(Program& program);
void add_check(Program& program);
void add_convert(Program& program);
void add_curves(Program& program);
void add_tokenize(Program& program);
void add_vocab(Program& program);
void add_peak(Program& program);
void add_bench(Program& program);
void add_plan(Program& program);
void add_train_bert(Program& program, Command& train);
void add_train_qwen2(Program& program, Command& train);
void add_extract(Program& program);
void add_verify(Program& program);
void add_init(Program& program);
void add_inspect(Program& program);
void add_export(Program& program);
void add_bench_tokenizer(Program& program, Command& bench);
void add_bench_bert(Program& program, Command& bench);
void add_bench_extract(Program& program, Command& bench);
void add_bench_read(Program& program, Command& bench);
void add_bench_init(Program& program, Command& bench);
void add_bench_overhead(Program& program, Command& bench);

/// "--batch_size=4" -> "--batch-size=4": '_' and '-' mean the same in the names of flags.
std::vector<std::string> normalize_flags(const std::vector<std::string>& arguments);

/// Once, when all subcommands are there.
void prepare(Program& program);
/// Parses; throws Error (user) with the nearest flag or subcommand. Returns an exit code when the
/// arguments asked for help or the version only.
std::optional<int> parse(Program& program);

}  // namespace espalier::cli
