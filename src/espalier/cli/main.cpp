// SPDX-License-Identifier: Apache-2.0
// The program: parses, runs one subcommand, turns errors into one line and an exit code.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "espalier/base/error.h"
#include "espalier/cli/command.h"
#include "espalier/cli/signals.h"

namespace {

/// An error is one line, whatever its message was made of.
int report(std::string message, espalier::ErrorKind kind) {
  std::fflush(stdout);
  std::replace(message.begin(), message.end(), '\n', ' ');
  fmt::print(stderr, "espalier: error: {}\n", message);
  if (kind == espalier::ErrorKind::internal) {
    fmt::print(stderr,
               "espalier: this is a defect of the program; please report it with the "
               "command line and this message\n");
  }
  return espalier::exit_code(kind);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace espalier;
  cli::watch_signals();
  try {
    cli::Program program;
    program.arguments = cli::normalize_flags({argv + 1, argv + argc});
    cli::add_train(program);
    cli::add_generate(program);
    cli::add_eval(program);
    cli::add_dump(program);
    cli::add_check(program);
    cli::add_convert(program);
    cli::add_curves(program);
    cli::add_tokenize(program);
    cli::add_vocab(program);
    cli::add_bench(program);
    cli::add_peak(program);
    cli::add_plan(program);
    cli::add_extract(program);
    cli::add_verify(program);
    cli::add_init(program);
    cli::add_inspect(program);
    cli::add_export(program);
    // After the subcommands, which would take it over.
    program.app.footer(
        "Examples:\n"
        "  espalier train byte-lm --data builtin --num-layer 2 --save-dir run\n"
        "  espalier generate run --prompt 'int main'\n"
        "  espalier bench byte-lm --dtype bfloat16\n\n"
        "Exit codes: 0 done, 1 a check failed, 2 wrong use, 3 bad data,\n"
        "4 not supported, 5 device, 70 defect, 130/143 stopped by a signal.");
    cli::prepare(program);
    if (const auto done = cli::parse(program)) return *done;
    const int code = program.action();
    return cli::stop_signal() != 0 ? 128 + cli::stop_signal() : code;
  } catch (const Error& error) {
    return report(error.what(), error.kind());
  } catch (const std::bad_alloc&) {
    return report("[memory] the machine has no memory left; use a smaller --batch-size or model",
                  ErrorKind::device);
  } catch (const std::exception& error) {
    return report(fmt::format("[internal] {}", error.what()), ErrorKind::internal);
  }
}
