// SPDX-License-Identifier: Apache-2.0
// Commands and their flags, over CLI11: its header is slow to compile, so only flags.cpp and
// command.cpp read it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace espalier::cli {

/// A flag or an argument of a command. Each function returns the flag, for the next word about it.
class Flag {
 public:
  explicit Flag(CLI::Option& option) : option_(&option) {}

  Flag* required();
  /// The heading under which the help lists it.
  Flag* group(const std::string& name);
  /// One text holds several values.
  Flag* delimiter(char between);
  /// Whether values may follow the first without the flag's name.
  Flag* allow_extra_args(bool allow);
  /// Only numbers above 0.
  Flag* positive();
  Flag* not_negative();
  /// A number of bytes, with units such as "100MB".
  Flag* bytes();

 private:
  CLI::Option* option_;
};

class Command {
 public:
  /// The program. Its help, and that of its commands, shows the values that options start with.
  Command(const std::string& what, const std::string& name);
  explicit Command(CLI::App& app);
  ~Command();
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  Command* add_subcommand(const std::string& name, const std::string& what);
  /// `names` with dashes are flags ("--data,--file"), without an argument. `value` is what the
  /// program does without one.
  template <typename T>
  Flag* add_option(const std::string& names, T& value, const std::string& what = {}) {
    return add(names, &value, what);
  }
  Flag* add_flag(const std::string& name, bool& value, const std::string& what);
  /// Whether the arguments that were parsed last have the flag.
  bool given(const std::string& flag) const;
  void footer(const std::string& text);
  /// Called when the arguments name the command.
  void callback(std::function<void()> chosen);

  CLI::App& app() { return *app_; }

 private:
  using Value = std::variant<bool*, int32_t*, int64_t*, uint64_t*, double*, std::string*,
                             std::vector<std::string>*, std::vector<int64_t>*>;
  Flag* add(const std::string& names, Value value, const std::string& what);

  std::unique_ptr<CLI::App> owned_;  // of the program alone
  CLI::App* app_;
  std::vector<std::unique_ptr<Command>> commands_;
  std::vector<std::unique_ptr<Flag>> flags_;
};

}  // namespace espalier::cli
