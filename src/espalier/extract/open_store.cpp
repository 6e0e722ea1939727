// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "espalier/base/error.h"
#include "espalier/extract/remote/gcs_store.h"
#include "espalier/extract/remote/s3_store.h"
#include "espalier/extract/store.h"
#include "espalier/extract/store_key.h"

namespace espalier::extract {
namespace {

struct Place {
  std::string scheme, bucket, prefix;
};

Place parse(const std::string& url, size_t colon) {
  Place place{.scheme = url.substr(0, colon)};
  ESPALIER_CHECK(place.scheme == "s3" || place.scheme == "gs", ErrorKind::user, "store",
                 "{}: a run is kept in a folder, s3://bucket/prefix or gs://bucket/prefix", url);
  const std::string rest = url.substr(colon + 3);
  const size_t slash = std::min(rest.find('/'), rest.size());
  place.bucket = rest.substr(0, slash);
  place.prefix = rest.substr(std::min(slash + 1, rest.size()));
  while (place.prefix.ends_with('/')) place.prefix.pop_back();
  const bool named = !place.bucket.empty() &&
                     place.bucket.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-_") ==
                         std::string::npos;
  ESPALIER_CHECK(named, ErrorKind::user, "store",
                 "{}: \"{}\" is no name of a bucket (small letters, digits, '.', '-', '_')", url,
                 place.bucket);
  if (!place.prefix.empty()) check_key(place.prefix, place.scheme + "://" + place.bucket);
  return place;
}

std::unique_ptr<Store> open_s3(const Place& place) {
  S3Options options{.bucket = place.bucket, .aws = io::aws_settings()};
  options.http.ca_file = options.aws.ca_file;
  return open_s3_store(std::move(options), place.prefix);
}

std::unique_ptr<Store> open_gcs(const Place& place) {
  GcsOptions options{.bucket = place.bucket, .http = std::make_shared<io::Http>()};
  const char* emulator = std::getenv("STORAGE_EMULATOR_HOST");
  if (emulator != nullptr && *emulator != '\0') {
    options.endpoint = emulator;
    if (options.endpoint.find("://") == std::string::npos) {
      options.endpoint = "http://" + options.endpoint;
    }
    while (options.endpoint.ends_with('/')) options.endpoint.pop_back();
  } else {
    options.tokens = io::google_tokens(options.http, options.retry);
  }
  return open_gcs_store(std::move(options), place.prefix);
}

}  // namespace

void check_store_url(const std::string& url) {
  ESPALIER_CHECK(!url.empty(), ErrorKind::user, "store",
                 "the place of the run is empty; give a folder, s3://bucket/prefix or "
                 "gs://bucket/prefix");
  const size_t colon = url.find("://");
  if (colon != std::string::npos) parse(url, colon);
}

std::unique_ptr<Store> open_store(const std::string& url) {
  check_store_url(url);
  const size_t colon = url.find("://");
  if (colon == std::string::npos) return open_folder_store(url);
  const Place place = parse(url, colon);
  return place.scheme == "s3" ? open_s3(place) : open_gcs(place);
}

}  // namespace espalier::extract
