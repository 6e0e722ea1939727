// SPDX-License-Identifier: Apache-2.0
#include "espalier/cli/command.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <optional>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/base/version.h"

namespace espalier::cli {
namespace {

/// The innermost subcommand that was named.
CLI::App& innermost(CLI::App& app) {
  const auto named = app.get_subcommands();
  return named.empty() ? app : innermost(*named.front());
}

std::vector<std::string> flags_of(const CLI::App& app) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  }
  return flags;
}

std::vector<std::string> subcommands_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands({})) names.push_back(sub->get_name());
  return names;
}

std::string full_name(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name()
                                     : full_name(*app.get_parent()) + " " + app.get_name();
}

/// Arguments that no option took.
void check_extras(CLI::App& app) {
  CLI::App& command = innermost(app);
  const std::vector<std::string> extras = app.remaining(true);
  const auto subcommands = subcommands_of(command);
  for (const std::string& extra : extras) {
    if (extra.starts_with("-") && extra.size() > 1) {
      const std::string flag = extra.substr(0, extra.find('='));
      const auto known = flags_of(command);
      fail(ErrorKind::user, "cli", "unknown flag {}{}; `{} --help` lists all", flag,
           nearest_hint(flag, known), full_name(command));
    }
    if (!subcommands.empty()) {
      fail(ErrorKind::user, "cli", "unknown command \"{}\"{}; `{} --help` lists all", extra,
           nearest_hint(extra, subcommands), full_name(command));
    }
    fail(ErrorKind::user, "cli", "unexpected argument \"{}\"; see `{} --help`", extra,
         full_name(command));
  }
  ESPALIER_CHECK(subcommands.empty(), ErrorKind::user, "cli",
                 "a command is missing: {}; see `{} --help`", fmt::join(subcommands, ", "),
                 full_name(command));
}

/// CLI11 would wrap -1 around to a large number, and take any number but 0 for a yes.
std::string wrong_value(const CLI::Option& option, const std::string& value) {
  if (option.get_type_name() == "UINT" && value.starts_with('-')) {
    return value + " must not be negative";
  }
  static const std::vector<std::string> kSwitch{"0", "1", "false", "true"};
  const bool known = std::find(kSwitch.begin(), kSwitch.end(), value) != kSwitch.end();
  return option.get_type_name() == "BOOLEAN" && !known ? value + " is neither 0 nor 1" : "";
}

/// Extras are ours to report, and the last of several values counts, so that scripts can append.
void relax(CLI::App& app) {
  app.allow_extras();
  for (CLI::Option* option : app.get_options()) {
    if (option->get_expected_max() == 1) {
      option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    }
    option->check([option](const std::string& value) { return wrong_value(*option, value); });
  }
  for (CLI::App* sub : app.get_subcommands({})) relax(*sub);
}

}  // namespace

std::vector<std::string> normalize_flags(const std::vector<std::string>& arguments) {
  std::vector<std::string> result = arguments;
  for (std::string& argument : result) {
    if (argument == "--") break;
    if (!argument.starts_with("--")) continue;
    const auto end = argument.begin() +
                     static_cast<std::ptrdiff_t>(std::min(argument.find('='), argument.size()));
    std::replace(argument.begin(), end, '_', '-');
  }
  return result;
}

void prepare(Program& program) {
  CLI::App& app = program.app.app();
  app.set_version_flag("--version", std::string(version()));
  app.get_formatter()->column_width(34);
  relax(app);
}

std::optional<int> parse(Program& program) {
  CLI::App& app = program.app.app();
  // CLI11 takes the arguments from the back.
  std::vector<std::string> reversed(program.arguments.rbegin(), program.arguments.rend());
  try {
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();  // of the innermost subcommand, with its full name
    return 0;
  } catch (const CLI::CallForVersion&) {
    std::cout << "espalier " << version() << "\n";
    return 0;
  } catch (const CLI::ParseError& error) {
    std::string text = error.what();
    std::replace(text.begin(), text.end(), '\n', ' ');
    fail(ErrorKind::user, "cli", "{}; see `{} --help`", text, full_name(innermost(app)));
  }
  check_extras(app);
  return std::nullopt;
}

}  // namespace espalier::cli
