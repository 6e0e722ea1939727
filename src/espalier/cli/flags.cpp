// SPDX-License-Identifier: Apache-2.0
#include "espalier/cli/flags.h"

#include <CLI/CLI.hpp>

namespace espalier::cli {

Flag* Flag::required() {
  option_->required();
  return this;
}

Flag* Flag::group(const std::string& name) {
  option_->group(name);
  return this;
}

Flag* Flag::delimiter(char between) {
  option_->delimiter(between);
  return this;
}

Flag* Flag::allow_extra_args(bool allow) {
  option_->allow_extra_args(allow);
  return this;
}

Flag* Flag::positive() {
  option_->check(CLI::PositiveNumber);
  return this;
}

Flag* Flag::not_negative() {
  option_->check(CLI::NonNegativeNumber);
  return this;
}

Flag* Flag::bytes() {
  option_->transform(CLI::AsSizeValue(true));
  return this;
}

Command::Command(const std::string& what, const std::string& name)
    : owned_(std::make_unique<CLI::App>(what, name)), app_(owned_.get()) {
  app_->option_defaults()->always_capture_default();
}
Command::Command(CLI::App& app) : app_(&app) {}
Command::~Command() = default;

Command* Command::add_subcommand(const std::string& name, const std::string& what) {
  CLI::App& app = *app_->add_subcommand(name, what);
  return commands_.emplace_back(std::make_unique<Command>(app)).get();
}

Flag* Command::add(const std::string& names, Value value, const std::string& what) {
  CLI::Option& option =
      *std::visit([&](auto* at) { return app_->add_option(names, *at, what); }, value);
  return flags_.emplace_back(std::make_unique<Flag>(option)).get();
}

Flag* Command::add_flag(const std::string& name, bool& value, const std::string& what) {
  return flags_.emplace_back(std::make_unique<Flag>(*app_->add_flag(name, value, what))).get();
}

bool Command::given(const std::string& flag) const { return app_->count(flag) > 0; }
void Command::footer(const std::string& text) { app_->footer(text); }
void Command::callback(std::function<void()> chosen) { app_->callback(std::move(chosen)); }

}  // namespace espalier::cli
