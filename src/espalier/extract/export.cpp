// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/export.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/extract/arrow_stream.h"
#include "espalier/extract/run_index.h"
#include "espalier/extract/shard_file.h"
#include "espalier/io/atomic.h"
#include "espalier/io/json.h"
#include "espalier/io/sha256.h"
#include "espalier/tensor/convert.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

const io::FileContext kContext{.stage = "export"};
/// Of a record batch: what the reader on the other side maps and slices well.
constexpr int64_t kBatchBytes = int64_t{32} << 20;

/// What `datasets` calls the type of a column [context, width].
Json matrix_feature(const ArrowTable& table) {
  return {{"shape", {table.context, table.width}},
          {"dtype", table.dtype == DType::f32 ? "float32" : "float16"},
          {"_type", "Array2D"}};
}

Json features(const ArrowTable& table) {
  Json json;
  for (const std::string& name : table.matrices) json[name] = matrix_feature(table);
  // Versions of `datasets` before 4 know this name only, later ones read it too.
  json[table.ids] = {{"feature", {{"dtype", "int32"}, {"_type", "Value"}}},
                     {"length", table.context},
                     {"_type", "Sequence"}};
  return json;
}

ArrowTable table_of(const ExportOptions& o, const ShardLayout& layout) {
  ArrowTable table{.matrices = {},
                   .ids = "token_ids",
                   .context = o.context,
                   .width = layout.width,
                   .dtype = o.dtype,
                   .metadata = {},
                   .matrix_metadata = {}};
  for (const std::string& hook : layout.hooks) {
    table.matrices.push_back(o.transformer_lens ? transformer_lens_name(hook) : hook);
  }
  const Json info{{"info", {{"features", features(table)}}}};
  table.metadata = {{"huggingface", info.dump()}};
  const Json shape{o.context, table.width};
  const Json extension{shape, matrix_feature(table)["dtype"]};
  table.matrix_metadata = {
      {"ARROW:extension:name", "datasets.features.features.Array2DExtensionType"},
      {"ARROW:extension:metadata", extension.dump()}};
  return table;
}

/// `values` in the table's dtype. Throws `data` for what float16 cannot hold.
HostTensor converted(const HostTensor& values, DType dtype, const std::string& column) {
  if (values.dtype() == dtype) return values;
  HostTensor wide(DType::f32, values.shape());
  widen_values(values.data(), values.dtype(), values.numel(), static_cast<float*>(wide.data()));
  if (dtype == DType::f32) return wide;
  HostTensor narrow(dtype, values.shape());
  round_values(wide.as<float>().data(), values.numel(), dtype, narrow.data());
  ESPALIER_CHECK(count_not_finite(narrow.data(), dtype, narrow.numel()) == 0, ErrorKind::data,
                 "export", "{} has values beyond float16; export float32", column);
  return narrow;
}

/// The first `rows` rows.
HostTensor first_rows(const HostTensor& values, int64_t rows) {
  std::vector<int64_t> sizes{rows};
  if (values.shape().rank() == 2) sizes.push_back(values.shape()[1]);
  HostTensor result(values.dtype(), Shape(sizes));
  std::memcpy(result.data(), values.data(), static_cast<size_t>(result.bytes()));
  return result;
}

void check_output(const ExportOptions& o) {
  ESPALIER_CHECK(o.context > 0 && o.file_bytes > 0, ErrorKind::user, "export",
                 "context {} and file size {} must be positive", o.context, o.file_bytes);
  std::error_code error;
  const bool free = !fs::exists(o.output, error) ||
                    (fs::is_directory(o.output, error) && fs::is_empty(o.output, error));
  ESPALIER_CHECK(free, ErrorKind::user, "export", "{} holds something; name another folder",
                 o.output);
}

/// How rows are cut into batches and files.
struct Cut {
  int64_t rows = 0;           // in all
  int64_t rows_of_batch = 1;  // the last one may have fewer
  int64_t rows_of_file = 1;   // whole batches
  int64_t files = 0;
};

Cut cut(const ExportOptions& o, const ArrowTable& table, int64_t tokens) {
  // Offsets inside a batch are 32 bits wide.
  const int64_t most = INT32_MAX / (table.context * table.width);
  ESPALIER_CHECK(most > 0, ErrorKind::user, "export",
                 "a row of {} tokens of width {} is too large for Arrow; choose a smaller context",
                 table.context, table.width);
  Cut cut{.rows = tokens / table.context};
  ESPALIER_CHECK(cut.rows > 0, ErrorKind::user, "export",
                 "{} tokens do not fill one row of {}; choose a smaller context", tokens,
                 table.context);
  cut.rows_of_batch = std::clamp<int64_t>(kBatchBytes / table.row_bytes(), 1, most);
  cut.rows_of_file = std::max<int64_t>(1, o.file_bytes / table.row_bytes() / cut.rows_of_batch) *
                     cut.rows_of_batch;
  cut.files = (cut.rows + cut.rows_of_file - 1) / cut.rows_of_file;
  return cut;
}

void write_json(const io::AtomicFolder& folder, const char* name, const Json& json) {
  io::OutputFile file = folder.create(name);
  file.write(json.dump(2) + "\n");
  file.sync_and_close();
}

/// As the library `datasets` names them.
std::string file_name(int64_t index, int64_t count) {
  return fmt::format("data-{:05}-of-{:05}.arrow", index, count);
}

/// The two files that say what the others hold. The fingerprint names the contents.
void write_about(const io::AtomicFolder& folder, const ExportOptions& o, const ArrowTable& table,
                 const RunIndex& index, const Cut& cut) {
  write_json(folder, "dataset_info.json",
             {{"citation", ""},
              {"description", ""},
              {"features", features(table)},
              {"homepage", ""},
              {"license", ""}});
  std::string all = table.metadata[0].second + fmt::format("{} {}", o.shuffle, o.seed);
  for (const ManifestEntry& entry : index.entries) all += entry.sha256;
  Json files = Json::array();
  for (int64_t i = 0; i < cut.files; ++i) files.push_back({{"filename", file_name(i, cut.files)}});
  write_json(folder, "state.json",
             {{"_data_files", files},
              {"_fingerprint", io::sha256_hex(all).substr(0, 16)},
              {"_format_columns", nullptr},
              {"_format_kwargs", Json::object()},
              {"_format_type", nullptr},
              {"_output_all_columns", false},
              {"_split", nullptr}});
}

/// One Arrow file, with the rows that the reader has next.
int64_t write_file(const io::AtomicFolder& folder, const std::string& name, int64_t rows,
                   RunReader& reader, const ArrowTable& table,
                   const std::function<void(int64_t)>& wrote) {
  io::OutputFile file = folder.create(name);
  ArrowStreamWriter writer(file, table);
  ReadBatch batch;
  while (rows > 0 && reader.next(batch)) {
    const int64_t here = std::min(rows, batch.rows / table.context);
    const int64_t tokens = here * table.context;
    std::vector<HostTensor> columns;
    for (size_t i = 0; i < batch.activations.size(); ++i) {
      HostTensor values = converted(batch.activations[i], table.dtype, table.matrices[i]);
      columns.push_back(tokens < batch.rows ? first_rows(values, tokens) : std::move(values));
    }
    writer.write(columns,
                 tokens < batch.rows ? first_rows(batch.token_ids, tokens) : batch.token_ids);
    rows -= here;
    wrote(tokens);
  }
  ESPALIER_ASSERT(rows == 0);
  writer.finish();
  file.sync_and_close();
  return file.written();
}

}  // namespace

std::string transformer_lens_name(std::string_view hook) {
  constexpr std::array<std::string_view, 5> kOfLayer{"resid_pre", "resid_mid", "resid_post",
                                                     "attn_out", "mlp_out"};
  if (hook == "embed") return "hook_embed";
  if (hook == "final_norm") return "ln_final.hook_normalized";
  const size_t dot = hook.find('.');
  if (dot == std::string_view::npos) return std::string(hook);
  const std::string_view kind = hook.substr(0, dot), layer = hook.substr(dot + 1);
  if (std::find(kOfLayer.begin(), kOfLayer.end(), kind) == kOfLayer.end()) return std::string(hook);
  return fmt::format("blocks.{}.hook_{}", layer, kind);
}

ExportReport export_sae_lens(const ExportOptions& o) {
  check_output(o);
  const std::unique_ptr<Store> store = open_store(o.run);
  const RunIndex index = open_run(*store);
  const ShardFile first(*store, index.entries.front(), o.hooks);
  const ArrowTable table = table_of(o, first.layout());
  const Cut c = cut(o, table, index.tokens());
  ExportReport report{.columns = table.matrices,
                      .rows = c.rows,
                      .tokens = c.rows * o.context,
                      .left_over = index.tokens() - c.rows * o.context,
                      .files = c.files};
  RunReader reader(o.run, {.hooks = o.hooks,
                           .batch = c.rows_of_batch * o.context,
                           .shuffle = o.shuffle,
                           .seed = o.seed});
  io::AtomicFolder folder(o.output, kContext);
  int64_t tokens = 0;
  for (int64_t i = 0; i < c.files; ++i) {
    report.bytes += write_file(folder, file_name(i, c.files),
                               std::min(c.rows_of_file, c.rows - i * c.rows_of_file), reader, table,
                               [&](int64_t more) {
                                 tokens += more;
                                 if (o.progress) o.progress(tokens, report.tokens);
                               });
  }
  write_about(folder, o, table, index, c);
  folder.commit();
  return report;
}

}  // namespace espalier::extract
