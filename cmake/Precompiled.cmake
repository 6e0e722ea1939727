# SPDX-License-Identifier: Apache-2.0
# Precompiled headers: standard and library headers that many sources read. They only save time:
# each source includes what it uses and compiles with CMAKE_DISABLE_PRECOMPILE_HEADERS, which is
# how tools/check lints it. Headers of the project stay out, except those that wrap a library, so
# that an edit does not compile everything again. Names in <> are written into the precompiled
# header as they are, without the checkout's path, so that ccache finds them again from another.
set(espalier_std_headers
    <algorithm>
    <array>
    <bit>
    <charconv>
    <chrono>
    <cmath>
    <cstdint>
    <cstring>
    <filesystem>
    <fstream>
    <functional>
    <limits>
    <map>
    <memory>
    <numeric>
    <optional>
    <set>
    <span>
    <sstream>
    <string>
    <string_view>
    <thread>
    <unordered_map>
    <utility>
    <variant>
    <vector>
    <fmt/format.h>
    <fmt/ranges.h>)

# espalier_precompiled(NAME HEADERS... [LINK targets...]): a target whose precompiled header others
# take with REUSE_FROM; theirs must be its compile flags.
function(espalier_precompiled name)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/${name}.cpp "")
  add_library(${name} OBJECT ${CMAKE_CURRENT_BINARY_DIR}/${name}.cpp)
  target_link_libraries(${name} PRIVATE espalier_flags fmt::fmt OpenMP::OpenMP_CXX Threads::Threads
                                        ${arg_LINK})
  target_precompile_headers(${name} PRIVATE ${espalier_std_headers} ${arg_UNPARSED_ARGUMENTS})
endfunction()

# espalier_source_options(SOURCE OPTIONS...): compile options of one source. A precompiled header
# made with others would not fit.
function(espalier_source_options source)
  set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${ARGN}"
                                                   SKIP_PRECOMPILE_HEADERS ON)
endfunction()
