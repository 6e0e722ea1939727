# SPDX-License-Identifier: Apache-2.0
# Every dependency is a Debian 12 package; configuring never touches the network. The installed
# package (espalierConfig.cmake) reads this file too, so its targets are imported ones.
include(CMakeFindDependencyMacro)
find_dependency(OpenMP COMPONENTS CXX)
find_dependency(Threads)
find_dependency(fmt)
find_dependency(nlohmann_json)
find_dependency(tomlplusplus)
find_dependency(OpenSSL COMPONENTS Crypto)
find_dependency(CURL)
find_dependency(pugixml)
find_dependency(ICU COMPONENTS uc)

if(NOT TARGET espalier_dnnl)
  find_path(DNNL_INCLUDE_DIR dnnl.hpp REQUIRED)
  find_library(DNNL_LIBRARY dnnl REQUIRED)
  add_library(espalier_dnnl INTERFACE IMPORTED GLOBAL)
  target_include_directories(espalier_dnnl SYSTEM INTERFACE ${DNNL_INCLUDE_DIR})
  target_link_libraries(espalier_dnnl INTERFACE ${DNNL_LIBRARY})
endif()

# LLVM is reached through one shared library; its headers stay inside backend/cpu/jit.
if(NOT TARGET espalier_llvm)
  find_path(LLVM_INCLUDE_DIR llvm/IR/IRBuilder.h PATHS /usr/lib/llvm-19/include NO_DEFAULT_PATH
            REQUIRED)
  find_library(LLVM_LIBRARY NAMES LLVM-19 LLVM PATHS /usr/lib/llvm-19/lib NO_DEFAULT_PATH REQUIRED)
  add_library(espalier_llvm INTERFACE IMPORTED GLOBAL)
  target_include_directories(espalier_llvm SYSTEM INTERFACE ${LLVM_INCLUDE_DIR})
  target_link_libraries(espalier_llvm INTERFACE ${LLVM_LIBRARY})
endif()

if(NOT TARGET espalier_zstd)
  find_path(ZSTD_INCLUDE_DIR zstd.h REQUIRED)
  find_library(ZSTD_LIBRARY zstd REQUIRED)
  add_library(espalier_zstd INTERFACE IMPORTED GLOBAL)
  target_include_directories(espalier_zstd SYSTEM INTERFACE ${ZSTD_INCLUDE_DIR})
  target_link_libraries(espalier_zstd INTERFACE ${ZSTD_LIBRARY})
endif()
