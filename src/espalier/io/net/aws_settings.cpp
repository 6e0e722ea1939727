// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/net/aws_settings.h"

#include <cstdlib>
#include <filesystem>
#include <map>
#include <sstream>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/io/file.h"

namespace espalier::io {
namespace {

namespace fs = std::filesystem;
constexpr int64_t kFileLimit = int64_t{1} << 20;
constexpr const char* kHowTo =
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them with \"aws configure\"";

using Section = std::map<std::string, std::string>;

std::string text_of(const char* value) { return value == nullptr ? "" : value; }

std::string trim(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  return begin == std::string::npos
             ? ""
             : text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

/// Sections by name. Lines that are indented below "s3 =" have keys like "s3.addressing_style".
/// Values are never shown: they are secrets.
std::map<std::string, Section> read_ini(const fs::path& path) {
  std::map<std::string, Section> sections;
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return sections;
  std::istringstream text(read_text(path, kFileLimit, {.stage = "aws"}));
  std::string section, above;
  for (std::string line; std::getline(text, line);) {
    const std::string content = trim(line);
    if (content.empty() || content[0] == '#' || content[0] == ';') continue;
    if (content[0] == '[') {
      section = trim(content.substr(1, content.find(']') - 1));
      above.clear();
      sections[section];
      continue;
    }
    const size_t equal = content.find('=');
    if (equal == std::string::npos) continue;
    const std::string key = trim(content.substr(0, equal)), value = trim(content.substr(equal + 1));
    const bool nested = (line[0] == ' ' || line[0] == '\t') && !above.empty();
    if (!nested) above = value.empty() ? key : "";
    sections[section][nested ? above + "." + key : key] = value;
  }
  return sections;
}

fs::path home_file(const char* named, const char* name) {
  if (named != nullptr && *named != '\0') return named;
  return fs::path(text_of(std::getenv("HOME"))) / ".aws" / name;
}

S3Addressing parse_addressing(const std::string& text, const fs::path& path) {
  if (text.empty() || text == "auto") return S3Addressing::automatic;
  if (text == "path") return S3Addressing::path;
  ESPALIER_CHECK(text == "virtual", ErrorKind::user, "aws",
                 "addressing_style {} in {} is none of auto, path, virtual", text, path.string());
  return S3Addressing::virtual_host;
}

void first_of(std::string& to, std::initializer_list<std::string> candidates) {
  for (const std::string& candidate : candidates) {
    if (!candidate.empty()) {
      to = candidate;
      return;
    }
  }
}

struct Profile {
  std::string name;
  fs::path credentials_file, config_file;
  Section values;

  std::string get(const std::string& key) const {
    const auto found = values.find(key);
    return found == values.end() ? "" : found->second;
  }
};

Profile read_profile() {
  Profile profile;
  const std::string asked = text_of(std::getenv("AWS_PROFILE"));
  profile.name = asked.empty() ? "default" : asked;
  profile.credentials_file = home_file(std::getenv("AWS_SHARED_CREDENTIALS_FILE"), "credentials");
  profile.config_file = home_file(std::getenv("AWS_CONFIG_FILE"), "config");
  auto credentials = read_ini(profile.credentials_file);
  auto config = read_ini(profile.config_file);
  const std::string section = profile.name == "default" ? profile.name : "profile " + profile.name;
  if (!asked.empty() && !credentials.contains(profile.name) && !config.contains(section)) {
    std::vector<std::string> names;
    names.reserve(credentials.size());
    for (const auto& [name, values] : credentials) names.push_back(name);
    for (const auto& [name, values] : config) {
      if (name.starts_with("profile ")) names.push_back(name.substr(8));
    }
    fail(ErrorKind::user, "aws", "AWS_PROFILE is {}: neither {} nor {} has it{}", asked,
         profile.credentials_file.string(), profile.config_file.string(),
         nearest_hint(asked, names));
  }
  profile.values = credentials[profile.name];
  profile.values.merge(config[section]);
  return profile;
}

void set_credentials(AwsSettings& settings, const Profile& profile) {
  AwsCredentials& c = settings.credentials;
  c = {.access_key = text_of(std::getenv("AWS_ACCESS_KEY_ID")),
       .secret_key = text_of(std::getenv("AWS_SECRET_ACCESS_KEY")),
       .session_token = text_of(std::getenv("AWS_SESSION_TOKEN"))};
  settings.source = "AWS_ACCESS_KEY_ID";
  if (c.access_key.empty() && c.secret_key.empty()) {
    c = {.access_key = profile.get("aws_access_key_id"),
         .secret_key = profile.get("aws_secret_access_key"),
         .session_token = profile.get("aws_session_token")};
    settings.source =
        fmt::format("profile {} of {}", profile.name, profile.credentials_file.string());
  }
  if (!c.access_key.empty() && !c.secret_key.empty()) return;
  ESPALIER_CHECK(c.access_key.empty() && c.secret_key.empty(), ErrorKind::user, "aws",
                 "{} has only one of key and secret; {}", settings.source, kHowTo);
  for (const char* other : {"sso_session", "sso_start_url", "role_arn", "credential_process",
                            "web_identity_token_file"}) {
    ESPALIER_CHECK(profile.get(other).empty(), ErrorKind::user, "aws",
                   "profile {} has {}, which is not read here; run: eval \"$(aws configure "
                   "export-credentials --profile {} --format env)\"",
                   profile.name, other, profile.name);
  }
  fail(ErrorKind::user, "aws", "no credentials: neither the environment nor {} has them; {}",
       settings.source, kHowTo);
}

}  // namespace

AwsSettings aws_settings() {
  const Profile profile = read_profile();
  AwsSettings settings;
  set_credentials(settings, profile);
  first_of(settings.region, {text_of(std::getenv("AWS_REGION")),
                             text_of(std::getenv("AWS_DEFAULT_REGION")), profile.get("region")});
  first_of(settings.endpoint,
           {text_of(std::getenv("AWS_ENDPOINT_URL_S3")), text_of(std::getenv("AWS_ENDPOINT_URL")),
            profile.get("s3.endpoint_url"), profile.get("endpoint_url")});
  first_of(settings.ca_file, {text_of(std::getenv("AWS_CA_BUNDLE")), profile.get("ca_bundle")});
  settings.addressing = parse_addressing(profile.get("s3.addressing_style"), profile.config_file);
  return settings;
}

}  // namespace espalier::io
