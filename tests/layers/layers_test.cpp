// SPDX-License-Identifier: Apache-2.0
// Rules of the source tree that no compiler checks: who may include whom, licence lines, sizes.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
const fs::path kRoot = ESPALIER_SOURCE_DIR;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<fs::path> sources(std::initializer_list<const char*> folders) {
  std::vector<fs::path> found;
  for (const char* folder : folders) {
    if (!fs::exists(kRoot / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
      const std::string extension = entry.path().extension().string();
      if (entry.is_regular_file() && (extension == ".h" || extension == ".cpp")) {
        found.push_back(entry.path());
      }
    }
  }
  return found;
}

std::map<std::string, int> layers() {
  std::map<std::string, int> order;
  std::ifstream file(kRoot / "src/LAYERS");
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) order.emplace(line, static_cast<int>(order.size()));
  }
  return order;
}

TEST(Layers, EveryFolderIsALayer) {
  const auto order = layers();
  ASSERT_FALSE(order.empty());
  for (const auto& entry : fs::directory_iterator(kRoot / "src/espalier")) {
    EXPECT_TRUE(entry.is_directory()) << entry.path() << " lies outside every layer";
    EXPECT_TRUE(order.contains(entry.path().filename().string()))
        << entry.path().filename() << " is not listed in src/LAYERS";
  }
}

TEST(Layers, IncludesOnlyPointUp) {
  const auto order = layers();
  const std::regex include("#include \"([^\"]+)\"");
  const std::regex layered("espalier/([a-z_0-9]+)/.+");
  int64_t count = 0;
  for (const fs::path& path : sources({"src/espalier"})) {
    const std::string own = fs::relative(path, kRoot / "src/espalier").begin()->string();
    const std::string text = read(path);
    for (std::sregex_iterator it(text.begin(), text.end(), include), end; it != end; ++it) {
      const std::string target = (*it)[1];
      std::smatch part;
      ASSERT_TRUE(std::regex_match(target, part, layered))
          << path << " includes \"" << target << "\": write it as \"espalier/layer/file.h\"";
      ASSERT_TRUE(order.contains(part[1])) << path << " includes " << target << ": no such layer";
      EXPECT_LE(order.at(part[1]), order.at(own))
          << fs::relative(path, kRoot) << " (layer " << own << ") includes " << target
          << ": a layer includes only itself and those before it in src/LAYERS";
      EXPECT_TRUE(fs::exists(kRoot / "src" / target)) << path << " includes " << target;
      ++count;
    }
  }
  EXPECT_GT(count, 20);
}

TEST(Layers, TestsAndExamplesIncludeByTheSamePath) {
  const std::regex include("#include \"(\\.\\./[^\"]+)\"");
  for (const fs::path& path : sources({"src", "tests", "examples"})) {
    const std::string text = read(path);
    EXPECT_FALSE(std::regex_search(text, include)) << path << " includes through \"../\"";
  }
}

TEST(Sources, StartWithTheLicence) {
  for (const fs::path& path : sources({"src", "tests", "examples", "bench"})) {
    EXPECT_EQ(read(path).rfind("// SPDX-License-Identifier: Apache-2.0\n", 0), 0u) << path;
  }
}

TEST(Sources, StayReadable) {
  for (const fs::path& path : sources({"src", "tests", "examples", "bench"})) {
    const std::string text = read(path);
    const auto lines = std::count(text.begin(), text.end(), '\n');
    EXPECT_LE(lines, 800) << path << ": split it (aim under 400 lines)";
    EXPECT_EQ(text.find('\t'), std::string::npos) << path << " has a tab";
    EXPECT_EQ(text.find('\r'), std::string::npos) << path << " has a carriage return";
  }
}

TEST(Documents, NameEveryEnvironmentVariable) {
  const std::string page = read(kRoot / "docs/env.md");
  const std::regex get("getenv\\(\"([A-Z_]+)\"\\)");
  std::string all;
  int count = 0;
  for (const fs::path& path : sources({"src"})) {
    const std::string text = read(path);
    all += text;
    for (std::sregex_iterator it(text.begin(), text.end(), get), end; it != end; ++it) {
      EXPECT_NE(page.find("`" + (*it)[1].str() + "`"), std::string::npos)
          << path << " reads " << (*it)[1] << ", which docs/env.md does not list";
      ++count;
    }
  }
  EXPECT_GT(count, 0);
  const std::regex own("`(ESPALIER_[A-Z_]+)`");
  for (std::sregex_iterator it(page.begin(), page.end(), own), end; it != end; ++it) {
    EXPECT_NE(all.find("\"" + (*it)[1].str() + "\""), std::string::npos)
        << "docs/env.md lists " << (*it)[1] << ", which nothing reads";
  }
}

TEST(Documents, LinkToFilesThatExist) {
  const std::regex link("\\]\\(([^)# ]+)\\)");
  std::vector<fs::path> pages{kRoot / "README.md", kRoot / "CONTRIBUTING.md"};
  for (const auto& entry : fs::recursive_directory_iterator(kRoot / "docs")) {
    if (entry.path().extension() == ".md") pages.push_back(entry.path());
  }
  for (const fs::path& page : pages) {
    const std::string text = read(page);
    for (std::sregex_iterator it(text.begin(), text.end(), link), end; it != end; ++it) {
      const std::string target = (*it)[1];
      if (target.find("://") != std::string::npos) continue;
      EXPECT_TRUE(fs::exists(page.parent_path() / target)) << page << " links to " << target;
    }
  }
}

TEST(Documents, TheReadmesProgramIsTheFirstExample) {
  const std::string page = read(kRoot / "README.md");
  const size_t begin = page.find("```cpp\n") + 7;
  const std::string program = page.substr(begin, page.find("```", begin) - begin);
  EXPECT_LE(std::count(program.begin(), program.end(), '\n'), 15);
  EXPECT_GE(program.size(), 500u);
  EXPECT_TRUE(read(kRoot / "examples/01_own_model.cpp").ends_with("\n" + program)) << program;
}

TEST(Sources, HeadersAreIncludedOnce) {
  for (const fs::path& path : sources({"src"})) {
    if (path.extension() != ".h") continue;
    EXPECT_NE(read(path).find("#pragma once"), std::string::npos) << path;
  }
}

}  // namespace
