// SPDX-License-Identifier: Apache-2.0
// Loading: names of files are brought to those of the tree, then both lists are compared and all
// that is wrong is reported at once.
#include "espalier/io/weights.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "espalier/base/glob.h"
#include "espalier/base/text.h"
#include "espalier/io/weights_files.h"

namespace espalier::io {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kStage = "weights";
// Names listed for one kind of problem, and how many of them get their nearest name: that costs
// time for each pair of names.
constexpr size_t kListed = 100;
constexpr size_t kHinted = 20;

/// A tensor of a file under the name of the tree.
struct Found {
  const SafetensorsFile* file;
  const SafetensorsEntry* entry;
};

std::string described(const Found& f) {
  return fmt::format("{} {}", f.entry->dtype, f.entry->shape.str());
}

std::string place(const Found& f) {
  const std::string file = fs::path(f.file->label()).filename().string();
  return fmt::format("{}:{}", file, f.entry->name);
}

bool holds_real_numbers(const Found& f) {
  const auto dtype = dtype_from_safetensors(f.entry->dtype);
  return dtype && is_float(*dtype);
}

bool same_bytes(const Found& a, const Found& b) {
  const auto x = a.file->bytes(*a.entry), y = b.file->bytes(*b.entry);
  return a.entry->dtype == b.entry->dtype && x.size() == y.size() &&
         std::memcmp(x.data(), y.data(), x.size()) == 0;
}

bool any_matches(const std::vector<Glob>& globs, std::string_view name) {
  return std::any_of(globs.begin(), globs.end(),
                     [&](const Glob& glob) { return glob.matches(name); });
}

std::vector<Glob> compiled(const std::vector<std::string>& patterns) {
  return {patterns.begin(), patterns.end()};
}

/// All that does not fit, collected for one message.
class Problems {
 public:
  void add(const char* kind, std::string text) { found_[kind].push_back(std::move(text)); }

  /// `near`: names of which the nearest is a likely cause.
  void add_named(const char* kind, const std::string& name, const std::string& about,
                 const std::vector<std::string>& near) {
    std::vector<std::string>& list = found_[kind];
    const bool hinted = list.size() < kHinted;
    list.push_back(
        fmt::format("{}{}{}", name, about, hinted ? nearest_hint(name, near) : std::string()));
  }

  void raise(const fs::path& path) const {
    if (found_.empty()) return;
    std::vector<std::string> counts;
    std::string lines;
    for (const auto& [kind, list] : found_) {
      counts.push_back(fmt::format("{} {}", list.size(), kind));
      for (size_t i = 0; i < std::min(list.size(), kListed); ++i) {
        lines += fmt::format("\n  {}: {}", kind, list[i]);
      }
      if (list.size() > kListed) {
        lines += fmt::format("\n  {}: and {} more", kind, list.size() - kListed);
      }
    }
    fail(ErrorKind::data, kStage, "the tensors do not fit the model ({}), at {}{}",
         fmt::join(counts, ", "), path.string(), lines);
  }

 private:
  std::map<std::string, std::vector<std::string>> found_;
};

/// Names of files as the tree has them.
class Renamer {
 public:
  Renamer(const WeightNames& names, const std::vector<WantedTensor>& wanted,
          const WeightFiles& files)
      : names_(names), ignored_(compiled(names.ignored)) {
    const std::string& prefix = names.base_prefix;
    if (prefix.empty()) return;
    for (const WantedTensor& w : wanted) {
      if (w.path.starts_with(prefix)) bare_.insert(w.path.substr(prefix.size()));
    }
    // A file of the bare encoder has none of the prefixed names.
    add_prefix_ = true;
    for (const SafetensorsFile& file : files.files) {
      for (const SafetensorsEntry& entry : file.entries()) {
        if (entry.name.starts_with(prefix)) add_prefix_ = false;
      }
    }
  }

  std::string operator()(std::string name) const {
    for (const auto& [old_ending, ending] : names_.endings) {
      if (name.ends_with(old_ending)) {
        name.replace(name.size() - old_ending.size(), old_ending.size(), ending);
      }
    }
    if (!add_prefix_ || name.starts_with(names_.base_prefix)) return name;
    // Without a name to compare with, what begins like a part of the encoder belongs to it.
    const std::string part = name.substr(0, name.find('.') + 1);
    const auto at = bare_.lower_bound(part);
    const bool known = at != bare_.end() && !part.empty() && at->starts_with(part);
    const std::string prefixed = names_.base_prefix + name;
    return known || any_matches(ignored_, prefixed) ? prefixed : name;
  }

 private:
  const WeightNames& names_;
  std::vector<Glob> ignored_;
  std::set<std::string> bare_;
  bool add_prefix_ = false;
};

class Matcher {
 public:
  Matcher(const WeightFiles& files, const std::vector<WantedTensor>& wanted,
          const WeightNames& names)
      : wanted_(wanted), optional_(compiled(names.optional)) {
    const Renamer rename(names, wanted, files);
    const std::vector<Glob> ignored = compiled(names.ignored);
    for (const WantedTensor& w : wanted) {
      known_.insert(w.path);
      known_.insert(w.also.begin(), w.also.end());
    }
    for (const std::string& text : files.index_problems) problems_.add("against the index", text);
    for (const SafetensorsFile& file : files.files) {
      for (const SafetensorsEntry& entry : file.entries()) {
        const std::string name = rename(entry.name);
        if (!known_.contains(name) && any_matches(ignored, name)) {
          loaded_.ignored.push_back(entry.name);
          continue;
        }
        const auto [at, fresh] = found_.try_emplace(name, Found{&file, &entry});
        if (!fresh) {
          problems_.add("twice", fmt::format("{} as {} and {}", name, place(at->second),
                                             place(Found{&file, &entry})));
        }
      }
    }
  }

  LoadedWeights match(const fs::path& path) {
    std::vector<std::string> absent;
    for (const WantedTensor& w : wanted_) {
      if (!take(w)) absent.push_back(w.path);
    }
    std::vector<std::string> extra;
    for (const auto& [name, found] : found_) {
      if (!known_.contains(name)) extra.push_back(name);
    }
    report(absent, extra);
    problems_.raise(path);
    return std::move(loaded_);
  }

 private:
  /// false when no name of it is there and it must be.
  bool take(const WantedTensor& w) {
    std::vector<std::string> names{w.path};
    names.insert(names.end(), w.also.begin(), w.also.end());
    const Found* first = nullptr;
    for (const std::string& name : names) {
      const auto at = found_.find(name);
      if (at == found_.end()) continue;
      const Found& found = at->second;
      const bool real = holds_real_numbers(found), shaped = found.entry->shape == w.shape;
      if (!real) {
        problems_.add("of another type",
                      fmt::format("{} {} where {} is expected (F32, BF16, F16 or F64 in a file)",
                                  place(found), described(found), safetensors_name(w.dtype)));
      }
      if (!shaped) {
        problems_.add("of another shape", fmt::format("{} {} where {} is expected", place(found),
                                                      described(found), w.shape.str()));
      }
      if (!real || !shaped) {
        first = &found;
      } else if (first == nullptr) {
        first = &found;
        const HostTensor tensor = found.file->tensor(found.entry->name);
        if (tensor.data() == found.file->bytes(*found.entry).data()) loaded_.mapped.insert(w.path);
        loaded_.tensors.emplace(w.path, tensor);
      } else if (first->entry->shape == w.shape && !same_bytes(*first, found)) {
        problems_.add("different though tied",
                      fmt::format("{} differs from {}", place(found), place(*first)));
      }
    }
    if (first != nullptr) return true;
    if (!any_matches(optional_, w.path)) return false;
    loaded_.missing.push_back(w.path);
    return true;
  }

  void report(const std::vector<std::string>& absent, const std::vector<std::string>& extra) {
    std::vector<std::string> there, wanted;
    if (!absent.empty() && extra.empty()) {
      for (const auto& [name, found] : found_) there.push_back(name);
    }
    if (!extra.empty() && absent.empty()) wanted = {known_.begin(), known_.end()};
    for (const WantedTensor& w : wanted_) {
      if (std::find(absent.begin(), absent.end(), w.path) == absent.end()) continue;
      problems_.add_named("missing", w.path,
                          fmt::format(" {} {}", safetensors_name(w.dtype), w.shape.str()),
                          extra.empty() ? there : extra);
    }
    for (const std::string& name : extra) {
      problems_.add_named("not known", name, fmt::format(" {}", described(found_.at(name))),
                          absent.empty() ? wanted : absent);
    }
  }

  const std::vector<WantedTensor>& wanted_;
  std::vector<Glob> optional_;
  std::set<std::string> known_;
  std::map<std::string, Found> found_;
  LoadedWeights loaded_;
  Problems problems_;
};

}  // namespace

void LoadedWeights::release(std::string_view path) const {
  if (!mapped.contains(path)) return;
  const HostTensor& tensor = tensors.find(std::string(path))->second;
  // Whole pages: those at the ends hold parts of neighbours.
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(tensor.data()) + page - 1) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(tensor.data()) + tensor.bytes()) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

LoadedWeights load_weights(const fs::path& path, const std::vector<WantedTensor>& wanted,
                           const WeightNames& names) {
  const WeightFiles files = open_weight_files(path);
  return Matcher(files, wanted, names).match(path);
}

}  // namespace espalier::io
