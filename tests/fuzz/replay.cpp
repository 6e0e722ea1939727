// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target over every file of a folder and over mutations of each: what libFuzzer found,
// kept true by every build.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/target.h"

namespace {
constexpr int kMutations = 200;

void run(const std::string& input) {
  // A buffer of exactly this size, so that the address sanitizer sees a read beyond it.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

std::string mutated(std::string input, std::mt19937& random) {
  for (uint32_t changes = 1 + random() % 4; changes > 0; --changes) {
    const size_t at = input.empty() ? 0 : random() % input.size();
    const size_t length = std::min<size_t>(input.size() - at, 1 + random() % 8);
    switch (random() % 5) {
      case 0:
        input.resize(at);
        break;
      case 1:
        input.erase(at, length);
        break;
      case 2:
        input.insert(at, input.substr(at, length));
        break;
      case 3:
        input.insert(at, 1, static_cast<char>(random()));
        break;
      default:
        if (!input.empty()) input[at] = static_cast<char>(input[at] ^ (1 << random() % 8));
    }
  }
  return input;
}
}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(arguments[1])) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::mt19937 random(1);
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    const std::string input{std::istreambuf_iterator<char>(file), {}};
    printf("%s\n", path.filename().c_str());  // the last line before a crash is the culprit
    fflush(stdout);
    run(input);
    for (int i = 0; i < kMutations; ++i) run(mutated(input, random));
  }
  printf("%zu inputs, %d mutations of each\n", paths.size(), kMutations);
  return paths.empty() ? 1 : 0;
}
