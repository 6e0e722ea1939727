// SPDX-License-Identifier: Apache-2.0
// The three tables of the byte LM's benchmark, with columns of peers where they were run.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <sstream>
#include <tuple>

#include "espalier/base/error.h"
#include "espalier/io/file.h"
#include "espalier/io/json.h"
#include "espalier/tensor/dtype_names.h"
#include "espalier/train/bench.h"
#include "espalier/train/benchmark_loop.h"

namespace espalier::train {
namespace {

using models::ByteLmVariant;

/// What a cell of a table is about: dtype, compile, flash.
using Key = std::tuple<std::string, bool, bool>;
/// Sequences per second by column and key.
using Cells = std::map<std::string, std::map<Key, double>>;

constexpr int64_t kPeersLimit = int64_t{64} << 20;

Key key_of(const BenchSetting& s) { return {std::string(long_name(s.dtype)), s.compile, s.flash}; }

/// The same batch, and the same operations a sequence: that is as good as the same sizes.
bool same_work(const BenchResult& ours, const PeerRow& peer) {
  const double work = ours.gflops / ours.sequences_per_second;
  const double theirs = peer.gflops / peer.sequences_per_second;
  return ours.batch == peer.batch && std::abs(theirs - work) <= 1e-3 * work;
}

Cells collect(const std::vector<BenchResult>& results, const std::vector<PeerRow>& peers) {
  Cells cells;
  for (const BenchResult& r : results) {
    const bool library = r.setting.variant == ByteLmVariant::library;
    cells[library ? "library" : "handcraft"][key_of(r.setting)] = r.sequences_per_second;
  }
  // Several runs of a peer: the median.
  std::map<std::string, std::map<Key, std::vector<double>>> runs;
  for (const PeerRow& p : peers) {
    runs[p.peer + " " + p.model][{p.dtype, p.compile, p.flash}].push_back(p.sequences_per_second);
  }
  for (const auto& [column, by_key] : runs) {
    for (const auto& [key, rates] : by_key) cells[column][key] = median(rates);
  }
  return cells;
}

std::string cell(const Cells& cells, const std::string& column, const Key& key) {
  const auto found = cells.find(column);
  if (found == cells.end() || !found->second.contains(key)) return "-";
  return fmt::format("{:.2f}", found->second.at(key));
}

std::string table(const std::string& title, const std::vector<std::pair<std::string, Key>>& rows,
                  const Cells& cells) {
  // Ours first, then those peers that have a number in one of the rows.
  std::vector<std::string> columns{"library", "handcraft"};
  for (const auto& [column, by_key] : cells) {
    if (column == "library" || column == "handcraft") continue;
    if (std::any_of(rows.begin(), rows.end(),
                    [&, &known = by_key](const auto& row) { return known.contains(row.second); })) {
      columns.push_back(column);
    }
  }
  std::string text = title + " (sequences per second)\n" + std::string(34, ' ');
  for (const std::string& column : columns) text += fmt::format("  {:>16}", column);
  text += '\n';
  for (const auto& [label, key] : rows) {
    text += fmt::format("  {:<32}", label);
    for (const std::string& column : columns) {
      text += fmt::format("  {:>16}", cell(cells, column, key));
    }
    text += '\n';
  }
  return text;
}

}  // namespace

std::vector<BenchSetting> table_settings() {
  std::vector<BenchSetting> settings;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const bool compile : {true, false}) {
      settings.push_back({.dtype = dtype, .compile = compile, .flash = true});
    }
  }
  for (const bool compile : {true, false}) {
    settings.push_back({.dtype = DType::bf16, .compile = compile, .flash = false});
  }
  settings.push_back({.variant = ByteLmVariant::handcraft, .dtype = DType::bf16});
  return settings;
}

std::vector<PeerRow> read_peers(const std::string& path) {
  std::istringstream lines(io::read_text(path, kPeersLimit, {.stage = "bench"}));
  std::vector<PeerRow> rows;
  int64_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (!line.starts_with("{")) continue;
    try {
      const auto object = io::parse_json(line);
      if (!object.contains("peer") || object.value("bench", "byte-lm") != "byte-lm") continue;
      const auto flag = [&](const char* name) {
        return object.at(name).is_boolean() ? object.at(name).get<bool>()
                                            : object.at(name).get<int>() != 0;
      };
      rows.push_back({.peer = object.at("peer").get<std::string>(),
                      .model = object.at("model").get<std::string>(),
                      .dtype = object.at("dtype").get<std::string>(),
                      .compile = flag("compile"),
                      .flash = flag("flash"),
                      .batch = object.at("batch").get<int64_t>(),
                      .sequences_per_second = object.at("sequences_per_second").get<double>(),
                      .gflops = object.at("gflops").get<double>()});
    } catch (const nlohmann::json::exception& error) {
      fail(ErrorKind::data, "bench", "line {} of {} is no result of a peer: {}", number, path,
           error.what());
    }
  }
  return rows;
}

std::string bench_tables(const std::vector<BenchResult>& results,
                         const std::vector<PeerRow>& peers) {
  std::vector<PeerRow> same;
  std::copy_if(peers.begin(), peers.end(), std::back_inserter(same), [&](const PeerRow& peer) {
    return !results.empty() && same_work(results.front(), peer);
  });
  const Cells cells = collect(results, same);
  std::string text = table("Library modules and handcraft",
                           {{"bfloat16, compiled", {"bfloat16", true, true}}}, cells);
  std::vector<std::pair<std::string, Key>> rows;
  for (const std::string dtype : {"float32", "float16", "bfloat16"}) {
    rows.emplace_back(dtype, Key{dtype, false, true});
    rows.emplace_back(dtype + ", compiled", Key{dtype, true, true});
  }
  text += "\n" + table("Data types and compiling", rows, cells);
  rows.clear();
  for (const bool flash : {false, true}) {
    for (const bool compile : {false, true}) {
      rows.emplace_back(std::string(flash ? "flash attention" : "attention of basic ops") +
                            (compile ? ", compiled" : ""),
                        Key{"bfloat16", compile, flash});
    }
  }
  text += "\n" + table("Flash attention and compiling, bfloat16", rows, cells);
  if (same.size() < peers.size()) {
    text += fmt::format("\n{} of {} results of peers are of another batch or size: left out\n",
                        peers.size() - same.size(), peers.size());
  }
  return text;
}

}  // namespace espalier::train
